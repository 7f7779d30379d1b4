"""Number of threads that linear algebra uses."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

__all__ = ["one_thread"]

_lock = threading.Lock()
_limits: list[threadpool_limits] = []
_inside = 0


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit linear algebra to one thread while the context lasts.

    The limit belongs to the process, not to the thread: the first context sets it, and the last
    one that ends, in whatever thread, lifts it.

    Yields
    ------
    None
        Nothing.
    """
    global _inside
    with _lock:
        if not _inside:
            _limits.append(threadpool_limits(limits=1))
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _limits.pop().restore_original_limits()
