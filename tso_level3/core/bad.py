"""Sparse list of the missing pixels of a run of frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Bad"]


@dataclass(frozen=True, eq=False)
class Bad:
    """Missing pixels of a run of frames, as a sparse list ordered by frame.

    Attributes
    ----------
    frame, pixel : ndarray, (n_bad,), int
        Row of the run and place in the layout's order.
    """

    frame: np.ndarray
    pixel: np.ndarray

    @classmethod
    def none(cls) -> Bad:
        """Make an empty list.

        Returns
        -------
        Bad
            No pixels.
        """
        return cls(np.zeros(0, np.intp), np.zeros(0, np.intp))

    @classmethod
    def of(cls, mask: np.ndarray) -> Bad:
        """Make the list of a mask.

        Parameters
        ----------
        mask : ndarray, (n, n_pixels), bool
            True is bad.

        Returns
        -------
        Bad
            The list.
        """
        # The places of a flat mask are found ten times as quickly as those of one with two axes.
        return cls(*np.divmod(np.flatnonzero(mask), mask.shape[1]))

    def select(self, rows: np.ndarray, n: int) -> Bad:
        """Take the pixels of some frames, which get new numbers.

        Parameters
        ----------
        rows : ndarray, (m,), int
            The frames, ascending.
        n : int
            Number of frames of the run.

        Returns
        -------
        Bad
            The pixels of those frames.
        """
        if len(rows) == n:
            return self
        new = np.full(n, -1)
        new[rows] = np.arange(len(rows))
        frame = new[self.frame]
        keep = frame >= 0
        return Bad(frame[keep], self.pixel[keep])

    def join(self, other: Bad) -> Bad:
        """Add pixels that are not in the list yet.

        Parameters
        ----------
        other : Bad
            More pixels of the same frames.

        Returns
        -------
        Bad
            Both, ordered by frame.
        """
        if other.frame.size == 0:
            return self
        frame = np.concatenate([self.frame, other.frame])
        pixel = np.concatenate([self.pixel, other.pixel])
        width = int(pixel.max()) + 1
        key = np.unique(frame * width + pixel)
        return Bad(key // width, key % width)
