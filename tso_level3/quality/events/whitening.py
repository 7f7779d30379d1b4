"""Channels of unit, uncorrelated noise, judged by the first differences of their series."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri

from tso_level3.utils.stats import mad_std

__all__ = ["White", "whiten"]

_OUTLIER = 6.0
# Integrations that give a median: more do not make it better.
_ENOUGH = 2000
# Integrations that are worked on together.
_BLOCK = 2048


@dataclass(frozen=True, eq=False)
class White:
    """Channels of unit, uncorrelated noise.

    Attributes
    ----------
    values : ndarray, (n, n_channels)
        The series, outliers of single integrations pulled in.
    matrix : ndarray, (n_channels, n_channels)
        ``values`` is the series times this.
    """

    values: np.ndarray
    matrix: np.ndarray


def whiten(values: np.ndarray, *, in_place: bool = False) -> White:
    """Scale channels to unit noise without correlation, judged by first differences.

    Steps and drifts hardly touch first differences, and the largest of these are left out. The
    eigenvalues of the correlation that noise alone can give are set to one, so that a matrix
    measured on few integrations does not make large what is not.

    Parameters
    ----------
    values : ndarray, (n, n_channels)
        Finite series.
    in_place : bool
        Whether the series itself may be changed into the whitened one.

    Returns
    -------
    White
        The whitened series, in the precision of the series.

    References
    ----------
    Marchenko and Pastur 1967, doi:10.1070/SM1967v001n04ABEH001994, for the eigenvalues of noise.
    """
    some = values[:: max(len(values) // _ENOUGH, 1)]
    centre = np.median(some, axis=0)
    # Neighbours, here and there: what is far apart in time has drifted.
    at = np.arange(0, len(values) - 1, max(len(values) // _ENOUGH, 1))
    scale = mad_std(values[at + 1] - values[at], center=0.0, axis=0) / np.sqrt(2.0)
    # Channels that do not vary hold nothing.
    inverse = np.where(scale > 0, 1.0 / np.where(scale > 0, scale, 1.0), 0.0)
    values = values if in_place else values.copy()
    for block in _blocks(len(values)):
        values[block] = (values[block] - centre) * inverse
    _pull_in(values)
    covariance, count = _of_steps(values)
    size = np.sqrt(np.maximum(np.diagonal(covariance), 1e-12))
    # Neighbouring differences share an integration: they count two thirds.
    count = max(2.0 * count / 3.0, 1.0)
    spread, axes = np.linalg.eigh(covariance / np.outer(size, size))
    ratio = np.sqrt(values.shape[1] / count)
    low, high = max(1.0 - ratio, 0.0) ** 2, (1.0 + ratio) ** 2
    spread = np.where((spread > 0.8 * low) & (spread < 1.2 * high), 1.0, np.maximum(spread, 1e-3))
    matrix = (axes / np.sqrt(spread)) @ axes.T / size[:, None]
    for block in _blocks(len(values)):
        values[block] = values[block] @ matrix
    return White(values, inverse[:, None] * matrix)


def _blocks(n: int) -> list[slice]:
    return [slice(k, min(k + _BLOCK, n)) for k in range(0, n, _BLOCK)]


def _of_steps(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Covariance of first differences without the largest, and how many count."""
    n = max(len(values) - 1, 0)
    blocks, length = _blocks(n), np.empty(n)

    def steps_in(block: slice) -> np.ndarray:
        return np.diff(values[block.start : block.stop + 1].astype(float), axis=0) / np.sqrt(2.0)

    for block in blocks:
        steps = steps_in(block)
        length[block] = np.einsum("ij,ij->i", steps, steps)
    # The largest are left out: more than a thousandth of them only where there are outliers.
    few = chdtri(values.shape[1], 1e-3) / chdtri(values.shape[1], 0.5)
    keep = length <= few * np.median(length) if n else np.zeros(0, bool)
    total = np.zeros((values.shape[1],) * 2)
    for block in blocks:
        steps = steps_in(block)[keep[block]]
        total += steps.T @ steps
    count = int(keep.sum())
    return total / max(count, 1), count


def _pull_in(values: np.ndarray) -> None:
    """Bring integrations that depart from both sides of time back to where others are, in place.

    A limit in each channel would miss what is spread over many; the length of the departure from
    the neighbours' mean shows it, and the median of five says whether it stays.
    """
    if len(values) < 5:
        return
    square = np.empty(len(values) - 2)
    for block in _blocks(len(square)):
        part = values[block.start : block.stop + 2].astype(float)
        rest = part[1:-1] - 0.5 * (part[:-2] + part[2:])
        square[block] = np.einsum("ij,ij->i", rest, rest)
    limit = np.median(square) * (1.0 + _OUTLIER * np.sqrt(2.0 / values.shape[1]))
    rows = np.clip(np.flatnonzero(square > limit) + 1, 2, len(values) - 3)
    moved = np.empty((len(rows), values.shape[1]), values.dtype)
    for block in _blocks(len(rows)):
        at = rows[block]
        middle = np.median(values[at[:, None] + np.arange(-2, 3)], axis=1)
        rest = values[at] - middle
        length = np.einsum("ij,ij->i", rest, rest)
        factor = np.sqrt(np.minimum(limit / np.maximum(length, 1e-300), 1.0))
        moved[block] = middle + rest * factor[:, None]
    values[rows] = moved
