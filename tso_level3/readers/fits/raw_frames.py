"""Read frames of FITS images by their byte offsets, into memory that is reused.

A memory-mapped file counts as resident memory, and a data model holds all of it; a chunk read by
its byte offset takes its own size alone. Bytes are read into a scratch array that fits into the
processor's cache, and are swapped and cut when they are copied out of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from astropy.io import fits

from tso_level3.datatypes import Box, Pixels
from tso_level3.readers.arrays import as_float, as_quality
from tso_level3.readers.concat import Workspace
from tso_level3.readers.errors import brief, quiet
from tso_level3.readers.fits.raw_file import ByteFile
from tso_level3.readers.fits.scan import UNREADABLE

__all__ = ["Block", "PlainFits", "TileFits"]

_SCRATCH = 1 << 20  # bytes: fits into a processor's cache (measured: less and more are slower)
_CALL = 16384  # bytes that are copied in the time of one system call
# The variance of the flat field is the same in every frame: it is not noise of a time series.
_PARTS = ("var_poisson", "var_rnoise")


@dataclass(frozen=True)
class Block:
    """Location and format of frames that follow each other in a file.

    Attributes
    ----------
    offset : int
        First byte.
    dtype : str
        NumPy type of the stored numbers, big-endian.
    shape : (int, int, int)
        (n, ny, nx); with n = 1 the frame belongs to all frames of the source.
    scale, zero : float
        Value = stored number x scale + zero.
    blank : int or None
        Stored number of pixels without a value.
    variance : bool
        Whether the values are variances, where standard errors are expected.
    mask : bool
        Whether the values are a mask, of which 0 is good, where quality flags are expected.
    """

    offset: int
    dtype: str
    shape: tuple[int, int, int]
    scale: float = 1.0
    zero: float = 0.0
    blank: int | None = None
    variance: bool = False
    mask: bool = False

    @property
    def end(self) -> int:
        """Offset of the byte after the last."""
        return self.offset + int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    @property
    def float_type(self) -> np.dtype:
        """The type that holds the values."""
        stored = np.dtype(self.dtype)
        wide = stored.itemsize > (4 if stored.kind == "f" else 2)
        return np.dtype(np.float64 if wide else np.float32)


@dataclass(frozen=True, eq=False)
class PlainFits:
    """Frames of images that are not tile-compressed, read by their byte offsets.

    Attributes
    ----------
    file : ByteFile
        The file.
    values : Block
        The images.
    errors, dq, var_poisson, var_rnoise, var_flat : Block or None
        Their standard errors, quality flags and parts of the variance.
    zero_is_bad : bool
        Whether an error of zero or NaN marks a bad pixel (as in slope images of ncdhas).
    work : Workspace
        Memory for the frames; the files of a list share it.
    """

    file: ByteFile
    values: Block
    errors: Block | None = None
    dq: Block | None = None
    var_poisson: Block | None = None
    var_rnoise: Block | None = None
    var_flat: Block | None = None
    zero_is_bad: bool = False
    work: Workspace = field(default_factory=Workspace, repr=False)

    def load(self, start: int, stop: int, box: Box, *, variances: bool = False) -> Pixels:
        """Read the box of the frames ``[start, stop)``; see `tso_level3.datatypes.FrameSource`."""
        names = ("values", "errors", "dq", *(_PARTS if variances else ()))
        out: dict[str, np.ndarray] = {}
        try:
            read, done = self.file.reader()
            try:
                for name in names:
                    block = getattr(self, name)
                    if block is not None:
                        out[name] = self._load(name, block, read, start, stop, box)
            finally:
                done()
        except UNREADABLE as problem:
            text = brief(problem)
            if self.file.label in text:
                raise
            raise OSError(f"{self.file.label}: cannot be read ({text})") from problem
        if self.zero_is_bad and "errors" in out:
            out["dq"] = as_quality(~(out["errors"] > 0))
        return Pixels(**out)

    def _load(
        self, name: str, block: Block, read: Callable, start: int, stop: int, box: Box
    ) -> np.ndarray:
        dtype = np.uint32 if name == "dq" else block.float_type
        out = self.work.array(name, (stop - start, box.ny, box.nx), dtype)
        if block.shape[0] == 1:
            _copy(read, block, 0, 1, box, out[:1], self.work)
            out[1:] = out[:1]
        else:
            _copy(read, block, start, stop, box, out, self.work)
        if name != "dq":
            _to_values(block, out)
            if block.variance and name == "errors":
                np.sqrt(out, out=out, where=out >= 0)
        return out


def _copy(
    read: Callable, block: Block, start: int, stop: int, box: Box, out: np.ndarray, work: Workspace
) -> None:
    """Read the box of frames from the file, as stored numbers."""
    stored = np.dtype(block.dtype)
    ny, nx = block.shape[1:]
    row, frame = nx * stored.itemsize, ny * nx * stored.itemsize
    # Rows above and below the box are skipped where that saves more time than a call takes.
    whole = frame - box.ny * row < _CALL
    rows = ny if whole else box.ny
    step = min(max(1, _SCRATCH // max(1, rows * row)), stop - start)
    scratch = work.array("scratch", (step, rows, nx), stored)
    cut = (
        slice(None),
        slice(box.y, box.y + box.ny) if whole else slice(None),
        slice(box.x, box.x + box.nx),
    )
    for first in range(start, stop, step):
        count = min(step, stop - first)
        origin = block.offset + first * frame
        raw = scratch[:count].view(np.uint8)
        if whole:
            read(raw.reshape(-1).data, origin)
        else:
            for k in range(count):
                read(raw[k].reshape(-1).data, origin + k * frame + box.y * row)
        target = out[first - start : first - start + count]
        _convert(block, scratch[:count][cut], target)


def _convert(block: Block, stored: np.ndarray, out: np.ndarray) -> None:
    """Copy stored numbers in native byte order; of quality flags apply BZERO too."""
    if out.dtype == np.uint32:
        if block.mask or stored.dtype.kind == "f":
            np.not_equal(stored, -block.zero, out=out, casting="unsafe")
            np.negative(out, out=out)  # 1 becomes all bits, see `as_quality`
        else:
            np.copyto(out, stored, casting="unsafe")
            if block.zero:
                out += np.uint32(int(block.zero) % 2**32)
        return
    np.copyto(out, stored, casting="same_kind")
    if block.blank is not None and stored.dtype.kind != "f":
        out[stored == block.blank] = np.nan


def _to_values(block: Block, out: np.ndarray) -> None:
    if block.scale != 1.0:
        out *= out.dtype.type(block.scale)
    if block.zero != 0.0:
        out += out.dtype.type(block.zero)


@dataclass(frozen=True, eq=False)
class TileFits:
    """Frames of tile-compressed images, read by astropy.

    Attributes
    ----------
    path : str
        The file.
    values : (int, int)
        Number of the HDU of the images, and the plane that is the frame (-1: all planes).
    errors, dq, var_poisson, var_rnoise, var_flat : (int, int) or None
        The same of their standard errors, quality flags and parts of the variance.
    variance : bool
        Whether ``errors`` are variances.
    mask : bool
        Whether ``dq`` is a mask, of which 0 is good.
    """

    path: str
    values: tuple[int, int]
    errors: tuple[int, int] | None = None
    dq: tuple[int, int] | None = None
    var_poisson: tuple[int, int] | None = None
    var_rnoise: tuple[int, int] | None = None
    var_flat: tuple[int, int] | None = None
    variance: bool = False
    mask: bool = False

    def load(self, start: int, stop: int, box: Box, *, variances: bool = False) -> Pixels:
        """Read the box of the frames ``[start, stop)``; see `tso_level3.datatypes.FrameSource`."""
        names = ("values", "errors", "dq", *(_PARTS if variances else ()))
        out: dict[str, np.ndarray] = {}
        try:
            with quiet(), fits.open(self.path, memmap=False) as hdus:
                for name in names:
                    place = getattr(self, name)
                    if place is None:
                        continue
                    raw = _section(hdus[place[0]], place[1], start, stop, box)
                    if name == "dq":
                        out[name] = as_quality(raw != 0 if self.mask else raw)
                    else:
                        out[name] = as_float(raw)
        except Exception as problem:  # astropy raises nearly anything on damaged tiles
            raise OSError(f"{self.path}: cannot be decompressed ({brief(problem)})") from problem
        if self.variance and "errors" in out:
            out["errors"] = np.sqrt(out["errors"])
        return Pixels(**out)


def _section(hdu: fits.hdu.base._BaseHDU, plane: int, a: int, b: int, box: Box) -> np.ndarray:
    shape = hdu.shape
    lead = (0,) * max(0, len(shape) - 3)
    if len(shape) >= 3:
        frames = slice(a, b) if plane < 0 else slice(plane, plane + 1)
        if plane < 0 and shape[-3] == 1:
            frames = slice(0, 1)
        raw = hdu.section[(*lead, frames, *box.slices)]
    else:
        raw = hdu.section[box.slices][np.newaxis]
    return np.broadcast_to(raw, (b - a, box.ny, box.nx))
