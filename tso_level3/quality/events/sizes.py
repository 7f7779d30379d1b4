"""How much the flux changes with an event, and how well that is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tso_level3.utils.stats import mad_std

__all__ = ["dip_size", "ramp_size", "step_size"]

_REACH = 100
_AROUND = 30
# Integrations that say where the flux is, on each side of a step.
_LEAST = 3
_UNKNOWN = (float("nan"), float("nan"))
# Standard error of a median over that of a mean.
_OF_A_MEDIAN = float(np.sqrt(np.pi / 2))


def step_size(flux: np.ndarray, index: int, others: Sequence[int]) -> tuple[float, float]:
    """Relative step of the flux beside a slope, over 100 integrations on each side.

    Parameters
    ----------
    flux : ndarray, (n,)
        The quoted light curve; NaN where it says nothing of the event, as in a transit.
    index : int
        First integration after the step.
    others : sequence of int
        Places of all steps, which end the stretch.

    Returns
    -------
    (float, float)
        The step and its standard error; NaN where too little is known.
    """
    first = max([0, *[edge for edge in others if edge < index]])
    last = min([len(flux), *[edge for edge in others if edge > index]])
    known = np.flatnonzero(np.isfinite(flux[first:last])) + first
    before, after = known[known < index][-_REACH:], known[known >= index][:_REACH]
    if min(len(before), len(after)) < _LEAST:
        return _UNKNOWN
    place = np.concatenate([before, after])
    return _fitted(place, flux[place], (place >= index).astype(float))


def dip_size(flux: np.ndarray, start: int, stop: int) -> tuple[float, float]:
    """Relative difference between the flux in a run of integrations and around it.

    Parameters
    ----------
    flux : ndarray, (n,)
        The quoted light curve; NaN where it says nothing of the event, as in a transit.
    start, stop : int
        The run [start, stop).

    Returns
    -------
    (float, float)
        The difference and its standard error; NaN where too little is known.
    """
    around = np.r_[max(start - _AROUND, 0) : start, stop : min(stop + _AROUND, len(flux))]
    outside, inside = flux[around], flux[start:stop]
    outside, inside = outside[np.isfinite(outside)], inside[np.isfinite(inside)]
    if len(outside) < _LEAST or not len(inside):
        return _UNKNOWN
    middle = np.median(outside)
    of_outside = _OF_A_MEDIAN / np.sqrt(len(outside))
    # The median of one or two is their mean.
    of_inside = (_OF_A_MEDIAN if len(inside) > 2 else 1.0) / np.sqrt(len(inside))
    error = mad_std(outside) * np.hypot(of_outside, of_inside)
    return float(np.median(inside) / middle - 1.0), float(error / abs(middle))


def ramp_size(flux: np.ndarray, length: float) -> tuple[float, float]:
    """Relative amplitude of an exponential ramp of the flux beside a slope.

    Parameters
    ----------
    flux : ndarray, (n,)
        The quoted light curve; NaN where it says nothing of the event, as in a transit.
    length : float
        Integrations in which the ramp falls by a factor of e.

    Returns
    -------
    (float, float)
        The amplitude at the first integration and its standard error; NaN where too little is
        known.
    """
    part = flux[: int(8 * length)]
    place = np.flatnonzero(np.isfinite(part))
    return _fitted(place, part[place], np.exp(-place / length))


def _fitted(place: np.ndarray, values: np.ndarray, shape: np.ndarray) -> tuple[float, float]:
    """Fit a shape beside a straight line, again without outliers; its size over the median."""
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
