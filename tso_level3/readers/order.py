"""Which inputs belong together, and in which order."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np

from tso_level3.readers.errors import InputError
from tso_level3.readers.facts import get, number
from tso_level3.readers.part import Part

__all__ = ["check_same", "gaps", "ordered"]

log = logging.getLogger(__name__)

_SAME = ("instrument", "detector", "filter", "pupil", "subarray")


def check_same(good: Sequence[Part]) -> None:
    """See that inputs are of one kind.

    Parameters
    ----------
    good : sequence of Part
        Those that can be read.

    Raises
    ------
    InputError
        Two differ in shape, unit, instrument, detector, filter, pupil or subarray.
    """
    first = good[0]
    for part in good[1:]:
        if part.shape != first.shape:
            raise InputError(
                f"{first.name} and {part.name} have frames of different shape, {first.shape} and"
                f" {part.shape}, expected the same"
            )
        if part.unit != first.unit:
            raise InputError(
                f"{first.name} and {part.name} have different units, {first.unit or 'none'} and"
                f" {part.unit or 'none'}, expected the same"
            )
        for name in _SAME:
            mine, other = getattr(first.optics, name), getattr(part.optics, name)
            if mine and other and mine != other:
                raise InputError(
                    f"{first.name} and {part.name} have a different {name}, {mine} and {other},"
                    " expected the same"
                )


def ordered(parts: Sequence[Part]) -> list[Part]:
    """Put cubes in the order of time, and see that none overlap; images stay as given.

    Parameters
    ----------
    parts : sequence of Part
        In the order given.

    Returns
    -------
    list of Part
        A file that cannot be read stays behind the one it followed.

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
        log.info("the inputs were put in the order of time")
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
    """Say which integrations are missing between segments.

    Parameters
    ----------
    good : sequence of Part
        Those that can be read, in the order of time.

    Returns
    -------
    list of str
        A sentence for each gap.
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
