"""Channels of unit, uncorrelated noise, judged by the first differences of their series."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri

from tso_level3.core.robust import MAD

__all__ = ["White", "whiten"]

_OUTLIER = 6.0
# Integrations that give a median: more do not make it better.
_ENOUGH = 2000


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


def whiten(values: np.ndarray) -> White:
    """Scale channels to unit noise without correlation, judged by first differences.

    Steps and drifts hardly touch first differences, and the largest of these are left out. The
    eigenvalues of the correlation that noise alone can give are set to one, so that a matrix
    measured on few integrations does not make large what is not.

    Parameters
    ----------
    values : ndarray, (n, n_channels)
        Finite series.

    Returns
    -------
    White
        The whitened series.

    References
    ----------
    Marchenko and Pastur 1967, doi:10.1070/SM1967v001n04ABEH001994, for the eigenvalues of noise.
    """
    some = values[:: max(len(values) // _ENOUGH, 1)]
    centre = np.median(some, axis=0)
    # Neighbours, here and there: what is far apart in time has drifted.
    at = np.arange(0, len(values) - 1, max(len(values) // _ENOUGH, 1))
    scale = MAD * np.median(np.abs(values[at + 1] - values[at]), axis=0) / np.sqrt(2.0)
    # Channels that do not vary hold nothing.
    inverse = np.where(scale > 0, 1.0 / np.where(scale > 0, scale, 1.0), 0.0)
    values = _pulled_in((values - centre) * inverse)
    steps = np.diff(values, axis=0) / np.sqrt(2.0)
    length = np.einsum("ij,ij->i", steps, steps)
    # The largest are left out: more than a thousandth of them only where there are outliers.
    few = chdtri(values.shape[1], 1e-3) / chdtri(values.shape[1], 0.5)
    steps = steps[length <= few * np.median(length)]
    covariance = steps.T @ steps / max(len(steps), 1)
    size = np.sqrt(np.maximum(np.diagonal(covariance), 1e-12))
    # Neighbouring differences share an integration: they count two thirds.
    count = max(2.0 * len(steps) / 3.0, 1.0)
    spread, axes = np.linalg.eigh(covariance / np.outer(size, size))
    ratio = np.sqrt(values.shape[1] / count)
    low, high = max(1.0 - ratio, 0.0) ** 2, (1.0 + ratio) ** 2
    spread = np.where((spread > 0.8 * low) & (spread < 1.2 * high), 1.0, np.maximum(spread, 1e-3))
    matrix = (axes / np.sqrt(spread)) @ axes.T / size[:, None]
    return White(values @ matrix, inverse[:, None] * matrix)


def _pulled_in(values: np.ndarray) -> np.ndarray:
    """Bring integrations that depart from both sides of time back to where others are.

    A limit in each channel would miss what is spread over many; the length of the departure from
    the neighbours' mean shows it, and the median of five says whether it stays.
    """
    if len(values) < 5:
        return values
    rest = values[1:-1] - 0.5 * (values[:-2] + values[2:])
    square = np.einsum("ij,ij->i", rest, rest)
    limit = np.median(square) * (1.0 + _OUTLIER * np.sqrt(2.0 / values.shape[1]))
    rows = np.clip(np.flatnonzero(square > limit) + 1, 2, len(values) - 3)
    around = values[rows[:, None] + np.arange(-2, 3)]
    middle = np.median(around, axis=1)
    rest = values[rows] - middle
    length = np.einsum("ij,ij->i", rest, rest)
    factor = np.sqrt(np.minimum(limit / np.maximum(length, 1e-300), 1.0))
    values[rows] = middle + rest * factor[:, None]
    return values
