"""Runs of frames, and the work on them: all that a worker process needs to know."""

from __future__ import annotations

import pickle
import uuid
from dataclasses import dataclass, replace

import numpy as np

from tso_level3.core.measure import measure
from tso_level3.core.plan import Measurement, Plan
from tso_level3.executors import one_thread
from tso_level3.frames import Box, Exposure, Segment

__all__ = ["MODULES", "Batch", "Task", "batches_of", "chunk_of", "cut_scale", "work"]

#: What plans and files are made of, and what the first batch uses.
MODULES = (
    "tso_level3.batches",
    "tso_level3.psf.kernel",
    "tso_level3.readers.stream",
)

_CHUNK_BYTES = 8_000_000
_CHUNKS_A_BATCH = 16
# Several batches a worker even out their speeds.
_BATCHES_A_WORKER = 6


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


class Task:
    """`work` by one plan, which is what an executor runs.

    It is pickled once, however many batches there are, and unpickled once in a process: what the
    plan keeps for later, such as the rendered template, is made once too.

    Parameters
    ----------
    plan : Plan
        What the first look settled.
    chunk : int
        Frames at a time.
    """

    def __init__(self, plan: Plan, chunk: int) -> None:
        self.plan, self.chunk = plan, chunk
        self._name = uuid.uuid4().hex
        self._packed = b""

    def __call__(self, batch: Batch) -> Measurement:
        """Measure a batch."""
        return work(batch, plan=self.plan, chunk=self.chunk)

    def __reduce__(self) -> tuple:
        if not self._packed:
            self._packed = pickle.dumps((self.plan, self.chunk), pickle.HIGHEST_PROTOCOL)
        return _unpacked, (self._name, self._packed)


_latest: dict[str, Task] = {}


def _unpacked(name: str, packed: bytes) -> Task:
    """Find the task of a process, or unpack it in place of the one before."""
    task = _latest.get(name)
    if task is None:
        task = Task(*pickle.loads(packed))
        task._name, task._packed = name, packed
        _latest.clear()
        _latest[name] = task
    return task


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


def batches_of(
    exposure: Exposure, chunk: int, workers: int, each: int = _BATCHES_A_WORKER
) -> list[Batch]:
    """Cut an exposure into runs of whole chunks.

    Parameters
    ----------
    exposure : Exposure
        The frames.
    chunk : int
        Frames of a chunk.
    workers : int
        How many work on them.
    each : int
        Batches that each of them gets, at least: where a batch costs little, many end together.

    Returns
    -------
    list of Batch
        In the order of the frames.
    """
    # Alone, a batch is small, so that a bar moves and Ctrl-C is heard.
    size = chunk * (_CHUNKS_A_BATCH if workers > 1 else 4)
    if workers > 1:
        share = -(-exposure.n_int // (each * workers))
        size = max(chunk, min(size, -(-share // chunk) * chunk))
    out, first = [], 0
    for segment in exposure.segments:
        for start in range(0, segment.n_frames, size):
            stop = min(start + size, segment.n_frames)
            out.append(_batch(segment, start, stop, first + start))
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
    return segment.scale[box.slices] if np.ndim(segment.scale) else float(segment.scale)
