"""Medians and scatters without outliers."""

import numpy as np
import pytest
from astropy import stats as reference

from tso_level3.utils.stats import (
    column_median,
    mad_std,
    median,
    point_to_point,
    unclipped,
    without_slope,
)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 1000, 1001])
@pytest.mark.parametrize("dtype", [float, np.float32, np.int16])
def test_as_numpy_and_astropy_have_them(n, dtype):
    values = (100 * np.random.default_rng(n).standard_normal(n)).astype(dtype)
    before = values.copy()
    assert median(values) == np.median(values.astype(float))
    if n < 3:
        assert np.isnan(mad_std(values))
    else:
        assert mad_std(values) == pytest.approx(reference.mad_std(values.astype(float)), rel=1e-12)
    np.testing.assert_array_equal(values, before)


def test_what_is_not_finite_does_not_count():
    values = np.array([[3.0, np.nan, 1.0], [np.inf, 2.0, 9.0]])
    assert median(values) == 2.5
    assert mad_std(values) == pytest.approx(reference.mad_std([3.0, 1.0, 2.0, 9.0]))
    assert np.isnan(median(np.full(3, np.nan)))
    assert np.isnan(mad_std(np.zeros(0)))


def transit(n, depth, sides):
    """A trapezoid in the middle half of n values, with sides of so many values."""
    return 1 - depth * np.clip((n / 4 - np.abs(np.arange(n) - (n - 1) / 2)) / sides, 0, 1)


@pytest.mark.parametrize(("n", "sides", "worst"), [(200, 8, 1.1), (1200, 60, 1.015)])
def test_scatter_from_point_to_point_leaves_the_sides_of_a_transit_out(n, sides, worst):
    """Used to be 1.2 times the noise where the ingress is short, by first differences."""
    curve, noise, found, plain = transit(n, 0.01, sides), 120e-6, [], []
    for seed in range(100):
        values = curve * (1 + noise * np.random.default_rng(seed).normal(size=n))
        found.append(point_to_point(values) / noise)
        plain.append(mad_std(without_slope(np.diff(values))) / np.sqrt(2) / noise)
    assert 0.98 < np.mean(found) < worst
    assert 0.98 < np.mean(plain) < worst
    # No less certain than a scatter of first differences of that many.
    assert np.std(found) < 1.15 * 0.87 / np.sqrt(n)


def test_scatter_from_point_to_point_of_little():
    assert np.isnan(point_to_point(np.array([1.0, np.nan, 2.0, 3.0])))
    assert point_to_point(np.ones(30)) == 0.0
    assert point_to_point(np.arange(30.0)) == pytest.approx(0.0, abs=1e-12)
    values = np.random.default_rng(1).normal(size=2000)
    values[::50] = np.nan
    values[7::100] += 50.0
    assert point_to_point(values) == pytest.approx(1.0, abs=0.08)
    np.testing.assert_array_equal(without_slope(np.arange(11.0)), np.arange(11.0))


def test_mad_along_an_axis_and_about_a_given_centre():
    values = np.random.default_rng(4).normal(3.0, 2.0, (50, 7))
    expected = reference.mad_std(values, axis=0)
    np.testing.assert_allclose(mad_std(values, axis=0), expected, rtol=1e-12)
    about = [np.median(np.abs(column - 1.0)) * 1.482602218505602 for column in values.T]
    np.testing.assert_allclose(mad_std(values, center=1.0, axis=0), about, rtol=1e-12)
    assert mad_std(values[:, 0], center=1.0) == pytest.approx(about[0], rel=1e-12)
    assert mad_std(np.array([3.0, np.nan]), center=1.0) == pytest.approx(2 * 1.4826022)
    assert np.isnan(mad_std(np.array([np.nan]), center=1.0))


def test_median_of_columns():
    values = np.random.default_rng(5).normal(size=(11, 400))
    values[np.random.default_rng(6).random(values.shape) < 0.3] = np.nan
    values[:, 5] = np.nan
    values[:, 6] = [np.nan] * 10 + [4.0]
    found = column_median(values)
    assert np.isnan(found[5])
    assert found[6] == 4.0
    rest = np.delete(np.arange(400), 5)
    np.testing.assert_array_equal(found[rest], np.nanmedian(values[:, rest], axis=0))
    assert column_median(np.zeros((0, 3))).shape == (3,)


def test_clipping_is_that_of_astropy():
    values = np.random.default_rng(7).normal(size=500)
    values[:40] += 20.0
    values[77] = np.nan
    with np.errstate(invalid="ignore"):
        expected = reference.sigma_clip(np.ma.masked_invalid(values), 3.0, maxiters=10).mask
    assert expected.sum() > 40
    np.testing.assert_array_equal(unclipped(values, 3.0), ~expected)
    assert not unclipped(np.full(4, np.nan), 3.0).any()
