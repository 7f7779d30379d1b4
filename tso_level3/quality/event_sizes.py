"""How much the flux changes with an event."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tso_level3.core.robust import MAD

__all__ = ["dip_size", "ramp_size", "step_size"]

_REACH = 100
_AROUND = 30


def step_size(flux: np.ndarray, index: int, others: Sequence[int]) -> float:
    """Relative step of the flux beside a slope, over 100 integrations on each side.

    Parameters
    ----------
    flux : ndarray, (n,)
        The quoted light curve.
    index : int
        First integration after the step.
    others : sequence of int
        Places of all steps, which end the stretch.

    Returns
    -------
    float
        The step; NaN where too little is known.
    """
    first = max([0, index - _REACH, *[edge for edge in others if edge < index]])
    last = min([len(flux), index + _REACH, *[edge for edge in others if edge > index]])
    return _fitted(flux[first:last], (np.arange(first, last) >= index).astype(float))


def dip_size(flux: np.ndarray, start: int, stop: int) -> float:
    """Relative difference between the flux in a run of integrations and around it.

    Parameters
    ----------
    flux : ndarray, (n,)
        The quoted light curve.
    start, stop : int
        The run [start, stop).

    Returns
    -------
    float
        The difference; NaN where too little is known.
    """
    around = np.r_[max(start - _AROUND, 0) : start, stop : min(stop + _AROUND, len(flux))]
    outside, inside = flux[around], flux[start:stop]
    if not np.isfinite(outside).any() or not np.isfinite(inside).any():
        return float("nan")
    return float(np.nanmedian(inside) / np.nanmedian(outside) - 1.0)


def ramp_size(flux: np.ndarray, length: float) -> float:
    """Relative amplitude of an exponential ramp of the flux beside a slope.

    Parameters
    ----------
    flux : ndarray, (n,)
        The quoted light curve.
    length : float
        Integrations in which the ramp falls by a factor of e.

    Returns
    -------
    float
        The amplitude at the first integration; NaN where too little is known.
    """
    part = flux[: int(8 * length)]
    return _fitted(part, np.exp(-np.arange(len(part)) / length))


def _fitted(values: np.ndarray, shape: np.ndarray) -> float:
    """Fit a shape beside a straight line, again without outliers; its size over the median."""
    keep = np.isfinite(values)
    design = np.stack([np.ones(len(values)), np.linspace(-1, 1, len(values)), shape], axis=1)
    solution, middle = [np.nan], np.nan
    for _ in range(3):
        if keep.sum() <= design.shape[1] + 2:
            return float("nan")
        middle = np.median(values[keep])
        solution = np.linalg.lstsq(design[keep], values[keep], rcond=None)[0]
        rest = values - design @ solution
        scale = MAD * np.median(np.abs(rest[keep]))
        keep = np.isfinite(values) & (np.abs(rest) <= 4.0 * max(scale, 1e-300))
    return float(solution[-1] / middle) if middle != 0 else float("nan")
