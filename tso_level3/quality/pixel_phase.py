"""What the star's motion across the pixels does to aperture sums, without any noise.

The exposure's own model of the star is moved over the range of the measured centres, summed in
the apertures, and the sums are laid over the measured centres. Unlike a regression of the flux on
the centres this has no part in the noise of the flux.
"""

from __future__ import annotations

import numpy as np

from tso_level3.core.plan import Measurement, Plan
from tso_level3.utils.stats import mad_std

__all__ = ["pointing_noise"]

_CLIP = 5.0
# Shifts an axis at which the star is rendered; the sums are polynomials between them.
_NODES = 4
_NARROW = 0.02


def pointing_noise(found: Measurement, plan: Plan) -> np.ndarray:
    """Compute the scatter that the star's motion alone gives the aperture sums.

    Parameters
    ----------
    found : Measurement
        The exposure; the centres of the fit of the template are used.
    plan : Plan
        The plan it was measured with.

    Returns
    -------
    ndarray, (n_radii,)
        Relative standard deviations, what the noise of the centres adds taken off; NaN where
        fewer than three centres are known.
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
    # The centres are measured with noise, which the star does not follow.
    noise = np.nan_to_num(np.nanmedian(found.psf_err[good, :2], axis=0)) / half
    # One radius after the other: all at once would fill the memory.
    radii = range(coefficients.shape[2])
    return np.array([_scatter(coefficients[:, :, k], u, v, noise) for k in radii])


def _scatter(coefficients: np.ndarray, u: np.ndarray, v: np.ndarray, noise: np.ndarray) -> float:
    """Relative standard deviation of a polynomial of the centres, their noise taken off."""
    moved = np.polynomial.chebyshev.chebval2d(u, v, coefficients)
    variance = moved.var()
    for axis in (0, 1):
        slope = np.polynomial.chebyshev.chebder(coefficients, axis=axis)
        variance -= noise[axis] ** 2 * np.mean(np.polynomial.chebyshev.chebval2d(u, v, slope) ** 2)
    return float(np.sqrt(max(variance, 0.0)) / abs(moved.mean()))


def _polynomials(plan: Plan, middle: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Fit the sums over the range of shifts: (n, n, n_radii) Chebyshev coefficients."""
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
