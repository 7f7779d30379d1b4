"""Read ranges of bytes of a file, compressed or not, from several threads."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

from tso_level3.readers.fits.scan import open_bytes

__all__ = ["ByteFile"]


class ByteFile:
    """Reads bytes of a file, which is opened at the first read; only the path is pickled.

    Parameters
    ----------
    path : str
        The file.
    compression : str
        ``''``, or how it is compressed; it is decompressed up to ``needed`` at each load.
    needed : int
        Number of decompressed bytes that are used.
    keep_open : bool
        Whether the file stays open between loads: for lists of files it does not.
    label : str
        Name of the file in error messages; its path where empty.
    """

    def __init__(
        self,
        path: str,
        *,
        compression: str = "",
        needed: int = 0,
        keep_open: bool = True,
        label: str = "",
    ) -> None:
        self.path, self.compression, self.needed, self.keep_open = (
            path,
            compression,
            needed,
            keep_open,
        )
        self.label = label or path
        self._descriptor: int | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple:
        return _byte_file, (self.path, self.compression, self.needed, self.keep_open, self.label)

    def reader(self) -> tuple[Callable[[memoryview, int], None], Callable[[], None]]:
        """Open the file.

        Returns
        -------
        read : callable
            Fills a buffer with the bytes from an offset.
        done : callable
            To be called at the end of the load.
        """
        if self.compression:
            return self._decompressed(), _nothing
        if not self.keep_open:
            descriptor = _open(self.path)
            return self._from(descriptor), lambda: os.close(descriptor)
        with self._lock:
            if self._descriptor is None:
                self._descriptor = _open(self.path)
                weakref.finalize(self, os.close, self._descriptor)
        return self._from(self._descriptor), _nothing

    def _from(self, descriptor: int) -> Callable[[memoryview, int], None]:
        if not hasattr(os, "preadv"):
            return self._seeking(descriptor)

        def read(buffer: memoryview, offset: int) -> None:
            if os.preadv(descriptor, [buffer], offset) != len(buffer):
                raise self._short()

        return read

    def _seeking(self, descriptor: int) -> Callable[[memoryview, int], None]:
        def read(buffer: memoryview, offset: int) -> None:
            with self._lock:
                os.lseek(descriptor, offset, os.SEEK_SET)
                got = os.read(descriptor, len(buffer))
            if len(got) != len(buffer):
                raise self._short()
            buffer[:] = got

        return read

    def _decompressed(self) -> Callable[[memoryview, int], None]:
        with open_bytes(Path(self.path), self.compression) as file:
            content = memoryview(file.read(self.needed))

        def read(buffer: memoryview, offset: int) -> None:
            piece = content[offset : offset + len(buffer)]
            if len(piece) != len(buffer):
                raise self._short()
            buffer[:] = piece

        return read

    def _short(self) -> OSError:
        return OSError(f"{self.label}: the file ends before its pixels do; it was longer before")


def _byte_file(path: str, compression: str, needed: int, keep_open: bool, label: str) -> ByteFile:
    return ByteFile(path, compression=compression, needed=needed, keep_open=keep_open, label=label)


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))


def _nothing() -> None:
    return None
