"""When Python looks for garbage: not while much is made that stays, nor at the end."""

from __future__ import annotations

import atexit
import functools
import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["paused", "spare_the_end"]


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


@functools.cache
def spare_the_end() -> None:
    """Let a process with the pipeline's packages end in a tenth of the 0.6 s that it takes.

    Python takes all modules apart at its end and walks through all objects several times; here
    they are left to the system, which frees the memory of a process at once. Not for a process
    with code of users: a file that it keeps open in a module would lose what is not yet written.
    """
    atexit.register(gc.freeze)
