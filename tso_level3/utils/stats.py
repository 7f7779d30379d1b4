"""Medians, median absolute deviations (MAD) and clipping, where speed or NaN matter.

They agree with `numpy.median` and `astropy.stats`, without the time that those take to load, to
look for NaN or to build masked arrays.
"""

from __future__ import annotations

from typing import overload

import numpy as np

__all__ = [
    "CLIP",
    "KEPT",
    "MAD",
    "column_median",
    "deviation",
    "mad_std",
    "median",
    "point_to_point",
    "unclipped",
    "without_slope",
]

#: Standard deviation of normal noise over its median absolute deviation.
MAD = 1.4826022185056018
#: Limit beyond which values are outliers, in standard deviations, and the fraction of the variance
#: of normal noise that lies within it.
CLIP, KEPT = 4.0, 0.9989
_LEAST = 3
# Number of first differences whose mean is the local slope.
_SLOPE = 5
# A difference of so many standard deviations, and twice its neighbours', is a jump.
_JUMP = 6.0
# Values that `column_median` sorts at a time: a copy of a whole sample would fill the memory.
_BLOCK = 250_000


def median(values: np.ndarray) -> float:
    """Compute the median of the finite values.

    Parameters
    ----------
    values : ndarray
        Values.

    Returns
    -------
    float
        The median; NaN where no value is finite.
    """
    values = values[np.isfinite(values)]
    return _partitioned(values) if values.size else np.nan


@overload
def mad_std(values: np.ndarray, *, center: float | None = None, axis: None = None) -> float: ...


@overload
def mad_std(values: np.ndarray, *, center: float | None = None, axis: int) -> np.ndarray: ...


def mad_std(
    values: np.ndarray, *, center: float | None = None, axis: int | None = None
) -> float | np.ndarray:
    """Estimate the standard deviation of normal noise from the median absolute deviation.

    Parameters
    ----------
    values : ndarray
        Values. Without an axis, those that are not finite are ignored.
    center : float, optional
        Where the noise is centred; the median by default.
    axis : int, optional
        Axis along which the medians are taken; all values by default.

    Returns
    -------
    float or ndarray
        The estimate. Without an axis, NaN where there are fewer than three finite values, or none
        where the centre is given; with one, NaN where a value is NaN.
    """
    values = np.asarray(values, float)
    if axis is not None:
        middle = np.median(values, axis=axis, keepdims=True) if center is None else center
        return MAD * np.asarray(np.median(np.abs(values - middle), axis=axis))
    values = values[np.isfinite(values)]
    if values.size < (_LEAST if center is None else 1):
        return np.nan
    values -= _partitioned(values) if center is None else center
    return MAD * _partitioned(np.abs(values, out=values))


def column_median(values: np.ndarray) -> np.ndarray:
    """Compute the median of each column, ignoring NaN.

    Parameters
    ----------
    values : ndarray, (n, k)
        Values; NaN for missing ones.

    Returns
    -------
    ndarray, (k,)
        Medians; NaN for a column of NaN.
    """
    n, k = values.shape
    out = np.full(k, np.nan)
    step = max(1, _BLOCK // max(n, 1))
    for first in range(0, k if n else 0, step):
        # Sorting contiguous rows is several times as fast as `numpy.nanmedian`. NaN comes last.
        rows = np.array(values[:, first : first + step].T, dtype=float, order="C")
        rows.sort(axis=1)
        count = n - np.isnan(rows).sum(axis=1)
        low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, n - 1)
        each = np.arange(len(rows))
        middle = 0.5 * (rows[each, low] + rows[each, high])
        out[first : first + step] = np.where(count > 0, middle, np.nan)
    return out


def unclipped(values: np.ndarray, sigma: float) -> np.ndarray:
    """Clip values that are far from the median, in up to ten rounds.

    Parameters
    ----------
    values : ndarray, (n,)
        Values.
    sigma : float
        Limit in standard deviations of the values that are left.

    Returns
    -------
    ndarray, (n,), bool
        True for the values that are left; False for those that are not finite.
    """
    keep: np.ndarray = np.isfinite(values)
    for _ in range(10):
        if not keep.any():
            break
        middle, spread = np.median(values[keep]), values[keep].std()
        new = keep & (np.abs(values - middle) <= sigma * spread)
        if (new == keep).all() or not new.any():
            break
        keep = new
    return keep


def without_slope(steps: np.ndarray) -> np.ndarray:
    """Subtract the local mean of five from first differences, and so the slope of the series.

    The ingress of a transit is such a slope. The mean of five differences depends on the two values
    at its ends alone: it adds a 25th to the variance, for which the result is scaled. A single
    large difference, as in a transit of few integrations, is no slope: it is left out of the mean.

    Parameters
    ----------
    steps : ndarray, (n,)
        First differences.

    Returns
    -------
    ndarray, (n,)
        Differences with the variance that white noise gave them; NaN where one of the five is NaN,
        and so for the first and the last two. Fewer than twelve finite differences are returned as
        they are.
    """
    steps = np.array(steps, dtype=float)
    if np.isfinite(steps).sum() < 2 * _SLOPE + 2:
        return steps
    half = _SLOPE // 2
    size = np.abs(np.nan_to_num(np.pad(steps, 1)))
    beside = np.maximum(size[:-2], size[2:])
    jump = size[1:-1] > np.maximum(_JUMP * mad_std(steps), 2.0 * beside)
    slopes = np.where(jump, 0.0, steps)
    steps[half:-half] -= np.convolve(slopes, np.full(_SLOPE, 1.0 / _SLOPE), "valid")
    steps[:half] = steps[-half:] = np.nan
    steps /= np.sqrt(1.0 + _SLOPE**-2.0)
    return steps


def point_to_point(values: np.ndarray) -> float:
    """Estimate the noise of a series from differences of neighbours.

    The local slope and differences beyond 4 sigma are left out: neither a trend nor the ingress of
    a transit adds to it.

    Parameters
    ----------
    values : ndarray, (n,)
        The series; values that are not finite are ignored.

    Returns
    -------
    float
        The standard deviation of a value, for normal noise; NaN for fewer than five values.
    """
    values = np.asarray(values, float)
    steps = without_slope(np.diff(values[np.isfinite(values)]))
    return deviation(steps) / float(np.sqrt(2.0))


def deviation(steps: np.ndarray) -> float:
    """Compute the standard deviation about zero of values clipped at 4 sigma.

    Its error is 0.6 of that of `mad_std`.

    Parameters
    ----------
    steps : ndarray
        Values; those that are not finite are ignored.

    Returns
    -------
    float
        The standard deviation; NaN for fewer than three values.
    """
    steps = steps[np.isfinite(steps)]
    scale = mad_std(steps)
    size = np.abs(steps)
    for _ in range(3):
        inside = steps[size <= CLIP * scale]
        if inside.size < _LEAST:
            break
        scale = float(np.sqrt(inside @ inside / inside.size / KEPT))
    return scale


def _partitioned(values: np.ndarray) -> float:
    """Compute the median of finite values, which are reordered.

    Equal to `numpy.median`, which takes twice as long since it looks for NaN.
    """
    last = values.size // 2
    first = last - 1 + values.size % 2
    values = values.reshape(-1)
    values.partition((first, last))
    return 0.5 * (float(values[first]) + float(values[last]))
