"""The lists of a product as text: noise, flags, events, notes, inputs, settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tso_level3.config.settings import Settings, fields_of
from tso_level3.flags import DESCRIPTIONS, Flag

if TYPE_CHECKING:
    from tso_level3.product.model import TSOLightCurveModel

__all__ = [
    "EVENT_HEADINGS",
    "NOISE_HEADINGS",
    "changed_settings",
    "event_note",
    "event_rows",
    "flag_counts",
    "inputs",
    "noise_rows",
    "notes",
]

#: Headings of what `event_rows` gives.
EVENT_HEADINGS = ("integration", "kind", "significance", "size", "error")

#: Headings of what `noise_rows` gives; the noise is in parts per million.
NOISE_HEADINGS = (
    "radius",
    "annulus",
    "flux",
    "scatter",
    "expected",
    "ratio",
    "photon",
    "read",
    "backgr.",
    "pointing",
    "red noise",
)


def noise_rows(model: TSOLightCurveModel) -> list[tuple[bool, tuple[str, ...]]]:
    """Write the noise of each radius as text.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    list of (bool, tuple of str)
        Whether it is the quoted one, and the cells under `NOISE_HEADINGS`.
    """
    table = model.apertures
    rows = list(table)
    fitted = [row for row in model.grid if row["kind"] == "psf"]
    if fitted and not any(row["kind"] == "psf" for row in rows):
        rows.append(fitted[0])
    out = []
    for row in rows:
        inner, outer = row["radius_inner"], row["radius_outer"]
        cells = ["fit" if row["kind"] == "psf" else f"{row['radius']:.4g}"]
        cells.append(
            "-"
            if not np.isfinite(inner)
            else f"{inner:.4g}-{outer:.4g}"
            if np.isfinite(outer)
            else f"> {inner:.4g}"
        )
        cells.append(f"{row['flux']:.5g}")
        cells += [_number(1e6 * row[name]) for name in ("scatter", "expected")]
        cells.append(_number(row["ratio"], 2))
        names = ("photon_noise", "read_noise", "background_noise", "pointing_noise")
        cells += [_number(1e6 * row[name]) for name in names]
        cells.append(_number(row["red_noise"], 2))
        out.append((bool(row["chosen"]), tuple(cells)))
    return out


def _number(value: float, digits: int = 0) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "-"


def flag_counts(model: TSOLightCurveModel) -> list[tuple[str, int, str]]:
    """Count the integrations that bear each flag.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    list of (str, int, str)
        Name, number of integrations and description of the flags that occur.
    """
    flags = np.asarray(model.light_curve["flags"]).astype(np.int64)
    counts = [(flag, int(((flags & int(flag)) != 0).sum())) for flag in Flag]
    return [(str(flag.name), count, DESCRIPTIONS[flag]) for flag, count in counts if count]


def changed_settings(model: TSOLightCurveModel) -> dict[str, str]:
    """Name the parameters that were not left at their defaults.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    dict of str
        Names and values, as the command line takes them.
    """
    defaults = Settings().as_dict()
    found = model.meta.tso_level3.instance.get("settings", {})
    changed = {}
    for item in fields_of():
        value = found.get(item.name, "none")
        default = "none" if defaults[item.name] is None else defaults[item.name]
        if value != default:
            changed[item.name] = _as_option(value)
    return changed


def _as_option(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def event_rows(model: TSOLightCurveModel) -> list[tuple[str, ...]]:
    """Write the events as text.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    list of tuple of str
        The cells under `EVENT_HEADINGS`; the integration is a number in the exposure, from 1.
    """
    return [
        (
            str(event["integration"]),
            str(event["kind"]),
            f"{event['significance']:.1f}",
            f"{1e6 * event['size']:+.0f} ppm" if np.isfinite(event["size"]) else "not known",
            f"{1e6 * event['size_err']:.0f} ppm" if np.isfinite(event["size_err"]) else "-",
        )
        for event in model.events
    ]


def event_note(model: TSOLightCurveModel) -> str:
    """Say what the sizes of the events hold.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    str
        A sentence; empty where there are no events.
    """
    if not len(model.events):
        return ""
    if model.meta.tso_level3.instance.get("settings", {}).get("out_of_transit", "none") == "none":
        return (
            "Sizes hold what the star itself did, such as a transit: out_of_transit was not given."
        )
    return "Sizes are of the flux out of transit."


def notes(model: TSOLightCurveModel) -> list[str]:
    """List what was assumed.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    list of str
        Sentences.
    """
    return [str(note) for note in model.meta.tso_level3.instance.get("notes", ())]


def inputs(model: TSOLightCurveModel) -> list[str]:
    """List the inputs.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    list of str
        Name and integrations of each.
    """
    numbers = np.asarray(model.light_curve["integration"])
    lines = []
    for item in model.meta.tso_level3.instance.get("inputs", ()):
        text, frames = str(item.get("name") or "array"), list(item.get("frames", ()))
        if len(frames) == 2 and 1 <= frames[0] <= frames[1] <= len(numbers):
            text += f": integrations {numbers[frames[0] - 1]} to {numbers[frames[1] - 1]}"
        lines.append(text)
    return lines
