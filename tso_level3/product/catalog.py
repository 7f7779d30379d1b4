"""The product as the catalog that jwst's own step writes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from tso_level3.product.tree import setup_of
from tso_level3.utils.atomic import replacing

if TYPE_CHECKING:
    from astropy.table import QTable

    from tso_level3.product.model import TSOLightCurveModel

__all__ = ["to_qtable", "write"]

_ANNULUS = (
    "annulus_sum",
    "annulus_sum_err",
    "annulus_mean",
    "annulus_mean_err",
    "aperture_bkg",
    "aperture_bkg_err",
)


def to_qtable(model: TSOLightCurveModel) -> QTable:
    """Make the table that ``jwst.tso_photometry`` writes.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    astropy.table.QTable
        Columns, units and metadata keys are those of the official product; the values are those
        of the primary measurement, which ``meta['apertures']`` describes. Where this is the fit
        of the template, the sums are its flux and the columns of the annulus are NaN. The
        celestial position is NaN where the product has no world coordinates.
    """
    from astropy import units as u
    from astropy.table import QTable

    unit = model.light_curve["psf_flux"].unit or u.dimensionless_unscaled
    table = QTable(meta=_meta(model))
    table["MJD"] = _values(model, "mjd_utc")
    table["BJD_TDB"] = _values(model, "bmjd_tdb")
    for name, values in _sums(model).items():
        bare = name in _ANNULUS and model.quoted.kind == "psf"
        table[name] = values if bare else values << unit
    x, y = _values(model, "aperture_x"), _values(model, "aperture_y")
    table["aperture_x"], table["aperture_y"] = x << u.pix, y << u.pix
    sky = _sky(model, x, y)
    table["aperture_ra_icrs"], table["aperture_dec_icrs"] = sky[0] << u.deg, sky[1] << u.deg
    source = _centre_source(model)
    for axis in "xy":
        table[f"centroid_{axis}"] = _values(model, f"{source}_{axis}") << u.pix
    for axis in "xy":
        table[f"psf_width_{axis}"] = _values(model, f"gauss_sigma_{axis}") << u.pix
    table["psf_flux"] = _values(model, "psf_flux") << unit
    return table


def write(table: QTable, path: str | os.PathLike[str]) -> None:
    """Write the catalog as ECSV, as a whole or not at all.

    Parameters
    ----------
    table : astropy.table.QTable
        From `to_qtable`.
    path : str or path-like
        The file; an existing one is replaced.
    """
    with replacing(path) as temporary:
        table.write(temporary, format="ascii.ecsv", overwrite=True)


def _values(model: TSOLightCurveModel, name: str) -> np.ndarray:
    return np.array(model.light_curve[name], dtype=float)


def _meta(model: TSOLightCurveModel) -> dict[str, Any]:
    quoted = model.quoted
    if quoted.kind == "psf":
        how = "Photometry of tso_level3, measured by the fit of the exposure's own mean image."
    else:
        how = (
            "Photometry of tso_level3, measured in a circular aperture of "
            f"r={quoted.radius:g} pixels. {_background_of(model)}"
        )
    return {**setup_of(model.meta), "apertures": how}


def _background_of(model: TSOLightCurveModel) -> str:
    """Describe the region of the background."""
    quoted, background = model.quoted, model.record.setting("background")
    if background == "none":
        return "No background subtraction was performed."
    if background == "frame" or not np.isfinite(quoted.radius_inner):
        return "Background calculated in the frame outside the star."
    return (
        "Background calculated in a circular annulus with "
        f"r_inner={quoted.radius_inner:g} pixels and r_outer={quoted.radius_outer:g} pixels."
    )


def _sums(model: TSOLightCurveModel) -> dict[str, np.ndarray]:
    """Sums of star, background and both, in the official order."""
    quoted, (net, net_err) = model.quoted, model.flux_at(None)
    if quoted.kind == "psf":
        empty = np.full(len(net), np.nan)
        return (
            {"aperture_sum": net, "aperture_sum_err": net_err}
            | {name: empty.copy() for name in _ANNULUS}
            | {"net_aperture_sum": net, "net_aperture_sum_err": net_err}
        )
    mean, mean_err = _values(model, "background"), _values(model, "background_err")
    area = _values(model, "background_area")
    under, under_err = mean * quoted.area, mean_err * quoted.area
    # Without a background there is nothing to add.
    back, back_err = np.nan_to_num(under), np.nan_to_num(under_err)
    return {
        "aperture_sum": net + back,
        "aperture_sum_err": np.sqrt(np.maximum(net_err**2 - back_err**2, 0.0)),
        "annulus_sum": mean * area,
        "annulus_sum_err": mean_err * area,
        "annulus_mean": mean,
        "annulus_mean_err": mean_err,
        "aperture_bkg": under,
        "aperture_bkg_err": under_err,
        "net_aperture_sum": net,
        "net_aperture_sum_err": net_err,
    }


def _centre_source(model: TSOLightCurveModel) -> str:
    """Name the centroid of the apertures, or the best available."""
    record = model.record
    for source in (record.aperture_center.source, record.setting("center"), "psf", "gauss"):
        if source in {"psf", "gauss", "cc"} and np.isfinite(_values(model, f"{source}_x")).any():
            return str(source)
    return "cc"


def _sky(model: TSOLightCurveModel, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Right ascension and declination of the apertures, (2, n_int) [deg]."""
    wcs = model.meta.wcs if model.meta.hasattr("wcs") else None
    if not callable(wcs):
        return np.full((2, len(x)), np.nan)
    return np.array(wcs(x, y)[:2], dtype=float)
