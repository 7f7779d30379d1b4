"""Steps in the mean of many-channel series: likelihood ratios over families of directions.

A step along an unknown direction of D channels costs D degrees of freedom; a step that is known
to lie in one of a few small subspaces costs their number and their dimension alone. A `Families`
holds such subspaces; each is judged by its own chi-square, and the least probable counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri, gammaincc, gammaln

__all__ = [
    "LEAST",
    "Families",
    "Scan",
    "White",
    "is_slow",
    "located",
    "scan",
    "steepness",
    "step_response",
    "surprise",
    "whiten",
]

_MAD = 1.4826022185056018
# By so much a slow change fits better than a true step by chance, rarely.
_CHANCE = 6.0
_OUTLIER = 6.0
# Integrations that give a median: more do not make it better.
_ENOUGH = 2000
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
    scale = _MAD * np.median(np.abs(values[at + 1] - values[at]), axis=0) / np.sqrt(2.0)
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


def steepness(series: np.ndarray, index: int, *, reach: int, enough: float = 11.0) -> float:
    """Compare a step with a smooth change: how much of it stays beside a parabola.

    A step keeps half of its significance when a slope is fitted with it, a slow drift keeps
    nothing. The comparison is made on the shortest stretch that shows the step at all.

    Parameters
    ----------
    series : ndarray, (n,)
        Projection on the step's direction, of unit noise.
    index : int
        First integration after the step.
    reach : int
        Integrations on each side at most.
    enough : float
        Significance that a stretch must have.

    Returns
    -------
    float
        Ratio of the significances with and without the parabola, about 0.5 for a step.
    """
    n = len(series)
    # Near an end a stretch that is the same on both sides may tell more, or may be too short.
    room = min(index, n - index)
    even = series[index - room : index + room]
    ratios = [_ratio(series, index, reach, enough), _ratio(even, room, reach, enough)]
    return max(ratios)


def _ratio(series: np.ndarray, index: int, reach: int, enough: float) -> float:
    n, width = len(series), LEAST
    while True:
        a, b = max(index - width, 0), min(index + width, n)
        part = series[a:b]
        plain = _significance(part, index - a, 0)
        if abs(plain) >= enough or width >= reach or (a == 0 and b == n):
            break
        width = int(np.ceil(1.3 * width))
    return float(_significance(part, index - a, 2) / plain) if plain else 0.0


def is_slow(series: np.ndarray, index: int, *, reach: int, degree: int = 0) -> bool:
    """Tell whether a change that takes tens of integrations fits better than a step.

    Parameters
    ----------
    series : ndarray, (n,)
        Projection on the step's direction, of unit noise.
    index : int
        First integration after the step.
    reach : int
        Integrations on each side at most.
    degree : int
        Degree of the polynomial over the whole stretch that is left to both: 1 where a drift is
        known to be there.

    Returns
    -------
    bool
        Whether one of the transitions along a straight line, of 64 to 384 integrations, explains
        more than the step does.
    """
    a, b = max(index - reach, 0), min(index + reach, len(series))
    part, place = series[a:b], np.arange(a, b) - index
    phase = np.linspace(-1, 1, len(part))
    line, _ = np.linalg.qr(np.polynomial.legendre.legvander(phase, degree))

    def explained(shape: np.ndarray) -> float:
        shape = shape - line @ (line.T @ shape)
        return float((shape @ part) ** 2 / max(shape @ shape, 1e-12))

    step = explained((place >= 0).astype(float))
    slow = [
        explained(np.clip(0.5 + (place - 0.25 * k * length) / length, 0.0, 1.0))
        for length in (64, 128, 256, 384)
        if length < len(part)
        for k in (-2, -1, 0, 1, 2)
    ]
    # Where there is a drift already the doubt counts against the step.
    return max(slow, default=0.0) > step + (_CHANCE if degree == 0 else 0.0)


def _significance(part: np.ndarray, index: int, degree: int) -> float:
    n = len(part)
    smooth, _ = np.linalg.qr(np.polynomial.legendre.legvander(np.linspace(-1, 1, n), degree))
    step = (np.arange(n) >= index).astype(float)
    step -= smooth @ (smooth.T @ step)
    size = np.sqrt((step**2).sum())
    return float(step @ part / size) if size > 1e-9 else 0.0
