"""Bytes of a file, by their place in it."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

from tso_level3.readers.fits.scan import open_bytes

__all__ = ["ByteFile"]


class ByteFile:
    """Reads bytes of a file; opened when they are first wanted, never carried along.

    Parameters
    ----------
    path : str
        The file.
    packing : str
        ``''``, or how it is packed; a packed file is unpacked as far as ``needed`` at each load.
    needed : int
        Bytes of an unpacked file that are of use.
    keep_open : bool
        Whether the file stays open between loads: for lists of files it does not.
    label : str
        What errors call it; its path where empty.
    """

    def __init__(
        self,
        path: str,
        *,
        packing: str = "",
        needed: int = 0,
        keep_open: bool = True,
        label: str = "",
    ) -> None:
        self.path, self.packing, self.needed, self.keep_open = path, packing, needed, keep_open
        self.label = label or path
        self._descriptor: int | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple:
        return _byte_file, (self.path, self.packing, self.needed, self.keep_open, self.label)

    def reader(self) -> tuple[Callable[[memoryview, int], None], Callable[[], None]]:
        """Open the file.

        Returns
        -------
        read : callable
            Fills a buffer with the bytes from an offset.
        done : callable
            To be called when the load is over.
        """
        if self.packing:
            return self._unpacked(), _nothing
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

    def _unpacked(self) -> Callable[[memoryview, int], None]:
        with open_bytes(Path(self.path), self.packing) as file:
            content = memoryview(file.read(self.needed))

        def read(buffer: memoryview, offset: int) -> None:
            piece = content[offset : offset + len(buffer)]
            if len(piece) != len(buffer):
                raise self._short()
            buffer[:] = piece

        return read

    def _short(self) -> OSError:
        return OSError(f"{self.label}: the file ends before its pixels do; it was longer before")


def _byte_file(path: str, packing: str, needed: int, keep_open: bool, label: str) -> ByteFile:
    return ByteFile(path, packing=packing, needed=needed, keep_open=keep_open, label=label)


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))


def _nothing() -> None:
    return None
