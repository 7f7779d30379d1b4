"""Selection of rows of a product, and its time scales and windows."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Table

from tso_level3.flags import Flag
from tso_level3.product.record import NoiseAveraging
from tso_level3.product.tables import expand_files, files_table, rows_of_events
from tso_level3.quality.noise import Centres, bin_size, scatter_about, time_averaging

if TYPE_CHECKING:
    from tso_level3.product.model import TSOLightCurveModel

__all__ = ["TIME_SCALES", "days", "out_of_transit", "place_of", "take", "transit_of"]

#: The astropy scale of each scale of the column ``time``.
TIME_SCALES = {"BMJD_TDB": "tdb", "MJD_UTC": "utc"}
# Minimum number of integrations out of transit for a scatter.
_FEW = 6


def days(value: Any, scale: str) -> list[float]:
    """Convert times to days on the scale of a product.

    Parameters
    ----------
    value : float, astropy.time.Time, or sequence of them
        Days of the column ``time``, or times.
    scale : str
        The product's `time_scale`; times given to a barycentric product are barycentric.

    Returns
    -------
    list of float
        Days, one per value.

    Raises
    ------
    ValueError
        The value is a text, or an astropy time where the product has no times.
    """
    if isinstance(value, str):
        raise ValueError(f"{value!r} found, expected times: days as numbers, or astropy times")
    if hasattr(value, "mjd"):
        if scale not in TIME_SCALES:
            raise ValueError("a time found, expected integration numbers: the product has no times")
        return [float(day) for day in np.ravel(getattr(value, TIME_SCALES[scale]).mjd)]
    if isinstance(value, Iterable):
        return [day for item in value for day in days(item, scale)]
    return [float(value)]


def out_of_transit(model: TSOLightCurveModel) -> np.ndarray | None:
    """Mark the integrations out of transit, by the setting ``out_of_transit``.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    ndarray, (n_int,), bool, or None
        True for those out of transit; None where the setting was not given.
    """
    windows = model.record.setting("out_of_transit")
    if isinstance(windows, str):
        return None
    time = np.asarray(model.light_curve["time"], dtype=float)
    inside = [(time >= start) & (time <= end) for start, end in zip(windows[::2], windows[1::2])]
    out: np.ndarray = np.any(inside, axis=0)
    return out


def transit_of(model: TSOLightCurveModel) -> list[float] | None:
    """Determine the windows in transit, from the setting ``out_of_transit``.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    list of float or None
        Start and end of each run of integrations in transit; None where the setting was not given.
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


def place_of(rows: Any, n: int) -> np.ndarray:
    """Find the places of rows.

    Parameters
    ----------
    rows : int, slice, ndarray of int or ndarray of bool
        The rows, from 0.
    n : int
        Number of rows.

    Returns
    -------
    ndarray of int
        Their places from 0; of no dimension for a single row.

    Raises
    ------
    IndexError, TypeError, ValueError
        There are no such rows.
    """
    try:
        if rows is None:
            raise TypeError
        return np.asarray(np.arange(n)[rows])
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
        The product; not changed, and not shared with the new one.
    rows : slice, ndarray of int or ndarray of bool
        The rows, from 0.

    Returns
    -------
    TSOLightCurveModel
        The light curve of these rows, the events that begin in them (and settling that lasts into
        them), and the noise of the apertures of ``apertures`` measured in them. Primary aperture,
        table ``grid``, images and metadata are those of the whole exposure.

    Raises
    ------
    ValueError
        No row is selected.
    """
    from asdf.tags.core import AsdfObject

    tree, n = model.instance, len(model)
    place = place_of(rows, n)
    if not len(place):
        raise ValueError(f"rows: {rows} found, expected some of the {n} rows of the product")
    light_curve = tree["light_curve"][place]
    part = {
        name: copy.deepcopy(value) for name, value in tree.items() if not isinstance(value, Table)
    }
    part |= {
        "light_curve": light_curve,
        "events": _events(tree["light_curve"], tree["events"], place),
        "grid": tree["grid"].copy(),
        "apertures": tree["apertures"].copy(),
    }
    if "files" in tree:
        part["files"] = files_table(expand_files(tree["files"])[place])
    out = type(model)(AsdfObject(part))
    record, numbers = out.record, np.asarray(light_curve["integration"])
    note = f"{len(place)} of {n} integrations, {numbers.min()} to {numbers.max()}, were selected."
    record = replace(
        record,
        inputs=_inputs(record.inputs, place),
        notes=[*record.notes, note],
        averaging=_measure_noise(out),
    )
    out.meta.tso_level3.instance.update(record.as_tree())
    return out


def _events(light_curve: Table, events: Table, place: np.ndarray) -> Table:
    first = rows_of_events(light_curve, events)
    keep = np.isin(first, place)
    settling = np.asarray(light_curve["flags"])[place].astype(np.int64) & int(Flag.SETTLING)
    keep |= (np.asarray(events["kind"]) == "settling") & settling.any()
    return events[keep]


def _inputs(inputs: Iterable[Mapping[str, Any]], place: np.ndarray) -> list[dict[str, Any]]:
    """List the inputs of the selected rows, with their new rows, from 1."""
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


def _measure_noise(model: TSOLightCurveModel) -> NoiseAveraging:
    """Measure the scatter of the apertures again, in place, and that of bins."""
    table, apertures = model.light_curve, model.apertures
    time = np.asarray(table["time"], dtype=float)
    use = out_of_transit(model)
    if use is None or use.sum() < _FEW:
        # For a selection in transit, the scatter in transit.
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
    return NoiseAveraging.of(time_averaging(model.flux, use, size))
