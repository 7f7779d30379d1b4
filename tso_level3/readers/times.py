"""Mid-times of integrations: from INT_TIMES, else from the header's cadence, and never silently.

Both scales are kept apart: MJD UTC at the observatory and BMJD TDB at the barycentre. A value of
one is never put in place of the other; they differ by up to 9.5 minutes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tso_level3.flags import Flag
from tso_level3.readers.facts import get, number
from tso_level3.readers.part import PartTimes

__all__ = ["given_times", "integration_times", "unknown_times", "unwrap"]

log = logging.getLogger(__name__)

_DAY = 86400.0
_JD = 2400000.5
#: Largest difference of the two scales [d]: light takes 8.4 minutes, TDB is 69 s ahead of UTC.
_FARTHEST = 0.01
_COLUMNS = ("integration_number", "int_mid_MJD_UTC", "int_mid_BJD_TDB")


def unknown_times(n_frames: int, *, first: int | None = None) -> PartTimes:
    """Times of frames of which none is known."""
    nothing = np.full(n_frames, np.nan)
    flags = np.full(n_frames, int(Flag.NO_TIME | Flag.NO_BARYCENTRIC_TIME), np.uint32)
    return PartTimes(nothing, nothing.copy(), "none", flags, first)


def as_mjd(times: Any) -> np.ndarray:
    """Make MJD of MJD or JD; what cannot be a date becomes NaN."""
    days = np.array(times, dtype=float, ndmin=1)
    days = np.where(days > 2.0e6, days - _JD, days)
    with np.errstate(invalid="ignore"):
        return np.where((days > 10000) & (days < 200000), days, np.nan)


def unwrap(numbers: Any) -> np.ndarray:
    """Undo the overflow of integration numbers that were kept in 16 bits.

    Parameters
    ----------
    numbers : array_like of int
        Numbers in the order of the rows.

    Returns
    -------
    ndarray of int64
        Numbers that go on rising where they fell from 32767.
    """
    out = np.array(numbers, dtype=np.int64, ndmin=1)
    if out.size and out[0] < 0:
        out += 65536
    # A fall by half of the range or more is an overflow: the row follows the one before it.
    for fall in np.flatnonzero(np.diff(out) < -16000) + 1:
        out[fall:] += out[fall - 1] + 1 - out[fall]
    return out


def given_times(times: Any, n_frames: int) -> PartTimes:
    """Take times from the caller.

    Parameters
    ----------
    times : array_like, (n_int,), or astropy.time.Time
        MJD UTC; a Time of scale TDB is taken as barycentric.
    n_frames : int
        Number of integrations.

    Returns
    -------
    PartTimes
        Their source is ``given``.

    Raises
    ------
    ValueError
        There are more or fewer than integrations, or they are no numbers.
    """
    nothing = np.full(n_frames, np.nan)
    notes: tuple[str, ...] = ()
    utc, tdb = nothing, nothing
    try:
        if hasattr(times, "scale") and hasattr(times, "mjd"):
            barycentric = times.scale == "tdb"
            days = np.atleast_1d(np.asarray(times.mjd if barycentric else times.utc.mjd, float))
        else:
            barycentric = False
            days = np.atleast_1d(np.asarray(times, dtype=float))
    except (TypeError, ValueError) as problem:
        raise ValueError(
            f"times: {type(times).__name__} found, expected MJD UTC numbers or an astropy Time"
        ) from problem
    if days.shape != (n_frames,):
        raise ValueError(
            f"times: shape {days.shape} found, expected one time for each of {n_frames} frames"
        )
    if np.any(days > 2.0e6):
        notes += ("The times given are Julian dates; 2400000.5 was taken off.",)
    days = as_mjd(days) if np.any(days > 10000) else days
    if barycentric:
        tdb = days
        notes += ("The times given are TDB and taken as barycentric.",)
    else:
        utc = days
    return PartTimes(utc, tdb, "given", flags_of(utc, tdb), None, notes)


def flags_of(utc: np.ndarray, tdb: np.ndarray, computed: np.ndarray | None = None) -> np.ndarray:
    """Flag what is missing, (n,) uint32; ``computed`` marks times that were not read."""
    flags = np.zeros(utc.size, np.uint32)
    no_tdb = ~np.isfinite(tdb)
    flags[no_tdb] |= int(Flag.NO_BARYCENTRIC_TIME)
    flags[no_tdb & ~np.isfinite(utc)] |= int(Flag.NO_TIME)
    if computed is not None:
        flags[computed] |= int(Flag.TIME_FROM_HEADER)
    return flags


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
        Rows are matched by the number of the integration in the exposure. What the table lacks
        comes from the cadence of the header and is flagged.
    """
    notes: list[str] = []
    first = _first(tree)
    rows = _rows(table, notes)
    if image and first is None and rows is not None and rows[0].size != n_frames:
        rows = None  # a mean of several integrations has none of their times
    if first is None and rows is not None:
        first = int(rows[0][0])
    utc, tdb = _matched(rows, first or 1, n_frames, tree, notes)
    _mend(utc, "INT_TIMES", notes)
    computed = ~np.isfinite(utc)
    source = "INT_TIMES" if not computed.all() else "none"
    if computed.any():
        header, keyword = header_times(tree, n_frames, first or 1, image=image)
        if np.isfinite(header).any():
            utc, source = _filled(utc, header, source, keyword, notes), source
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
    """Take number, MJD UTC and BMJD TDB from INT_TIMES."""
    if table is None or getattr(table, "dtype", None) is None or table.dtype.names is None:
        return None
    names = {name.lower(): name for name in table.dtype.names}
    if len(table) == 0 or any(c.lower() not in names for c in _COLUMNS[:2]):
        notes.append("INT_TIMES has no rows, or not its columns.")
        return None
    number_, mid, bary = (names.get(c.lower()) for c in _COLUMNS)
    utc = as_mjd(table[mid])
    tdb = as_mjd(table[bary]) if bary else np.full(utc.size, np.nan)
    return unwrap(table[number_]), utc, tdb


def _matched(
    rows: tuple | None, first: int, n_frames: int, tree: Mapping[str, Any], notes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Put the rows of the table in the places of the frames."""
    utc, tdb = np.full(n_frames, np.nan), np.full(n_frames, np.nan)
    if rows is None:
        return utc, tdb
    numbers, row_utc, row_tdb = rows
    place = numbers - first
    inside = (place >= 0) & (place < n_frames)
    if not inside.any() and numbers.size == n_frames:
        # Numbers that count from the start of the segment: the header's times can tell.
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


def _mend(days: np.ndarray, what: str, notes: list[str]) -> None:
    """Take out times that do not rise, in place: single ones, or all where many are wrong."""
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


def cadence_of(tree: Mapping[str, Any]) -> float:
    """Time from the start of an integration to that of the next, with its resets [s].

    Parameters
    ----------
    tree : mapping
        Metadata.

    Returns
    -------
    float
        NaN where it cannot be told.
    """
    length = number(tree, "exposure.integration_time")
    frame = number(tree, "exposure.frame_time")
    resets = number(tree, "exposure.nresets_between_ints")
    dropped = number(tree, "exposure.drop_frames3")
    if length > 0 and frame >= 0:
        extra = (resets if resets >= 0 else 1.0) + (dropped if dropped > 0 else 0.0)
        return length + extra * frame
    span = number(tree, "exposure.end_time") - number(tree, "exposure.start_time")
    count = number(tree, "exposure.nints")
    if span > 0 and count >= 1:
        return span * _DAY / count
    return math.nan


def header_times(
    tree: Mapping[str, Any], n_frames: int, first: int, *, image: bool = False
) -> tuple[np.ndarray, str]:
    """Compute mid-times from the start of the exposure and its cadence.

    Parameters
    ----------
    tree : mapping
        Metadata.
    n_frames : int
        Number of frames.
    first : int
        Number of the first in the exposure, from 1.
    image : bool
        Whether it is a single image, whose time is that of the exposure's middle.

    Returns
    -------
    mjd_utc : ndarray, (n_frames,)
        NaN where it cannot be told [d].
    keyword : str
        What it was computed from.
    """
    nothing = np.full(n_frames, np.nan)
    start, keyword = _start(tree)
    middle = as_mjd(number(tree, "exposure.mid_time"))[0]
    length, cadence = number(tree, "exposure.integration_time"), cadence_of(tree)
    if image and n_frames == 1 and math.isfinite(middle):
        return np.array([middle]), "EXPMID"
    if n_frames == 1 and first == 1 and not math.isfinite(cadence):
        cadence = 0.0
    if not (math.isfinite(start) and math.isfinite(cadence)):
        return nothing, "none"
    length = length if length > 0 else cadence
    before = first - 1
    if before and _is_segments_own(tree, n_frames, cadence):
        before = 0
    k = before + np.arange(n_frames)
    return as_mjd(start + (k * cadence + length / 2) / _DAY), keyword


def _start(tree: Mapping[str, Any]) -> tuple[float, str]:
    for place, keyword in (("start_time", "EXPSTART"), ("start_time_mjd", "MJD-BEG")):
        start = as_mjd(number(tree, f"exposure.{place}"))[0]
        if math.isfinite(start):
            return start, keyword
    day = str(get(tree, "observation.date", ""))
    time = str(get(tree, "observation.time", ""))
    start = parse_date(f"{day}T{time}" if time and "T" not in day else day)
    return start, "DATE-OBS"


def _is_segments_own(tree: Mapping[str, Any], n_frames: int, cadence: float) -> bool:
    """Whether start and end of a segment's header are those of the segment, not the exposure."""
    span = (number(tree, "exposure.end_time") - number(tree, "exposure.start_time")) * _DAY
    total = number(tree, "exposure.nints") * cadence
    if not (math.isfinite(span) and math.isfinite(total)):
        return False
    return abs(span - n_frames * cadence) < abs(span - total)


def parse_date(text: str) -> float:
    """Make MJD of an ISO date and time; NaN where it is none."""
    try:
        moment = np.datetime64(text.strip().rstrip("Z").replace(" ", "T"), "us")
    except (ValueError, OverflowError):
        return math.nan
    if np.isnat(moment):
        return math.nan
    days = (moment - np.datetime64("1858-11-17", "us")) / np.timedelta64(1, "D")
    return float(as_mjd(days)[0])


def _filled(
    utc: np.ndarray, header: np.ndarray, source: str, keyword: str, notes: list[str]
) -> np.ndarray:
    """Fill gaps with the header's times, moved so that they join the times that are known."""
    known = np.isfinite(utc)
    if not known.any():
        notes.append(f"Times were computed from {keyword} and the cadence.")
        return header
    frames = np.arange(utc.size)
    offset = np.interp(frames, frames[known], (utc - header)[known])
    notes.append(
        f"Times of {int((~known).sum())} integrations were computed from the cadence and joined"
        f" to those of {source}."
    )
    return np.where(known, utc, header + offset)


def _barycentric(
    utc: np.ndarray, tdb: np.ndarray, tree: Mapping[str, Any], notes: list[str]
) -> np.ndarray:
    """See that barycentric times are what they say; compute those that are missing."""
    tdb = tdb.copy()
    with np.errstate(invalid="ignore"):
        ahead = tdb - utc
        wrong = np.isfinite(ahead) & ((np.abs(ahead) > _FARTHEST) | (np.abs(ahead) < 1e-9))
    if wrong.any():
        tdb[wrong] = np.nan
        notes.append(
            f"{int(wrong.sum())} barycentric times of INT_TIMES equal UTC or are too far from it,"
            " and were left out."
        )
    _mend(tdb, "The barycentric column of INT_TIMES", notes)
    missing = ~np.isfinite(tdb) & np.isfinite(utc)
    if not missing.any():
        return tdb
    known = np.isfinite(tdb) & np.isfinite(utc)
    if known.any():
        shift, how = np.interp(utc, utc[known], (tdb - utc)[known]), "their neighbours"
    else:
        shift, how = _correction(utc, tree)
    if shift is None:
        notes.append("No barycentric times are known; the times are MJD UTC.")
        return tdb
    tdb[missing] = (utc + shift)[missing]
    notes.append(f"Barycentric times of {int(missing.sum())} integrations come from {how}.")
    return tdb


def _correction(utc: np.ndarray, tree: Mapping[str, Any]) -> tuple[np.ndarray | None, str]:
    """Difference of the scales [d] at given times, from the header."""
    for places, how in (
        (("exposure.start_time_tdb", "exposure.mid_time_tdb", "exposure.end_time_tdb"), "TDB-BEG"),
        (
            (
                "time.barycentric_expstart",
                "time.barycentric_expmid",
                "time.barycentric_expend",
            ),
            "BSTRTIME",
        ),
    ):
        nodes, ahead = [], []
        for place, own in zip(places, ("start_time", "mid_time", "end_time")):
            there = as_mjd(number(tree, place))[0]
            here = as_mjd(number(tree, f"exposure.{own}"))[0]
            difference = there - here
            if 1e-9 < abs(difference) < _FARTHEST and here not in nodes:
                nodes.append(here)
                ahead.append(difference)
        if nodes and not _without_light_travel(nodes, ahead):
            degree = len(nodes) - 1
            fit = np.polynomial.Polynomial.fit(nodes, ahead, degree) if degree else None
            return (fit(utc) if degree else np.full(utc.size, ahead[0])), f"{how} and its kin"
    seconds = number(tree, "time.barycentric_correction")
    if seconds and abs(seconds) / _DAY < _FARTHEST:
        return np.full(utc.size, seconds / _DAY), "BARTDELT at the start of the exposure"
    return None, ""


def _without_light_travel(nodes: list[float], ahead: list[float]) -> bool:
    """Whether all the header's TDB are only UTC in another scale, at the observatory."""
    from astropy.time import Time

    utc = Time(nodes, format="mjd", scale="utc")
    only_scale = (utc.tdb.jd1 - utc.jd1) + (utc.tdb.jd2 - utc.jd2)
    return bool(np.all(np.abs(np.asarray(ahead) - only_scale) * _DAY < 0.02))
