"""Progress bars, where somebody watches."""

from __future__ import annotations

import sys
from typing import Protocol

__all__ = ["Bar", "progress"]


class Bar(Protocol):
    """What a long pass tells how far it is."""

    def update(self, n: int) -> object:
        """Count more frames.

        Parameters
        ----------
        n : int
            How many were done since the last call.
        """
        ...

    def close(self) -> object:
        """Leave the bar as it is."""
        ...


def progress(title: str, total: int) -> Bar | None:
    """Begin a progress bar on the terminal, with the rate and the time that is left.

    This is what `tso_level3.measure` and `tso_level3.run.run` take as ``progress``; they begin
    one for the look at a sample of frames, and one for the measurement of all of them.

    Parameters
    ----------
    title : str
        What is going on.
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
        dynamic_ncols=True,
        bar_format="{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}"
        " [{elapsed}, {remaining} left, {rate_fmt}]",
    )


def _watched() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except (AttributeError, ValueError):  # replaced by something simpler, or closed
        return False
