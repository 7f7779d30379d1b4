"""The quintic spline through an image is SciPy's."""

import numpy as np
import pytest
from scipy.interpolate import RectBivariateSpline

from tso_level3.core.surface import Surface

ORDERS = [(0, 0), (1, 0), (0, 1), (1, 1), (2, 1), (0, 3), (3, 0)]


@pytest.mark.parametrize("shape", [(6, 6), (7, 9), (21, 21), (64, 62), (30, 142)])
def test_as_scipy(shape):
    rng = np.random.default_rng(11)
    image = rng.normal(size=shape)
    before = image.copy()
    own = Surface(image)
    theirs = RectBivariateSpline(*map(np.arange, shape), image, kx=5, ky=5)
    rows, columns = (np.clip(np.arange(n) + s, 0, n - 1) for n, s in zip(shape, (-0.37, 0.21)))
    for dx, dy in ORDERS:
        expected = theirs(rows, columns, dx=dx, dy=dy)
        found = own(rows, columns, dx=dx, dy=dy)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    assert np.array_equal(image, before)


def test_goes_through_all_pixels_and_polynomials():
    y, x = np.mgrid[:9, :11] / 10.0
    image = x**5 - 2 * x**3 * y**2 + y**4
    own = Surface(image)
    np.testing.assert_allclose(own(np.arange(9), np.arange(11)), image, rtol=0, atol=1e-13)
    rows, columns = np.linspace(0, 8, 23), np.linspace(0, 10, 17)
    y, x = rows[:, None] / 10, columns / 10
    expected = (20 * x**3 - 12 * x * y**2) / 100
    np.testing.assert_allclose(own(rows, columns, dy=2), expected, rtol=0, atol=1e-12)
