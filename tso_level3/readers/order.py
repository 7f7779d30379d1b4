"""Check that inputs are of one series, and put them in order of time."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tso_level3.readers.errors import InputError
from tso_level3.readers.fits.cards import value
from tso_level3.readers.inputs import Part
from tso_level3.readers.metadata import get, number

__all__ = ["LABELS", "check_same", "gaps", "labels_of", "ordered"]

log = logging.getLogger(__name__)

#: Properties that are the same in all inputs of a series, and their keywords.
LABELS = {
    "instrument": ("INSTRUME",),
    "detector": ("DETECTOR",),
    "filter": ("FILTER",),
    "filter 1": ("FILTER1",),
    "filter 2": ("FILTER2",),
    "pupil": ("PUPIL",),
    "subarray": ("SUBARRAY",),
    "target": ("TARGNAME", "TARGPROP", "OBJECT"),
    "image type": ("IMAGETYP", "OBSTYPE"),
}
_OPTICS = ("instrument", "detector", "filter", "pupil", "subarray")
_SHOWN = 4


def check_same(good: Sequence[Part], where: Sequence[str] = ()) -> list[str]:
    """Check that inputs are of one series.

    Parameters
    ----------
    good : sequence of Part
        Inputs that can be read.
    where : sequence of str
        Conditions ``KEYWORD=VALUE`` that all of them fulfil; their keywords may vary.

    Returns
    -------
    list of str
        A note for each property that only some of the inputs state.

    Raises
    ------
    InputError
        They differ in shape, unit, instrument, detector, filter, pupil, subarray, target or type
        of image; the message lists the values.
    """
    chosen = {condition.partition("=")[0].strip().upper() for condition in where}
    differ, hint, notes = [], "", []
    for label in ("shape", "unit", *LABELS):
        if chosen.intersection(LABELS.get(label, ())):
            continue
        found: dict[str, list[Part]] = {}
        for part in good:
            text = _label(part, label)
            if text:
                # WASP-39 and wasp 39 are the same star.
                key = text if label in ("shape", "unit") else re.sub(r"[\W_]", "", text).lower()
                found.setdefault(key, []).append(part)
        silent = [part for part in good if not _label(part, label)]
        if found and silent:
            said = _label(next(iter(found.values()))[0], label)
            notes.append(
                f"{len(silent)} of {len(good)} inputs, such as {_short(silent[0])}, do not say"
                f" their {label}; it was taken for {said}, as in the others."
            )
        if len(found) < 2:
            continue
        names = [
            f"{_label(parts[0], label)} ({len(parts)} of {len(good)}, such as {_short(parts[0])})"
            for parts in sorted(found.values(), key=len, reverse=True)
        ]
        more = [f"{len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
        differ.append(f"{label} {' and '.join(names[:_SHOWN] + more)}")
        most = max(found.values(), key=len)[0]
        if label in LABELS and not hint:
            hint = f"; where picks, as in where='{_keyword(most, label)}={_label(most, label)}'"
        if label == "shape" and most.path is not None:
            axis = 1 if len({part.shape[1] for part in good}) > 1 else 2
            hint = f"; where picks, as in where='NAXIS{axis}={most.shape[2 - axis]}'"
    if differ:
        listed = "; ".join(differ)
        raise InputError(f"inputs that differ found, expected one series: {listed}{hint}")
    return notes


def _label(part: Part, label: str) -> str:
    if label == "shape":
        return str(part.shape)
    if label == "unit":
        return part.unit or "none"
    if label in _OPTICS:
        return getattr(part.optics, label)
    return part.labels.get(label, ("", ""))[1]


def _keyword(part: Part, label: str) -> str:
    return LABELS[label][0] if label in _OPTICS else part.labels[label][0]


def _short(part: Part) -> str:
    return part.path.name if part.path is not None else part.name


def labels_of(*headers: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Read the properties of a series from headers, without those of `Optics`.

    Parameters
    ----------
    *headers : mapping
        Where a keyword stands in several, the first counts.

    Returns
    -------
    dict
        Label to keyword and value; only those that were found.
    """
    out = {}
    for label, keywords in LABELS.items():
        if label in _OPTICS:
            continue
        for keyword in keywords:
            found = next((v for h in headers if (v := value(h, keyword)) is not None), None)
            if found is not None:
                out[label] = (keyword, str(found))
                break
    return out


def ordered(parts: Sequence[Part]) -> list[Part]:
    """Put cubes in order of time, and check that none overlap; images stay as given.

    Parameters
    ----------
    parts : sequence of Part
        In the order given.

    Returns
    -------
    list of Part
        A file that cannot be read stays after the one it followed.

    Raises
    ------
    InputError
        Two cubes overlap, by the numbers of their integrations or in time.
    """
    cubes = [part for part in parts if not part.problem and not part.single]
    if len(cubes) < 2 or any(part.single and not part.problem for part in parts):
        return list(parts)
    starts = [_span(part)[0] for part in cubes]
    if all(map(math.isfinite, starts)):
        keys = starts
    elif all(part.times.first is not None for part in cubes):
        keys = [float(part.times.first or 0) for part in cubes]
    else:
        keys = [number(part.tree, "exposure.segment_number") for part in cubes]
        if not all(map(math.isfinite, keys)):
            return list(parts)
    place = dict(zip(map(id, cubes), keys))
    ranks, last = [], -math.inf
    for part in parts:
        last = place.get(id(part), last)
        ranks.append(last)
    ordered = [parts[k] for k in np.argsort(ranks, kind="stable")]
    readable = [part for part in ordered if not part.problem]
    for before, after in zip(readable[:-1], readable[1:]):
        _check_overlap(before, after)
    if ordered != list(parts):
        log.info("the inputs were sorted by time")
    return ordered


def _span(part: Part) -> tuple[float, float]:
    utc = part.times.mjd_utc
    known = utc[np.isfinite(utc)]
    return (float(known[0]), float(known[-1])) if known.size else (math.nan, math.nan)


def _exposure_of(part: Part) -> tuple:
    names = ("visit_id", "activity_id", "exposure_number")
    return tuple(str(get(part.tree, f"observation.{name}", "")) for name in names)


def _check_overlap(before: Part, after: Part) -> None:
    same = _exposure_of(before) == _exposure_of(after)
    first, second = before.times.first, after.times.first
    if same and first is not None and second is not None:
        end = first + before.n_frames - 1
        last = second + after.n_frames - 1
        if second <= end and first <= last:
            raise InputError(
                f"{before.name} and {after.name} overlap, they hold integrations {first} to {end}"
                f" and {second} to {last} of the same exposure, expected each once"
            )
    elif _span(after)[0] <= _span(before)[1]:
        raise InputError(
            f"{before.name} and {after.name} overlap in time, the first ends at MJD"
            f" {_span(before)[1]:.6f} and the second begins at {_span(after)[0]:.6f}"
        )


def gaps(good: Sequence[Part]) -> list[str]:
    """Find integrations that are missing between segments.

    Parameters
    ----------
    good : sequence of Part
        Inputs that can be read, in order of time.

    Returns
    -------
    list of str
        A note for each gap.
    """
    notes = []
    cubes = [part for part in good if not part.single]
    for before, after in zip(cubes[:-1], cubes[1:]):
        if _exposure_of(before) != _exposure_of(after):
            continue
        if before.times.first is None or after.times.first is None:
            continue
        end, start = before.times.first + before.n_frames - 1, after.times.first
        if start > end + 1:
            notes.append(
                f"Integrations {end + 1} to {start - 1} are missing, between {before.name} and"
                f" {after.name}."
            )
    return notes
