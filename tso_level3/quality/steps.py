"""Steps in the mean of many-channel series: likelihood ratios over families of directions.

A step along an unknown direction of D channels costs D degrees of freedom; a step that is known
to lie in one of a few small subspaces costs their number and their dimension alone. A `Families`
holds such subspaces; each is judged by its own chi-square, and the least probable counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincc, gammaln

__all__ = ["LEAST", "Families", "Scan", "located", "scan", "step_response", "surprise"]

#: Fewer integrations than this on a side make no step.
LEAST = 10


@dataclass(frozen=True, eq=False)
class Families:
    """Subspaces in which a step is looked for.

    Attributes
    ----------
    bases : tuple of ndarray, (n_channels, k)
        Orthonormal columns.
    """

    bases: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, bases: Sequence[np.ndarray], white: np.ndarray | None = None) -> Families:
        """Make them from any bases, after whitening.

        Parameters
        ----------
        bases : sequence of ndarray, (n_channels, k)
            Columns that span each subspace.
        white : ndarray, (n_channels, n_channels), optional
            What whitened channels are made with, ``channels @ white``.

        Returns
        -------
        Families
            The subspaces of the whitened channels.
        """
        out = []
        for basis in bases:
            moved = basis if white is None else white.T @ basis
            left, size, _ = np.linalg.svd(moved, full_matrices=False)
            out.append(left[:, size > max(1e-6 * size.max(), 1e-12)])
        # Channels that do not vary leave nothing of a subspace.
        return cls(tuple(basis for basis in out if basis.shape[1]))

    @property
    def dimensions(self) -> np.ndarray:
        """Dimension of each."""
        return np.array([basis.shape[1] for basis in self.bases])

    def squares(self, vectors: np.ndarray) -> np.ndarray:
        """Squared lengths of vectors (..., n_channels) in each subspace, (..., n_families)."""
        together = vectors @ np.concatenate(self.bases, axis=1)
        first = np.concatenate([[0], np.cumsum(self.dimensions)[:-1]])
        return np.add.reduceat(together**2, first, axis=-1)


@dataclass(frozen=True)
class Scan:
    """The best step of a scan.

    Attributes
    ----------
    index : int
        First integration after it.
    surprise : float
        Minus the natural logarithm of the chance of so large a chi-square, for one place.
    family : int
        The family in which it was found.
    chi2 : float
        What the step explains there.
    """

    index: int
    surprise: float
    family: int
    chi2: float


def scan(
    values: np.ndarray, families: Families, *, degree: int = 0, least: int = LEAST
) -> Scan | None:
    """Find the best step of a series beside a polynomial.

    Parameters
    ----------
    values : ndarray, (n, n_channels)
        White series.
    families : Families
        Where the step may point.
    degree : int
        Degree of the polynomial that is fitted together with the step: a slow drift.
    least : int
        Integrations on each side.

    Returns
    -------
    Scan or None
        The best; None where the series is too short.
    """
    response = step_response(values, degree, least)
    if response is None or not families.bases:
        return None
    squares = families.squares(response)
    best = squares.argmax(axis=0)
    top = squares[best, np.arange(squares.shape[1])]
    chance = surprise(top, families.dimensions)
    k = int(chance.argmax())
    return Scan(int(best[k]) + least, float(chance[k]), k, float(top[k]))


def surprise(squares: np.ndarray, dimensions: np.ndarray) -> np.ndarray:
    """Minus the natural logarithm of the chance of chi-squares at least so large.

    Parameters
    ----------
    squares : ndarray
        The chi-squares.
    dimensions : ndarray
        Their degrees of freedom.

    Returns
    -------
    ndarray
        0 or more; for large values from the leading term of the asymptotic series.
    """
    half, shape = 0.5 * np.asarray(squares, float), 0.5 * np.asarray(dimensions, float)
    chance = gammaincc(shape, half)
    with np.errstate(divide="ignore"):
        far = half - (shape - 1.0) * np.log(np.maximum(half, 1e-300)) + gammaln(shape)
        far -= np.log1p(np.maximum(shape - 1.0, 0.0) / np.maximum(half, 1.0))
        return np.where(chance > 1e-280, -np.log(np.maximum(chance, 1e-300)), far)


def step_response(values: np.ndarray, degree: int, least: int = LEAST) -> np.ndarray | None:
    """Fit a step at every place beside a polynomial, in standard errors.

    Parameters
    ----------
    values : ndarray, (n, n_channels)
        White series.
    degree : int
        Degree of the polynomial.
    least : int
        Integrations on each side.

    Returns
    -------
    ndarray, (n - 2 least + 1, n_channels), or None
        The size of the step over its error, for the first place ``least``.
    """
    n = len(values)
    if n < 2 * least + degree + 1:
        return None
    phase = np.linspace(-1, 1, n)
    smooth, _ = np.linalg.qr(np.polynomial.legendre.legvander(phase, degree))
    rest = values - smooth @ (smooth.T @ values)
    after = np.cumsum(rest[::-1], axis=0)[::-1]
    shared = np.cumsum(smooth[::-1], axis=0)[::-1]
    length = np.arange(n, 0, -1) - (shared**2).sum(axis=1)
    part = slice(least, n - least + 1)
    return after[part] / np.sqrt(np.maximum(length[part], 1e-12))[:, None]


def located(
    values: np.ndarray, index: int, basis: np.ndarray, *, window: int = 60, long: int = 400
) -> int:
    """Say at which integration a step begins: the median of the likelihood.

    The median is nearer to the truth than the maximum: 89 and 87 % within 5 integrations where
    100 integrations on each side have a signal-to-noise of 8.

    Parameters
    ----------
    values : ndarray, (n, n_channels)
        White series between the neighbouring events.
    index : int
        About where it is.
    basis : ndarray, (n_channels, k)
        The directions that count.
    window : int
        Integrations on each side among which it is looked for.
    long : int
        Integrations on each side that give the means.

    Returns
    -------
    int
        First integration after the step.
    """
    n = len(values)
    series = values @ basis
    for _ in range(4):
        first, last = max(index - long, 0), min(index + long, n)
        low = series[first:index].mean(axis=0)
        high = series[index:last].mean(axis=0)
        a, b = max(index - window, LEAST // 2), min(index + window, n - LEAST // 2)
        gain = (series[a:b] - 0.5 * (low + high)) @ (high - low)
        # For a step at each place: what lies before it counts for the lower state.
        chance = np.concatenate([[0.0], -np.cumsum(gain)])
        chance = np.cumsum(np.exp(chance - chance.max()))
        new = a + int(np.searchsorted(chance, 0.5 * chance[-1]))
        if new == index or not LEAST // 2 <= new <= n - LEAST // 2:
            break
        index = new
    return index
