"""The product in the form of the table that jwst's own step writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from astropy.table import QTable

    from tso_level3.product.model import TSOLightCurveModel

__all__ = ["to_qtable"]

_ANNULUS = (
    "annulus_sum",
    "annulus_sum_err",
    "annulus_mean",
    "annulus_mean_err",
    "aperture_bkg",
    "aperture_bkg_err",
)


def to_qtable(model: TSOLightCurveModel) -> QTable:
    """Give the table that ``jwst.tso_photometry`` writes, from our values.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    astropy.table.QTable
        Its columns, units and meta keys are those of the official product; the values are of the
        quoted measurement, and ``meta['apertures']`` says so. Where the fit of the template is
        quoted the sums are its flux, and the columns of the annulus are NaN, as the official
        product has them where it takes the sum of the frame. The celestial position is NaN where
        the product has no world coordinates.
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


def _values(model: TSOLightCurveModel, name: str) -> np.ndarray:
    return np.array(model.light_curve[name], dtype=float)


def _meta(model: TSOLightCurveModel) -> dict[str, Any]:
    meta, quoted = model.meta, model.quoted
    if quoted.kind == "psf":
        how = "Photometry of tso_level3, measured by the fit of the exposure's own mean image."
    else:
        how = (
            "Photometry of tso_level3, measured in a circular aperture of "
            f"r={quoted.radius:g} pixels. {_background_of(model)}"
        )
    return {
        "instrument": meta.instrument.name,
        "detector": meta.instrument.detector,
        "channel": meta.instrument.channel,
        "subarray": meta.subarray.name,
        "filter": meta.instrument.filter,
        "pupil": meta.instrument.pupil,
        "target_name": meta.target.catalog_name,
        "apertures": how,
    }


def _background_of(model: TSOLightCurveModel) -> str:
    """Say where the background was measured."""
    quoted, settings = model.quoted, model.meta.tso_level3.instance.get("settings", {})
    if settings.get("background") == "none":
        return "No background subtraction was performed."
    if settings.get("background") == "frame" or not np.isfinite(quoted.radius_inner):
        return "Background calculated in the frame outside the star."
    return (
        "Background calculated in a circular annulus with "
        f"r_inner={quoted.radius_inner:g} pixels and r_outer={quoted.radius_outer:g} pixels."
    )


def _sums(model: TSOLightCurveModel) -> dict[str, np.ndarray]:
    """Fluxes of star, background and both together, in the official order."""
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
    # Where no background was taken, nothing is to be put back.
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
    """Name the centroid that the apertures follow, or the best there is."""
    made = model.meta.tso_level3.instance
    named = [made.get("aperture_center", {}).get("source"), made.get("settings", {}).get("center")]
    for source in (*named, "psf", "gauss"):
        if source in {"psf", "gauss", "cc"} and np.isfinite(_values(model, f"{source}_x")).any():
            return source
    return "cc"


def _sky(model: TSOLightCurveModel, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Right ascension and declination of the apertures, (2, n_int) [deg]."""
    wcs = model.meta.wcs if model.meta.hasattr("wcs") else None
    if not callable(wcs):
        return np.full((2, len(x)), np.nan)
    return np.array(wcs(x, y)[:2], dtype=float)
