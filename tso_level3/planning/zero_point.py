"""Position of the star in its mean image, by an iterated fit of the kernel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tso_level3.datatypes import KernelLike

__all__ = ["Place", "place_kernel"]


@dataclass(frozen=True)
class Place:
    """Fit of a kernel to an image.

    Attributes
    ----------
    x, y : float
        Position of the star in the frame.
    flux, level : float
        Its flux and the constant under it.
    converged : bool
        Whether the iteration converged inside the image.
    """

    x: float
    y: float
    flux: float
    level: float
    converged: bool


def place_kernel(
    image: np.ndarray,
    weights: np.ndarray,
    kernel: KernelLike,
    x: float,
    y: float,
    *,
    origin: tuple[int, int] = (0, 0),
    constant: bool = True,
) -> Place:
    """Fit flux, position and a constant of a kernel to an image by Gauss-Newton steps.

    Parameters
    ----------
    image, weights : ndarray, (ny, nx)
        Image, and inverse variances; pixels without weight may hold anything finite.
    kernel : KernelLike
        The kernel.
    x, y : float
        Start position, in the frame.
    origin : (int, int)
        x, y in the frame of the first pixel.
    constant : bool
        Whether a constant is fitted.

    Returns
    -------
    Place
        The fit.
    """
    ny, nx = image.shape
    columns, rows = origin[0] + np.arange(nx), origin[1] + np.arange(ny)
    root = np.sqrt(weights).ravel()
    right = image.ravel() * root
    start, flux, level, converged = (x, y), np.nan, 0.0, False
    for _ in range(50):
        u, v = columns - x, rows - y
        terms = [
            kernel.evaluate(u, v).ravel(),
            -kernel.evaluate(u, v, 1, 0).ravel(),
            -kernel.evaluate(u, v, 0, 1).ravel(),
        ]
        if constant:
            terms.append(np.ones(image.size))
        design = np.stack(terms, axis=1) * root[:, None]
        scale = np.sqrt((design**2).sum(axis=0)) + 1e-300
        found = np.linalg.lstsq(design / scale, right, rcond=None)[0] / scale
        flux = found[0]
        level = found[3] if constant else 0.0
        if not np.isfinite(found).all() or flux <= 0:
            break
        step = np.clip(found[1:3] / flux, -0.5, 0.5)
        x, y = x + step[0], y + step[1]
        if np.hypot(x - start[0], y - start[1]) > max(nx, ny):
            break
        if np.abs(step).max() < 1e-7:
            converged = True
            break
    return Place(float(x), float(y), float(flux), float(level), converged)
