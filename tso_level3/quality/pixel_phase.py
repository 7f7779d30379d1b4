"""Scatter of aperture sums by the star's motion across the pixels, predicted from the model.

The exposure's model of the star is shifted over the range of the measured centres and summed in
the apertures, and the sums are interpolated at the measured centres. Unlike a regression of the
flux on the centres, this does not include noise of the flux.
"""

from __future__ import annotations

import numpy as np

from tso_level3.core.plan import Measurement, Plan
from tso_level3.utils.stats import mad_std

__all__ = ["pointing_noise"]

_CLIP = 5.0
# Shifts per axis at which the star is rendered; polynomials interpolate between them.
_NODES = 4
_NARROW = 0.02


def pointing_noise(found: Measurement, plan: Plan) -> np.ndarray:
    """Predict the scatter of the aperture sums by the star's motion alone.

    Parameters
    ----------
    found : Measurement
        The exposure, with the centres of the template fit.
    plan : Plan
        The plan of the measurement.

    Returns
    -------
    ndarray, (n_radii,)
        Relative standard deviations, corrected for the noise of the centres; NaN for fewer than
        three centres.
    """
    shift = found.psf[:, :2] - np.array([plan.template.x, plan.template.y])
    good = np.isfinite(shift).all(axis=1)
    if good.sum() < 3:
        return np.full(len(plan.radii), np.nan)
    middle = np.median(shift[good], axis=0)
    spread = mad_std(shift[good], axis=0)
    with np.errstate(invalid="ignore"):
        good &= (np.abs(shift - middle) <= np.maximum(_CLIP * spread, 1e-9)).all(axis=1)
    if good.sum() < 3:
        return np.full(len(plan.radii), np.nan)
    low, high = shift[good].min(axis=0), shift[good].max(axis=0)
    half = np.maximum(0.5 * (high - low), _NARROW)
    middle = 0.5 * (high + low)
    coefficients = _polynomials(plan, middle, half)
    u, v = ((shift[good] - middle) / half).T
    # Errors of the centres are no motion of the star.
    noise = np.nan_to_num(np.nanmedian(found.psf_err[good, :2], axis=0)) / half
    # One radius at a time, to limit memory.
    radii = range(coefficients.shape[2])
    return np.array([_scatter(coefficients[:, :, k], u, v, noise) for k in radii])


def _scatter(coefficients: np.ndarray, u: np.ndarray, v: np.ndarray, noise: np.ndarray) -> float:
    """Relative standard deviation of a polynomial of the centres, corrected for their noise."""
    moved = np.polynomial.chebyshev.chebval2d(u, v, coefficients)
    variance = moved.var()
    for axis in (0, 1):
        slope = np.polynomial.chebyshev.chebder(coefficients, axis=axis)
        variance -= noise[axis] ** 2 * np.mean(np.polynomial.chebyshev.chebval2d(u, v, slope) ** 2)
    return float(np.sqrt(max(variance, 0.0)) / abs(moved.mean()))


def _polynomials(plan: Plan, middle: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Chebyshev coefficients of the sums over the range of shifts, (n, n, n_radii)."""
    layout, near = plan.layout, plan.layout.n_near
    pixels = (layout.columns[:near], layout.rows[:near])
    nodes = np.cos(np.pi * (np.arange(_NODES) + 0.5) / _NODES)
    x, y = (grid.ravel() for grid in np.meshgrid(nodes, nodes, indexing="ij"))
    sx, sy = middle[0] + half[0] * x, middle[1] + half[1] * y
    images = np.stack(
        [plan.template.image.at(a, b, 0, 0, pixels) for a, b in zip(sx, sy, strict=True)]
    )
    if plan.moving and plan.source != "position":
        sums = plan.apertures.sums(images, plan.template.x + sx, plan.template.y + sy)[0]
    else:
        sums = images @ plan.overlap.T
    basis = np.polynomial.chebyshev.chebvander2d(x, y, [_NODES - 1] * 2)
    solved = np.linalg.solve(basis, sums)
    return solved.reshape(_NODES, _NODES, -1)
