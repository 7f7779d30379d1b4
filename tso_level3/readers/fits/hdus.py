"""Make a source of frames from the HDUs of a FITS file."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tso_level3.datatypes import Box, FrameSource
from tso_level3.readers.concat import Workspace
from tso_level3.readers.errors import InputError, brief
from tso_level3.readers.fits.cards import value
from tso_level3.readers.fits.raw_file import ByteFile
from tso_level3.readers.fits.raw_frames import Block, PlainFits, TileFits
from tso_level3.readers.fits.scan import UNREADABLE, FitsFile, Hdu, open_bytes

__all__ = ["Plane", "check_image", "cube_shape", "frames_of", "whole_image"]

#: A compressed image that declares more than this many times its bytes is damaged.
_MAX_RATIO = 2000


@dataclass(frozen=True, eq=False)
class Plane:
    """The HDU of a file, and the plane of it, that hold one kind of pixels.

    Attributes
    ----------
    hdu : Hdu
        The image.
    plane : int or None
        Plane of a 3-D image that is the frame; None: each plane is a frame.
    variance : bool
        Whether it holds variances instead of standard errors.
    mask : bool
        Whether it holds a mask, of which 0 is good, instead of quality flags.
    """

    hdu: Hdu
    plane: int | None = None
    variance: bool = False
    mask: bool = False


def cube_shape(path: Path, hdu: Hdu) -> tuple[int, int, int]:
    """Return the shape of an image as a cube.

    Parameters
    ----------
    path : Path
        The file, for error messages.
    hdu : Hdu
        The image.

    Returns
    -------
    (int, int, int)
        (n, ny, nx).

    Raises
    ------
    InputError
        It is not 2-D or 3-D, apart from axes of length 1, or has no pixels.
    """
    shape = hdu.shape
    while len(shape) > 3 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) not in (2, 3):
        raise InputError(
            f"{path}: NAXIS = {len(hdu.shape)} found in HDU {hdu.index}, expected an image (2) or"
            " a cube (3)"
        )
    if math.prod(shape) == 0:
        raise InputError(f"{path}: shape {hdu.shape} found in HDU {hdu.index}, expected pixels")
    ny, nx = shape[-2:]
    return (shape[0] if len(shape) == 3 else 1), ny, nx


def check_image(path: Path, hdu: Hdu) -> None:
    """Check that the file holds all pixels of an image.

    Raises
    ------
    InputError
        The file is too short, or a compressed image contradicts itself.
    """
    label = hdu.name or f"HDU {hdu.index}"
    if not hdu.complete:
        raise InputError(
            f"{path}: the file is truncated, expected {hdu.size} bytes of {label} from byte"
            f" {hdu.offset}"
        )
    if hdu.kind != "tiles":
        return
    pixels = math.prod(hdu.shape) * np.dtype(hdu.dtype).itemsize
    tiles = 1
    for place, length in enumerate(reversed(hdu.shape), 1):
        step = value(hdu.header, f"ZTILE{place}", length if place == 1 else 1)
        if not isinstance(step, int) or step < 1:
            raise InputError(
                f"{path}: ZTILE{place} = {step!r} found in {label}, expected 1 or more"
            )
        tiles *= math.ceil(length / step)
    if tiles != value(hdu.header, "NAXIS2") or pixels > _MAX_RATIO * max(hdu.size, 1):
        raise InputError(
            f"{path}: {label} declares {hdu.shape} pixels, which its compressed tiles do not hold"
        )


def frames_of(
    file: FitsFile,
    planes: Mapping[str, Plane],
    *,
    n_frames: int,
    zero_is_bad: bool = False,
    work: Workspace | None = None,
) -> FrameSource:
    """Make a source of frames.

    Parameters
    ----------
    file : FitsFile
        The file.
    planes : mapping
        ``values`` and, where known, ``errors``, ``dq``, ``var_poisson``, ``var_rnoise``,
        ``var_flat``.
    n_frames : int
        Number of frames.
    zero_is_bad : bool
        Whether an error of zero or NaN marks a bad pixel.
    work : Workspace, optional
        Memory that several sources share.

    Returns
    -------
    FrameSource
        `PlainFits`; `TileFits` where an image is compressed in tiles.

    Raises
    ------
    InputError
        Pixels are missing from the file, or the planes differ in shape.
    """
    shape = _frame_shape(file, planes["values"])
    for name, plane in planes.items():
        check_image(file.path, plane.hdu)
        n, *frame = _frame_shape(file, plane)
        if tuple(frame) != shape[1:] or n not in (1, n_frames):
            raise InputError(
                f"{file.path}: shape {plane.hdu.shape} found for {plane.hdu.name or name},"
                f" expected {(n_frames, *shape[1:])} as the image"
            )
    if any(plane.hdu.kind == "tiles" for plane in planes.values()):
        return _tiles(file, planes)
    blocks = {name: _block(file, plane) for name, plane in planes.items()}
    work = Workspace() if work is None else work
    needed = max(block.end for block in blocks.values())
    if file.compression and n_frames > 1:
        path = _decompress(file)
        content = ByteFile(str(path), label=str(file.path))
        source = PlainFits(content, zero_is_bad=zero_is_bad, work=work, **blocks)
        weakref.finalize(source, path.unlink, missing_ok=True)
        return source
    content = ByteFile(
        str(file.path), compression=file.compression, needed=needed, keep_open=n_frames > 1
    )
    return PlainFits(content, zero_is_bad=zero_is_bad, work=work, **blocks)


def _frame_shape(file: FitsFile, plane: Plane) -> tuple[int, int, int]:
    shape = cube_shape(file.path, plane.hdu)
    if plane.plane is None:
        return shape
    if plane.plane >= shape[0]:
        raise InputError(
            f"plane: {plane.plane} found, expected less than {shape[0]}, the planes of {file.path}"
        )
    return (1, *shape[1:])


def _block(file: FitsFile, plane: Plane) -> Block:
    hdu = plane.hdu
    shape = cube_shape(file.path, hdu)
    scale, zero = (_real(file.path, hdu, *item) for item in (("BSCALE", 1.0), ("BZERO", 0.0)))
    blank = value(hdu.header, "BLANK")
    block = Block(
        hdu.offset,
        hdu.dtype,
        shape,
        scale,
        zero,
        blank if isinstance(blank, int) and not isinstance(blank, bool) else None,
        plane.variance,
        plane.mask,
    )
    if plane.plane is None:
        return block
    frame = shape[1] * shape[2] * np.dtype(hdu.dtype).itemsize
    return replace(block, offset=hdu.offset + plane.plane * frame, shape=(1, *shape[1:]))


def _real(path: Path, hdu: Hdu, key: str, default: float) -> float:
    found = value(hdu.header, key, default)
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise InputError(f"{path}: {key} = {found!r} found in HDU {hdu.index}, expected a number")
    return float(found)


def _tiles(file: FitsFile, planes: Mapping[str, Plane]) -> TileFits:
    places = {
        name: (plane.hdu.index, -1 if plane.plane is None else plane.plane)
        for name, plane in planes.items()
    }
    variance = "errors" in planes and planes["errors"].variance
    mask = "dq" in planes and planes["dq"].mask
    return TileFits(str(file.path), **places, variance=variance, mask=mask)


def _decompress(file: FitsFile) -> Path:
    """Decompress a cube to a temporary file, which can be read by offset."""
    descriptor, name = tempfile.mkstemp(prefix="tso_level3_", suffix=".fits")
    target = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as out, open_bytes(file.path, file.compression) as source:
            shutil.copyfileobj(source, out, 1 << 20)
    except UNREADABLE as problem:
        target.unlink(missing_ok=True)
        raise InputError(f"{file.path}: cannot be decompressed ({brief(problem)})") from problem
    return target


def whole_image(file: FitsFile, hdu: Hdu) -> np.ndarray:
    """Read a 2-D image.

    Parameters
    ----------
    file : FitsFile
        The file.
    hdu : Hdu
        The HDU of the image.

    Returns
    -------
    ndarray, (ny, nx)
        Values of the pixels.
    """
    n, ny, nx = cube_shape(file.path, hdu)
    if n != 1:
        raise InputError(f"{file.path}: {n} planes found, expected one image")
    source = frames_of(file, {"values": Plane(hdu)}, n_frames=1)
    return source.load(0, 1, Box(0, 0, nx, ny)).values[0]
