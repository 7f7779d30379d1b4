"""Exposures made with NumPy alone: a star, a sky, and a detector with defects."""

from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from scipy.ndimage import map_coordinates, spline_filter
from scipy.special import erf


def gaussian(sigma: float):
    """A Gaussian integrated over the pixel, as a function of place and shape, of unit sum."""

    def axis(center, n):
        edge = (np.arange(n + 1) - 0.5 - center) / (np.sqrt(2) * sigma)
        return 0.5 * np.diff(erf(edge))

    return lambda x, y, shape: np.outer(axis(y, shape[0]), axis(x, shape[1]))


def stpsf(path):
    """An STPSF image integrated over the pixel at any place, from its oversampled extension."""
    with fits.open(path) as hdus:
        over = hdus["OVERDIST"].data.astype(float)
        step = int(hdus["OVERDIST"].header["OVERSAMP"])
    n = over.shape[0]
    total = np.zeros((n + 1, n + 1))
    total[1:, 1:] = over.cumsum(0).cumsum(1)
    total = spline_filter(total, order=3)

    def image(x, y, shape):
        edges = [
            np.clip((np.arange(size + 1) - 0.5 - center) * step + n / 2, 0, n)
            for center, size in ((y, shape[0]), (x, shape[1]))
        ]
        grid = np.meshgrid(*edges, indexing="ij")
        corners = map_coordinates(total, grid, order=3, prefilter=False, mode="nearest")
        return np.diff(np.diff(corners, axis=0), axis=1)

    return image


@dataclass
class Night:
    """An exposure and its truth."""

    data: np.ndarray
    errors: np.ndarray
    times: np.ndarray
    inside: np.ndarray
    x: np.ndarray
    y: np.ndarray
    depth: float

    def depth_of(self, flux):
        """Depth of the box in a light curve, and its standard error."""
        inner, outer = flux[self.inside], flux[~self.inside]
        level = outer.mean()
        error = np.sqrt(inner.var() / inner.size + outer.var() / outer.size) / level
        return 1.0 - inner.mean() / level, error


def night(
    psf,
    flux,
    sky,
    *,
    n=120,
    shape=(64, 64),
    at=(31.6, 31.3),
    depth=0.05,
    jitter=0.0,
    drift=0.0,
    response=1.0,
    hot=0.0,
    read=5.0,
    seed=0,
    width=None,
):
    """Make an exposure: ``response * (F K + sky) + hot``, photon and read noise, a box transit."""
    rng = np.random.default_rng(seed)
    k = np.arange(n)
    inside = (k >= n // 3) & (k < 2 * n // 3)
    x = at[0] + jitter * rng.standard_normal(n) + drift * np.linspace(-0.5, 0.5, n)
    y = at[1] + jitter * rng.standard_normal(n)
    data, errors = np.empty((2, n, *shape))
    for i in range(n):
        own = psf if width is None else psf(width[i])
        mean = response * (flux * (1 - depth * inside[i]) * own(x[i], y[i], shape) + sky) + hot
        errors[i] = np.sqrt(np.maximum(mean, 0) + read**2)
        data[i] = mean + errors[i] * rng.standard_normal(shape)
    return Night(data, errors, 60000 + 1e-3 * k, inside, x, y, depth)
