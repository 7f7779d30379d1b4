"""Runs of frames, and the work on them: all that a worker process needs to know."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tso_level3.core.measure import measure
from tso_level3.core.plan import Measurement, Plan
from tso_level3.datatypes import Box, Exposure, Segment
from tso_level3.utils.threads import one_thread

__all__ = ["MODULES", "Batch", "Task", "batches_of", "chunk_of", "cut_scale", "work"]

#: What plans and files are made of, and what the first batch uses.
MODULES = (
    "tso_level3.run.batches",
    "tso_level3.psf.kernel",
    "tso_level3.readers.fits.raw_frames",
)

_CHUNK_BYTES = 8_000_000
_CHUNKS_ALONE, _CHUNKS_A_BATCH = 4, 16
# A batch is this part of what each worker would get of all that is left.
_SHARES = 3


@dataclass(frozen=True, eq=False)
class Batch:
    """A run of frames of one segment, small to send.

    Attributes
    ----------
    segment : Segment
        Where the frames come from.
    start, stop : int
        Frames of the segment.
    first : int
        Row of the first of them in the exposure.
    """

    segment: Segment
    start: int
    stop: int
    first: int = 0


def work(batch: Batch, *, plan: Plan, chunk: int) -> Measurement:
    """Measure a batch.

    Parameters
    ----------
    batch : Batch
        The frames.
    plan : Plan
        What the first look settled.
    chunk : int
        Frames at a time.

    Returns
    -------
    Measurement
        One row a frame.
    """
    box = plan.layout.box
    scale = cut_scale(batch.segment, box)
    parts = []
    with one_thread():
        for first in range(batch.start, batch.stop, chunk):
            last = min(first + chunk, batch.stop)
            pixels = batch.segment.source.load(first, last, box)
            parts.append(measure(pixels, plan, scale))
    return Measurement.merge(parts)


@dataclass(frozen=True, eq=False)
class Task:
    """`work` by one plan, which is what an executor runs.

    Attributes
    ----------
    plan : Plan
        What the first look settled.
    chunk : int
        Frames at a time.
    """

    plan: Plan
    chunk: int

    def __call__(self, batch: Batch) -> Measurement:
        """Measure a batch."""
        return work(batch, plan=self.plan, chunk=self.chunk)


def chunk_of(plan: Plan, asked: int | None) -> int:
    """Say how many frames are worked on at once.

    Parameters
    ----------
    plan : Plan
        Its layout says how large a frame is.
    asked : int or None
        What the settings say.

    Returns
    -------
    int
        Frames of a chunk.
    """
    return asked or int(np.clip(_CHUNK_BYTES // (8 * plan.layout.n_pixels), 4, 256))


def batches_of(exposure: Exposure, chunk: int, workers: int) -> list[Batch]:
    """Cut an exposure into runs of whole chunks.

    Parameters
    ----------
    exposure : Exposure
        The frames.
    chunk : int
        Frames of a chunk.
    workers : int
        How many work on them.

    Returns
    -------
    list of Batch
        In the order of the frames; smaller towards the end, so that all workers end together
        whatever their speeds.
    """
    out, first, left = [], 0, exposure.n_int
    for segment in exposure.segments:
        start = 0
        while start < segment.n_frames:
            # Alone, a batch is small, so that a bar moves and Ctrl-C is heard.
            chunks = _CHUNKS_ALONE
            if workers > 1:
                share = -(-left // (_SHARES * workers * chunk))
                chunks = min(share, _CHUNKS_A_BATCH)
            stop = min(start + chunks * chunk, segment.n_frames)
            out.append(_batch(segment, start, stop, first + start))
            left -= stop - start
            start = stop
        first += segment.n_frames
    return out


def _batch(segment: Segment, start: int, stop: int, first: int) -> Batch:
    """Leave out the frames of others, where a source is the frames themselves."""
    if not hasattr(segment.source, "part"):
        return Batch(segment, start, stop, first)
    own = replace(segment, source=segment.source.part(start, stop), n_frames=stop - start)
    return Batch(own, 0, stop - start, first)


def cut_scale(segment: Segment, box: Box) -> float | np.ndarray:
    """Cut a segment's factor to its unit down to a box.

    Parameters
    ----------
    segment : Segment
        The segment.
    box : Box
        The rectangle.

    Returns
    -------
    float or ndarray, (ny, nx)
        The factor.
    """
    scale = segment.scale
    return scale[box.slices] if isinstance(scale, np.ndarray) else float(scale)
