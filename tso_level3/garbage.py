"""When Python looks for garbage: not while much is made that stays, nor at the end."""

from __future__ import annotations

import atexit
import functools
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["is_strun", "leave_what_stays", "loading", "paused"]


@contextmanager
def paused() -> Iterator[None]:
    """Look for no garbage inside the block.

    Schemas, extensions and trees are tens of thousands of objects that stay. Python takes their
    growth for a reason to walk through all objects of the process, 0.1 s each time.

    Yields
    ------
    None
        While nothing is collected.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def is_strun() -> bool:
    """Tell whether this process is the command `strun`.

    Returns
    -------
    bool
        True where stpipe's command is what was started.
    """
    main = getattr(sys.modules.get("__main__"), "main", None)
    return getattr(main, "__module__", "") == "stpipe._cli.strun"


@contextmanager
def loading() -> Iterator[None]:
    """Look for no garbage while packages are loaded, and in `strun` never among them.

    Otherwise Python makes up for it as soon as the block is left.

    Yields
    ------
    None
        While nothing is collected.
    """
    with paused():
        yield
        if is_strun():
            gc.freeze()


@functools.cache
def leave_what_stays() -> None:
    """Let a process with the pipeline's packages look for garbage among its own objects alone.

    Those of the packages are half a million, and a walk through them takes 0.1 s. At its end
    Python takes all modules apart and walks several times; here they are left to the system, which
    frees the memory of a process at once, in a tenth of the 0.6 s. Not for a process with code of
    users: a file that it keeps open in a module would lose what is not yet written.
    """
    gc.freeze()
    atexit.register(gc.freeze)
