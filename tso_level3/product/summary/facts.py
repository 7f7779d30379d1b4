"""What a product holds, in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tso_level3.product.model import TSOLightCurveModel

__all__ = ["facts", "setup"]


def facts(model: TSOLightCurveModel) -> dict[str, str]:
    """Say in a few lines what a product holds.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    dict of str
        A short name and a line of text, in the order of interest; what is not known is left out.
    """
    made = model.meta.tso_level3.instance
    lines = {
        "target": model.meta.target.catalog_name,
        "taken with": setup(model),
        "integrations": _integrations(model),
        "time": _time_span(model),
        "flux": _flux(model, made),
        "quoted": _quoted(model, made),
        "noise": _noise(model),
        "verdict": _verdict(made),
        "centre": _centre(model, made),
        "background": _background(model, made),
        "kernel": _kernel(made),
        "made by": f"tso_level3 {made.get('version', '?')}, format {made.get('format_version')}",
    }
    return {name: text for name, text in lines.items() if text}


def setup(model: TSOLightCurveModel) -> str:
    """Name instrument, detector, filter and subarray.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    str
        Their names; empty where none is known.
    """
    meta = model.meta
    words = (
        meta.instrument.name,
        meta.instrument.detector,
        meta.instrument.filter,
        None if meta.instrument.pupil in ("CLEAR", "N/A") else meta.instrument.pupil,
        meta.subarray.name,
    )
    return " ".join(str(word) for word in words if word)


def _integrations(model: TSOLightCurveModel) -> str:
    table = model.light_curve
    text = f"{len(table)}"
    segments = len(np.unique(np.asarray(table["segment"])))
    if segments > 1:
        text += f" from {segments} inputs"
    steps = np.diff(np.asarray(table["time"], dtype=float))
    steps = steps[np.isfinite(steps)]
    if len(steps):
        text += f", one every {86400 * np.median(steps):.4g} s"
    return text


def _time_span(model: TSOLightCurveModel) -> str:
    time = np.asarray(model.light_curve["time"], dtype=float)
    time = time[np.isfinite(time)]
    if model.time_scale == "none" or not len(time):
        return "not known"
    source = model.meta.tso_level3.instance.get("time_source", "")
    text = f"{model.time_scale} {time.min():.5f} to {time.max():.5f} d"
    text += f" ({24 * np.ptp(time):.4g} h)"
    return f"{text}, from {source}" if source else text


def _flux(model: TSOLightCurveModel, made: dict) -> str:
    flux = model.flux
    text = f"median {np.nanmedian(flux):.6g}" if np.isfinite(flux).any() else "none"
    text += f" {model.unit or '(unit not known)'}"
    return f"{text}, not aperture-corrected" if made.get("aperture_corrected") is False else text


def _quoted(model: TSOLightCurveModel, made: dict) -> str:
    quoted = model.quoted
    if quoted.kind == "psf":
        text = "fit of the mean image"
    else:
        text = f"aperture of r = {quoted.radius:.4g} pix"
        if quoted.sky:
            text += f", {quoted.sky}"
    reason = made.get("quoted", {}).get("reason")
    return f"{text} ({reason})" if reason else text


def _noise(model: TSOLightCurveModel) -> str:
    rows = [row for table in (model.apertures, model.grid) for row in table if row["chosen"]]
    if not rows or not np.isfinite(rows[0]["scatter"]):
        return ""
    row = rows[0]
    return (
        f"{1e6 * row['scatter']:.0f} ppm an integration, {1e6 * row['expected']:.0f} expected"
        f" (ratio {row['ratio']:.2f}), red noise {row['red_noise']:.2f}"
    )


def _verdict(made: dict) -> str:
    """Say whether the run found its own result good, and why not."""
    found = made.get("verdict", {})
    if not isinstance(found, dict):
        return str(found)
    return ": ".join(filter(None, [found.get("grade"), "; ".join(found.get("reasons", ()))]))


def _centre(model: TSOLightCurveModel, made: dict) -> str:
    table, source = model.light_curve, made.get("aperture_center", {})
    x, y = (np.asarray(table[f"aperture_{axis}"], dtype=float) for axis in "xy")
    if not np.isfinite(x).any():
        return "none found"
    text = f"({np.nanmedian(x):.3f}, {np.nanmedian(y):.3f}) from {source.get('source', '?')}"
    text += ", moving with the star" if source.get("moving") else ", the same for all"
    bound = made.get("bound", {})
    found = [bound.get(f"scatter_{axis}") for axis in "xy"]
    if all(value is not None and np.isfinite(value) for value in found):
        ratios = [bound.get(f"ratio_{axis}", np.nan) for axis in "xy"]
        text += (
            f"; star moves by {found[0]:.2g}, {found[1]:.2g} pix rms"
            f" ({ratios[0]:.2f}, {ratios[1]:.2f} of the photon limit)"
        )
    return text


def _background(model: TSOLightCurveModel, made: dict) -> str:
    column = model.light_curve["background"]
    values = np.asarray(column, dtype=float)
    settings = made.get("settings", {})
    if settings.get("background") == "none" or not np.isfinite(values).any():
        return "none taken off"
    text = f"{np.nanmedian(values):.4g} {column.unit or ''}"
    if settings.get("background_level", "none") != "none":
        return f"{text}, as given"
    where = f"{settings.get('background_stat')} of the {settings.get('background')}"
    text += f", {where.replace('_', ', ')}"
    smooth = made.get("background_smooth", {})
    if smooth.get("smoothed"):
        length = smooth["length"]
        over = "all" if isinstance(length, str) else f"some {length:.0f}"
        text += f", averaged over {over} integrations"
    return text


def _kernel(made: dict) -> str:
    kernel = dict(made.get("kernel", {}))
    text = str(kernel.pop("kind", ""))
    named = [str(kernel[name]) for name in ("instrument", "filter", "weak_lens", "path", "name")
             if kernel.get(name)]  # fmt: skip
    widths = [f"{kernel[name]:.3g}" for name in ("sigma_x", "sigma_y") if name in kernel]
    text += f" {' '.join(named)}" if named else ""
    text += f", sigma {', '.join(widths)} pix" if widths else ""
    if kernel.get("waves"):
        text += f", {kernel['waves']:.3g} waves"
    found = made.get("acquisition", {}).get("correlation")
    return f"{text}, correlation {found:.4f}" if found is not None else text
