"""Dynamic linear model of a series: a level that wanders and steps, and white changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

__all__ = ["WHITE", "Model", "Series", "fading_sum"]

#: Grid of the standard deviation of white changes, over the measurement's error, and its prior.
WHITE = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0])
_PRIOR = np.gradient(WHITE)
# Log-likelihood below the best at which models are dropped.
_UNLIKELY = np.log(300.0)
# Values from which the start of the search is found.
_ENOUGH = 4096
# Values per block.
_TOGETHER = 32_768
# Minimum number of integrations between steps.
_SHORTEST = 5
# Uncertainty of the place of a step of one sigma [integrations]; it falls with the size squared.
_UNSURE = 9.0

# Values summed by one matrix product.
_RUN = 32
_BACK = np.subtract.outer(np.arange(_RUN), np.arange(_RUN))


def fading_sum(values: np.ndarray, keep: float) -> np.ndarray:
    """Compute the exponentially discounted sum of the values so far.

    As ``scipy.signal.lfilter([1], [1, -keep], values)``, whose import takes half a second.

    Parameters
    ----------
    values : ndarray, (..., n)
        Values, summed along the last axis.
    keep : float
        Discount factor per step, 0 to 1.

    Returns
    -------
    ndarray, (..., n)
        ``values[k] + keep * values[k - 1] + keep**2 * values[k - 2] + ...``.
    """
    lead, n = values.shape[:-1], values.shape[-1]
    if n > _TOGETHER:
        out, total = np.empty(values.shape), np.zeros(lead)
        for first in range(0, n, _TOGETHER):
            part = values[..., first : first + _TOGETHER].copy()
            part[..., 0] += keep * total
            out[..., first : first + _TOGETHER] = part = fading_sum(part, keep)
            total = part[..., -1]
        return out
    runs = np.zeros((*lead, -(-n // _RUN) * _RUN))
    runs[..., :n] = values
    powers, matrix = _powers(keep)
    sums = (runs.reshape(-1, _RUN) @ matrix).reshape(*lead, -1, _RUN)
    if sums.shape[-2] > 1:
        # The ends of the runs form such a series again.
        ends = fading_sum(sums[..., -1], float(powers[-1]))
        sums[..., 1:, :] += ends[..., :-1, None] * powers[1:]
    return sums.reshape(*lead, -1)[..., :n]


@lru_cache(maxsize=64)
def _powers(keep: float) -> tuple[np.ndarray, np.ndarray]:
    """Powers of the factor, (_RUN + 1,), and the matrix that sums a run."""
    powers = keep ** np.arange(_RUN + 1)
    return powers, np.where(_BACK >= 0, powers[np.abs(_BACK)], 0.0).T.copy()


@dataclass(frozen=True)
class Model:
    """A fitted model: the most likely variance and length, the steps, and the posterior weights.

    Attributes
    ----------
    at : (int, int)
        Index on the grid of variances and lengths.
    length : float
        Correlation length.
    steps : tuple of int
        First values after the steps.
    likelihood : float
        Log-likelihood.
    weights : dict
        Posterior weights of the points of the grid that are about as likely.
    """

    at: tuple[int, int]
    length: float
    steps: tuple[int, ...]
    likelihood: float
    weights: dict[tuple[int, int], float]

    @property
    def white(self) -> float:
        """Variance of the white changes."""
        return float(WHITE[self.at[0]] ** 2)


class Series:
    """Measured values of about unit error at integer places, and their estimates by a model."""

    def __init__(self, place: np.ndarray, values: np.ndarray, variance: np.ndarray) -> None:
        self.place, self.values, self.variance = place, values, variance
        # Without gaps, places are indices.
        self.whole = place[-1] - place[0] == len(place) - 1

    @property
    def n(self) -> int:
        """Number of values."""
        return len(self.values)

    def parts(self, steps: Sequence[int]) -> list[slice]:
        """Divide the series at its steps."""
        edges = [0, *steps, self.n]
        return [slice(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]

    def before(
        self, part: slice, white: float, length: float, *, back: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and inverse variance of the level from the values up to and including each."""
        weight = 1.0 / (self.variance[part] + white)
        sums = np.stack([weight, weight * self.values[part]])
        place = slice(None)
        if not self.whole:
            place = self.place[part] - self.place[part.start]
            spread = np.zeros((2, place[-1] + 1))
            spread[:, place] = sums
            sums = spread
        turn = slice(None, None, -1 if back else 1)
        sums = fading_sum(sums[:, turn], np.exp(-1.0 / length))[:, turn]
        weight, product = sums[:, place]
        return product / weight, weight

    def _departures(
        self, part: slice, white: float, length: float
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the innovations, departures of values from their prediction, and their variances.

        Block by block, so that memory does not grow with the series.
        """
        keep, weight, product = np.exp(-1.0 / length), 0.0, 0.0
        for first in range(part.start, part.stop, _TOGETHER):
            rows = slice(first, min(first + _TOGETHER, part.stop))
            place = self.place[rows] - self.place[first]
            fading = keep ** (self.place[first] - self.place[max(first - 1, part.start)])
            spread = self.variance[rows] + white
            here = slice(None) if self.whole else place
            sums = np.zeros((2, place[-1] + 1))
            sums[0, here] = 1.0 / spread
            sums[1, here] = self.values[rows] / spread
            sums[:, 0] += weight * fading, product * fading
            sums = fading_sum(sums, keep)[:, here]
            # The prediction of each value: the discounted sums up to the value before it.
            before = np.empty((2, len(place)))
            before[:, 0] = weight, product
            before[:, 1:] = sums[:, :-1]
            gap = np.empty(len(place))
            gap[0], gap[1:] = fading, keep if self.whole else keep ** np.diff(place)
            weight, product = sums[:, -1]
            used = slice(1 if first == part.start else 0, None)
            mean = before[1, used] / before[0, used]
            spread = spread[used] + 1.0 / (before[0, used] * gap[used])
            yield self.values[rows][used] - mean, spread

    def likelihood(self, white: float, length: float, steps: Sequence[int]) -> float:
        """Log-likelihood of the series."""
        total = 0.0
        for part in self.parts(steps):
            for away, spread in self._departures(part, white, length):
                total -= 0.5 * float(np.sum(away**2 / spread + np.log(spread)))
        return total

    def innovations(self, white: float, length: float) -> np.ndarray:
        """Innovations over their standard errors: a linear map of the values to white noise."""
        runs = self._departures(slice(0, self.n), white, length)
        return np.concatenate([away / np.sqrt(spread) for away, spread in runs])

    @property
    def lengths(self) -> np.ndarray:
        """Grid of lengths: by factors of two up to four times the series, and infinity."""
        longest = 4.0 * self.place[-1]
        return np.append(longest / 2.0 ** np.arange(int(np.log2(longest)), -1, -1), 1e6 * longest)

    def fitted(self, steps: Sequence[int], start: tuple[int, int] | None = None) -> Model:
        """Find the most likely variance and length, and the posterior weights around them.

        The search is on a fixed grid, so that rounding errors do not change the result.
        """
        steps, lengths = tuple(steps), self.lengths
        known: dict[tuple[int, int], float] = {}

        def value(at: tuple[int, int]) -> float:
            if at not in known:
                known[at] = self.likelihood(WHITE[at[0]] ** 2, lengths[at[1]], steps)
            return known[at]

        def around(at: tuple[int, int]) -> list[tuple[int, int]]:
            return [
                (at[0] + a, at[1] + b)
                for a in (-1, 0, 1)
                for b in (-1, 0, 1)
                if 0 <= at[0] + a < len(WHITE) and 0 <= at[1] + b < len(lengths)
            ]

        if start is None:
            start = self._about(lengths)
        todo, seen = [start], set()
        while todo:
            at = todo.pop()
            if at in seen:
                continue
            seen.add(at)
            # Uphill, and to all points that are about as likely.
            top = max(known.values(), default=-np.inf)
            if value(at) > top - _UNLIKELY:
                todo += sorted(around(at), key=value)
        best = max(known, key=known.__getitem__)
        weights = {
            at: float(_PRIOR[at[0]] * np.exp(likely - known[best]))
            for at, likely in sorted(known.items())
            if likely > known[best] - _UNLIKELY
        }
        return Model(best, lengths[best[1]], steps, known[best], weights)

    def _about(self, lengths: np.ndarray) -> tuple[int, int]:
        """Find the start of the search on a coarse grid, from the first values of a long series."""
        part = slice(0, _ENOUGH)
        few = Series(self.place[part], self.values[part], self.variance[part])
        grid = [(a, b) for a in range(0, len(WHITE), 3) for b in range(len(lengths) - 1, -1, -3)]
        return max(grid, key=lambda at: few.likelihood(WHITE[at[0]] ** 2, lengths[at[1]], ()))

    def average(self, model: Model) -> tuple[np.ndarray, np.ndarray]:
        """Average the estimates over the posterior weights; mean and variance of each value."""
        total, mean, square = 0.0, np.zeros(self.n), np.zeros(self.n)
        for (i, j), weight in model.weights.items():
            own, variance = self.estimate(WHITE[i] ** 2, self.lengths[j], model.steps)
            total += weight
            mean += weight * own
            square += weight * (variance + own**2)
        mean /= total
        variance = np.maximum(square / total - mean**2, 0.0)
        for k, step in enumerate(model.steps, 1):
            parts = self.parts(model.steps)
            low, high = (np.median(self.values[part]) for part in parts[k - 1 : k + 1])
            reach = int(min(np.ceil(_UNSURE / max((high - low) ** 2, 1e-3)), self.n))
            near = slice(max(step - reach, 0), step + reach)
            mean[near], variance[near] = self.values[near], self.variance[near]
        return mean, variance

    def estimate(
        self, white: float, length: float, steps: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Best estimate of level and white changes together, and its variance."""
        mean, variance = np.empty(self.n), np.empty(self.n)
        for part in self.parts(steps):
            low, left = self.before(part, white, length)
            high, right = self.before(part, white, length, back=True)
            own = 1.0 / (self.variance[part] + white)
            weight = left + right - own
            mean[part] = (low * left + high * right - own * self.values[part]) / weight
            variance[part] = 1.0 / weight
        share = white / (self.variance + white)
        mean += share * (self.values - mean)
        return mean, share * self.variance + (1.0 - share) ** 2 * variance

    def step_at(self, model: Model, length: float) -> tuple[int, float]:
        """Find the most significant further step, and its significance."""
        best = (0, 0.0)
        for part in self.parts(model.steps):
            size = part.stop - part.start
            if size < 2 * _SHORTEST:
                continue
            low, left = self.before(part, model.white, length)
            high, right = self.before(part, model.white, length, back=True)
            away = np.abs(high[1:] - low[:-1]) / np.sqrt(1.0 / right[1:] + 1.0 / left[:-1])
            away[: _SHORTEST - 1] = 0.0
            away[size - _SHORTEST :] = 0.0
            k = int(away.argmax())
            if away[k] > best[1]:
                best = (part.start + k + 1, float(away[k]))
        return best
