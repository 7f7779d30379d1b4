"""Fit of low Zernike terms of the wavefront to the image of a star in focus."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import OptimizeResult, least_squares

from tso_level3.datatypes import Box
from tso_level3.psf import wavefront
from tso_level3.psf.kernel import Kernel

__all__ = ["TERMS", "RefinedWavefront", "refine_wavefront"]

log = logging.getLogger(__name__)

#: Terms that are fitted, in Noll's order: from focus to the spherical aberration.
TERMS = tuple(range(4, 12))
# Pixels around the star that are fitted.
_HALF = 12
# Unit of a term in the fit [m], and start values of focus and of the others: the image of a
# symmetric pupil has no first-order dependence on the even terms, so that focus starts off zero,
# with both signs.
_UNIT, _START, _OTHERS = 1e-8, 3.0, 0.3
# Evaluations of the fit of each sign, and of the better one.
_FEW, _MANY = 5, 10
# The sum of squares must fall by this factor times the fall that a term fitted to noise causes.
_GAIN = 4.0


@dataclass(frozen=True, eq=False)
class RefinedWavefront:
    """A kernel whose wavefront was fitted to an image.

    Attributes
    ----------
    kernel : Kernel
        The refined kernel; the nominal one where the fit gained nothing.
    terms : ndarray
        (8,) metres of the terms of `TERMS` that were added; zeros where the fit gained nothing.
    before, after : float
        Rms of the residuals relative to that of the star, before and after.
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

    Position, flux and background are fitted too. All pixels have the same weight, so that the error
    of the kernel is minimised, not that of its faint wings.

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
    fit = _ImageFit(image, mask, make_kernel, position)
    nominal = make_kernel(opd=fit.opd(np.zeros(len(TERMS))))
    scale = fit.model(nominal, *position)[1] if len(fit.data) >= 4 * len(TERMS) else 0.0
    if not scale > 0:
        return RefinedWavefront(nominal, np.zeros(len(TERMS)), np.nan, np.nan)
    fixed = least_squares(
        lambda place: (fit.model(nominal, *place)[0] - fit.data) / scale, position, diff_step=1e-5
    )

    def descend(start: np.ndarray, most: int) -> OptimizeResult:
        return least_squares(
            lambda values: fit.residuals(values) / scale,
            start, diff_step=1e-3, xtol=1e-4, ftol=1e-4, max_nfev=most,
        )  # fmt: skip

    starts = []
    for sign in (1.0, -1.0):
        start = np.concatenate([fixed.x, np.full(len(TERMS), _OTHERS)])
        start[2] = sign * _START
        starts.append(descend(start, _FEW))
    best = descend(min(starts, key=lambda found: found.cost).x, _MANY)
    before, after = (float(np.sqrt(2.0 * found.cost)) for found in (fixed, best))
    if not after**2 * (1.0 + _GAIN * len(TERMS) / len(fit.data)) < before**2:
        return RefinedWavefront(nominal, np.zeros(len(TERMS)), before, before)
    terms = best.x[2:] * _UNIT
    kernel = make_kernel(opd=fit.opd(best.x[2:]))
    zernikes = {f"{j}": float(term) for j, term in zip(TERMS, terms, strict=True)}
    description = {**kernel.description, "zernikes": zernikes}
    kernel = dataclasses.replace(kernel, description=description)
    log.info(
        "Wavefront fitted: residuals %.2f %% of the star, %.2f before.", 100 * after, 100 * before
    )
    return RefinedWavefront(kernel, terms, before, after)


class _ImageFit:
    """The pixels around the star and the model that is fitted to them."""

    def __init__(
        self,
        image: np.ndarray,
        mask: np.ndarray | None,
        make_kernel: Callable[..., Kernel],
        position: tuple[float, float],
    ) -> None:
        box = Box.around(*position, _HALF, image.shape)
        cut = np.asarray(image[box.slices], float)
        self.good = np.isfinite(cut)
        if mask is not None:
            self.good &= ~mask[box.slices]
        self.data = cut[self.good]
        self.u, self.v = np.arange(box.nx) + box.x, np.arange(box.ny) + box.y
        self.make_kernel = make_kernel
        self.shapes = np.stack([wavefront.opd([0.0] * (j - 1) + [1.0]) for j in TERMS])

    def opd(self, terms: np.ndarray) -> np.ndarray:
        """Compute the path difference of terms in `_UNIT`, (NPUP, NPUP) metres."""
        return np.asarray(np.tensordot(terms * _UNIT, self.shapes, axes=1))

    def model(self, kernel: Kernel, x: float, y: float) -> tuple[np.ndarray, float]:
        """Fit flux and background at a position: fitted pixels, and the norm of the star."""
        shape = kernel.evaluate(self.u - x, self.v - y)[self.good]
        design = np.column_stack([shape, np.ones_like(shape)])
        solved = np.linalg.lstsq(design, self.data, rcond=None)[0]
        return design @ solved, float(solved[0] * np.sqrt((shape**2).sum()))

    def residuals(self, values: np.ndarray) -> np.ndarray:
        """Compute the residuals for x, y and the terms."""
        kernel = self.make_kernel(opd=self.opd(values[2:]), half_width=_HALF + 3.0)
        return np.asarray(self.model(kernel, values[0], values[1])[0] - self.data)
