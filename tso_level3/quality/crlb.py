"""Cramér-Rao bounds of a star's position and flux."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tso_level3.psf.spline import ImageSpline

__all__ = ["Bound", "crlb"]


@dataclass(frozen=True, eq=False)
class Bound:
    """Cramér-Rao bounds, as standard deviations.

    Attributes
    ----------
    x, y : float
        Of the position [pix].
    flux : float
        Of the flux, in the unit of the star's image.
    constant : float
        Of a constant background; NaN where it is not fitted.
    covariance : ndarray, (3, 3) or (4, 4)
        Inverse of the Fisher matrix of x, y, flux and, where it is free, the constant.
    """

    x: float
    y: float
    flux: float
    constant: float
    covariance: np.ndarray


def crlb(
    star: Any,
    variance: float | np.ndarray,
    *,
    flux: float | None = None,
    position: tuple[float, float] | None = None,
    constant: bool = True,
    mask: np.ndarray | None = None,
) -> Bound:
    """Compute the Cramér-Rao bounds of a star's position and flux, fitted together.

    Parameters
    ----------
    star : ndarray, (ny, nx), or kernel
        The star's image without noise and net of background; or a kernel of unit flux with
        ``evaluate(u, v, nu, nv)``, for which `flux` and `position` are needed.
    variance : float or ndarray, (ny, nx)
        Variance of each pixel: photons of star and sky, and read noise, in the squared unit of
        the image. Pixels whose variance is not finite are not used. For a kernel it must be an
        array of the shape of the frame.
    flux : float, optional
        Flux of the star; the sum of the image by default.
    position : (float, float), optional
        x, y of the star, 0-based; for kernels only.
    constant : bool
        Whether a constant background is fitted too.
    mask : ndarray, (ny, nx), bool, optional
        True for pixels that are not used.

    Returns
    -------
    Bound
        The bounds.

    Raises
    ------
    ValueError
        An argument is missing, a shape does not fit, or the pixels do not determine the parameters.

    Notes
    -----
    The Fisher matrix is ``sum d_i mu d_j mu / variance``, that of normal noise of known variance;
    the dependence of the variance on the flux is left out. Derivatives of an image come from the
    quintic spline through its pixels and are wrong for an undersampled one (FWHM below 2 pixels):
    give the kernel then.

    References
    ----------
    Mendez et al. 2013, doi:10.1086/671126; Kay 1993, Fundamentals of Statistical Signal
    Processing: Estimation Theory, chapter 3.

    Examples
    --------
    >>> import numpy as np
    >>> from tso_level3.psf.kernel import GaussianKernel
    >>> bound = crlb(GaussianKernel(2.0, 2.0), np.ones((41, 41)), flux=1e3, position=(20, 20))
    >>> round(bound.x, 4)  # sqrt(8 pi) sigma**2 / flux, and a little for the pixel
    0.0205
    """
    if hasattr(star, "evaluate"):
        image, slope_x, slope_y, flux = _of_kernel(star, variance, flux, position)
    else:
        image, slope_x, slope_y, flux = _of_image(star, flux)
    spread = np.asarray(variance, dtype=float)
    if spread.ndim and spread.shape != image.shape:
        raise ValueError(f"variance has shape {spread.shape}; expected the star's, {image.shape}")
    spread = np.broadcast_to(spread, image.shape)
    use = np.isfinite(spread) & np.isfinite(image)
    if mask is not None:
        if np.shape(mask) != image.shape:
            raise ValueError(f"mask has shape {np.shape(mask)}; expected {image.shape}")
        use &= ~np.asarray(mask, dtype=bool)
    if not (spread[use] > 0).all() or not use.any():
        raise ValueError("variance holds values of zero or less; expected positive ones")
    terms = [-slope_x[use], -slope_y[use], image[use] / flux]
    if constant:
        terms.append(np.ones(int(use.sum())))
    design = np.stack(terms, axis=1) / np.sqrt(spread[use])[:, None]
    # By singular values of the scaled terms, whose sizes differ by ten powers of ten.
    size = np.sqrt((design**2).sum(axis=0))
    if not (np.isfinite(size).all() and (size > 0).all()):
        raise ValueError("star has no gradient on the pixels used; expected the image of a star")
    left = np.linalg.svd(design / size, full_matrices=False)
    if len(design) < design.shape[1] or left[1][-1] < 1e-10 * left[1][0]:
        raise ValueError(f"{len(design)} pixels do not determine position and flux; expected more")
    half = left[2] / left[1][:, None] / size
    covariance = half.T @ half
    error = np.sqrt(np.diagonal(covariance))
    return Bound(
        x=float(error[0]),
        y=float(error[1]),
        flux=float(error[2]),
        constant=float(error[3]) if constant else np.nan,
        covariance=covariance,
    )


def _of_kernel(
    kernel: Any, variance: float | np.ndarray, flux: float | None, position: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    if flux is None or position is None or np.ndim(variance) != 2:
        raise ValueError("flux, position and a two-dimensional variance are needed for a kernel")
    if not (np.isfinite(flux) and flux > 0):
        raise ValueError(f"flux is {flux!r}; expected a positive number")
    height, width = np.shape(variance)
    u, v = np.arange(width) - position[0], np.arange(height) - position[1]
    parts = [flux * kernel.evaluate(u, v, *order) for order in ((0, 0), (1, 0), (0, 1))]
    return (*parts, float(flux))


def _of_image(image: Any, flux: float | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    image = np.asarray(image, dtype=float)
    if image.ndim != 2 or min(image.shape) < 6 or not np.isfinite(image).all():
        raise ValueError(
            f"star has shape {image.shape}; expected a finite image of two dimensions of 6 or more"
        )
    total = float(image.sum() if flux is None else flux)
    if not (np.isfinite(total) and total > 0):
        raise ValueError(f"flux is {total!r}; expected a positive number")
    spline = ImageSpline(image)
    x, y = np.arange(image.shape[1], dtype=float), np.arange(image.shape[0], dtype=float)
    return image, spline.grid(x, y, 1, 0), spline.grid(x, y, 0, 1), total
