"""Contexts that change the state of the whole process, for use from several threads."""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from contextlib import _GeneratorContextManager

__all__ = ["catch_warnings", "one_thread", "shared"]

_catching = threading.RLock()


def shared(
    make: Callable[[], AbstractContextManager[object]],
) -> Callable[[], _GeneratorContextManager[None]]:
    """Make a context that the first thread enters and the last one leaves.

    Parameters
    ----------
    make : callable
        Returns the context, which changes state of the process and restores it.

    Returns
    -------
    callable
        Returns a context: the first that is entered enters the one of ``make``, and the last that
        is left, in whatever thread, leaves it.
    """
    lock = threading.Lock()
    entered: list[AbstractContextManager[object]] = []
    inside = 0

    @contextmanager
    @functools.wraps(make)
    def context() -> Iterator[None]:
        nonlocal inside
        with lock:
            if not inside:
                first = make()
                first.__enter__()
                entered.append(first)
            inside += 1
        try:
            yield
        finally:
            with lock:
                inside -= 1
                if not inside:
                    entered.pop().__exit__(None, None, None)

    return context


@contextmanager
def catch_warnings(**options: Any) -> Iterator[list[warnings.WarningMessage] | None]:
    """Change the filters of warnings in one thread of this package at a time.

    Of two threads in `warnings.catch_warnings`, the one that ends last restores the filters of the
    other one.

    Parameters
    ----------
    **options
        As for `warnings.catch_warnings`.

    Yields
    ------
    list of warnings.WarningMessage or None
        What `warnings.catch_warnings` returns.
    """
    with _catching, warnings.catch_warnings(**options) as caught:
        yield caught


@shared
@contextmanager
def one_thread() -> Iterator[None]:
    """Limit linear algebra to one thread while the context lasts, in all threads.

    Yields
    ------
    None
        Nothing.
    """
    with threadpool_limits(limits=1):
        yield
