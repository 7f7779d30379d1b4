"""Some rows of a product as a product of their own, and times as the product counts them."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Table

from tso_level3.flags import Flag
from tso_level3.product.tables import expand_files, files_table, rows_of_events
from tso_level3.quality.noise import (
    Centres,
    bin_size,
    scatter_about,
    time_averaging,
)

if TYPE_CHECKING:
    from tso_level3.product.model import TSOLightCurveModel

__all__ = ["TIME_SCALES", "days", "out_of_transit", "place_of", "take", "transit_of"]

#: The astropy scale of each scale of the column ``time``.
TIME_SCALES = {"BMJD_TDB": "tdb", "MJD_UTC": "utc"}
# Fewer integrations out of transit have no scatter.
_FEW = 6


def days(value: Any, scale: str) -> float | list[float]:
    """Read times as days on the scale of a product.

    Parameters
    ----------
    value : float, astropy.time.Time, or sequence of them
        Days of the column ``time``, or times.
    scale : str
        The product's `time_scale`. A barycentric product takes times for barycentric.

    Returns
    -------
    float or list of float
        Days.

    Raises
    ------
    ValueError
        Times are given, and the product has none; or a text is.
    """
    if isinstance(value, str):
        raise ValueError(f"{value!r} found, expected times: days as numbers, or astropy times")
    if hasattr(value, "mjd"):
        if scale not in TIME_SCALES:
            raise ValueError("a time found, expected integration numbers: the product has no times")
        return getattr(value, TIME_SCALES[scale]).mjd
    if isinstance(value, Iterable):
        return [float(day) for item in value for day in np.ravel(days(item, scale))]
    return float(value)


def out_of_transit(model: TSOLightCurveModel) -> np.ndarray | None:
    """Mark the integrations that the setting ``out_of_transit`` names.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    ndarray, (n_int,), bool, or None
        True for those out of transit; None where the setting was not given.
    """
    windows = model.meta.tso_level3.instance.get("settings", {}).get("out_of_transit", "none")
    if isinstance(windows, str):
        return None
    time = np.asarray(model.light_curve["time"], dtype=float)
    inside = [(time >= start) & (time <= end) for start, end in zip(windows[::2], windows[1::2])]
    return np.any(inside, axis=0)


def transit_of(model: TSOLightCurveModel) -> list[float] | None:
    """Give the windows that the setting ``out_of_transit`` leaves out.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    list of float or None
        Start and end of each run of integrations that are in transit; None where the setting was
        not given.
    """
    out = out_of_transit(model)
    if out is None:
        return None
    time = np.asarray(model.light_curve["time"], dtype=float)
    order = np.argsort(time)
    order = order[np.isfinite(time[order])]
    inside = np.concatenate([[False], ~out[order], [False]])
    first, last = np.flatnonzero(np.diff(inside.astype(int))).reshape(-1, 2).T
    time = time[order]
    return [float(day) for pair in zip(time[first], time[last - 1]) for day in pair]


def place_of(rows: Any, n: int) -> np.ndarray | np.integer:
    """Find the places of rows.

    Parameters
    ----------
    rows : int, slice, ndarray of int or ndarray of bool
        The rows, from 0.
    n : int
        How many there are.

    Returns
    -------
    ndarray of int, or int
        Their places from 0, none of them negative.

    Raises
    ------
    IndexError, TypeError, ValueError
        There are no such rows.
    """
    try:
        if rows is None:
            raise TypeError
        return np.arange(n)[rows]
    except (IndexError, TypeError, ValueError) as problem:
        shown = f"{len(rows)} values" if np.ndim(rows) else str(rows)
        raise type(problem)(
            f"rows: {shown} found, expected rows from 0 to {n - 1}, a slice of them, or a mask of"
            f" {n} values; between(start, end) takes times"
        ) from problem


def take(model: TSOLightCurveModel, rows: Any) -> TSOLightCurveModel:
    """Make a product of some rows of another.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product; it is not changed and not referred to.
    rows : slice, ndarray of int or ndarray of bool
        The rows, from 0.

    Returns
    -------
    TSOLightCurveModel
        The light curve with these rows, the events that begin in them (settling as long as it
        lasts in them), and the measured noise of the apertures of ``apertures`` in these rows. The
        quoted aperture, the table ``grid``, images and metadata are those of the whole exposure.

    Raises
    ------
    ValueError
        No row is left.
    """
    from asdf.tags.core import AsdfObject

    tree, n = model.instance, len(model)
    place = place_of(rows, n)
    if not len(place):
        raise ValueError(f"rows: {rows} found, expected some of the {n} rows of the product")
    light_curve = tree["light_curve"][place]
    kept = {
        name: copy.deepcopy(value) for name, value in tree.items() if not isinstance(value, Table)
    }
    kept |= {
        "light_curve": light_curve,
        "events": _events(tree["light_curve"], tree["events"], place),
        "grid": tree["grid"].copy(),
        "apertures": tree["apertures"].copy(),
    }
    if "files" in tree:
        kept["files"] = files_table(expand_files(tree["files"])[place])
    out = type(model)(AsdfObject(kept))
    made = out.meta.tso_level3.instance
    made["inputs"] = _inputs(made.get("inputs", ()), place)
    numbers = np.asarray(light_curve["integration"])
    note = f"{len(place)} of {n} integrations, {numbers.min()} to {numbers.max()}, were selected."
    made["notes"] = [*made.get("notes", ()), note]
    _measure_noise(out)
    return out


def _events(light_curve: Table, events: Table, place: np.ndarray) -> Table:
    first = rows_of_events(light_curve, events)
    keep = np.isin(first, place)
    settling = np.asarray(light_curve["flags"])[place].astype(np.int64) & int(Flag.SETTLING)
    keep |= (np.asarray(events["kind"]) == "settling") & settling.any()
    return events[keep]


def _inputs(inputs: Iterable[dict], place: np.ndarray) -> list[dict]:
    """Give the inputs that rows are left of, and which of the new rows, from 1."""
    out = []
    for item in inputs:
        frames = list(item.get("frames", ()))
        if len(frames) == 2:
            left = np.flatnonzero((place >= frames[0] - 1) & (place <= frames[1] - 1)) + 1
            if not len(left):
                continue
            frames = [int(left.min()), int(left.max())]
        out.append({**item, "frames": frames})
    return out


def _measure_noise(model: TSOLightCurveModel) -> None:
    """Measure the scatter of the apertures anew, as a run does."""
    table, apertures = model.light_curve, model.apertures
    time = np.asarray(table["time"], dtype=float)
    use = out_of_transit(model)
    if use is None or use.sum() < _FEW:
        # Of a selection in transit the scatter is that in transit.
        use = np.ones(len(time), dtype=bool)
    centres = Centres(*(np.asarray(table[f"psf_{axis}"], dtype=float) for axis in "xy"))
    size = bin_size(time, int(use.sum()))
    for row in apertures:
        fitted = row["kind"] == "psf"
        flux = np.asarray(table["psf_flux"]) if fitted else model.flux_at(row["radius"])[0]
        found = scatter_about(flux, centres, use, size)
        row["flux"] = np.nanmedian(flux[use]) if np.isfinite(flux[use]).any() else np.nan
        row["scatter"] = row["scatter_raw"] = found.raw
        row["scatter_regressed"], row["scatter_binned"] = found.clean, found.binned
        row["ratio"] = found.raw / row["expected"]
        row["red_noise"] = found.binned / found.white
    averaging = time_averaging(model.flux, use, size)
    model.meta.tso_level3.instance["averaging"] = {
        "size": averaging.size.tolist(),
        "scatter": averaging.scatter.tolist(),
        "white": averaging.white.tolist(),
        "red_noise": averaging.red_noise,
    }
