"""Sources of frames that are made of others: lists of single frames, unreadable files."""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tso_level3.datatypes import Box, FrameSource, Pixels
from tso_level3.readers.arrays import BAD, VARIANCES
from tso_level3.readers.errors import brief

__all__ = ["BorrowedErrors", "JoinedFrames", "UnreadableFrames", "Workspace"]

log = logging.getLogger(__name__)


class Workspace:
    """Scratch arrays that are reused, one set per thread; they are not pickled."""

    def __init__(self) -> None:
        self._local = threading.local()

    def __reduce__(self) -> tuple:
        return Workspace, ()

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Return an array that is not initialised; the next call returns the same memory.

        Parameters
        ----------
        name : str
            Purpose; different names do not share memory.
        shape : tuple of int
            Shape of the array.
        dtype : dtype
            Type of the array.

        Returns
        -------
        ndarray
            Contiguous.
        """
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        buffer = self._local.__dict__.get(name)
        if buffer is None or not size <= buffer.size <= 4 * size + 4096:
            buffer = np.empty(size, np.uint8)
            self._local.__dict__[name] = buffer
        return buffer[:size].view(dtype).reshape(shape)


@dataclass(frozen=True, eq=False)
class UnreadableFrames:
    """Frames of NaN for a file that could not be read.

    Attributes
    ----------
    reason : str
        Why it could not be read.
    """

    reason: str = ""

    def load(self, start: int, stop: int, box: Box, *, variances: bool = False) -> Pixels:
        """Return frames of NaN; see `tso_level3.datatypes.FrameSource`."""
        values = np.full((stop - start, box.ny, box.nx), np.nan, np.float32)
        return Pixels(values, None, np.full(values.shape, BAD))


@dataclass(frozen=True, eq=False)
class BorrowedErrors:
    """Frames without standard errors, with those of a frame of another source.

    Attributes
    ----------
    source, donor : FrameSource
        Where the pixels, and the errors, come from.
    """

    source: FrameSource
    donor: FrameSource

    def load(self, start: int, stop: int, box: Box, *, variances: bool = False) -> Pixels:
        """Read the box of the frames ``[start, stop)``; see `tso_level3.datatypes.FrameSource`."""
        errors = self.donor.load(0, 1, box).errors
        # A copy: both sources may read into the same memory.
        errors = None if errors is None else errors.copy()
        pixels = self.source.load(start, stop, box, variances=variances)
        if errors is not None:
            errors = np.broadcast_to(errors, pixels.values.shape)
        return replace(pixels, errors=errors)


@dataclass(frozen=True, eq=False)
class JoinedFrames:
    """The frames of many sources of one frame each.

    Attributes
    ----------
    sources : tuple of FrameSource
        One for each frame.
    errors, dq : bool
        Whether standard errors are known for all frames, and quality flags for any.
    tolerant : bool
        Whether a file that turns out to be unreadable becomes a frame of NaN.
    names : tuple of str
        Names of the frames in the log.
    """

    sources: tuple[FrameSource, ...]
    errors: bool = False
    dq: bool = False
    tolerant: bool = True
    names: tuple[str, ...] = ()
    work: Workspace = field(default_factory=Workspace, repr=False)

    def load(self, start: int, stop: int, box: Box, *, variances: bool = False) -> Pixels:
        """Read the box of the frames ``[start, stop)``; see `tso_level3.datatypes.FrameSource`."""
        shape = (stop - start, box.ny, box.nx)
        out: dict[str, np.ndarray] = {}
        for place, source in enumerate(self.sources[start:stop]):
            pixels = self._one(source, start + place, box, variances)
            for name, dtype, blank in self._requested(variances):
                found = getattr(pixels, name)
                if name not in out:
                    if found is None and blank is None:
                        continue
                    wide = dtype if found is None else np.promote_types(dtype, found.dtype)
                    out[name] = self.work.array(name, shape, wide)
                    if place and blank is None:
                        out[name][:place] = np.nan
                elif found is not None and found.dtype.itemsize > out[name].dtype.itemsize:
                    out[name] = out[name].astype(found.dtype)
                absent = np.nan if blank is None else blank
                out[name][place] = found[0] if found is not None else absent
        return Pixels(**out)

    def part(self, start: int, stop: int) -> JoinedFrames:
        """Return a source of the frames ``[start, stop)`` alone, to be pickled."""
        return replace(self, sources=self.sources[start:stop], names=self.names[start:stop])

    def _requested(self, variances: bool) -> list[tuple[str, Any, Any]]:
        """List the arrays to be read: name, type, and what stands for a frame without it."""
        out: list[tuple[str, Any, Any]] = [("values", np.float32, np.nan)]
        if self.errors:
            out.append(("errors", np.float32, np.nan))
        if self.dq:
            out.append(("dq", np.uint32, 0))
        if variances:
            out += [(part, np.float32, None) for part in VARIANCES]
        return out

    def _one(self, source: FrameSource, frame: int, box: Box, variances: bool) -> Pixels:
        try:
            return source.load(0, 1, box, variances=variances)
        except (OSError, ValueError) as problem:
            if not self.tolerant:
                raise
            name = self.names[frame] if self.names else f"frame {frame + 1}"
            log.warning("%s cannot be read and becomes a row of NaN: %s", name, brief(problem))
            return UnreadableFrames().load(0, 1, box)
