"""The telescope's wavefront as the image of a star in focus shows it: low Zernike terms."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tso_level3.psf import wavefront
from tso_level3.psf.kernel import Kernel

__all__ = ["TERMS", "RefinedWavefront", "refine_wavefront"]

log = logging.getLogger(__name__)

#: Terms that are fitted, in Noll's order: from focus to the spherical aberration.
TERMS = tuple(range(4, 12))
# Pixels around the star that are fitted.
_HALF = 12
# The unit of a term in the fit, and where it begins [m]: even terms of a pupil that is symmetric
# change nothing to first order, and their common sign shows only beside one that is known.
_UNIT, _START, _OTHERS = 1e-8, 3.0, 0.3
# Steps of both signs, and of the better one.
_FEW, _MANY = 5, 10
# The squares must fall by so many times what a term of noise takes away.
_GAIN = 4.0


@dataclass(frozen=True, eq=False)
class RefinedWavefront:
    """A kernel whose wavefront was fitted to an image.

    Attributes
    ----------
    kernel : Kernel
        The refined one; the given one where the image says nothing.
    terms : ndarray
        (8,) metres of the terms of `TERMS` that were added; zeros where the image says nothing.
    before, after : float
        Rms of the residuals over that of the star, before and after.
    """

    kernel: Kernel
    terms: np.ndarray
    before: float
    after: float


def refine_wavefront(
    image: np.ndarray,
    mask: np.ndarray | None,
    make_kernel: Callable[..., Kernel],
    position: tuple[float, float],
) -> RefinedWavefront:
    """Fit focus, astigmatisms, comas, trefoils and spherical aberration to an image.

    Place, flux and level are fitted with them; all pixels count alike, so that what is made small
    is the error of the kernel.

    Parameters
    ----------
    image : ndarray
        (ny, nx) pixels, such as the median of an exposure.
    mask : ndarray or None
        (ny, nx) bool, True where a pixel is bad.
    make_kernel : callable
        Returns the kernel for ``opd=``, (NPUP, NPUP) metres, and optionally ``half_width=``, such
        as ``partial(jwst_kernel, instrument=..., filter=..., detector=...)``.
    position : tuple of float
        x, y of the star.

    Returns
    -------
    RefinedWavefront
    """
    from scipy.optimize import least_squares

    x0, y0 = (round(value) for value in position)
    rows = slice(max(y0 - _HALF, 0), y0 + _HALF + 1)
    columns = slice(max(x0 - _HALF, 0), x0 + _HALF + 1)
    cut = np.asarray(image[rows, columns], float)
    good = np.isfinite(cut)
    if mask is not None:
        good &= ~mask[rows, columns]
    u, v = np.arange(cut.shape[1]) + columns.start, np.arange(cut.shape[0]) + rows.start
    data = cut[good]
    shapes = np.stack([wavefront.opd([0.0] * (j - 1) + [1.0]) for j in TERMS])

    def opd(terms: np.ndarray) -> np.ndarray:
        return np.tensordot(terms * _UNIT, shapes, axes=1)

    def model(kernel: Kernel, x: float, y: float) -> tuple[np.ndarray, float]:
        shape = kernel.evaluate(u - x, v - y)[good]
        design = np.column_stack([shape, np.ones_like(shape)])
        solved = np.linalg.lstsq(design, data, rcond=None)[0]
        return design @ solved, solved[0] * float(np.sqrt((shape**2).sum()))

    def residuals(values: np.ndarray) -> np.ndarray:
        kernel = make_kernel(opd=opd(values[2:]), half_width=_HALF + 3.0)
        fitted, _ = model(kernel, *values[:2])
        return (fitted - data) / scale

    plain = make_kernel(opd=np.zeros(shapes.shape[1:]))
    nothing = np.zeros(len(TERMS))
    if np.count_nonzero(good) < 4 * len(TERMS):
        return RefinedWavefront(plain, nothing, np.nan, np.nan)
    scale = model(plain, *position)[1]
    if not scale > 0:
        return RefinedWavefront(plain, nothing, np.nan, np.nan)
    fixed = least_squares(
        lambda place: (model(plain, *place)[0] - data) / scale, position, diff_step=1e-5
    )

    def descend(start: np.ndarray, most: int) -> Any:
        return least_squares(residuals, start, diff_step=1e-3, xtol=1e-4, ftol=1e-4, max_nfev=most)

    starts = []
    for sign in (1.0, -1.0):
        start = np.concatenate([fixed.x, np.full(len(TERMS), _OTHERS)])
        start[2] = sign * _START
        starts.append(descend(start, _FEW))
    best = descend(min(starts, key=lambda fit: fit.cost).x, _MANY)
    before, after = (float(np.sqrt(2.0 * fit.cost)) for fit in (fixed, best))
    if not after**2 * (1.0 + _GAIN * len(TERMS) / len(data)) < before**2:
        return RefinedWavefront(plain, nothing, before, before)
    terms = best.x[2:] * _UNIT
    kernel = make_kernel(opd=opd(best.x[2:]))
    told = {"zernikes": {f"{j}": float(term) for j, term in zip(TERMS, terms, strict=True)}}
    kernel = dataclasses.replace(kernel, description={**kernel.description, **told})
    log.info(
        "Wavefront fitted: residuals %.2f %% of the star, %.2f before.", 100 * after, 100 * before
    )
    return RefinedWavefront(kernel, terms, before, after)
