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
    residuals: np.ndarray,
    added: np.ndarray,
    bad: Bad,
    ring: np.ndarray,
    *,
    stat: str,
    scatter: float | None = None,
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
    scatter : float, optional
        Standard deviation of a pixel; by default that of each frame's residuals in the ring. A
        few frames leave less than their noise in the residuals of their own mean.

    Returns
    -------
    Background
        The background; NaN where a frame has no good pixel in the ring.
    """
    n, k = len(residuals), len(ring)
    # Indexing [:, ring] would lay the answer out pixel by pixel.
    values = np.take(residuals, ring, axis=1, mode="clip")
    place = np.full(residuals.shape[1], -1)
    place[ring] = np.arange(k)
    inside = place[bad.pixel] >= 0
    frames, pixels = bad.frame[inside], place[bad.pixel[inside]]
    area = k - np.bincount(frames, minlength=n).astype(float)
    values[frames, pixels] = 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        square = np.einsum("ij,ij->i", values, values) / area
        level = (values @ np.ones(k)) / area
        if stat == "median":
            spread = np.sqrt(np.maximum(square - level**2, 0.0))
            values[frames, pixels] = np.inf
            level = _medians(values, area.astype(int), level, spread)
        elif stat != "mean":
            values[frames, pixels] = np.nan
            level = _each(values, np.unique(frames), stat)
        variance = np.maximum(square - level**2, 0.0) if scatter is None else scatter**2
        error = _EFFICIENCY[stat] * np.sqrt(variance / area)
    return Background(level + added, error, area)


def _each(values: np.ndarray, holed: np.ndarray, stat: str) -> np.ndarray:
    """Compute a statistic of whole rows together, and of rows with NaN one by one."""
    level = np.full(len(values), np.nan)
    whole = np.setdiff1d(np.arange(len(values)), holed)
    if whole.size and values.shape[1]:
        level[whole] = location(values[whole], stat)
    for row in holed:
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
    """Compute exact medians: only what lies in a window round the mean has to be ordered.

    Parameters
    ----------
    values : ndarray, (n, k)
        Values; infinite where they do not count.
    count : ndarray, (n,), int
        How many count.
    mean, spread : ndarray, (n,)
        Their mean and standard deviation.

    Returns
    -------
    ndarray, (n,)
        The medians; NaN where nothing counts.
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
