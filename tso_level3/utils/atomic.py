"""Atomic writing of files: complete, or not there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing"]


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary name beside a file, and rename what was written there to the file.

    Parameters
    ----------
    path : str or path-like
        The file; one that exists is replaced at the end.

    Yields
    ------
    pathlib.Path
        The temporary name, a hidden file in the same folder. It ends in ``.part``, so that what a
        killed run leaves is not taken for a product. On an error it is removed, and an existing
        file is left as it was.

    Raises
    ------
    FileNotFoundError
        The folder does not exist.
    """
    final = Path(path)
    if not final.parent.is_dir():
        raise FileNotFoundError(f"{final}: no folder {final.parent} found to write it to")
    temporary = final.with_name(f".{final.name}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
        temporary.replace(final)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
