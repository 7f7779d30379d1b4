"""Mid-times of integrations, from INT_TIMES, else from the cadence in the header with a note.

MJD UTC at the observatory and BMJD TDB at the barycentre are kept apart; they differ by up to 9.5
minutes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from tso_level3.flags import Flag
from tso_level3.readers.header_times import (
    MAX_CORRECTION,
    as_mjd,
    barycentric_shift,
    cadence_of,
    header_times,
)
from tso_level3.readers.inputs import PartTimes, flags_of
from tso_level3.readers.metadata import number

__all__ = ["given_times", "integration_times", "notes_on", "unknown_times", "unwrap"]

log = logging.getLogger(__name__)

_DAY = 86400.0
_COLUMNS = ("integration_number", "int_mid_MJD_UTC", "int_mid_BJD_TDB")


def unknown_times(n_frames: int, *, first: int | None = None) -> PartTimes:
    """Return the times of frames for which none is known."""
    nothing = np.full(n_frames, np.nan)
    flags = np.full(n_frames, int(Flag.NO_TIME | Flag.NO_BARYCENTRIC_TIME), np.uint32)
    return PartTimes(nothing, nothing.copy(), "none", flags, first)


def unwrap(numbers: Any) -> np.ndarray:
    """Undo the overflow of integration numbers that were stored in 16 bits.

    Parameters
    ----------
    numbers : array_like of int
        Numbers in the order of the rows.

    Returns
    -------
    ndarray of int64
        Numbers that continue to rise after 32767.
    """
    out = np.array(numbers, dtype=np.int64, ndmin=1)
    if out.size and out[0] < 0:
        out += 65536
    # A fall by half of the range or more is an overflow: the row follows the one before it.
    for fall in np.flatnonzero(np.diff(out) < -16000) + 1:
        out[fall:] += out[fall - 1] + 1 - out[fall]
    return out


def given_times(times: Any, n_frames: int) -> PartTimes:
    """Convert times that the caller gives.

    Parameters
    ----------
    times : array_like, (n_int,), or astropy.time.Time
        MJD UTC; a Time of scale TDB is barycentric.
    n_frames : int
        Number of integrations.

    Returns
    -------
    PartTimes
        Times with the source ``given``.

    Raises
    ------
    ValueError
        Their number is not that of the integrations, or they are not times.
    """
    nothing = np.full(n_frames, np.nan)
    notes: tuple[str, ...] = ()
    utc, tdb = nothing, nothing
    try:
        if hasattr(times, "to_value") and hasattr(times, "unit"):
            times = times.to_value("d")
        elif not hasattr(times, "mjd") and np.asarray(times).dtype.kind in "MOU":
            from astropy.time import Time

            times = Time(times)
        if hasattr(times, "scale") and hasattr(times, "mjd"):
            barycentric = times.scale == "tdb"
            days = np.atleast_1d(np.asarray(times.mjd if barycentric else times.utc.mjd, float))
        else:
            barycentric = False
            days = np.atleast_1d(np.asarray(times, dtype=float))
    except (TypeError, ValueError, KeyError) as problem:
        raise ValueError(
            f"times: {type(times).__name__} found, expected MJD UTC numbers or an astropy Time"
        ) from problem
    if days.shape != (n_frames,):
        raise ValueError(
            f"times: shape {days.shape} found, expected one time for each of {n_frames} frames"
        )
    if np.any(days > 2.0e6):
        notes += ("The times given are Julian dates; 2400000.5 was subtracted.",)
    plain, days = days, as_mjd(days) if np.any(days > 10000) else days
    lost = np.isfinite(plain) & ~np.isfinite(days)
    if lost.any():
        raise ValueError(f"times: {plain[lost][0]:g} found, expected days, MJD UTC")
    if np.isfinite(days).any() and np.nanmax(days) < 10000:
        first, last = np.nanmin(days), np.nanmax(days)
        notes += (f"The times given are no dates, {first:g} to {last:g}; they are taken for days.",)
    if barycentric:
        tdb = days
        notes += ("The times given are TDB and taken as barycentric.",)
    else:
        utc = days
    notes += tuple(notes_on(days))
    return PartTimes(utc, tdb, "given", flags_of(utc, tdb), None, notes)


def notes_on(days: np.ndarray) -> list[str]:
    """Describe missing, repeated and falling times of all frames.

    Parameters
    ----------
    days : ndarray, (n,)
        Times in the order of the frames [d]; NaN where unknown.

    Returns
    -------
    list of str
        A note for each problem.
    """
    known = days[np.isfinite(days)]
    steps = np.diff(known)
    notes = []
    if known.size == 0:
        notes.append("No times are known.")
    elif known.size < days.size:
        missing = days.size - known.size
        notes.append(f"No times are known for {missing} of {days.size} integrations.")
    if (steps < 0).any():
        notes.append("The times of the frames do not rise in the order of the frames.")
    if (steps == 0).any():
        notes.append(f"{(steps == 0).sum()} times of frames are those of the frame before.")
    return notes


def integration_times(
    table: np.ndarray | None, tree: Mapping[str, Any], n_frames: int, *, image: bool = False
) -> PartTimes:
    """Find the times of the integrations of a JWST file.

    Parameters
    ----------
    table : ndarray, structured, or None
        INT_TIMES.
    tree : mapping
        Metadata.
    n_frames : int
        Number of frames in the file.
    image : bool
        Whether it is a single image, which may be the mean of several integrations.

    Returns
    -------
    PartTimes
        Rows are matched by the number of the integration in the exposure. Times that the table
        lacks are computed from the cadence in the header and flagged.
    """
    notes: list[str] = []
    first = _first(tree)
    rows = _rows(table, notes)
    if image and first is None and rows is not None and rows[0].size != n_frames:
        rows = None  # a mean of several integrations has not the time of any
    if first is None and rows is not None:
        first = int(rows[0][0])
    utc, tdb = _matched(rows, first or 1, n_frames, tree, notes)
    _drop_unordered(utc, "INT_TIMES", notes)
    computed = ~np.isfinite(utc)
    source = "INT_TIMES" if not computed.all() else "none"
    if computed.any():
        header, keyword = header_times(tree, n_frames, first or 1, image=image)
        if np.isfinite(header).any():
            utc = _fill_gaps(utc, header, source, keyword, notes)
            source = keyword if source == "none" else f"{source}, {keyword}"
    computed &= np.isfinite(utc)
    tdb = _barycentric(utc, tdb, tree, notes)
    exposure_time = number(tree, "exposure.integration_time")
    return PartTimes(
        utc, tdb, source, flags_of(utc, tdb, computed), first, tuple(notes), exposure_time
    )


def _first(tree: Mapping[str, Any]) -> int | None:
    found = number(tree, "exposure.integration_start")
    if not 0 < abs(found) < 2**31:
        return None
    return int(found) + (65536 if found < 0 else 0)


def _rows(
    table: np.ndarray | None, notes: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Read number, MJD UTC and BMJD TDB from INT_TIMES."""
    if table is None or getattr(table, "dtype", None) is None or table.dtype.names is None:
        return None
    names = {name.lower(): name for name in table.dtype.names}
    if len(table) == 0 or any(c.lower() not in names for c in _COLUMNS[:2]):
        notes.append("INT_TIMES has no rows, or lacks its columns.")
        return None
    number_, mid, bary = (names.get(c.lower()) for c in _COLUMNS)
    utc = as_mjd(table[mid])
    tdb = as_mjd(table[bary]) if bary else np.full(utc.size, np.nan)
    return unwrap(table[number_]), utc, tdb


def _matched(
    rows: tuple | None, first: int, n_frames: int, tree: Mapping[str, Any], notes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Assign the rows of the table to the frames."""
    utc, tdb = np.full(n_frames, np.nan), np.full(n_frames, np.nan)
    if rows is None:
        return utc, tdb
    numbers, row_utc, row_tdb = rows
    place = numbers - first
    inside = (place >= 0) & (place < n_frames)
    if not inside.any() and numbers.size == n_frames:
        # Numbers that count from the start of the segment; the times of the header show it.
        expected, _ = header_times(tree, n_frames, first)
        cadence = cadence_of(tree) / _DAY
        with np.errstate(invalid="ignore"):
            agree = np.abs(row_utc - expected) < max(cadence, 1e-9)
        if agree.any():
            notes.append(
                f"INT_TIMES counts from {numbers[0]}, the header from {first}; its rows were"
                " taken in their order, since the header's times agree with them."
            )
            place, inside = np.arange(n_frames), np.ones(n_frames, bool)
    utc[place[inside]] = row_utc[inside]
    tdb[place[inside]] = row_tdb[inside]
    missing = n_frames - np.unique(place[inside]).size
    if missing:
        notes.append(f"INT_TIMES has no row for {missing} of {n_frames} integrations.")
    elif not np.isfinite(utc).all():
        notes.append(f"INT_TIMES has no time for {int((~np.isfinite(utc)).sum())} integrations.")
    return utc, tdb


def _drop_unordered(days: np.ndarray, what: str, notes: list[str]) -> None:
    """Set times that do not rise to NaN, in place: single ones, or all where many are wrong."""
    good = np.flatnonzero(np.isfinite(days))
    if good.size < 2 or np.all(np.diff(days[good]) > 0):
        return
    cadence = np.median(np.diff(days[good]) / np.diff(good))
    if cadence > 0:
        line = days[good] - cadence * good
        off = np.abs(line - np.median(line)) > 0.5 * cadence
        rest = good[~off]
        if off.sum() <= 0.5 * good.size and np.all(np.diff(days[rest]) > 0):
            days[good[off]] = np.nan
            notes.append(f"{what} does not rise; {int(off.sum())} of its times were left out.")
            return
    days[good] = np.nan
    notes.append(f"{what} does not rise; none of its times was used.")


def _fill_gaps(
    utc: np.ndarray, header: np.ndarray, source: str, keyword: str, notes: list[str]
) -> np.ndarray:
    """Fill gaps with the times of the header, shifted to match the known times around them."""
    known = np.isfinite(utc)
    if not known.any():
        notes.append(f"Times were computed from {keyword} and the cadence.")
        return header
    frames = np.arange(utc.size)
    offset = np.interp(frames, frames[known], (utc - header)[known])
    notes.append(
        f"Times of {int((~known).sum())} integrations were computed from the cadence and shifted"
        f" to match those of {source}."
    )
    return np.where(known, utc, header + offset)


def _barycentric(
    utc: np.ndarray, tdb: np.ndarray, tree: Mapping[str, Any], notes: list[str]
) -> np.ndarray:
    """Drop barycentric times that cannot be right, and compute those that are missing."""
    tdb = tdb.copy()
    with np.errstate(invalid="ignore"):
        ahead = tdb - utc
        wrong = np.isfinite(ahead) & ((np.abs(ahead) > MAX_CORRECTION) | (np.abs(ahead) < 1e-9))
    if wrong.any():
        tdb[wrong] = np.nan
        notes.append(
            f"{int(wrong.sum())} barycentric times of INT_TIMES equal UTC or are too far from it,"
            " and were left out."
        )
    _drop_unordered(tdb, "The barycentric column of INT_TIMES", notes)
    missing = ~np.isfinite(tdb) & np.isfinite(utc)
    if not missing.any():
        return tdb
    known = np.isfinite(tdb) & np.isfinite(utc)
    if known.any():
        shift, how = np.interp(utc, utc[known], (tdb - utc)[known]), "their neighbours"
    else:
        shift, how = barycentric_shift(utc, tree)
    if shift is None:
        notes.append("No barycentric times are known; the times are MJD UTC.")
        return tdb
    tdb[missing] = (utc + shift)[missing]
    notes.append(f"Barycentric times of {int(missing.sum())} integrations come from {how}.")
    return tdb
