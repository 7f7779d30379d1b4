"""Least squares without negative coefficients, for a few of them."""

from __future__ import annotations

from itertools import combinations

import numpy as np

__all__ = ["nonnegative"]


def nonnegative(design: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Fit a few columns with coefficients that are zero or more.

    The best fit is the plain one of the columns that it uses. So that of all columns is it where
    no coefficient is negative; else the best of those of fewer.

    Parameters
    ----------
    design : ndarray, (n, k)
        The columns; four at most, as there are 2^k sets of them.
    target : ndarray, (n,)
        What is fitted.

    Returns
    -------
    ndarray, (k,)
        The coefficients.

    References
    ----------
    Lawson & Hanson 1974, Solving Least Squares Problems, chapter 23.
    """
    count = design.shape[1]
    best, least = np.zeros(count), float(target @ target)
    for size in range(count, 0, -1):
        for used in map(list, combinations(range(count), size)):
            found = np.zeros(count)
            found[used] = np.linalg.lstsq(design[:, used], target, rcond=None)[0]
            if found.min() < 0:
                continue
            if size == count:
                return found
            rest = target - design @ found
            if (square := float(rest @ rest)) < least:
                best, least = found, square
    return best
