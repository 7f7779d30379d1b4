"""Interpolating quintic spline of an image, evaluated with its derivatives on a grid of points."""

import numpy as np
from scipy import ndimage
from scipy.interpolate import BSpline

DEGREE = 5
_PAD = 3


class ImageSpline:
    """The quintic spline through all pixels of an image that is mirrored at its edges.

    Parameters
    ----------
    image : ndarray, (ny, nx)
        Finite values; six pixels a side or more.
    """

    def __init__(self, image: np.ndarray) -> None:
        self.shape = image.shape
        coefficients = np.asarray(image, dtype=np.float64)
        for axis in (0, 1):
            coefficients = ndimage.spline_filter1d(coefficients, DEGREE, axis=axis, mode="mirror")
        self._coefficients = np.pad(coefficients, _PAD, mode="reflect")

    def grid(self, x: np.ndarray, y: np.ndarray, nx: int = 0, ny: int = 0) -> np.ndarray:
        """Evaluate the spline or a derivative on a grid.

        Parameters
        ----------
        x, y : ndarray, (k,) and (m,)
            Places along x and y, 0-based [pix].
        nx, ny : int, optional
            Order of the derivative along x and y, per pixel.

        Returns
        -------
        ndarray, (m, k)
            The values; zero outside the image.
        """
        return _along(_along(self._coefficients, y, ny).T, x, nx).T


def _along(coefficients: np.ndarray, points: np.ndarray, order: int) -> np.ndarray:
    """Evaluate along the first axis."""
    last = len(coefficients) - 2 * _PAD - 1
    points = np.asarray(points, dtype=np.float64)
    # Rounding must not throw a point on the last pixel out of the image.
    outside = ~((points >= -1e-9) & (points <= last + 1e-9))
    knots = np.arange(len(coefficients) + DEGREE + 1.0) - (_PAD + (DEGREE + 1) // 2)
    spline = BSpline.construct_fast(knots, np.ascontiguousarray(coefficients), DEGREE)
    values: np.ndarray = spline(np.where(outside, 0.0, points), nu=order)
    values[outside] = 0.0
    return values
