"""Steps in the mean of many-channel series: likelihood ratios over families of directions.

A step along an unknown direction of D channels costs D degrees of freedom; a step that is known
to lie in one of a few small subspaces costs their number and their dimension alone. A `Families`
holds such subspaces; each is judged by its own chi-square, and the least probable counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincc, gammaln

__all__ = [
    "LEAST",
    "Families",
    "Scan",
    "located",
    "response_at",
    "scan",
    "step_response",
    "surprise",
]

#: Fewer integrations than this on a side make no step.
LEAST = 10
# Places that are looked at together: they fit into a cache.
_BLOCK = 2048
# Times that a place is settled again with the means on its two sides.
_ROUNDS = 4


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
    n = len(values)
    if n < 2 * least + degree + 1 or not families.bases:
        return None
    # Every place in every family at once would be several times the series.
    best, top = np.zeros(len(families.bases), int), np.full(len(families.bases), -np.inf)
    for first, response in _responses(values, degree, least):
        squares = families.squares(response)
        place = squares.argmax(axis=0)
        here = squares[place, np.arange(len(top))]
        more = here > top
        best[more], top[more] = place[more] + first, here[more]
    chance = surprise(top, families.dimensions)
    k = int(chance.argmax())
    return Scan(int(best[k]), float(chance[k]), k, float(top[k]))


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
    if len(values) < 2 * least + degree + 1:
        return None
    return np.concatenate([response for _, response in _responses(values, degree, least)])


def _responses(values: np.ndarray, degree: int, least: int) -> Iterator[tuple[int, np.ndarray]]:
    """Give the response to a step block by block of places, with the first place of each."""
    n = len(values)
    smooth, _ = np.linalg.qr(np.polynomial.legendre.legvander(np.linspace(-1, 1, n), degree))
    blocks = [slice(k, min(k + _BLOCK, n)) for k in range(0, n, _BLOCK)]
    follows = sum(smooth[block].T @ values[block] for block in blocks)
    # The residuals add up to nothing: what lies after a place is minus what lies before it.
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
        White series.
    index : int
        First integration after the step.

    Returns
    -------
    ndarray, (n_channels,)
        The size of the step over its error.
    """
    n = len(values)
    low, high = (part.sum(axis=0, dtype=float) for part in (values[:index], values[index:]))
    after = high - (n - index) / n * (low + high)
    return after / np.sqrt(max((n - index) * index / n, 1e-12))


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
    whole = len(values)
    # What can count: the place moves by one window a round.
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
        # For a step at each place: what lies before it counts for the lower state.
        chance = np.concatenate([[0.0], -np.cumsum(gain)])
        chance = np.cumsum(np.exp(chance - chance.max()))
        new = a + int(np.searchsorted(chance, 0.5 * chance[-1]))
        if new == index or not LEAST // 2 <= new + begin <= whole - LEAST // 2:
            break
        index = new
    return index + begin
