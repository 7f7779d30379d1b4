"""How noisy a light curve is, at every bin size."""

import numpy as np
import pytest

from tests.trials import measured, simulated
from tso_level3.quality.noise import (
    Centres,
    bin_size,
    bins,
    counted,
    scatter_about,
    shared,
    time_averaging,
)
from tso_level3.quality.pixel_phase import pointing_noise

RNG = np.random.default_rng(99)


def _curve(n, sigma=1e-3, seed=0):
    return 1.0 + sigma * np.random.default_rng(seed).standard_normal(n)


def test_scatter_is_blind_to_transits_and_trends():
    n = 4000
    time = np.arange(n)
    transit = np.where(np.abs(time - n / 2) < n / 5, 0.99, 1.0)
    x, y = 0.01 * RNG.standard_normal((2, n))
    flux = _curve(n) * transit * (1 + 0.01 * time / n)
    found = scatter_about(1e6 * flux, Centres(x, y), np.ones(n, bool), 40)
    assert found.clean == pytest.approx(1e-3, rel=0.05)
    assert found.binned == pytest.approx(1e-3 / np.sqrt(40), rel=0.3)
    assert found.raw == pytest.approx(1e-3, rel=0.05)
    assert found.pointing < 1e-4


def test_what_follows_the_centres_is_told_apart():
    n = 3000
    x, y = 0.05 * RNG.standard_normal((2, n))
    flux = _curve(n) + 0.02 * x - 0.01 * y
    found = scatter_about(flux, Centres(x, y), np.ones(n, bool), 40)
    assert found.clean == pytest.approx(1e-3, rel=0.06)
    assert found.raw == pytest.approx(np.hypot(1e-3, 0.05 * np.hypot(0.02, 0.01)), rel=0.06)
    assert found.pointing == pytest.approx(0.05 * np.hypot(0.02, 0.01), rel=0.06)


def test_red_noise_of_white_noise_is_not_biased():
    # Used to be the largest ratio of the curve, 1.5 and more for white noise.
    n = 4096
    factors = [
        time_averaging(_curve(n, seed=seed), np.ones(n, bool), 64).red_noise for seed in range(40)
    ]
    assert np.median(factors) < 1.1
    assert np.percentile(factors, 90) < 1.4
    red = _curve(n) + np.repeat(5e-4 * np.random.default_rng(4).standard_normal(n // 64), 64)
    # White noise of 1.25e-4 in such bins, and 5e-4 of its own.
    found = time_averaging(red, np.ones(n, bool), 64)
    assert found.size[found.quoted] == 64
    assert found.red_noise == pytest.approx(np.hypot(5.0, 1.25) / 1.25, rel=0.35)


def test_red_noise_is_quoted_on_32_bins_or_more():
    found = time_averaging(_curve(1000), np.ones(1000, bool), 10_000)
    assert 1000 // found.size[found.quoted] >= 32
    assert np.isnan(time_averaging(_curve(10), np.ones(10, bool)).red_noise)


def test_bins_of_ten_minutes():
    minute = 1 / 1440
    assert bin_size(np.arange(1000) * minute, 1000) == 10
    assert bin_size(np.arange(100) * minute, 100) == 2
    assert bin_size(np.arange(960) * minute / 10, 960) == 20
    assert bin_size(np.full(480, np.nan), 480) == 10
    np.testing.assert_allclose(bins(np.array([1.0, 3.0, np.nan, 4.0, 9.0]), 2), [2.0, 4.0])
    assert np.isnan(bins(np.array([np.nan, np.nan, 1.0, 1.0]), 2)[0])


def test_windows():
    time = np.arange(10.0)
    assert counted(time, None).all()
    assert counted(time, (0.0, 2.0, 8.0, 9.0)).sum() == 5
    with pytest.raises(ValueError, match="out_of_transit.*holds 1 integrations"):
        counted(time, (2.0, 2.0))


def test_shared_noise():
    common, own = np.random.default_rng(5).standard_normal((2, 5000))
    assert shared(common, common) == pytest.approx(1.0, abs=1e-12)
    assert shared(common, own) < 0.06
    assert shared(common, common + own) == pytest.approx(np.sqrt(0.5), abs=0.03)


@pytest.mark.parametrize("moving", [False, True])
def test_pointing_noise_is_what_remains_without_noise(moving):
    jitter = {"jitter": 0.05, "drift": (0, 0), "transit_depth": 0.0, "flat_pattern": False}
    noisy = measured(simulated("F210M", n_int=500, flux=1e6, **jitter), moving_centroid=moving)
    clean = simulated("F210M", n_int=500, flux=1e6, noise=False, **jitter)
    still = measured(clean, moving_centroid=moving)
    stated = pointing_noise(noisy.found, noisy.plan)
    true = still.flux.std(axis=0) / still.flux.mean(axis=0)
    np.testing.assert_allclose(stated, true, rtol=0.1, atol=1e-5)
    # An aperture of 3 pixels on a star of 2.3: some hundred ppm at 0.05 px. One that moves with
    # the star is no better: what counts is where its edge cuts the grid of pixels.
    assert 1.5e-4 < stated[2] < 7e-4
