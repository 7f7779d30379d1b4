"""Quintic splines through all pixels of an image, without the second that scipy's take to load."""

from __future__ import annotations

import numpy as np

__all__ = ["Surface"]

_DEGREE = 5


class Surface:
    """The interpolating quintic spline of an image, and its derivatives.

    Its knots are the pixels but for the third from each edge, whose polynomials reach to the edge:
    it is what `scipy.interpolate.RectBivariateSpline` makes of orders of 5.

    Parameters
    ----------
    image : ndarray, (ny, nx)
        Finite values; six pixels a side or more.

    References
    ----------
    de Boor 1978, A Practical Guide to Splines, chapters X and XIII.
    """

    def __init__(self, image: np.ndarray) -> None:
        self.knots = tuple(_knots(length) for length in image.shape)
        self.shape = image.shape
        rows, columns = (_collocation(knots) for knots in self.knots)
        self.coefficients = _solved(columns, _solved(rows, np.array(image, float)).T).T

    @property
    def nbytes(self) -> int:
        """Bytes of its coefficients."""
        return self.coefficients.nbytes

    def __call__(
        self, rows: np.ndarray, columns: np.ndarray, dx: int = 0, dy: int = 0
    ) -> np.ndarray:
        """Evaluate on a grid.

        Parameters
        ----------
        rows : ndarray, (n,)
            Rows [pix], within the image.
        columns : ndarray, (m,)
            Columns [pix], within the image.
        dx, dy : int
            Orders of the derivatives by row and by column, 5 at most.

        Returns
        -------
        ndarray, (n, m)
            The values.
        """
        along = _along(self.knots[0], self.coefficients, rows, dx)
        return _along(self.knots[1], along.T, columns, dy).T


def _knots(length: int) -> np.ndarray:
    half = (_DEGREE + 1) // 2
    inner = np.arange(half, length - half, dtype=float)
    ends = np.zeros(_DEGREE + 1), np.full(_DEGREE + 1, length - 1.0)
    return np.concatenate([ends[0], inner, ends[1]])


def _taps(knots: np.ndarray, points: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the first B-spline that is not zero at each point, (n,), and all, (k + 1, n)."""
    count = len(knots) - degree - 1
    last = np.clip(np.searchsorted(knots, points, side="right") - 1, degree, count - 1)
    taps = np.ones((1, len(points)))
    for k in range(1, degree + 1):
        # From degree k - 1 to k: each is shared between its two neighbours.
        place = last + np.arange(1 - k, 1)[:, None]
        low, high = knots[place], knots[place + k]
        share = taps / (high - low)
        taps = np.zeros((k + 1, len(points)))
        taps[:-1] = (high - points) * share
        taps[1:] += (points - low) * share
    return last - degree, taps


def _along(
    knots: np.ndarray, coefficients: np.ndarray, points: np.ndarray, order: int
) -> np.ndarray:
    """Evaluate a derivative along the first axis."""
    for k in range(_DEGREE, _DEGREE - order, -1):
        width = knots[k + 1 : -1] - knots[1 : -k - 1]
        coefficients = np.diff(coefficients, axis=0) * (k / width)[:, None]
        knots = knots[1:-1]
    first, taps = _taps(knots, np.asarray(points, float), _DEGREE - order)
    out = coefficients[first] * taps[0][:, None]
    for k in range(1, len(taps)):
        out += coefficients[first + k] * taps[k][:, None]
    return out


def _collocation(knots: np.ndarray) -> np.ndarray:
    """Give the B-splines at the pixels, (n, n)."""
    length = len(knots) - _DEGREE - 1
    first, taps = _taps(knots, np.arange(length, dtype=float), _DEGREE)
    matrix = np.zeros((length, length))
    for k, tap in enumerate(taps):
        matrix[np.arange(length), first + k] = tap
    return matrix


def _solved(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve a banded system in place; that of B-splines needs no exchange of rows."""
    length = len(matrix)
    for j in range(length):
        below, beside = slice(j + 1, j + _DEGREE + 1), slice(j, j + _DEGREE + 1)
        factor = (matrix[below, j] / matrix[j, j])[:, None]
        matrix[below, beside] -= factor * matrix[j, beside]
        right[below] -= factor * right[j]
    for j in range(length - 1, -1, -1):
        after = slice(j + 1, j + _DEGREE + 1)
        right[j] -= matrix[j, after] @ right[after]
        right[j] /= matrix[j, j]
    return right
