"""Whitening of multi-channel series, with the noise covariance from first differences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri

from tso_level3.utils.stats import mad_std

__all__ = ["Whitened", "whiten"]

_OUTLIER = 6.0
# Integrations from which a median is taken.
_ENOUGH = 2000
# Integrations per block.
_BLOCK = 2048


@dataclass(frozen=True, eq=False)
class Whitened:
    """Series of unit, uncorrelated noise.

    Attributes
    ----------
    values : ndarray, (n, n_channels)
        The whitened series, outliers of single integrations shrunk.
    matrix : ndarray, (n_channels, n_channels)
        ``values`` is the series times this matrix.
    """

    values: np.ndarray
    matrix: np.ndarray


def whiten(values: np.ndarray, *, out: np.ndarray | None = None) -> Whitened:
    """Scale channels to unit noise without correlation, measured from first differences.

    Steps and drifts hardly change first differences, and the largest of these are left out.
    Eigenvalues of the correlation matrix within the range of pure noise are set to one, since a
    matrix from few integrations would amplify noise.

    Parameters
    ----------
    values : ndarray, (n, n_channels)
        Finite series.
    out : ndarray, (n, n_channels), optional
        Where the whitened series is written, such as ``values`` itself; by default a new array.

    Returns
    -------
    Whitened
        The whitened series, in the precision of the series.

    References
    ----------
    Marchenko and Pastur 1967, doi:10.1070/SM1967v001n04ABEH001994, for the eigenvalues of noise.
    """
    some = values[:: max(len(values) // _ENOUGH, 1)]
    centre = np.median(some, axis=0)
    # Differences of neighbours only: integrations far apart include drifts.
    at = np.arange(0, len(values) - 1, max(len(values) // _ENOUGH, 1))
    scale = mad_std(values[at + 1] - values[at], center=0.0, axis=0) / np.sqrt(2.0)
    # Channels that do not vary are set to zero.
    inverse = np.where(scale > 0, 1.0 / np.where(scale > 0, scale, 1.0), 0.0)
    out = np.empty_like(values) if out is None else out
    for block in _blocks(len(out)):
        out[block] = (values[block] - centre) * inverse
    _shrink_outliers(out)
    covariance, number = _difference_covariance(out)
    size = np.sqrt(np.maximum(np.diagonal(covariance), 1e-12))
    # Adjacent differences share an integration, which leaves two thirds of them independent.
    count = max(2.0 * number / 3.0, 1.0)
    spread, axes = np.linalg.eigh(covariance / np.outer(size, size))
    ratio = np.sqrt(out.shape[1] / count)
    low, high = max(1.0 - ratio, 0.0) ** 2, (1.0 + ratio) ** 2
    spread = np.where((spread > 0.8 * low) & (spread < 1.2 * high), 1.0, np.maximum(spread, 1e-3))
    matrix = (axes / np.sqrt(spread)) @ axes.T / size[:, None]
    for block in _blocks(len(out)):
        out[block] = out[block] @ matrix
    return Whitened(out, inverse[:, None] * matrix)


def _blocks(n: int) -> list[slice]:
    return [slice(k, min(k + _BLOCK, n)) for k in range(0, n, _BLOCK)]


def _difference_covariance(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Covariance of first differences without the largest, and the number used."""
    n = max(len(values) - 1, 0)
    blocks, length = _blocks(n), np.empty(n)

    def steps_in(block: slice) -> np.ndarray:
        return np.diff(values[block.start : block.stop + 1].astype(float), axis=0) / np.sqrt(2.0)

    for block in blocks:
        steps = steps_in(block)
        length[block] = np.einsum("ij,ij->i", steps, steps)
    # The limit leaves out a thousandth of pure noise.
    few = chdtri(values.shape[1], 1e-3) / chdtri(values.shape[1], 0.5)
    keep = length <= few * np.median(length) if n else np.zeros(0, bool)
    total = np.zeros((values.shape[1],) * 2)
    for block in blocks:
        steps = steps_in(block)[keep[block]]
        total += steps.T @ steps
    count = int(keep.sum())
    return total / max(count, 1), count


def _shrink_outliers(values: np.ndarray) -> None:
    """Shrink single integrations that depart from both neighbours, in place.

    The limit is on the length of the departure over all channels, and the reference is the median
    of five, so that a step is not shrunk.
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
