"""Cuts an exposure into batches of integrations, and measures a batch in a worker."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tso_level3.core.measure import measure
from tso_level3.core.plan import Measurement, Plan
from tso_level3.datatypes import Box, Exposure, Segment
from tso_level3.utils.threads import one_thread

__all__ = ["MODULES", "Batch", "Task", "batches_of", "chunk_of", "cut_scale", "work"]

#: Modules that a worker imports before its first batch.
MODULES = (
    "tso_level3.run.batches",
    "tso_level3.psf.kernel",
    "tso_level3.readers.fits.raw_frames",
)

_CHUNK_BYTES = 8_000_000
_CHUNKS_ALONE, _CHUNKS_A_BATCH = 4, 16
# Batches that each worker would get of all that is left, if they were of one size.
_SHARES = 3


@dataclass(frozen=True, eq=False)
class Batch:
    """Consecutive frames of one segment; small to pickle.

    Attributes
    ----------
    segment : Segment
        The segment.
    start, stop : int
        Range of frames in the segment.
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
        The plan of the measurement.
    chunk : int
        Number of frames that are measured at once.

    Returns
    -------
    Measurement
        A row per frame.
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
    """`work` with a plan: the function that an executor calls.

    Attributes
    ----------
    plan : Plan
        The plan of the measurement.
    chunk : int
        Number of frames that are measured at once.
    """

    plan: Plan
    chunk: int

    def __call__(self, batch: Batch) -> Measurement:
        """Measure a batch."""
        return work(batch, plan=self.plan, chunk=self.chunk)


def chunk_of(plan: Plan, asked: int | None) -> int:
    """Choose the number of frames that are measured at once.

    Parameters
    ----------
    plan : Plan
        Its layout has the number of pixels per frame.
    asked : int or None
        The setting ``chunk``.

    Returns
    -------
    int
        Frames per chunk.
    """
    return asked or int(np.clip(_CHUNK_BYTES // (8 * plan.layout.n_pixels), 4, 256))


def batches_of(exposure: Exposure, chunk: int, workers: int) -> list[Batch]:
    """Cut an exposure into batches of whole chunks.

    Parameters
    ----------
    exposure : Exposure
        The exposure.
    chunk : int
        Frames per chunk.
    workers : int
        Number of workers.

    Returns
    -------
    list of Batch
        In the order of the frames; smaller towards the end, so that workers of different speeds
        end together.
    """
    out, first, left = [], 0, exposure.n_int
    for segment in exposure.segments:
        start = 0
        while start < segment.n_frames:
            # With one worker a batch is small, so that a progress bar moves.
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
    """Make a batch; of a source that is an array, it holds its own frames alone."""
    if not hasattr(segment.source, "part"):
        return Batch(segment, start, stop, first)
    own = replace(segment, source=segment.source.part(start, stop), n_frames=stop - start)
    return Batch(own, 0, stop - start, first)


def cut_scale(segment: Segment, box: Box) -> float | np.ndarray:
    """Cut the factor to a segment's unit to a box.

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
