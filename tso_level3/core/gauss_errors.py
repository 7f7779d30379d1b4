"""Errors of a Gaussian fit whose weights are not inverse variances."""

from __future__ import annotations

import numpy as np

from tso_level3.core.gaussian import pixel_gaussian

__all__ = ["error_factors"]

_STEP = 1e-4


def error_factors(
    parameters: np.ndarray,
    weights: np.ndarray,
    variance: np.ndarray,
    origin: tuple[float, float],
    *,
    constant: bool,
) -> np.ndarray:
    """Compute the factors from formal errors of a weighted fit to true ones.

    Parameters
    ----------
    parameters : ndarray, (6,)
        Amplitude, x, y, sigma_x, sigma_y and constant of a typical fit.
    weights, variance : ndarray, (ny, nx)
        Weights of the fit, and the true variances; zero weight for missing pixels.
    origin : (float, float)
        x, y of the first pixel.
    constant : bool
        Whether the constant is free.

    Returns
    -------
    ndarray, (6,)
        Root of the diagonal of ``N^-1 J' W V W J N^-1`` over that of ``N^-1``, with
        ``N = J' W J``; 1 where the parameters do not describe a star.
    """
    theta = np.asarray(parameters, float)
    out = np.ones(theta.size)
    free = np.arange(theta.size if constant else theta.size - 1)
    if not np.isfinite(theta).all():
        return out
    size = np.array([abs(theta[0]), *theta[3:5], *theta[3:5], abs(theta[0])])
    derivatives = []
    for k in free:
        away = np.zeros(theta.size)
        away[k] = _STEP * size[k]
        up, down = (_image(theta + sign * away, weights.shape, origin) for sign in (1, -1))
        derivatives.append((up - down).ravel() / 2.0)
    slopes, weight = np.array(derivatives), weights.ravel()
    normal = (slopes * weight) @ slopes.T
    if not np.isfinite(normal).all() or np.linalg.matrix_rank(normal) < len(free):
        return out
    inverse = np.linalg.inv(normal)
    true = inverse @ ((slopes * weight**2 * variance.ravel()) @ slopes.T) @ inverse
    out[free] = np.sqrt(np.diagonal(true) / np.diagonal(inverse))
    return out


def _image(theta: np.ndarray, shape: tuple[int, int], origin: tuple[float, float]) -> np.ndarray:
    amplitude, x, y, sigma_x, sigma_y, constant = theta
    across = pixel_gaussian(np.arange(shape[1]) + origin[0] - x, sigma_x)
    up = pixel_gaussian(np.arange(shape[0]) + origin[1] - y, sigma_y)
    result: np.ndarray = amplitude * up[:, None] * across + constant
    return result
