"""Medians and scatters that a few outliers do not touch."""

from __future__ import annotations

import numpy as np

__all__ = [
    "CLIP",
    "KEPT",
    "MAD",
    "deviation",
    "median",
    "point_to_point",
    "robust",
    "without_slope",
]

#: Standard deviation of normal noise over its median absolute deviation.
MAD = 1.4826022185056018
#: Values beyond so many standard deviations are outliers, and the variance that normal noise
#: keeps within them.
CLIP, KEPT = 4.0, 0.9989
_LEAST = 3
# First differences whose mean is the local slope.
_SLOPE = 5
# Beyond so many standard deviations, and twice its neighbours, a difference is a jump.
_JUMP = 6.0


def median(values: np.ndarray) -> float:
    """Compute the median of the finite values.

    Parameters
    ----------
    values : ndarray
        Values.

    Returns
    -------
    float
        The median; NaN where there is none.
    """
    values = values[np.isfinite(values)]
    return _middle(values) if values.size else np.nan


def robust(values: np.ndarray) -> float:
    """Estimate a standard deviation about the median from the median absolute deviation.

    Parameters
    ----------
    values : ndarray
        Values; those that are not finite do not count.

    Returns
    -------
    float
        The estimate; NaN for fewer than three values.
    """
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if values.size < _LEAST:
        return np.nan
    values -= _middle(values)
    return MAD * _middle(np.abs(values, out=values))


def without_slope(steps: np.ndarray) -> np.ndarray:
    """Take the mean of five off first differences, so that a slope is no part of them.

    The ingress of a transit is a slope. The mean of five differences holds only the two values at
    its ends: it adds a 25th to the variance, which is taken off again. A single large difference,
    as of a transit of few integrations, is no slope: it is not in the mean of its neighbours.

    Parameters
    ----------
    steps : ndarray, (n,)
        First differences.

    Returns
    -------
    ndarray, (n,)
        With the variance that white noise gave them; NaN where one of the five is not known, and
        so for the first and the last two. Fewer than twelve known differences, which say little of
        slopes, stay as they are.
    """
    steps = np.array(steps, dtype=float)
    if np.isfinite(steps).sum() < 2 * _SLOPE + 2:
        return steps
    half = _SLOPE // 2
    size = np.abs(np.nan_to_num(np.pad(steps, 1)))
    beside = np.maximum(size[:-2], size[2:])
    jump = size[1:-1] > np.maximum(_JUMP * robust(steps), 2.0 * beside)
    slopes = np.where(jump, 0.0, steps)
    steps[half:-half] -= np.convolve(slopes, np.full(_SLOPE, 1.0 / _SLOPE), "valid")
    steps[:half] = steps[-half:] = np.nan
    steps /= np.sqrt(1.0 + _SLOPE**-2.0)
    return steps


def point_to_point(values: np.ndarray) -> float:
    """Estimate the scatter of a series from one value to the next.

    From first differences without the local slope, and without those beyond 4 sigma: neither a
    trend nor the ingress of a transit is part of it.

    Parameters
    ----------
    values : ndarray, (n,)
        The series; values that are not finite are passed over.

    Returns
    -------
    float
        The standard deviation of a value, of normal noise; NaN for fewer than five values.
    """
    values = np.asarray(values, float)
    return deviation(without_slope(np.diff(values[np.isfinite(values)]))) / np.sqrt(2.0)


def deviation(steps: np.ndarray) -> float:
    """Compute a standard deviation about zero without outliers.

    Its error is 0.6 of that of one by the median.

    Parameters
    ----------
    steps : ndarray
        Values; those that are not finite do not count.

    Returns
    -------
    float
        The standard deviation; NaN for fewer than three values.
    """
    steps = steps[np.isfinite(steps)]
    scale = robust(steps)
    size = np.abs(steps)
    for _ in range(3):
        kept = steps[size <= CLIP * scale]
        if kept.size < 3:
            break
        scale = float(np.sqrt(kept @ kept / kept.size / KEPT))
    return scale


def _middle(values: np.ndarray) -> float:
    """Compute the median of finite values, which are reordered.

    To the last bit that of `numpy.median`, which takes twice as long since it looks for NaN.
    """
    last = values.size // 2
    first = last - 1 + values.size % 2
    values = values.reshape(-1)
    values.partition((first, last))
    return 0.5 * (float(values[first]) + float(values[last]))
