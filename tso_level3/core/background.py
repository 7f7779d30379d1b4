"""The background of each frame in each annulus, with its error.

The annulus lies in the star's wings. The statistic is that of the frame less the scaled template,
so that it neither depends on the wings' structure nor chatters on it as a clipping frame by frame
does; the template's own statistic, scaled with the star, is added back. The plain clipping of
each frame is there for who wants it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tso_level3.core.template import Bad

__all__ = ["Background", "background_of", "clipped", "location"]

#: Standard error of the statistic over that of the mean, for normal noise.
_EFFICIENCY = {"mean": 1.0, "median": np.sqrt(np.pi / 2), "biweight": 1.02}
_MAX_CLIPS = 5


@dataclass(frozen=True, eq=False)
class Background:
    """The background of frames.

    Attributes
    ----------
    level, error, area : ndarray, (n,)
        Background a pixel, its standard error, and the good pixels it was measured on.
    """

    level: np.ndarray
    error: np.ndarray
    area: np.ndarray


def background_of(
    residuals: np.ndarray, added: np.ndarray, bad: Bad, ring: np.ndarray, *, stat: str
) -> Background:
    """Measure the background from residuals of the template.

    Parameters
    ----------
    residuals : ndarray, (n, n_pixels)
        Frames less the fitted model, constant included.
    added : ndarray, (n,)
        What the model took out of the ring: its constant and the scaled level of the template.
    bad : Bad
        Missing pixels of the frames.
    ring : ndarray, (k,), int
        Places of the ring's pixels.
    stat : str
        median, mean or biweight.

    Returns
    -------
    Background
        The background; NaN where a frame has no good pixel in the ring.
    """
    n = len(residuals)
    values = residuals[:, ring]
    area = np.full(n, float(len(ring)))
    place = np.full(residuals.shape[1], -1)
    place[ring] = np.arange(len(ring))
    inside = place[bad.pixel] >= 0
    frames, pixels = bad.frame[inside], place[bad.pixel[inside]]
    np.subtract.at(area, frames, 1.0)
    holed = np.unique(frames)
    values[frames, pixels] = np.nan
    level, square = np.full(n, np.nan), np.full(n, np.nan)
    whole = np.ones(n, bool)
    whole[holed] = False
    rows = np.flatnonzero(whole)
    if rows.size and len(ring):
        part = values if rows.size == n else values[rows]
        square[rows] = np.einsum("ij,ij->i", part, part)
        level[rows] = location(part, stat)
    for row in holed:
        good = values[row][np.isfinite(values[row])]
        if good.size:
            square[row] = good @ good
            level[row] = location(good[None], stat)[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.maximum(square / area - level**2, 0.0)
        error = _EFFICIENCY[stat] * np.sqrt(variance / area)
    return Background(level + added, error, area)


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
    if stat == "mean":
        return values.mean(axis=1)
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
    return middle[:, 0] + np.where(total > 0, shift, 0.0)


# Below this many values a plain partition is as quick.
_WINDOWED = 2000


def _median(values: np.ndarray) -> np.ndarray:
    """Compute exact medians: only what lies in a window round the mean has to be ordered."""
    n, k = values.shape
    if k < _WINDOWED:
        return np.median(values, axis=1)
    mean = values.mean(axis=1)
    spread = values.std(axis=1)
    out = np.empty(n)
    lower, upper = (k - 1) // 2, k // 2
    for i in range(n):
        row = values[i]
        low, high = mean[i] - 0.2 * spread[i], mean[i] + 0.2 * spread[i]
        below = np.count_nonzero(row < low)
        window = row[(row >= low) & (row <= high)]
        first, last = lower - below, upper - below
        if 0 <= first and last < window.size:
            part = np.partition(window, (first, last))
            out[i] = 0.5 * (part[first] + part[last])
        else:
            out[i] = np.median(row)
    return out


def clipped(
    values: np.ndarray, bad: Bad, ring: np.ndarray, *, sigma: float, stat: str
) -> Background:
    """Measure the background by clipping each frame's ring in space.

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
        The background; what `astropy.stats.sigma_clipped_stats` gives with the same numbers.
    """
    n = len(values)
    level, error, area = np.full(n, np.nan), np.full(n, np.nan), np.zeros(n)
    taken = values[:, ring]
    place = np.full(values.shape[1], -1)
    place[ring] = np.arange(len(ring))
    inside = place[bad.pixel] >= 0
    taken[bad.frame[inside], place[bad.pixel[inside]]] = np.nan
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
