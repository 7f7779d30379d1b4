"""The variance of pixels: from its parts, from errors, from the scatter in time."""

import numpy as np
import pytest

from tso_level3.core.noise import from_errors, from_parts, from_scatter, robust_scatter

N = 600
STAR = 1e5 * np.exp(-np.linspace(0, 12, N))
SKY, READ = 20.0, 12.0


def test_parts_are_told_apart():
    poisson = STAR + SKY
    noise = from_parts(poisson, np.full(N, READ**2), STAR, SKY)
    np.testing.assert_allclose(noise.star, STAR, rtol=1e-9)
    np.testing.assert_allclose(noise.rest, SKY + READ**2, rtol=1e-9)
    np.testing.assert_allclose(noise.read, READ**2, rtol=1e-9)
    np.testing.assert_allclose(noise.limit**2, poisson + READ**2, rtol=1e-9)
    assert noise.known


def test_parts_that_are_missing_come_from_their_neighbours():
    poisson, read = STAR + SKY, np.full(N, READ**2)
    poisson[100], read[200] = np.nan, 0.0
    noise = from_parts(poisson, read, STAR, SKY)
    assert noise.total[100] == pytest.approx(STAR[100] + SKY + READ**2, rel=1e-6)
    assert noise.total[200] == pytest.approx(STAR[200] + SKY + READ**2, rel=1e-6)


@pytest.mark.parametrize("flat", [0.0, 0.002, 0.02])
def test_error_of_the_flat_is_taken_out(flat):
    each = flat * np.random.default_rng(0).uniform(0.7, 1.3, N)
    signal = STAR + SKY
    noise = from_errors(signal + READ**2 + (each * signal) ** 2, STAR, SKY)
    np.testing.assert_allclose(noise.total, signal + READ**2, rtol=0.12)
    assert np.median(noise.read) == pytest.approx(READ**2, rel=0.1)


def test_gain_of_slopes_is_learned():
    noise = from_errors(2.0 * (STAR + SKY) + READ**2, STAR, SKY)
    np.testing.assert_allclose(noise.star, 2.0 * STAR, rtol=0.05, atol=5.0)


def test_scatter_in_time():
    rng = np.random.default_rng(1)
    residuals = rng.standard_normal((200, N)) * np.sqrt(STAR + SKY + READ**2)
    residuals[rng.random((200, N)) < 0.01] = np.nan
    noise = from_scatter(residuals, STAR, np.arange(500, N))
    # 200 frames and 600 pixels: the two numbers of the law are known to a few per cent.
    np.testing.assert_allclose(noise.total, STAR + SKY + READ**2, rtol=0.12)
    assert not noise.known


def test_few_frames_have_the_scatter_of_the_sky():
    rng = np.random.default_rng(2)
    image = STAR + 7.0 * rng.standard_normal(N)
    noise = from_scatter(np.zeros((1, N)), image, np.arange(530, N))
    assert np.sqrt(noise.total[0]) == pytest.approx(7.0, rel=0.25)


def test_robust_scatter_with_missing_values():
    rng = np.random.default_rng(3)
    values = 3.0 * rng.standard_normal((4000, 3))
    values[:40, 0], values[:100, 1], values[:, 2] = 1e6, np.nan, np.nan
    found = robust_scatter(values)
    np.testing.assert_allclose(found[:2], [3.0, 3.0], rtol=0.1)
    assert np.isnan(found[2])
