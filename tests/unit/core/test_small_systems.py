"""Many small systems are solved as numpy solves each."""

import numpy as np

from tso_level3.core.small_systems import factor, inverse_diagonal, solve


def test_as_numpy_solves_them():
    rng = np.random.default_rng(4)
    for k in (1, 2, 6):
        roots = rng.normal(size=(50, k, k + 2))
        matrix, right = roots @ roots.transpose(0, 2, 1), rng.normal(size=(50, k))
        lower, pivots = factor(matrix)
        assert (pivots > 0).all()
        expected = np.linalg.solve(matrix, right[..., None])[..., 0]
        np.testing.assert_allclose(solve(lower, pivots, right), expected, rtol=1e-8, atol=1e-10)
        diagonal = np.einsum("nii->ni", np.linalg.inv(matrix))
        np.testing.assert_allclose(inverse_diagonal(lower, pivots), diagonal, rtol=1e-8)


def test_pivots_tell_what_is_not_positive():
    matrix = np.array([[[2.0, 3.0], [3.0, 2.0]], [[2.0, 1.0], [1.0, 2.0]]])
    assert (factor(matrix)[1] > 0).all(axis=0).tolist() == [False, True]
