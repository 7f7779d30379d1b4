"""From the parts to the exposure: same kind, order of time, no overlap, one unit."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tso_level3.flags import Flag
from tso_level3.frames import Exposure, Segment, Times
from tso_level3.readers.errors import InputError
from tso_level3.readers.facts import get, number
from tso_level3.readers.joined import JoinedFrames, UnreadableFrames
from tso_level3.readers.part import Part
from tso_level3.readers.times import given_times, unknown_times
from tso_level3.readers.units import Conversion, conversion, gain_of, normal_unit
from tso_level3.settings import Settings

__all__ = ["stitch", "unreadable_part"]

log = logging.getLogger(__name__)

_SAME = ("instrument", "detector", "filter", "pupil", "subarray")


def unreadable_part(path: Path, problem: str) -> Part:
    """Stand in for a file that cannot be read: one frame of NaN."""
    times = unknown_times(1)
    flags = times.flags | np.uint32(Flag.UNREADABLE)
    return Part(
        name=str(path),
        source=UnreadableFrames(problem),
        n_frames=1,
        shape=(0, 0),
        times=replace(times, flags=flags),
        single=True,
        path=path,
        record={"name": path.name, "problem": problem},
        problem=problem,
    )


def stitch(
    parts: Sequence[Part],
    settings: Settings,
    *,
    gain: float | np.ndarray | None = None,
    times: Any = None,
    unit: str | None = None,
) -> Exposure:
    """Join inputs to one exposure.

    Parameters
    ----------
    parts : sequence of Part
        In the order given.
    settings : Settings
        ``gain`` and ``unreadable`` count.
    gain : float, ndarray (ny, nx) or None
        Electrons a DN, where the settings have none.
    times : array_like or astropy.time.Time, optional
        Times of all frames, in the order given.
    unit : str, optional
        Unit of the frames, where the input's is wrong or missing.

    Returns
    -------
    Exposure
        The exposure.

    Raises
    ------
    InputError
        Inputs differ in shape, unit, filter or detector, overlap, or none can be read.
    """
    good = [part for part in parts if not part.problem]
    if not good:
        more = "" if len(parts) == 1 else f" (the first of {len(parts)} inputs, all unreadable)"
        raise InputError(f"{parts[0].problem}{more}")
    if unit is not None:
        parts = [replace(part, unit=normal_unit(unit)) for part in parts]
    parts = [replace(part, shape=good[0].shape) if part.problem else part for part in parts]
    good = [part for part in parts if not part.problem]
    _check_same(good)
    if times is None:
        parts = _ordered(parts)
    good = [part for part in parts if not part.problem]
    notes = _gaps(good)
    scales = _conversions(parts, good, settings, gain)
    has_errors = all(part.has_errors for part in good)
    if not has_errors and any(part.has_errors for part in good):
        without = next(part.name for part in good if not part.has_errors)
        notes.append(f"{without} has no standard errors; those of the other inputs were left.")
    integration, index = _numbers(parts)
    exposure_times = _times(parts, times)
    first = good[0]
    notes += _gathered(parts) + [s.note for s in scales[:1] if s.note]
    notes += list(exposure_times.notes)
    for note in notes:
        log.warning("%s", note)
    return Exposure(
        segments=_segments(parts, scales, has_errors, settings),
        shape=first.shape,
        times=exposure_times,
        unit=scales[0].unit,
        optics=first.optics,
        position=first.position,
        has_errors=has_errors,
        integration=integration,
        segment=index,
        filenames=_filenames(parts),
        inputs=_inputs(parts),
        meta=first.meta(),
        notes=tuple(notes),
    )


def _check_same(good: Sequence[Part]) -> None:
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


def _ordered(parts: Sequence[Part]) -> list[Part]:
    """Put cubes in the order of time, and see that none overlap; images stay as given."""
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
    for part in parts:  # a file that cannot be read stays behind the one it followed
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


def _gaps(good: Sequence[Part]) -> list[str]:
    """Say which integrations are missing between segments."""
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


def _conversions(
    parts: Sequence[Part],
    good: Sequence[Part],
    settings: Settings,
    gain: float | np.ndarray | None,
) -> list[Conversion]:
    """Find each part's factor to the exposure's unit; those that cannot be read have none."""
    if good[0].unit == "DN/s":
        own = gain_of(settings.gain, good[0].tree, good[0].shape)
        gain = gain if own is None else own
    found: dict[tuple, Conversion] = {}
    out = []
    for part in parts:
        source = good[0] if part.problem else part
        key = (
            number(source.tree, "photometry.pixelarea_steradians"),
            number(source.tree, "exposure.integration_time"),
        )
        if str(key) not in found:
            found[str(key)] = conversion(source.name, source.unit, source.tree, source.shape, gain)
        out.append(found[str(key)])
    units = {item.unit: part.name for item, part in zip(out, parts)}
    if len(units) > 1:
        (one, first), (other, second) = list(units.items())[:2]
        raise InputError(
            f"{first} and {second} cannot be brought to one unit, they end in {one} and {other}:"
            " pixel area or integration time is missing in one of them"
        )
    return out


def _segments(
    parts: Sequence[Part], scales: Sequence[Conversion], has_errors: bool, settings: Settings
) -> tuple[Segment, ...]:
    """One segment a cube; images that follow each other share one."""
    out: list[Segment] = []
    run: list[Part] = []
    start = 1
    for place, part in enumerate(parts):
        if part.single:
            run.append(part)
            following = parts[place + 1] if place + 1 < len(parts) else None
            if following is not None and following.single:
                if scales[place + 1] is scales[place]:
                    continue
            out.append(
                _joined(run, scales[place], has_errors, settings, start, alone=len(parts) == 1)
            )
            start, run = start + len(run), []
            continue
        first = part.times.first or start
        out.append(Segment(part.source, part.n_frames, part.name, scales[place].scale, first))
        start += part.n_frames
    return tuple(out)


def _joined(
    run: Sequence[Part],
    scale: Conversion,
    has_errors: bool,
    settings: Settings,
    start: int,
    *,
    alone: bool,
) -> Segment:
    if len(run) == 1 and alone:
        source: Any = run[0].source
    else:
        source = JoinedFrames(
            tuple(part.source for part in run),
            errors=has_errors,
            dq=any(part.has_dq or part.problem for part in run),
            tolerant=settings.unreadable == "flag",
            names=tuple(part.name for part in run),
        )
    return Segment(source, len(run), run[0].name, scale.scale, start)


def _numbers(parts: Sequence[Part]) -> tuple[np.ndarray, np.ndarray]:
    """Number of each integration in its exposure, and of its input, from 1."""
    firsts = [part.times.first for part in parts if part.single]
    counted = None not in firsts and all(a < b for a, b in zip(firsts[:-1], firsts[1:]))
    integration, index, start = [], [], 1
    for place, part in enumerate(parts, 1):
        known = part.times.first if not part.single or counted else None
        first = start if known is None else known
        if part.problem and not counted:
            first = start
        integration.append(first + np.arange(part.n_frames))
        index.append(np.full(part.n_frames, place))
        start = first + part.n_frames
    return (
        np.concatenate(integration).astype(np.int64),
        np.concatenate(index).astype(np.int64),
    )


def _times(parts: Sequence[Part], given: Any) -> Times:
    lengths = [part.times.exposure_time for part in parts]
    known = [length for length in lengths if math.isfinite(length)]
    exposure_time = float(np.median(known)) if known else math.nan
    total = sum(part.n_frames for part in parts)
    lost = np.concatenate([part.times.flags for part in parts]) & np.uint32(Flag.UNREADABLE)
    if given is not None:
        own = given_times(given, total)
        return Times(
            own.mjd_utc, own.bmjd_tdb, own.source, own.flags | lost, own.notes, exposure_time
        )
    utc = np.concatenate([part.times.mjd_utc for part in parts])
    tdb = np.concatenate([part.times.bmjd_tdb for part in parts])
    flags = np.concatenate([part.times.flags for part in parts])
    sources = list(dict.fromkeys(part.times.source for part in parts if not part.problem))
    notes = _counted([note for part in parts for note in part.times.notes])
    mid = utc[np.isfinite(utc)] if np.isfinite(utc).any() else tdb[np.isfinite(tdb)]
    if mid.size == 0:
        notes.append("No times are known.")
    elif mid.size < total:
        notes.append(f"No times are known for {total - mid.size} of {total} integrations.")
    if mid.size > 1 and np.any(np.diff(mid) <= 0):
        notes.append("The times of the frames do not rise in the order of the frames.")
    return Times(utc, tdb, "; ".join(sources), flags, tuple(notes), exposure_time)


def _counted(notes: Sequence[str]) -> list[str]:
    """Say once what is true of several inputs."""
    return [
        note if count == 1 else f"{note[:-1]} ({count} inputs)."
        for note, count in Counter(notes).items()
    ]


def _gathered(parts: Sequence[Part]) -> list[str]:
    notes = _counted([note for part in parts for note in part.notes])
    lost = [part for part in parts if part.problem]
    if lost:
        notes.append(
            f"{len(lost)} of {len(parts)} inputs cannot be read and became rows of NaN; the first:"
            f" {lost[0].problem}."
        )
    return notes


def _filenames(parts: Sequence[Part]) -> tuple[str, ...] | None:
    if not any(part.path for part in parts):
        return None
    return tuple(
        part.path.name if part.path else part.name for part in parts for _ in range(part.n_frames)
    )


def _inputs(parts: Sequence[Part]) -> tuple[dict, ...]:
    out, start = [], 1
    for part in parts:
        out.append({**part.record, "frames": [start, start + part.n_frames - 1]})
        start += part.n_frames
    return tuple(out)
