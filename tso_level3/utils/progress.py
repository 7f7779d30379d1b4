"""Progress bars, shown where standard error is a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Bar", "progress", "showing"]


class Bar(Protocol):
    """Progress of a long pass; `tqdm.tqdm` is one."""

    def update(self, n: int) -> object:
        """Count more frames.

        Parameters
        ----------
        n : int
            Number of frames done since the last call.
        """
        ...

    def close(self) -> object:
        """Leave the bar as it is."""
        ...


def progress(title: str, total: int) -> Bar | None:
    """Begin a progress bar on the terminal, with the rate and the time that is left.

    To be given to `tso_level3.measure` as ``progress``, which begins a bar for the sample of frames
    and one for the measurement of all.

    Parameters
    ----------
    title : str
        Name of the pass.
    total : int
        Number of frames.

    Returns
    -------
    Bar or None
        The bar; None where standard error is not a terminal (a pipe, a file, a batch job).
    """
    if not _watched():
        return None
    from tqdm import tqdm

    return tqdm(
        total=total,
        desc=f"{title:<10}",
        unit=" frames",
        file=sys.stderr,
        # Some terminals (of a container, of `script`) report no columns.
        **({"dynamic_ncols": True} if _columns() else {"ncols": 80, "nrows": 24}),
        bar_format="{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}"
        " [{elapsed}, {remaining} left, {rate_fmt}]",
    )


def _watched() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except (AttributeError, ValueError):  # not a file, or closed
        return False


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (AttributeError, OSError, ValueError):  # not a file of the system
        return 0


@contextmanager
def showing(
    make: Callable[[str, int], Bar | None] | None, title: str, total: int
) -> Iterator[Callable[[int], object]]:
    """Show a bar while the context lasts.

    Parameters
    ----------
    make : callable or None
        `progress` or a function like it, which may return None; None for no bar.
    title : str
        Name of the pass.
    total : int
        Number of frames.

    Yields
    ------
    callable
        To be called with the number of frames done.
    """
    bar = make(title, total) if make is not None else None
    try:
        yield bar.update if bar is not None else (lambda _: None)
    finally:
        if bar is not None:
            bar.close()
