"""Division of frames into runs that fit into a processor's cache."""

from __future__ import annotations

__all__ = ["blocks"]

# Pixels that are processed at once.
_PIXELS = 120_000


def blocks(n: int, width: int) -> list[slice]:
    """Divide frames into runs that are processed one after the other.

    Parameters
    ----------
    n : int
        Number of frames.
    width : int
        Pixels of a frame.

    Returns
    -------
    list of slice
        The runs, in order.
    """
    step = max(1, _PIXELS // max(width, 1))
    return [slice(first, min(first + step, n)) for first in range(0, n, step)]
