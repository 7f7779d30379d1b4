"""Limit on the threads of linear algebra."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

__all__ = ["one_thread"]

_lock = threading.Lock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit linear algebra to one thread while the context lasts.

    The limit is one of the process, not of the thread: the first context sets and lifts it;
    contexts inside it, or in other threads meanwhile, change nothing.

    Yields
    ------
    None
        Nothing.
    """
    if not _lock.acquire(blocking=False):
        yield
        return
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        _lock.release()
