"""Times from header keywords: dates, cadence, and the barycentric correction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tso_level3.flags import Flag
from tso_level3.readers.fits.cards import value
from tso_level3.readers.inputs import PartTimes, flags_of
from tso_level3.readers.metadata import get, number

__all__ = [
    "MAX_CORRECTION",
    "as_mjd",
    "barycentric_shift",
    "cadence_of",
    "header_time",
    "header_times",
    "parse_date",
]

_LENGTHS = ("EXPTIME", "XPOSURE", "EFFINTTM", "INTTIME", "ITIME", "EXPOSURE", "TELAPSE")
_MIDDLE_MJD = ("MJD-AVG", "MJD-MID", "MJDMID", "EXPMID")
_START_MJD = ("MJD-BEG", "MJD-OBS", "MJD-STR", "EXPSTART", "MJD", "JD-OBS", "JD_UTC", "JD")
_BARY = ("BJD_TDB", "BJD-TDB", "BJDTDB", "BMJD_TDB", "BMJD-TDB", "BJD-AVG", "BJD-MID", "BJD_MID")
_DAY = 86400.0
_JD = 2400000.5
#: Bound of barycentric TDB minus UTC [d]: light takes 8.4 minutes, TDB is 69 s ahead of UTC.
MAX_CORRECTION = 0.01


def as_mjd(times: Any) -> np.ndarray:
    """Convert MJD or JD to MJD; NaN for numbers that cannot be dates."""
    days = np.array(times, dtype=float, ndmin=1)
    days = np.where(days > 2.0e6, days - _JD, days)
    with np.errstate(invalid="ignore"):
        return np.where((days > 10000) & (days < 200000), days, np.nan)


def cadence_of(tree: Mapping[str, Any]) -> float:
    """Compute the time from the start of an integration to that of the next, resets included [s].

    Parameters
    ----------
    tree : mapping
        Metadata.

    Returns
    -------
    float
        NaN where the metadata do not tell.
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
        Whether it is a single image, whose time is the middle of the exposure.

    Returns
    -------
    mjd_utc : ndarray, (n_frames,)
        Times [d]; NaN where the metadata do not tell.
    keyword : str
        The keyword they were computed from.
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
    if before and _is_of_segment(tree, n_frames, cadence):
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


def _is_of_segment(tree: Mapping[str, Any], n_frames: int, cadence: float) -> bool:
    """Whether start and end in the header are those of the segment, not of the exposure."""
    span = (number(tree, "exposure.end_time") - number(tree, "exposure.start_time")) * _DAY
    total = number(tree, "exposure.nints") * cadence
    if not (math.isfinite(span) and math.isfinite(total)):
        return False
    return abs(span - n_frames * cadence) < abs(span - total)


def parse_date(text: str) -> float:
    """Convert an ISO date and time to MJD; NaN where the text is not one."""
    try:
        moment = np.datetime64(text.strip().rstrip("Z").replace(" ", "T"), "us")
    except (ValueError, OverflowError):
        return math.nan
    if np.isnat(moment):
        return math.nan
    days = (moment - np.datetime64("1858-11-17", "us")) / np.timedelta64(1, "D")
    return float(as_mjd(days)[0])


def barycentric_shift(utc: np.ndarray, tree: Mapping[str, Any]) -> tuple[np.ndarray | None, str]:
    """Compute barycentric TDB minus UTC [d] at given times, and name the keywords used."""
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
            if 1e-9 < abs(difference) < MAX_CORRECTION and here not in nodes:
                nodes.append(here)
                ahead.append(difference)
        if nodes and not _lacks_light_travel(nodes, ahead):
            degree = len(nodes) - 1
            fit = np.polynomial.Polynomial.fit(nodes, ahead, degree) if degree else None
            shift = fit(utc) if fit else np.full(utc.size, ahead[0])
            return shift, f"{how} and the keywords beside it"
    seconds = number(tree, "time.barycentric_correction")
    if seconds and abs(seconds) / _DAY < MAX_CORRECTION:
        return np.full(utc.size, seconds / _DAY), "BARTDELT at the start of the exposure"
    return None, ""


def _lacks_light_travel(nodes: list[float], ahead: list[float]) -> bool:
    """Whether the TDB of the header are those of the observatory, not of the barycentre."""
    from astropy.time import Time

    utc = Time(nodes, format="mjd", scale="utc")
    only_scale = (utc.tdb.jd1 - utc.jd1) + (utc.tdb.jd2 - utc.jd2)
    return bool(np.all(np.abs(np.asarray(ahead) - only_scale) * _DAY < 0.02))


def header_time(headers: Sequence[Mapping[str, Any]]) -> PartTimes:
    """Find the mid-time of a single frame in its headers.

    Parameters
    ----------
    headers : sequence of mapping
        Where a keyword stands in several, the first counts.

    Returns
    -------
    PartTimes
        One time, and the keyword as its source.
    """

    def find(key: str) -> Any:
        return next((v for v in (value(h, key) for h in headers) if v is not None), None)

    length = next((v for v in map(_positive, map(find, _LENGTHS)) if v), math.nan)
    notes: list[str] = []
    utc, keyword = _utc(find, length, notes)
    utc = _to_utc(utc, str(find("TIMESYS") or "UTC"), notes)
    tdb, bary = math.nan, ""
    for key in (*_BARY, *_bjd_keys(headers)):
        tdb = _mjd(find(key))
        if math.isfinite(tdb):
            bary = key
            if any(word in key for word in ("BEG", "OBS", "START", "STR")):
                tdb += (length if length > 0 else 0.0) / 2 / _DAY
            break
    source = " and ".join(word for word in (keyword, bary) if word) or "none"
    days, barycentric = np.array([utc]), np.array([tdb])
    flags = flags_of(days, barycentric)
    if source != "none":
        flags |= np.uint32(Flag.TIME_FROM_HEADER)
    return PartTimes(days, barycentric, source, flags, None, tuple(notes), length)


def _utc(find: Any, length: float, notes: list[str]) -> tuple[float, str]:
    for key in _MIDDLE_MJD:
        days = _mjd(find(key))
        if math.isfinite(days):
            return days, key
    day = parse_date(str(find("DATE-AVG") or ""))
    if math.isfinite(day):
        return day, "DATE-AVG"
    for key in (*_START_MJD, "DATE-BEG", "DATE-OBS"):
        days, label = _mjd(find(key)), key
        if key.startswith("DATE"):
            days, label = _date(find, key)
        if not math.isfinite(days):
            continue
        if not length > 0:
            notes.append(f"No exposure time is known; {label} was taken as the mid-time.")
            return days, label
        return days + length / 2 / _DAY, f"{label} + half the exposure time"
    return math.nan, ""


def _date(find: Any, key: str) -> tuple[float, str]:
    day = str(find(key) or "")
    time = next((v for k in ("TIME-OBS", "UTC-OBS", "UT") if isinstance(v := find(k), str)), "")
    if key == "DATE-OBS" and "T" not in day and time:
        return parse_date(f"{day}T{time}"), "DATE-OBS and TIME-OBS"
    return parse_date(day), key


def _bjd_keys(headers: Sequence[Mapping[str, Any]]) -> list[str]:
    """List other keywords that hold barycentric dates."""
    keys = {str(key) for header in headers for key in header}
    return sorted(k for k in keys if k.startswith(("BJD", "BMJD")) and "END" not in k)


def _positive(found: Any) -> float:
    real = isinstance(found, int | float) and not isinstance(found, bool)
    return float(found) if real and found > 0 and math.isfinite(found) else 0.0


def _mjd(found: Any) -> float:
    if isinstance(found, bool) or not isinstance(found, int | float):
        return math.nan
    return float(as_mjd(found)[0])


def _to_utc(days: float, system: str, notes: list[str]) -> float:
    scale = system.strip().lower()
    if not math.isfinite(days) or scale not in ("tt", "tai", "tdb"):
        return days
    from astropy.time import Time

    notes.append(f"Times of the header are {scale.upper()} and were converted to UTC.")
    return float(Time(days, format="mjd", scale=scale).utc.mjd)
