"""Relative change of the flux at an event, with its standard error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tso_level3.utils.stats import mad_std

__all__ = ["dip_size", "ramp_size", "step_size"]

_REACH = 100
_AROUND = 30
# Minimum number of integrations on each side of a step.
_LEAST = 3
_UNKNOWN = (float("nan"), float("nan"))
# Standard error of a median over that of a mean.
_MEDIAN_ERROR = float(np.sqrt(np.pi / 2))


def step_size(flux: np.ndarray, index: int, others: Sequence[int]) -> tuple[float, float]:
    """Fit a step and a slope to the flux of 100 integrations on each side.

    Parameters
    ----------
    flux : ndarray, (n,)
        The primary light curve; NaN for integrations that do not count, as in a transit.
    index : int
        First integration after the step.
    others : sequence of int
        Places of all steps, which limit the stretch.

    Returns
    -------
    (float, float)
        Relative step and its standard error; NaN where too few integrations are known.
    """
    first = max([0, *[edge for edge in others if edge < index]])
    last = min([len(flux), *[edge for edge in others if edge > index]])
    known = np.flatnonzero(np.isfinite(flux[first:last])) + first
    before, after = known[known < index][-_REACH:], known[known >= index][:_REACH]
    if min(len(before), len(after)) < _LEAST:
        return _UNKNOWN
    place = np.concatenate([before, after])
    return _fit(place, flux[place], (place >= index).astype(float))


def dip_size(flux: np.ndarray, start: int, stop: int) -> tuple[float, float]:
    """Compare the median flux of a run of integrations with that around it.

    Parameters
    ----------
    flux : ndarray, (n,)
        The primary light curve; NaN for integrations that do not count, as in a transit.
    start, stop : int
        The run [start, stop).

    Returns
    -------
    (float, float)
        Relative difference and its standard error; NaN where too few integrations are known.
    """
    around = np.r_[max(start - _AROUND, 0) : start, stop : min(stop + _AROUND, len(flux))]
    outside, inside = flux[around], flux[start:stop]
    outside, inside = outside[np.isfinite(outside)], inside[np.isfinite(inside)]
    if len(outside) < _LEAST or not len(inside):
        return _UNKNOWN
    middle = np.median(outside)
    error_outside = _MEDIAN_ERROR / np.sqrt(len(outside))
    # The median of one or two is their mean.
    error_inside = (_MEDIAN_ERROR if len(inside) > 2 else 1.0) / np.sqrt(len(inside))
    error = mad_std(outside) * np.hypot(error_outside, error_inside)
    return float(np.median(inside) / middle - 1.0), float(error / abs(middle))


def ramp_size(flux: np.ndarray, length: float) -> tuple[float, float]:
    """Fit an exponential ramp and a slope to the flux.

    Parameters
    ----------
    flux : ndarray, (n,)
        The primary light curve; NaN for integrations that do not count, as in a transit.
    length : float
        Integrations in which the ramp falls by a factor of e.

    Returns
    -------
    (float, float)
        Relative amplitude at the first integration and its standard error; NaN where too few
        integrations are known.
    """
    part = flux[: int(8 * length)]
    place = np.flatnonzero(np.isfinite(part))
    return _fit(place, part[place], np.exp(-place / length))


def _fit(place: np.ndarray, values: np.ndarray, shape: np.ndarray) -> tuple[float, float]:
    """Fit a shape and a straight line, with outliers clipped; size over the median, and error."""
    if len(values) == 0:
        return _UNKNOWN
    slope = (place - place.mean()) / max(np.ptp(place), 1)
    design = np.stack([np.ones(len(values)), slope, shape], axis=1)
    keep = np.ones(len(values), dtype=bool)
    solution, middle = np.full(3, np.nan), np.nan
    for _ in range(3):
        if keep.sum() <= design.shape[1] + 2:
            return _UNKNOWN
        used, middle = keep, np.median(values[keep])
        solution = np.linalg.lstsq(design[keep], values[keep], rcond=None)[0]
        rest = values - design @ solution
        scale = mad_std(rest[keep], center=0.0)
        keep = np.abs(rest) <= 4.0 * max(scale, 1e-300)
    inverse = np.linalg.pinv(design[used].T @ design[used], hermitian=True)
    variance = np.sum(rest[used] ** 2) / (used.sum() - design.shape[1]) * inverse[-1, -1]
    if middle == 0:
        return _UNKNOWN
    return float(solution[-1] / middle), float(np.sqrt(variance) / abs(middle))
