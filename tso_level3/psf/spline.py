"""Interpolating quintic splines on regular grids, evaluated at once on a grid of points."""

from math import comb, factorial, perm

import numpy as np
from scipy import ndimage

DEGREE = 5
_PAD = 3


def _pieces() -> list[np.ndarray]:
    """Power-basis coefficients (6, 6) of the six tap weights, for each derivative 0 to 5."""
    powers = range(DEGREE, -1, -1)
    # The basis function is the sum over k of (-1)^k C(6, k) max(t - k, 0)^5 / 5!.
    piece = np.zeros((DEGREE + 1, DEGREE + 1))
    for cell in range(DEGREE + 1):
        for k in range(cell + 1):
            sign = (-1) ** k * comb(DEGREE + 1, k) / factorial(DEGREE)
            piece[:, cell] += [sign * comb(DEGREE, m) * (cell - k) ** (DEGREE - m) for m in powers]
    tables = []
    for order in range(DEGREE + 1):
        full = np.zeros_like(piece)
        for row, m in enumerate(powers):
            if m >= order:
                full[row + order] = perm(m, order) * piece[row]
        # tap j stands 2 - j samples from the point's cell: the reversed piece of the basis
        tables.append(full[:, ::-1])
    return tables


_TABLES = _pieces()


def coefficients(image: np.ndarray) -> np.ndarray:
    """Spline coefficients of an image, padded by three at each side.

    Parameters
    ----------
    image : ndarray
        (..., my, mx) samples; the last two axes are interpolated.

    Returns
    -------
    ndarray
        (..., my + 6, mx + 6), to be handed to `grid`.
    """
    result = np.asarray(image, dtype=np.float64)
    for axis in (-2, -1):
        result = ndimage.spline_filter1d(result, DEGREE, axis=axis, mode="mirror")
    width = [(0, 0)] * (result.ndim - 2) + [(_PAD, _PAD)] * 2
    return np.pad(result, width, mode="reflect")


def weights(x: np.ndarray, n: int, order: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Taps of points along one axis.

    Parameters
    ----------
    x : ndarray
        (k,) sample indices, any real number.
    n : int
        Number of samples along the axis.
    order : int, optional
        Order of the derivative, 0 to 5.

    Returns
    -------
    first : ndarray
        (k,) index of the first of six taps in the padded coefficients.
    taps : ndarray
        (6, k) weights, zero for points outside the samples.
    """
    x = np.asarray(x, dtype=np.float64)
    # rounding must not throw a point on the last sample out of the support
    inside = (x >= -1e-9) & (x <= n - 1 + 1e-9)
    cell = np.clip(np.floor(np.where(inside, x, 0.0)), 0, n - 2).astype(np.intp)
    t = np.where(inside, x, 0.0) - cell
    table = _TABLES[order]
    taps = np.zeros((DEGREE + 1, len(x)))
    for power in range(DEGREE + 1):
        taps = taps * t + table[power][:, None]
    return cell + (_PAD - 2), np.where(inside, taps, 0.0)


def grid(
    coefficients: np.ndarray, x: np.ndarray, y: np.ndarray, nx: int = 0, ny: int = 0
) -> np.ndarray:
    """Value or derivative of a spline on a grid.

    Parameters
    ----------
    coefficients : ndarray
        From `coefficients`, of two dimensions.
    x, y : ndarray
        (k,) and (m,) sample indices along x and y.
    nx, ny : int, optional
        Order of the derivative along x and y, per sample.

    Returns
    -------
    ndarray
        (m, k); zero outside the samples.
    """
    height, width = (size - 2 * _PAD for size in coefficients.shape)
    first_x, taps_x = weights(x, width, nx)
    first_y, taps_y = weights(y, height, ny)
    low, high = (int(first_x.min()), int(first_x.max()) + DEGREE + 1) if len(x) else (0, 0)
    columns = coefficients[:, low:high]
    rows = np.zeros((len(y), high - low))
    for tap in range(DEGREE + 1):
        rows += taps_y[tap][:, None] * columns[first_y + tap]
    # the second contraction runs along rows, which is the quick direction of a copy
    rows = np.ascontiguousarray(rows.T)
    values = np.zeros((len(x), len(y)))
    for tap in range(DEGREE + 1):
        values += taps_x[tap][:, None] * rows[first_x - low + tap]
    return np.ascontiguousarray(values.T)
