"""Scan a FITS file: read its headers and locate the data of each HDU.

Only headers are read, and the sizes they declare are compared with the size of the file: a
truncated file is found before any work begins, and a file costs about a millisecond.
"""

from __future__ import annotations

import bz2
import gzip
import logging
import lzma
import math
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits

from tso_level3.readers.errors import InputError, brief, check_file, quiet
from tso_level3.readers.fits.cards import Cards, value

__all__ = ["UNREADABLE", "FitsFile", "Hdu", "compression_of", "open_bytes", "scan", "table"]

log = logging.getLogger(__name__)

_RECORD = 2880
_LONGEST_HEADER = 4000 * _RECORD
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_OPENERS: dict[str, Callable[..., Any]] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
# As in astropy, END ends the header whatever follows on its card.
_END = re.compile(rb"END {0,76}[^A-Z0-9_-]")
_NO_TEXT = re.compile(rb"[^\x20-\x7e]")
_BYTES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}

#: Exceptions of reading or decompressing a damaged file.
UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError)


@dataclass(frozen=True, eq=False)
class Hdu:
    """The header of an HDU and the location of its data.

    Attributes
    ----------
    index : int
        Number of the HDU in the file, from 0.
    name : str
        EXTNAME, upper case.
    header : Cards
        Keywords.
    offset, size : int
        First byte and number of bytes of the data.
    complete : bool
        Whether the file holds all of these bytes.
    kind : str
        ``image``, ``tiles`` (a compressed image), ``table`` or ``other``.
    shape : tuple of int
        Shape of the image in NumPy's order; of a table its rows and bytes per row.
    dtype : str
        NumPy type of the stored pixels.
    """

    index: int
    name: str
    header: Cards
    offset: int
    size: int
    complete: bool
    kind: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def is_image(self) -> bool:
        """Whether it is an image with at least one axis."""
        return self.kind in ("image", "tiles") and len(self.shape) > 0


@dataclass(frozen=True, eq=False)
class FitsFile:
    """The HDUs of a file.

    Attributes
    ----------
    path : Path
        The file.
    compression : str
        ``''``, ``gzip``, ``bzip2`` or ``xz``.
    hdus : tuple of Hdu
        Its HDUs, as far as their headers can be read.
    whole : bool
        Whether the file ends where its last HDU does.
    """

    path: Path
    compression: str
    hdus: tuple[Hdu, ...]
    whole: bool = True

    @property
    def primary(self) -> Cards:
        """The first header."""
        return self.hdus[0].header

    def find(self, name: str) -> Hdu | None:
        """Find an HDU by its name (upper case) or, for digits, its number."""
        for hdu in self.hdus:
            if hdu.name == name.upper():
                return hdu
        if name.isdigit() and int(name) < len(self.hdus):
            return self.hdus[int(name)]
        return None


def compression_of(path: Path) -> str:
    """Return how a file is compressed, by its first bytes; '' where it is not."""
    try:
        with path.open("rb") as file:
            start = file.read(6)
    except OSError as problem:
        raise InputError(f"{path}: cannot be read ({brief(problem)})") from problem
    return next((name for magic, name in _MAGIC.items() if start.startswith(magic)), "")


@contextmanager
def open_bytes(path: Path, compression: str) -> Iterator[BinaryIO]:
    """Open a file for reading; it is decompressed on the way."""
    if compression:
        with _OPENERS[compression](path, "rb") as file:
            yield file
    else:
        with path.open("rb") as file:
            yield file


def scan(path: Path) -> FitsFile:
    """Read the headers of a FITS file.

    Parameters
    ----------
    path : Path
        The file; it may be compressed with gzip, bzip2 or xz.

    Returns
    -------
    FitsFile
        Its headers and the locations of its data.

    Raises
    ------
    InputError
        The file is missing, empty or not a FITS file, or its first header is damaged.
    """
    check_file(path)
    compression = compression_of(path)
    try:
        with open_bytes(path, compression) as file:
            hdus, whole = _walk(path, file, None if compression else path.stat().st_size)
    except InputError:
        raise
    except UNREADABLE as problem:
        raise InputError(f"{path}: cannot be read to its end ({brief(problem)})") from problem
    return FitsFile(path, compression, tuple(hdus), whole)


def _walk(path: Path, file: BinaryIO, size: int | None) -> tuple[list[Hdu], bool]:
    """List the HDUs, and whether the file ends where the last of them does."""
    hdus: list[Hdu] = []
    offset = 0
    while True:
        text = _header_text(path, file, len(hdus))
        if not text:
            return hdus, text is None
        header = Cards(text)
        offset += len(text)
        hdu = _describe(path, header, len(hdus), offset)
        end = hdu.offset + hdu.size
        reached = min(end, size) if size is not None else _skip(file, hdu.size, offset)
        hdus.append(replace(hdu, complete=reached == end))
        if reached < end:
            return hdus, False
        offset += math.ceil(hdu.size / _RECORD) * _RECORD
        if size is None:
            _skip(file, offset - end, end)
        elif offset >= size:
            return hdus, True
        else:
            file.seek(offset)


def _skip(file: BinaryIO, count: int, start: int) -> int:
    """Skip bytes of a compressed file; returns the position that was reached."""
    left = count
    while left > 0:
        got = len(file.read(min(left, 1 << 20)))
        if got == 0:
            break
        left -= got
    return start + count - left


def _header_text(path: Path, file: BinaryIO, index: int) -> str | None:
    """Read one header, to its END; None at the end of the file, '' where no header is found."""
    first = file.read(_RECORD)
    start = first[:9]
    if index == 0 and start != b"SIMPLE  =":
        raise InputError(f"{path}: not a FITS file (it begins with {first[:8]!r})")
    if index > 0 and start != b"XTENSION=":
        return "" if first else None  # special records, or damage
    blocks: list[str] = []
    block = first
    while len(block) == _RECORD and len(blocks) * _RECORD < _LONGEST_HEADER:
        blocks.append(block.decode("ascii", "replace").replace("\ufffd", "?"))
        if any(_END.match(block, place) for place in range(0, _RECORD, 80)):
            return "".join(blocks)
        block = file.read(_RECORD)
        if block.startswith((b"XTENSION=", b"SIMPLE  =")) or len(_NO_TEXT.findall(block)) > 288:
            break  # the next header, or pixels: the END card of this one is damaged
    if index == 0:
        raise InputError(f"{path}: the first header has no END card, expected one")
    return ""


def _describe(path: Path, header: Cards, index: int, offset: int) -> Hdu:
    extension = value(header, "XTENSION", "IMAGE") if index else "IMAGE"
    tiles = extension == "BINTABLE" and value(header, "ZIMAGE") is True
    axes = _axes(path, header, "", index)
    bits = _whole(path, header, "BITPIX", index)
    if bits not in _BYTES:
        raise InputError(
            f"{path}: BITPIX = {bits} found in HDU {index}, expected one of 8, 16, 32, 64, -32, -64"
        )
    count = math.prod(axes) if axes else 0
    groups = _whole(path, header, "GCOUNT", index, 1) if index else 1
    extra = _whole(path, header, "PCOUNT", index, 0) if index else 0
    if groups < 0 or extra < 0:
        raise InputError(
            f"{path}: GCOUNT = {groups} and PCOUNT = {extra} found in HDU {index}, expected no"
            " negative number"
        )
    if extension == "BINTABLE" and not 0 <= _whole(path, header, "TFIELDS", index) <= 999:
        raise InputError(
            f"{path}: TFIELDS = {value(header, 'TFIELDS')} found in HDU {index}, expected 0 to 999"
        )
    size = abs(bits) // 8 * groups * (extra + count)
    kind = {"IMAGE": "image", "BINTABLE": "table"}.get(extension, "other")
    if tiles:
        kind, axes = "tiles", _axes(path, header, "Z", index)
        bits = _whole(path, header, "ZBITPIX", index)
    name = str(value(header, "EXTNAME", "")).upper()
    shape = tuple(reversed(axes))
    return Hdu(index, name, header, offset, size, True, kind, shape, _BYTES.get(bits, "u1"))


def _axes(path: Path, header: Cards, prefix: str, index: int) -> tuple[int, ...]:
    number = _whole(path, header, f"{prefix}NAXIS", index)
    if not 0 <= number <= 999:
        raise InputError(f"{path}: NAXIS = {number} found in HDU {index}, expected 0 to 999")
    axes = tuple(_whole(path, header, f"{prefix}NAXIS{i + 1}", index) for i in range(number))
    for place, length in enumerate(axes):
        if not 0 <= length < 2**40:
            raise InputError(
                f"{path}: NAXIS{place + 1} = {length} found in HDU {index}, expected a length"
            )
    return axes


def _whole(path: Path, header: Cards, key: str, index: int, default: int | None = None) -> int:
    found = value(header, key, default)
    if isinstance(found, bool) or not isinstance(found, int):
        raise InputError(f"{path}: {key} = {found!r} found in HDU {index}, expected a whole number")
    return found


def table(file: FitsFile, hdu: Hdu) -> np.ndarray | None:
    """Read a binary table.

    Parameters
    ----------
    file : FitsFile
        The file.
    hdu : Hdu
        The table.

    Returns
    -------
    ndarray, (rows,), structured, or None
        Its columns by name; None where the table is damaged.
    """
    if hdu.kind != "table" or not hdu.complete:
        return None
    try:
        with open_bytes(file.path, file.compression) as stream, quiet():
            stream.seek(hdu.offset)
            content = hdu.header.text.encode() + stream.read(hdu.size)
            rows = fits.BinTableHDU.fromstring(content).data
            # Decoding a column fails where its part of the header is damaged.
            columns = {name: np.asarray(rows[name]) for name in rows.dtype.names}
    except Exception as problem:  # astropy raises nearly anything on damaged tables
        log.debug("%s: table %s cannot be read (%s)", file.path, hdu.name, brief(problem))
        return None
    types = [(name, item.dtype.newbyteorder("="), item.shape[1:]) for name, item in columns.items()]
    out = np.empty(len(rows), types)
    for name, item in columns.items():
        out[name] = item
    return out
