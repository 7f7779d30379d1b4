"""Serve frames from arrays in memory, and bring arrays into the types of `Pixels`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tso_level3.datatypes import Box, FrameSource, Pixels
from tso_level3.readers.errors import InputError

__all__ = [
    "BAD",
    "NO_ERRORS",
    "VARIANCES",
    "ArrayFrames",
    "as_cube",
    "as_float",
    "as_quality",
    "known_errors",
    "split_masked",
]

#: Quality flags of a pixel that a mask marks: all bits, so that any choice of ``dq_bits`` has one.
BAD = np.uint32(0xFFFFFFFF)
#: Note for the case that `known_errors` finds none.
NO_ERRORS = "No standard error is positive (all are zero, negative or NaN): taken as unknown."

#: Parts of the variance in `Pixels`.
VARIANCES = ("var_poisson", "var_rnoise", "var_flat")


@dataclass(frozen=True, eq=False)
class ArrayFrames:
    """Frames of arrays in memory, not copied where their type allows it.

    Attributes
    ----------
    values : ndarray, (n, ny, nx)
        Images of any real type.
    errors : ndarray, (n, ny, nx), or None
        Standard errors.
    dq : ndarray, (n, ny, nx), or None
        Quality flags, or a mask that is true where a pixel is bad.
    var_poisson, var_rnoise, var_flat : ndarray, (n, ny, nx), or None
        Parts of the variance.
    wcs : object or None
        World coordinate system, from pixels to the sky; it is not pickled.
    """

    values: np.ndarray
    errors: np.ndarray | None = None
    dq: np.ndarray | None = None
    var_poisson: np.ndarray | None = None
    var_rnoise: np.ndarray | None = None
    var_flat: np.ndarray | None = None
    wcs: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "wcs": None}

    def load(self, start: int, stop: int, box: Box, *, variances: bool = False) -> Pixels:
        """Cut the box of the frames ``[start, stop)``; see `tso_level3.datatypes.FrameSource`."""
        cut = (slice(start, stop), *box.slices)
        parts = VARIANCES if variances else ()
        return Pixels(
            values=as_float(self.values[cut]),
            errors=None if self.errors is None else as_float(self.errors[cut]),
            dq=None if self.dq is None else as_quality(self.dq[cut]),
            **{
                part: as_float(getattr(self, part)[cut])
                for part in parts
                if getattr(self, part) is not None
            },
        )

    def part(self, start: int, stop: int) -> ArrayFrames:
        """Return the frames ``[start, stop)`` alone, to be pickled; views, not copies."""
        given = {name: getattr(self, name) for name in ("errors", "dq", *VARIANCES)}
        cut = {name: item[start:stop] for name, item in given.items() if item is not None}
        return replace(self, values=self.values[start:stop], **cut)

    def without_errors(self) -> ArrayFrames:
        """Return the same frames without standard errors."""
        return replace(self, errors=None)


def as_float(array: np.ndarray) -> np.ndarray:
    """Convert to native float32 or float64, as the values need; no copy where they are that.

    Parameters
    ----------
    array : ndarray
        Real numbers of any type and byte order.

    Returns
    -------
    ndarray
        The values in the same shape.
    """
    if array.dtype.kind == "f":
        return np.asarray(array, dtype=np.float64 if array.dtype.itemsize > 4 else np.float32)
    return np.asarray(array, dtype=np.float32 if array.dtype.itemsize <= 2 else np.float64)


def as_quality(array: np.ndarray) -> np.ndarray:
    """Convert quality flags or a mask to uint32; where a mask is true, all bits are set."""
    if array.dtype == np.uint32 and array.dtype.isnative:
        return array
    if array.dtype.kind in "iu":
        return array.astype(np.uint32)
    return np.where(array != 0, BAD, np.uint32(0))


def as_cube(array: Any, name: str) -> np.ndarray:
    """Check that an array holds images, and return it as a cube.

    Parameters
    ----------
    array : array_like, (n, ny, nx) or (ny, nx)
        Images.
    name : str
        Name of the array in error messages.

    Returns
    -------
    ndarray, (n, ny, nx)
        A view of it.

    Raises
    ------
    InputError
        It is not 2-D or 3-D, has no pixels, or does not hold real numbers.
    """
    out = np.asanyarray(array)
    if out.dtype.kind not in "fiub":
        raise InputError(f"{name}: values of type {out.dtype} found, expected real numbers")
    if out.ndim not in (2, 3):
        raise InputError(
            f"{name}: {out.ndim} dimensions found, expected (n_int, ny, nx) or (ny, nx)"
        )
    if out.size == 0:
        raise InputError(f"{name}: no pixels found (shape {out.shape}), expected some")
    return out if out.ndim == 3 else out[np.newaxis]


def split_masked(array: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Split a masked array into data and mask; the mask is None where nothing is masked."""
    if isinstance(array, np.ma.MaskedArray):
        mask = None if array.mask is np.ma.nomask else np.asarray(array.mask)
        return np.asarray(array.data), mask
    return np.asarray(array), None


def known_errors(source: FrameSource, n_frames: int, shape: tuple[int, int]) -> bool:
    """Whether the standard errors of frames are known, rather than zero everywhere.

    Only the first, middle and last frames are read: an error array that was never written is zero
    in all of them.

    Parameters
    ----------
    source : FrameSource
        The frames.
    n_frames : int
        Number of frames.
    shape : (int, int)
        (ny, nx).

    Returns
    -------
    bool
        True where any standard error is positive.
    """
    box = Box(0, 0, shape[1], shape[0])
    for frame in sorted({0, n_frames // 2, n_frames - 1}):
        errors = source.load(frame, frame + 1, box).errors
        if errors is None:
            return False
        if np.any(errors > 0):
            return True
    return False
