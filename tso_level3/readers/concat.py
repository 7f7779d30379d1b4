"""Many sources of one frame each, as one source; and frames that could not be read."""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tso_level3.datatypes import Box, FrameSource, Pixels
from tso_level3.readers.errors import brief

__all__ = ["JoinedFrames", "UnreadableFrames", "Workspace"]

log = logging.getLogger(__name__)

_PARTS = ("var_poisson", "var_rnoise", "var_flat")


class Workspace:
    """Memory that is used again and again, for each thread its own; it does not travel."""

    def __init__(self) -> None:
        self._local = threading.local()

    def __reduce__(self) -> tuple:
        return Workspace, ()

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Lend an array, not initialised; the same memory is lent again at the next call.

        Parameters
        ----------
        name : str
            What it is for; different names do not share memory.
        shape : tuple of int
            Its shape.
        dtype : dtype
            Its type.

        Returns
        -------
        ndarray
            Contiguous.
        """
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        kept = self._local.__dict__.get(name)
        if kept is None or not size <= kept.size <= 4 * size + 4096:
            kept = np.empty(size, np.uint8)
            self._local.__dict__[name] = kept
        return kept[:size].view(dtype).reshape(shape)


@dataclass(frozen=True, eq=False)
class UnreadableFrames:
    """Stands for frames whose file could not be read: all pixels are NaN.

    Attributes
    ----------
    reason : str
        Why, in a sentence.
    """

    reason: str = ""

    def load(self, start: int, stop: int, box: Box, *, variances: bool = False) -> Pixels:
        """Give frames of NaN; see `tso_level3.datatypes.FrameSource`."""
        values = np.full((stop - start, box.ny, box.nx), np.nan, np.float32)
        return Pixels(values, None, np.ones(values.shape, np.uint32))


@dataclass(frozen=True, eq=False)
class JoinedFrames:
    """Hands out the frames of many sources of one frame each.

    Attributes
    ----------
    sources : tuple of FrameSource
        One for each frame.
    errors, dq : bool
        Whether standard errors, and data quality, are known for all, and for any, of the frames.
    tolerant : bool
        Whether a file that turns out to be unreadable becomes a frame of NaN.
    names : tuple of str
        What the log calls the frames.
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
            for name, dtype, blank in self._wanted(variances):
                found = getattr(pixels, name)
                if name not in out:
                    if found is None and blank is None:
                        continue
                    out[name] = self.work.array(name, shape, _wider(dtype, found))
                    if place and blank is None:
                        out[name][:place] = np.nan
                elif found is not None and found.dtype.itemsize > out[name].dtype.itemsize:
                    out[name] = out[name].astype(found.dtype)
                out[name][place] = found[0] if found is not None else _nothing(blank)
        return Pixels(**out)

    def part(self, start: int, stop: int) -> JoinedFrames:
        """Give the frames ``[start, stop)`` alone, to be sent."""
        return replace(self, sources=self.sources[start:stop], names=self.names[start:stop])

    def _wanted(self, variances: bool) -> list[tuple[str, Any, Any]]:
        wanted = [("values", np.float32, np.nan)]
        if self.errors:
            wanted.append(("errors", np.float32, np.nan))
        if self.dq:
            wanted.append(("dq", np.uint32, 0))
        if variances:
            wanted += [(part, np.float32, None) for part in _PARTS]
        return wanted

    def _one(self, source: FrameSource, frame: int, box: Box, variances: bool) -> Pixels:
        try:
            return source.load(0, 1, box, variances=variances)
        except (OSError, ValueError) as problem:
            if not self.tolerant:
                raise
            name = self.names[frame] if self.names else f"frame {frame + 1}"
            log.warning("%s cannot be read and becomes a row of NaN: %s", name, brief(problem))
            return UnreadableFrames().load(0, 1, box)


def _wider(dtype: Any, found: np.ndarray | None) -> np.dtype:
    return np.dtype(dtype) if found is None else np.promote_types(dtype, found.dtype)


def _nothing(blank: Any) -> Any:
    return np.nan if blank is None else blank
