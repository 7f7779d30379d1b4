"""Comparison of light curves of one star: jumps, response to the flux, depths of a box."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tso_level3.quality.events.change_points import Subspaces, scan
from tso_level3.quality.events.sizes import step_size
from tso_level3.quality.events.whitening import whiten
from tso_level3.quality.noise import bins, integrations_in
from tso_level3.utils.stats import deviation, median

__all__ = [
    "Response",
    "box_difference",
    "hour_of",
    "jump_variance",
    "jumps_in",
    "red_excess",
    "response_of",
]

_HOUR_MINUTES = 60.0
# Bin sizes of red noise, in units of half of ten minutes.
_SCALES = (2, 4, 8, 12)
# Standard errors beyond which a change in most light curves is of the star.
_COMMON = 4.0
# Significance of red noise, and the minimum number of independent bins.
_RED, _FEW = 2.0, 4
# Threshold on minus the logarithm of the probability of a step of a flux ratio.
_NEG_LOG_P = 18.0
_JUMPS = 4
_LEAST = 30
# Number of bins in which slow changes of the flux are measured.
_BINS = 60
# Significance of the variance of slow changes.
_STANDS_OUT = 5.0
# A response is wrong beyond this many standard errors, and beyond this size.
_WRONG, _TOLERATED = 4.0, 0.01


@dataclass(frozen=True)
class Response:
    """Slope of the changes of one light curve on those of another.

    Attributes
    ----------
    low, high : float
        Bounds of the slope for any share of slow errors in either light curve.
    error : float
        Standard error of either bound.
    """

    low: float
    high: float
    error: float

    @property
    def wrong(self) -> bool:
        """Whether the slope cannot be 1."""
        away = max(self.low - 1.0, 1.0 - self.high)
        return bool(away > max(_WRONG * self.error, _TOLERATED))


def red_excess(means: np.ndarray, scatter: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Compare the red noise of light curves of one star, from ten minutes to an hour.

    Parameters
    ----------
    means : ndarray, (n_curves, n_bins)
        Relative means of bins; NaN where unknown.
    scatter : ndarray, (n_curves,)
        Relative scatter per integration.
    size : int
        Integrations per bin.

    Returns
    -------
    (ndarray, ndarray)
        Variance per integration beyond white noise, less that of the curve of the least scatter,
        and its standard error, each (n_curves,).

    Notes
    -----
    Second differences of means are free of trends. Changes of most light curves, such as the sides
    of a transit, are left out, and the comparison is in pairs, which share most of the rest.
    """
    best, best_err = np.zeros(len(means)), np.zeros(len(means))
    known = np.isfinite(scatter) & np.isfinite(means).any(axis=1)
    if known.sum() < 2:
        return best, best_err
    rows = np.flatnonzero(known)
    means, white = means[rows][:, np.isfinite(means[rows]).all(axis=0)], scatter[rows] ** 2
    quiet = int(np.argmin(white))
    for scale in _SCALES:
        free = means.shape[1] / scale - 2.0
        if free < _FEW:
            break
        sums = np.concatenate([np.zeros((len(rows), 1)), np.cumsum(means, axis=1)], axis=1)
        runs = (sums[:, scale:] - sums[:, :-scale]) / scale
        change = runs[:, : -2 * scale] - 2.0 * runs[:, scale:-scale] + runs[:, 2 * scale :]
        factor = scale * size / 6.0
        usual = np.median(change, axis=0) ** 2 * factor <= _COMMON**2 * np.median(white)
        if usual.sum() < _FEW * scale:
            continue
        square = change[:, usual] ** 2 * factor
        rest = square - square[quiet]
        more = rest.mean(axis=1) - (white - white[quiet])
        error = rest.std(axis=1) / np.sqrt(max(free * usual.mean(), 1.0))
        # Only significant red noise counts.
        more = np.where(np.abs(more) > _RED * error, more, 0.0)
        larger = np.abs(more) > np.abs(best[rows])
        best[rows[larger]], best_err[rows[larger]] = more[larger], error[larger]
    return best, best_err


def response_of(first: np.ndarray, second: np.ndarray, use: np.ndarray) -> Response | None:
    """Regress the slow changes of one light curve on those of another.

    Parameters
    ----------
    first, second : ndarray, (n,)
        Fluxes; the first is regressed on the second.
    use : ndarray, (n,), bool
        Integrations that count.

    Returns
    -------
    Response or None
        The slope; None where there are no significant changes or too few integrations.

    Notes
    -----
    Both have errors: the covariance of the white noise, from first differences, is subtracted from
    that of the means of bins. Slow errors of the second lower the slope of the regression, those of
    the first raise the inverse of the reverse one: the truth lies between (Frisch 1934,
    Statistical Confluence Analysis).
    """
    good = use & np.isfinite(first) & np.isfinite(second)
    n = int(good.sum())
    if n < _LEAST:
        return None
    both = np.stack([first[good], second[good]])
    middle = np.median(both, axis=1)
    if not (middle > 0).all():
        return None
    both = both / middle[:, None] - 1.0
    size = max(n // _BINS, 1)
    means = np.stack([bins(part, size) for part in both])
    count = means.shape[1]
    white = _white(both) / size
    slow = np.cov(means) - white
    noise = np.sqrt(2.0 / count) * white
    if not (slow[0, 0] > _STANDS_OUT * noise[0, 0] and slow[1, 1] > _STANDS_OUT * noise[1, 1]):
        return None
    if slow[0, 1] <= 0:
        return None
    low, high = sorted((slow[0, 1] / slow[1, 1], slow[0, 0] / slow[0, 1]))
    slope = 0.5 * (low + high)
    rest = means[0] - means[0].mean() - slope * (means[1] - means[1].mean())
    # Correlated residuals have fewer independent values.
    alike = np.clip(np.sum(rest[1:] * rest[:-1]) / max(np.sum(rest**2), 1e-300), 0.0, 0.99)
    count *= (1.0 - alike) / (1.0 + alike)
    error = np.sqrt(rest.var() / (count * slow[1, 1]))
    return Response(float(low), float(high), float(error))


def _white(both: np.ndarray) -> np.ndarray:
    """Covariance of the noise of two series, from first differences without outliers."""
    steps = np.diff(both, axis=1) / np.sqrt(2.0)
    scale = np.array([deviation(part) for part in steps])
    keep = (np.abs(steps) <= 4.0 * np.maximum(scale, 1e-300)[:, None]).all(axis=0)
    return steps[:, keep] @ steps[:, keep].T / max(int(keep.sum()), 1)


def box_difference(
    first: np.ndarray, second: np.ndarray, use: np.ndarray, hour: int
) -> tuple[float, float]:
    """Compare the depths of a box of an hour in two light curves, over all places of the box.

    Parameters
    ----------
    first, second : ndarray, (n,)
        Fluxes.
    use : ndarray, (n,), bool
        Integrations that count.
    hour : int
        Integrations in the box; the depth is against half as many on each side.

    Returns
    -------
    (float, float)
        Root mean square of the difference of the relative depths, and its expectation from the
        white noise that they do not share; NaN where the series are too short.
    """
    good = use & np.isfinite(first) & np.isfinite(second)
    side = max(hour // 2, 1)
    if good.sum() < hour + 2 * side:
        return np.nan, np.nan
    one, two = first[good], second[good]
    rest = one / median(one) - two / median(two)
    sums = np.concatenate([[0.0], np.cumsum(rest)])
    start = np.arange(len(rest) - hour - 2 * side + 1)
    inside = (sums[start + side + hour] - sums[start + side]) / hour
    outside = sums[start + side] - sums[start] + sums[start + 2 * side + hour]
    outside = (outside - sums[start + side + hour]) / (2 * side)
    noise = deviation(np.diff(rest)) / np.sqrt(2.0) if len(rest) > 3 else np.nan
    expected = noise * np.sqrt(1.0 / hour + 1.0 / (2 * side))
    return float(np.sqrt(np.mean((inside - outside) ** 2))), float(expected)


def hour_of(time: np.ndarray, n: int) -> int:
    """Compute the number of integrations per hour.

    Parameters
    ----------
    time : ndarray, (n,)
        Times [d]; NaN where unknown.
    n : int
        Number of integrations.

    Returns
    -------
    int
        At least 2, at most a quarter of the exposure, to leave a comparison on both sides.
    """
    hour = integrations_in(time, _HOUR_MINUTES)
    return int(np.clip(n if hour is None else hour, 2, max(n // 4, 2)))


def jumps_in(curves: np.ndarray, use: np.ndarray) -> list[int]:
    """Find steps of flux ratios, which a change of the image or its place makes, and no transit.

    Parameters
    ----------
    curves : ndarray, (n, n_ratios)
        Ratios of light curves.
    use : ndarray, (n,), bool
        Integrations that count.

    Returns
    -------
    list of int
        Rows of the first integrations after the steps, ascending.
    """
    rows = np.flatnonzero(use & np.isfinite(curves).all(axis=1))
    if len(rows) < _LEAST:
        return []
    whitened = whiten(curves[rows]).values
    subspaces = Subspaces((np.eye(curves.shape[1]),))
    found: list[int] = []
    while len(found) < _JUMPS:
        edges = [0, *sorted(found), len(rows)]
        # Beside a parabola: a drift is no jump.
        scans = [
            (step, a)
            for a, b in zip(edges[:-1], edges[1:], strict=True)
            if (step := scan(whitened[a:b], subspaces, degree=2)) is not None
            and step.neg_log_p > _NEG_LOG_P
        ]
        if not scans:
            break
        best, first = max(scans, key=lambda pair: pair[0].neg_log_p)
        found.append(first + best.index)
    return [int(rows[k]) for k in sorted(found)]


def jump_variance(
    curves: Iterable[np.ndarray], scatter: np.ndarray, places: list[int], hour: int
) -> np.ndarray:
    """Convert the steps of light curves to an equivalent variance of white noise.

    Parameters
    ----------
    curves : iterable of ndarray, (n,)
        Fluxes.
    scatter : ndarray, (n_curves,)
        Their relative scatter.
    places : list of int
        First integrations after the steps.
    hour : int
        Integrations in an hour.

    Returns
    -------
    ndarray, (n_curves,)
        Variance per integration of white noise that changes the depth of a box of an hour as much
        as the significant steps do, on average over all places of the box.
    """
    if not places:
        return np.zeros(len(scatter))
    steps = []
    for flux in curves:
        steps.append([step_size(flux, place, places)[0] for place in places])
        n = len(flux)
    steps = np.nan_to_num(np.array(steps))
    # For a step and a slope on up to a hundred integrations on either side.
    noise = 2.0 * np.nan_to_num(scatter) * np.sqrt(2.0 / np.clip(n / 2, 1, 100))
    limit = _RED * noise[:, None]
    # A step of all of them may be the side of a transit.
    everywhere = (np.abs(steps) > limit).all(axis=0)
    steps = steps - np.where(everywhere, np.median(steps, axis=0), 0.0)
    excess = np.maximum(steps**2 - limit**2, 0.0)
    return excess.sum(axis=1) * hour**2 / (12.0 * n)
