"""Change points of multi-channel series: likelihood ratios of a step within given subspaces.

A step along an unknown direction of D channels costs D degrees of freedom. One that lies in one of
a few small subspaces costs their dimension and their number only. Each subspace of `Subspaces` has
a chi-square of its own, and the least probable one counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincc, gammaln

__all__ = [
    "LEAST",
    "Subspaces",
    "Scan",
    "locate",
    "neg_log_p",
    "polynomials",
    "response_at",
    "scan",
    "step_response",
]

#: Minimum number of integrations on each side of a step.
LEAST = 10
# Integrations per block, so that a block fits into the cache.
_BLOCK = 2048
# Iterations of the place of a step and the means on its two sides.
_ROUNDS = 4


@dataclass(frozen=True, eq=False)
class Subspaces:
    """Subspaces of the channels in which a step is searched.

    Attributes
    ----------
    bases : tuple of ndarray, (n_channels, k)
        Orthonormal columns.
    """

    bases: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, bases: Sequence[np.ndarray], whitening: np.ndarray | None = None) -> Subspaces:
        """Make orthonormal bases from any bases, after whitening.

        Parameters
        ----------
        bases : sequence of ndarray, (n_channels, k)
            Columns that span each subspace.
        whitening : ndarray, (n_channels, n_channels), optional
            The whitened channels are ``channels @ whitening``.

        Returns
        -------
        Subspaces
            The subspaces of the whitened channels.
        """
        out = []
        for basis in bases:
            moved = basis if whitening is None else whitening.T @ basis
            left, size, _ = np.linalg.svd(moved, full_matrices=False)
            out.append(left[:, size > max(1e-6 * size.max(), 1e-12)])
        # A subspace of channels that do not vary is empty.
        return cls(tuple(basis for basis in out if basis.shape[1]))

    @property
    def dimensions(self) -> np.ndarray:
        """Dimension of each subspace."""
        return np.array([basis.shape[1] for basis in self.bases])

    def squares(self, vectors: np.ndarray) -> np.ndarray:
        """Squared lengths of vectors (..., n_channels) in each subspace, (..., n_subspaces)."""
        together = vectors @ np.concatenate(self.bases, axis=1)
        first = np.concatenate([[0], np.cumsum(self.dimensions)[:-1]])
        return np.add.reduceat(together**2, first, axis=-1)


@dataclass(frozen=True)
class Scan:
    """The best step of a scan.

    Attributes
    ----------
    index : int
        First integration after the step.
    neg_log_p : float
        Minus the natural logarithm of the probability of so large a chi-square at one place.
    subspace : int
        Index of the subspace in which it was found.
    chi2 : float
        Chi-square that the step explains in it.
    """

    index: int
    neg_log_p: float
    subspace: int
    chi2: float


def scan(
    values: np.ndarray, subspaces: Subspaces, *, degree: int = 0, least: int = LEAST
) -> Scan | None:
    """Find the best step of a series, fitted together with a polynomial.

    Parameters
    ----------
    values : ndarray, (n, n_channels)
        Whitened series.
    subspaces : Subspaces
        Directions that the step may have.
    degree : int
        Degree of the polynomial, which stands for a slow drift.
    least : int
        Minimum number of integrations on each side.

    Returns
    -------
    Scan or None
        The best step; None where the series is too short.
    """
    n = len(values)
    if n < 2 * least + degree + 1 or not subspaces.bases:
        return None
    # Chi-squares of all places and subspaces at once would take several times the series.
    best, top = np.zeros(len(subspaces.bases), int), np.full(len(subspaces.bases), -np.inf)
    for first, response in _responses(values, degree, least):
        squares = subspaces.squares(response)
        place = squares.argmax(axis=0)
        here = squares[place, np.arange(len(top))]
        more = here > top
        best[more], top[more] = place[more] + first, here[more]
    unlikely = neg_log_p(top, subspaces.dimensions)
    k = int(unlikely.argmax())
    return Scan(int(best[k]), float(unlikely[k]), k, float(top[k]))


def neg_log_p(squares: np.ndarray, dimensions: np.ndarray) -> np.ndarray:
    """Compute minus the natural logarithm of the probability of a chi-square at least so large.

    Parameters
    ----------
    squares : ndarray
        The chi-squares.
    dimensions : ndarray
        Their degrees of freedom.

    Returns
    -------
    ndarray
        0 or more; from the leading term of the asymptotic series where the probability underflows.
    """
    half, shape = 0.5 * np.asarray(squares, float), 0.5 * np.asarray(dimensions, float)
    chance = gammaincc(shape, half)
    with np.errstate(divide="ignore"):
        far = half - (shape - 1.0) * np.log(np.maximum(half, 1e-300)) + gammaln(shape)
        far -= np.log1p(np.maximum(shape - 1.0, 0.0) / np.maximum(half, 1.0))
        return np.where(chance > 1e-280, -np.log(np.maximum(chance, 1e-300)), far)


def polynomials(n: int, degree: int) -> np.ndarray:
    """Make an orthonormal basis of the polynomials in time.

    Parameters
    ----------
    n : int
        Number of integrations.
    degree : int
        Highest degree.

    Returns
    -------
    ndarray, (n, degree + 1)
        The basis.
    """
    return np.linalg.qr(np.polynomial.legendre.legvander(np.linspace(-1, 1, n), degree))[0]


def step_response(values: np.ndarray, degree: int, least: int = LEAST) -> np.ndarray:
    """Fit a step at every place together with a polynomial, in standard errors.

    Parameters
    ----------
    values : ndarray, (n, n_channels)
        Whitened series of at least 2 ``least`` integrations.
    degree : int
        Degree of the polynomial.
    least : int
        Minimum number of integrations on each side.

    Returns
    -------
    ndarray, (n - 2 least + 1, n_channels)
        Size of the step over its error; the first place is ``least``.
    """
    return np.concatenate([response for _, response in _responses(values, degree, least)])


def _responses(values: np.ndarray, degree: int, least: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first place of each block of places, and the fitted steps of the block."""
    n = len(values)
    smooth = polynomials(n, degree)
    blocks = [slice(k, min(k + _BLOCK, n)) for k in range(0, n, _BLOCK)]
    follows = sum(smooth[block].T @ values[block] for block in blocks)
    # The residuals sum to zero: the sum after a place is minus the sum before it.
    before, shared = np.zeros(values.shape[1]), np.zeros(degree + 1)
    total = smooth.sum(axis=0)
    for block in blocks:
        rest = values[block] - smooth[block] @ follows
        sums = np.concatenate([before[None], before + np.cumsum(rest, axis=0)])
        parts = np.concatenate([shared[None], shared + np.cumsum(smooth[block], axis=0)])
        before, shared = sums[-1], parts[-1]
        place = np.arange(block.start, block.stop)
        use = (place >= least) & (place <= n - least)
        if use.any():
            length = n - place[use] - ((total - parts[:-1][use]) ** 2).sum(axis=1)
            yield (
                int(place[use][0]),
                -sums[:-1][use] / np.sqrt(np.maximum(length, 1e-12))[:, None],
            )


def response_at(values: np.ndarray, index: int) -> np.ndarray:
    """Fit a step at one place, in standard errors.

    Parameters
    ----------
    values : ndarray, (n, n_channels)
        Whitened series.
    index : int
        First integration after the step.

    Returns
    -------
    ndarray, (n_channels,)
        Size of the step over its error.
    """
    n = len(values)
    low, high = (part.sum(axis=0, dtype=float) for part in (values[:index], values[index:]))
    after = high - (n - index) / n * (low + high)
    return after / np.sqrt(max((n - index) * index / n, 1e-12))


def locate(
    values: np.ndarray, index: int, basis: np.ndarray, *, window: int = 60, long: int = 400
) -> int:
    """Find the integration at which a step begins, as the median of the likelihood.

    The median is nearer to the truth than the maximum: 89 and 87 % within 5 integrations, for a
    signal-to-noise of 8 in 100 integrations on each side.

    Parameters
    ----------
    values : ndarray, (n, n_channels)
        Whitened series between the neighbouring events.
    index : int
        Approximate place.
    basis : ndarray, (n_channels, k)
        Directions in which the step is measured.
    window : int
        Integrations on each side that are searched.
    long : int
        Integrations on each side from which the means are taken.

    Returns
    -------
    int
        First integration after the step.
    """
    whole = len(values)
    # Integrations that are used: the place moves by one window per iteration.
    begin = max(index - long - _ROUNDS * window, 0)
    series = values[begin : index + long + _ROUNDS * window].astype(float) @ basis
    n, index = len(series), index - begin
    for _ in range(_ROUNDS):
        first, last = max(index - long, 0), min(index + long, n)
        low = series[first:index].mean(axis=0)
        high = series[index:last].mean(axis=0)
        a = max(index - window, LEAST // 2 - begin)
        b = min(index + window, whole - begin - LEAST // 2)
        gain = (series[a:b] - 0.5 * (low + high)) @ (high - low)
        # Log-likelihood of a step at each place.
        likelihood = np.concatenate([[0.0], -np.cumsum(gain)])
        likelihood = np.cumsum(np.exp(likelihood - likelihood.max()))
        new = a + int(np.searchsorted(likelihood, 0.5 * likelihood[-1]))
        if new == index or not LEAST // 2 <= new + begin <= whole - LEAST // 2:
            break
        index = new
    return index + begin
