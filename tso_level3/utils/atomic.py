"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing"]


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary name beside a file, and the file's own name to what was written there.

    Parameters
    ----------
    path : str or path-like
        The file; one that exists is replaced at the end, in one move.

    Yields
    ------
    pathlib.Path
        The temporary name, hidden, in the same folder; it ends in ``.part``, so that what a
        killed run leaves is not taken for a product. Where the body fails it is removed, and
        what stood under the file's name is left as it was.

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
