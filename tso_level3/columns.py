"""Columns of the product's tables: name, unit, type, shape, description, DataFrame key."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["APERTURES", "EVENTS", "GRID", "LIGHT_CURVE", "Column", "column", "unit_of"]


@dataclass(frozen=True)
class Column:
    """A column of one of the product's tables.

    Attributes
    ----------
    name : str
        Name in the table.
    unit : str
        Unit as text; ``flux`` stands for the unit of the measurement (Jy, electron, ...).
    dtype : str
        NumPy type.
    shape : str
        Shape of one row's value: empty for a number, else what it runs over
        (``radii``, ``components``).
    description : str
        What it is.
    key : tuple of str or None
        Key in the DataFrame: (name, part).
    """

    name: str
    unit: str
    dtype: str
    shape: str
    description: str
    key: tuple[str, str] | None = None


def _c(
    name: str,
    unit: str,
    description: str,
    *,
    dtype: str = "f8",
    shape: str = "",
    key: tuple[str, str] | None = None,
) -> Column:
    return Column(name, unit, dtype, shape, description, key)


def _with_error(
    name: str, unit: str, what: str, key: tuple[str, str] | None = None
) -> list[Column]:
    return [_c(name, unit, what, key=key), _c(f"{name}_err", unit, f"standard error of {name}")]


LIGHT_CURVE: tuple[Column, ...] = (
    _c("integration", "", "number of the integration in its exposure, from 1", dtype="i4"),
    _c("segment", "", "number of the input it came from, from 1", dtype="i4"),
    _c("time", "d", "mid-time; the scale is in meta.tso_level3.time_scale", key=("time", "")),
    _c("mjd_utc", "d", "mid-time as MJD, UTC, at the observatory"),
    _c("bmjd_tdb", "d", "mid-time as BJD - 2400000.5, TDB, at the barycentre"),
    _c("background", "flux / pix", "background per pixel", key=("sky background", "")),
    _c("background_err", "flux / pix", "standard error of background"),
    _c("background_area", "pix2", "good pixels the background was measured on"),
    _c(
        "cc_x",
        "pix",
        "x of the peak of the cross-correlation",
        key=("cross correlation center", "x"),
    ),
    _c(
        "cc_y",
        "pix",
        "y of the peak of the cross-correlation",
        key=("cross correlation center", "y"),
    ),
    _c("cc_peak", "", "normalised cross-correlation at the peak, -1 to 1"),
    *_with_error("gauss_x", "pix", "x of the fitted Gaussian", ("gaussian center", "x")),
    *_with_error("gauss_y", "pix", "y of the fitted Gaussian", ("gaussian center", "y")),
    *_with_error(
        "gauss_sigma_x",
        "pix",
        "width in x (one sigma) of the fitted Gaussian",
        ("gaussian width", "x"),
    ),
    *_with_error(
        "gauss_sigma_y",
        "pix",
        "width in y (one sigma) of the fitted Gaussian",
        ("gaussian width", "y"),
    ),
    *_with_error(
        "gauss_amplitude",
        "flux / pix",
        "peak of the fitted Gaussian, not pixel-averaged",
        ("gaussian amplitude", ""),
    ),
    *_with_error("gauss_offset", "flux / pix", "constant under the fitted Gaussian"),
    _c("gauss_chi2", "", "reduced chi-square of the Gaussian fit"),
    *_with_error("psf_x", "pix", "x of the star from the fit of the template"),
    *_with_error("psf_y", "pix", "y of the star from the fit of the template"),
    *_with_error(
        "psf_flux",
        "flux",
        "flux of the star from the fit of the template: all of it by a computed kernel, else that"
        " in the subframe",
    ),
    _c("psf_chi2", "", "reduced chi-square of the fit of the template"),
    _c(
        "components",
        "",
        "changes of the star's image, the slowest first, each in its own white noise",
        shape="components",
    ),
    _c("aperture_x", "pix", "x of the centre of the apertures"),
    _c("aperture_y", "pix", "y of the centre of the apertures"),
    _c(
        "aperture_flux",
        "flux",
        "sum in the aperture, net of background",
        shape="radii",
        key=("aperture photometry", "radius"),
    ),
    _c("aperture_flux_err", "flux", "standard error of aperture_flux", shape="radii"),
    _c("aperture_replaced", "", "fraction of aperture_flux in filled pixels", shape="radii"),
    _c("flags", "", "bits of tso_level3.Flag", dtype="u4"),
)

_NOISE = (
    _c("flux", "flux", "median flux"),
    _c(
        "scatter",
        "",
        "measured relative scatter of the flux as it is; of the chosen row without the bias of"
        " its choice",
    ),
    _c("scatter_raw", "", "the same without regard to the choice"),
    _c("scatter_binned", "", "measured relative scatter in bins of about 10 minutes"),
    _c("expected", "", "expected relative scatter: photon, read and background noise together"),
    _c("photon_noise", "", "expected relative photon noise"),
    _c("read_noise", "", "expected relative read noise"),
    _c("background_noise", "", "expected relative noise of the background's estimate"),
    _c("pointing_noise", "", "relative scatter that follows the star's motion across pixels"),
    _c("ratio", "", "scatter over expected"),
    _c("red_noise", "", "binned scatter over that of white noise"),
    _c("score", "", "quantity that the choice minimises"),
    _c("score_err", "", "standard error of score"),
)

GRID: tuple[Column, ...] = (
    _c("kind", "", "aperture, or psf for the fit of the template", dtype="U8"),
    _c("radius", "pix", "radius of the aperture"),
    _c("radius_inner", "pix", "inner radius of the annulus"),
    _c("radius_outer", "pix", "outer radius of the annulus"),
    *_NOISE,
    _c("rank", "", "rank in the choice, from 1", dtype="i4"),
    _c("chosen", "", "whether this is the quoted measurement", dtype="?"),
    _c("scatter_regressed", "", "scatter after regression on the centres"),
    _c(
        "depth_difference",
        "",
        "root mean square, over all its places, of how much the depth of a box of one hour differs"
        " from that in the quoted measurement",
    ),
    _c(
        "depth_difference_err",
        "",
        "depth_difference expected from the white noise that the two do not share",
    ),
    _c("dilution", "", "fraction of the flux from other sources, by which a transit is shallower"),
    _c(
        "rejected",
        "",
        "why this is not quoted whatever its score; empty where it may be",
        dtype="U80",
    ),
)

APERTURES: tuple[Column, ...] = (
    *GRID[:4],
    _c("area", "pix2", "pixels inside, counting parts"),
    *GRID[4:],
)

EVENTS: tuple[Column, ...] = (
    _c(
        "integration", "", "number of the first integration affected, as in light_curve", dtype="i4"
    ),
    _c("kind", "", "tilt, jump, antenna or settling", dtype="U8"),
    _c("significance", "", "signal-to-noise of the step"),
    *_with_error(
        "size",
        "",
        "relative change of the quoted flux, of what is out of transit where that is known",
    ),
    _c("time", "d", "time of the first integration affected"),
)


def column(name: str) -> Column:
    """Find a column of the light curve.

    Parameters
    ----------
    name : str
        Its name.

    Returns
    -------
    Column
        The column.

    Raises
    ------
    KeyError
        There is no column of that name.
    """
    for item in LIGHT_CURVE:
        if item.name == name:
            return item
    raise KeyError(f"{name!r} is not a column of the light curve")


def unit_of(item: Column, flux: str) -> str:
    """Write the unit of a column for a measurement in a given unit.

    Parameters
    ----------
    item : Column
        The column.
    flux : str
        Unit of the measurement, such as ``Jy``; empty where it is not known.

    Returns
    -------
    str
        Unit as astropy reads it; empty for a number without one.
    """
    if "flux" not in item.unit:
        return item.unit
    if not flux:
        return ""
    return item.unit.replace("flux", flux)
