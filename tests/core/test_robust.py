"""Medians and scatters without outliers."""

import numpy as np
import pytest
from astropy.stats import mad_std

from tso_level3.core.robust import median, robust


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 1000, 1001])
@pytest.mark.parametrize("dtype", [float, np.float32, np.int16])
def test_as_numpy_and_astropy_have_them(n, dtype):
    values = (100 * np.random.default_rng(n).standard_normal(n)).astype(dtype)
    before = values.copy()
    assert median(values) == np.median(values.astype(float))
    if n < 3:
        assert np.isnan(robust(values))
    else:
        assert robust(values) == pytest.approx(mad_std(values.astype(float)), rel=1e-12)
    np.testing.assert_array_equal(values, before)


def test_what_is_not_finite_does_not_count():
    values = np.array([[3.0, np.nan, 1.0], [np.inf, 2.0, 9.0]])
    assert median(values) == 2.5
    assert robust(values) == pytest.approx(mad_std([3.0, 1.0, 2.0, 9.0]))
    assert np.isnan(median(np.full(3, np.nan)))
    assert np.isnan(robust(np.zeros(0)))
