"""Background of each frame in each annulus, with its error.

The annulus lies in the star's wings. The statistic is that of the frame less the scaled template,
so that the structure of the wings adds no noise to it, as clipping frame by frame does; the
template's own statistic, scaled with the star, is added back. `clipped` is the plain clipping of
each frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tso_level3.core.blocks import blocks
from tso_level3.core.template import Bad

__all__ = ["Background", "backgrounds_of", "clipped", "location"]

#: Standard error of the statistic over that of the mean, for normal noise.
_EFFICIENCY = {"mean": 1.0, "median": np.sqrt(np.pi / 2), "biweight": 1.02}
_MAX_CLIPS = 5


@dataclass(frozen=True, eq=False)
class Background:
    """The background of frames.

    Attributes
    ----------
    level, error, area : ndarray, (n,)
        Background per pixel, its standard error, and the number of good pixels.
    """

    level: np.ndarray
    error: np.ndarray
    area: np.ndarray


def backgrounds_of(
    residuals: np.ndarray,
    added: Sequence[np.ndarray],
    bad: Bad,
    rings: Sequence[np.ndarray],
    *,
    stat: str,
    scatter: Sequence[float] | np.ndarray | None = None,
) -> list[Background]:
    """Measure the background in rings from residuals of the template.

    Parameters
    ----------
    residuals : ndarray, (n, n_pixels)
        Frames less the fitted model, constant included; zero at missing pixels.
    added : sequence of ndarray, (n,)
        Level of the model in each ring, added back: constant and scaled level of the template.
    bad : Bad
        Missing pixels of the frames.
    rings : sequence of ndarray, (k,), int
        Places of the rings' pixels.
    stat : str
        median, mean or biweight.
    scatter : sequence of float, optional
        Standard deviation of a pixel in each ring; by default that of each frame's residuals in
        it. Residuals of a few frames from their own mean show less than their noise.

    Returns
    -------
    list of Background
        One per ring; NaN where a frame has no good pixel in it.
    """
    inside = np.zeros((residuals.shape[1], len(rings)))
    for k, ring in enumerate(rings):
        inside[ring, k] = 1.0
    area = np.repeat(inside.sum(axis=0)[None], len(residuals), axis=0)
    for k, lost in enumerate(inside[bad.pixel].T):
        area[:, k] -= np.bincount(bad.frame, lost, minlength=len(residuals))
    out = []
    sums, squares = _sums(residuals, inside, squares=scatter is None or stat == "median")
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums / area
        spread = np.sqrt(np.maximum(squares / area - mean**2, 0.0))
        for k, ring in enumerate(rings):
            level = mean[:, k]
            if stat == "median":
                values = _good(residuals, bad, ring, np.inf)
                level = _medians(values, area[:, k].astype(int), level, spread[:, k])
            elif stat != "mean":
                level = _each(_good(residuals, bad, ring, np.nan), stat)
            sigma = spread[:, k] if scatter is None else scatter[k]
            error = _EFFICIENCY[stat] * sigma / np.sqrt(area[:, k])
            error[area[:, k] == 0] = np.nan
            out.append(Background(level + added[k], error, area[:, k]))
    return out


def _sums(
    residuals: np.ndarray, inside: np.ndarray, *, squares: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Add up values, and their squares where wanted, in each ring: (n, n_rings)."""
    total, square = np.zeros((2, len(residuals), inside.shape[1]))
    for part in blocks(*residuals.shape):
        np.matmul(residuals[part], inside, out=total[part])
        if squares:
            np.matmul(np.square(residuals[part]), inside, out=square[part])
    return total, square


def _good(residuals: np.ndarray, bad: Bad, ring: np.ndarray, blank: float) -> np.ndarray:
    """Take a ring's pixels, blank where they are missing: (n, k)."""
    # Indexing [:, ring] would lay the result out pixel by pixel.
    values = np.take(residuals, ring, axis=1, mode="clip")
    place = np.full(residuals.shape[1], -1)
    place[ring] = np.arange(len(ring))
    inside = place[bad.pixel] >= 0
    values[bad.frame[inside], place[bad.pixel[inside]]] = blank
    return values


def _each(values: np.ndarray, stat: str) -> np.ndarray:
    """Compute a statistic of whole rows together, and of rows with NaN one by one."""
    level = np.full(len(values), np.nan)
    whole = np.isfinite(values).all(axis=1)
    if values.shape[1]:
        level[whole] = location(values[whole], stat)
    for row in np.flatnonzero(~whole):
        good = values[row][np.isfinite(values[row])]
        if good.size:
            level[row] = location(good[None], stat)[0]
    return level


def location(values: np.ndarray, stat: str) -> np.ndarray:
    """Compute a statistic along the last axis.

    Parameters
    ----------
    values : ndarray, (n, k)
        Finite values; they may be reordered.
    stat : str
        median, mean or biweight (Tukey's, tuning constant 6).

    Returns
    -------
    ndarray, (n,)
        The statistic.

    References
    ----------
    Beers, Flynn & Gebhardt 1990, doi:10.1086/115487.
    """
    result: np.ndarray
    if stat == "mean":
        result = values.mean(axis=1)
        return result
    if stat == "median":
        return _median(values)
    middle = np.median(values, axis=1, keepdims=True)
    away = values - middle
    mad = np.median(np.abs(away), axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        u = away / (6.0 * mad)
    weight = np.where(np.abs(u) < 1.0, (1.0 - u**2) ** 2, 0.0)
    weight = np.where(np.isfinite(weight), weight, 0.0)
    total = weight.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = (away * weight).sum(axis=1) / total
    result = middle[:, 0] + np.where(total > 0, shift, 0.0)
    return result


# Half the window round the mean, in standard errors of it: the median of noise lies inside.
_WINDOW = 6.0


def _median(values: np.ndarray) -> np.ndarray:
    """Compute exact medians of finite values."""
    n, k = values.shape
    if k == 0:
        return np.full(n, np.nan)
    return _medians(values, np.full(n, k), values.mean(axis=1), values.std(axis=1))


def _medians(
    values: np.ndarray, count: np.ndarray, mean: np.ndarray, spread: np.ndarray
) -> np.ndarray:
    """Compute exact medians; only values in a window around the mean are sorted.

    Parameters
    ----------
    values : ndarray, (n, k)
        Values; infinite where missing.
    count : ndarray, (n,), int
        How many are not missing.
    mean, spread : ndarray, (n,)
        Their mean and standard deviation.

    Returns
    -------
    ndarray, (n,)
        The medians; NaN where there is no value.
    """
    n, k = values.shape
    reach = _WINDOW * spread / np.sqrt(count)
    low, high = (mean - reach)[:, None], (mean + reach)[:, None]
    below = np.array([np.count_nonzero(row) for row in values < low])
    flat = np.flatnonzero((values >= low) & (values <= high))
    frame = flat // k if k else flat
    held = np.bincount(frame, minlength=n)
    begin = np.cumsum(held) - held
    window = np.full((n, max(held.max(initial=0), 1)), np.inf)
    window[frame, np.arange(flat.size) - begin[frame]] = values.reshape(-1)[flat]
    window.sort(axis=1)
    first, last = (count - 1) // 2 - below, count // 2 - below
    caught = (first >= 0) & (last < held)
    row = np.arange(n)
    out = 0.5 * (window[row, np.where(caught, first, 0)] + window[row, np.where(caught, last, 0)])
    for i in np.flatnonzero(~caught):
        good = np.sort(values[i])[: count[i]]
        out[i] = np.median(good) if good.size else np.nan
    return out


def clipped(
    values: np.ndarray, bad: Bad, ring: np.ndarray, *, sigma: float, stat: str
) -> Background:
    """Measure the background of each frame by sigma clipping of its ring.

    Parameters
    ----------
    values : ndarray, (n, n_pixels)
        Frames.
    bad : Bad
        Missing pixels.
    ring : ndarray, (k,), int
        Places of the ring's pixels.
    sigma : float
        Pixels beyond this many standard deviations of the median are clipped, five times over.
    stat : str
        median, mean or biweight of what is left.

    Returns
    -------
    Background
        The background, as of `astropy.stats.sigma_clipped_stats` with the same parameters.
    """
    n = len(values)
    level, error, area = np.full(n, np.nan), np.full(n, np.nan), np.zeros(n)
    taken = _good(values, bad, ring, np.nan)
    taken.sort(axis=1)
    for i in range(n):
        row = taken[i]
        row = row[: np.count_nonzero(np.isfinite(row))]
        for _ in range(_MAX_CLIPS):
            if row.size == 0:
                break
            middle = 0.5 * (row[(row.size - 1) // 2] + row[row.size // 2])
            reach = sigma * row.std()
            first = np.searchsorted(row, middle - reach, side="left")
            last = np.searchsorted(row, middle + reach, side="right")
            if last - first == row.size:
                break
            row = row[first:last]
        if row.size:
            level[i] = location(row[None].copy(), stat)[0]
            error[i] = _EFFICIENCY[stat] * row.std() / np.sqrt(row.size)
            area[i] = row.size
    return Background(level, error, area)
