"""Combine inputs into one exposure: checks of their kind, order in time, unit, times, errors."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tso_level3.config.settings import Settings
from tso_level3.datatypes import Exposure, Segment, Times
from tso_level3.flags import Flag, dq_mask
from tso_level3.readers.concat import BorrowedErrors, JoinedFrames, UnreadableFrames
from tso_level3.readers.errors import InputError
from tso_level3.readers.inputs import Part
from tso_level3.readers.metadata import number
from tso_level3.readers.order import check_same, gaps, ordered
from tso_level3.readers.times import given_times, notes_on, unknown_times
from tso_level3.readers.units import Conversion, conversion, gain_of, given_unit

__all__ = ["combine", "unreadable_part"]

log = logging.getLogger(__name__)


def unreadable_part(path: Path, problem: str) -> Part:
    """Make an input of one frame of NaN for a file that cannot be read."""
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


def combine(
    parts: Sequence[Part],
    settings: Settings,
    *,
    gain: Any = None,
    times: Any = None,
) -> Exposure:
    """Combine inputs into one exposure.

    Parameters
    ----------
    parts : sequence of Part
        In the order given.
    settings : Settings
        ``gain``, ``unit``, ``where`` and ``unreadable`` count.
    gain : float, str, path, GainModel or None
        Electrons per DN, for DN/s, where the settings have none.
    times : array_like or astropy.time.Time, optional
        Times of all frames, in the order given.

    Returns
    -------
    Exposure
        The exposure.

    Raises
    ------
    InputError
        Inputs differ in shape, unit, filter or detector, overlap, or none can be read.
    """
    parts, silent = _checked(parts, settings)
    if times is None:
        parts = ordered(parts)
    good = [part for part in parts if not part.problem]
    first = good[0]
    scales = _conversions(parts, good, settings, gain)
    parts, has_errors, unknown = _with_errors(parts)
    exposure_times = _times(parts, times)
    notes = [*_input_notes(parts), *silent, *gaps(good), scales[0].note, *exposure_times.notes]
    notes += unknown
    notes.append(_unused_flags(settings, any(part.has_dq for part in good)))
    notes = [note for note in notes if note]
    for note in notes:
        log.warning("%s", note)
    integration, index = _numbers(parts)
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


def _checked(parts: Sequence[Part], settings: Settings) -> tuple[list[Part], list[str]]:
    """Check that something can be read, and that the inputs are of one kind."""
    good = [part for part in parts if not part.problem]
    if not good:
        more = "" if len(parts) == 1 else f" (the first of {len(parts)} inputs, all unreadable)"
        raise InputError(f"{parts[0].problem}{more}")
    if settings.unit is not None:
        unit = given_unit(settings.unit)
        parts = [_in_unit(part, unit) for part in parts]
    notes = check_same([part for part in parts if not part.problem], settings.where or ())
    shape = good[0].shape
    return [replace(part, shape=shape) if part.problem else part for part in parts], notes


def _unused_flags(settings: Settings, has_dq: bool) -> str:
    if not has_dq and settings.dq_bits != Settings().dq_bits:
        return "dq_bits is not used: no data quality and no mask is known."
    if has_dq and not dq_mask(settings.dq_bits):
        return "dq_bits names no bit: data quality and masks are not used."
    return ""


def _with_errors(parts: Sequence[Part]) -> tuple[list[Part], bool, list[str]]:
    """Settle whether the exposure has standard errors.

    Where most frames have them, the others take those of the nearest frame that has: the noise is
    that of the whole exposure, and one incomplete file is no reason to forget it.
    """
    good = [k for k, part in enumerate(parts) if not part.problem]
    stated = [k for k in good if parts[k].has_errors]
    lacking = [k for k in good if not parts[k].has_errors]
    out = list(parts)
    if not stated or not lacking:
        return out, not lacking, []
    names = parts[lacking[0]].name + (f" and {len(lacking) - 1} more" if lacking[1:] else "")
    count = [sum(parts[k].n_frames for k in group) for group in (stated, lacking)]
    if count[0] <= count[1]:
        return out, False, [f"{names}: no standard errors; those of the other inputs are not used."]
    for k in lacking:
        donor = parts[min(stated, key=lambda other: abs(other - k))]
        source = BorrowedErrors(parts[k].source, donor.source)
        out[k] = replace(parts[k], source=source, has_errors=True)
    return out, True, [f"{names}: no standard errors; those of the nearest input were taken."]


def _in_unit(part: Part, unit: str) -> Part:
    notes = part.notes
    if part.unit not in ("", unit) and not part.problem:
        notes += (f"The input says {part.unit}; unit={unit}, which was given, is used.",)
    return replace(part, unit=unit, notes=notes)


def _conversions(
    parts: Sequence[Part],
    good: Sequence[Part],
    settings: Settings,
    gain: Any,
) -> list[Conversion]:
    """Find the factor of each input to the unit of the exposure."""
    own = settings.gain is not None or good[0].unit != "DN/s"
    gain = gain_of(settings.gain if own else gain, good[0].tree, good[0].shape)
    found: dict[str, Conversion] = {}
    out = []
    for part in parts:
        source = good[0] if part.problem else part
        key = (
            number(source.tree, "photometry.pixelarea_steradians"),
            number(source.tree, "exposure.integration_time"),
            source.times.exposure_time,
        )
        if str(key) not in found:
            found[str(key)] = conversion(
                source.name, source.unit, source.tree, source.shape, gain, key[-1]
            )
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
    """Make one segment per cube, and one for images that follow each other."""
    out: list[Segment] = []
    run: list[Part] = []
    start = 1
    for place, part in enumerate(parts):
        if part.single:
            run.append(part)
            following = parts[place + 1] if place + 1 < len(parts) else None
            if following and following.single and scales[place + 1] is scales[place]:
                continue
            out.append(
                _image_segment(
                    run, scales[place], has_errors, settings, start, alone=len(parts) == 1
                )
            )
            start, run = start + len(run), []
            continue
        first = part.times.first or start
        out.append(Segment(part.source, part.n_frames, part.name, scales[place].scale, first))
        start += part.n_frames
    return tuple(out)


def _image_segment(
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
    """Number the integrations in their exposures, and their inputs, from 1."""
    firsts = [part.times.first for part in parts if part.single]
    numbers = [first for first in firsts if first is not None]
    rising = all(a < b for a, b in zip(numbers[:-1], numbers[1:]))
    counted = rising and len(numbers) == len(firsts)
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
    notes = _merged([note for part in parts for note in part.times.notes])
    notes += notes_on(utc if np.isfinite(utc).any() else tdb)
    return Times(utc, tdb, "; ".join(sources), flags, tuple(notes), exposure_time)


def _merged(notes: Sequence[str]) -> list[str]:
    """Merge the notes that several inputs share."""
    return [
        note if count == 1 else f"{note[:-1]} ({count} inputs)."
        for note, count in Counter(notes).items()
    ]


def _input_notes(parts: Sequence[Part]) -> list[str]:
    notes = _merged([note for part in parts for note in part.notes])
    lost = [part for part in parts if part.problem]
    if lost:
        others = [part.path.name if part.path else part.name for part in lost[1:4]]
        others += [f"{len(lost) - 4} more"] if len(lost) > 4 else []
        notes.append(
            f"{len(lost)} of {len(parts)} inputs cannot be read and became rows of NaN; the first:"
            f" {lost[0].problem}{'; then ' if others else ''}{', '.join(others)}."
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
