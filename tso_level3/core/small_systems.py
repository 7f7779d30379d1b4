"""Solution of many small symmetric systems of equations at once."""

from __future__ import annotations

import numpy as np

__all__ = ["factor", "inverse_diagonal", "solve"]


def factor(matrix: np.ndarray) -> tuple[list[list[np.ndarray]], np.ndarray]:
    """Factor symmetric matrices as L D L', all at once; without pivoting.

    Parameters
    ----------
    matrix : ndarray, (n, k, k)
        The matrices.

    Returns
    -------
    (list of list of ndarray, ndarray)
        The lower triangles, [i][j] an array (n,), and the pivots (k, n): positive where a matrix
        is positive definite; elsewhere the factors mean nothing.
    """
    k = matrix.shape[1]
    a = matrix.transpose(1, 2, 0).copy()
    pivots = np.empty((k, len(matrix)))
    lower = [[np.zeros(0)] * k for _ in range(k)]
    for j in range(k):
        pivots[j] = a[j, j]
        inverse = 1.0 / pivots[j]
        for i in range(j + 1, k):
            lower[i][j] = a[i, j] * inverse
        for i in range(j + 1, k):
            for m in range(j + 1, i + 1):
                a[i, m] -= lower[i][j] * a[m, j]
    return lower, pivots


def solve(lower: list[list[np.ndarray]], pivots: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve factored systems.

    Parameters
    ----------
    lower, pivots
        From `factor`.
    right : ndarray, (n, k)
        Right-hand sides.

    Returns
    -------
    ndarray, (n, k)
        The solutions.
    """
    k = len(pivots)
    z = [right[:, i].copy() for i in range(k)]
    for i in range(k):
        for j in range(i):
            z[i] -= lower[i][j] * z[j]
    for i in range(k):
        z[i] /= pivots[i]
    for i in range(k - 1, -1, -1):
        for j in range(i + 1, k):
            z[i] -= lower[j][i] * z[j]
    return np.stack(z, axis=1)


def inverse_diagonal(lower: list[list[np.ndarray]], pivots: np.ndarray) -> np.ndarray:
    """Give the diagonals of the inverses of factored matrices.

    Parameters
    ----------
    lower, pivots
        From `factor`.

    Returns
    -------
    ndarray, (n, k)
        The diagonals, sums of squares of the columns of ``L^-1`` over the pivots.
    """
    k = len(pivots)
    out = np.empty(pivots.shape)
    for i in range(k):
        column: dict[int, np.ndarray] = {i: np.ones(pivots.shape[1])}
        out[i] = 1.0 / pivots[i]
        for j in range(i + 1, k):
            column[j] = -np.sum([lower[j][m] * column[m] for m in range(i, j)], axis=0)
            out[i] += column[j] ** 2 / pivots[j]
    return out.T
