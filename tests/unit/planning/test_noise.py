"""The variance of pixels: from its parts, from errors, from the scatter in time."""

import dataclasses

import numpy as np
import pytest

from tests.trials import exposure_of, simulated
from tso_level3.config.settings import Settings
from tso_level3.flags import Flag
from tso_level3.planning.noise import from_errors, from_parts
from tso_level3.planning.noise_in_time import from_frames
from tso_level3.run.measure import run

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
    noise = from_errors(signal + READ**2 + (each * signal) ** 2, STAR, SKY, flat=True)
    np.testing.assert_allclose(noise.total, signal + READ**2, rtol=0.12)
    assert np.median(noise.read) == pytest.approx(READ**2, rel=0.1)


def test_gain_of_slopes_is_learned():
    noise = from_errors(2.0 * (STAR + SKY) + READ**2, STAR, SKY, flat=True)
    np.testing.assert_allclose(noise.star, 2.0 * STAR, rtol=0.05, atol=5.0)


@pytest.mark.parametrize("pedestal", [500.0, 5000.0, -15.0])
def test_a_pedestal_whose_photons_are_not_there_changes_no_error(pedestal):
    # used to be taken for a sky whose errors are the flat's: errors 50 times too small, or none
    for flat in (True, False):
        noise = from_errors(STAR + SKY + READ**2, STAR, SKY + pedestal, flat=flat)
        np.testing.assert_allclose(noise.total, STAR + SKY + READ**2, rtol=0.02)
        np.testing.assert_allclose(noise.star, STAR, rtol=0.02, atol=1.0)


def test_errors_that_hold_no_flat_are_taken_as_they_are():
    square = STAR + SKY + READ**2 + (0.02 * STAR) ** 2
    noise = from_errors(square, STAR, SKY, flat=False)
    np.testing.assert_allclose(noise.total, square, rtol=1e-5)


COLUMNS, ROWS = np.arange(N) % 30, np.arange(N) // 30


@pytest.mark.parametrize("n", [2, 3, 5, 20, 200])
def test_scatter_in_time(n):
    rng = np.random.default_rng(1)
    truth = STAR + SKY + READ**2
    found = []
    for _ in range(8 if n < 200 else 1):
        residuals = rng.standard_normal((n, N)) * np.sqrt(truth)
        # Of their own mean, as residuals of a template made of them are.
        residuals -= residuals.mean(axis=0)
        residuals[rng.random((n, N)) < 0.01] = np.nan
        if n > 2:
            residuals[1, 40:44] = 1e5
        noise = from_frames(residuals, STAR, np.arange(500, N), COLUMNS, ROWS, electrons=False)
        assert noise.stated and not noise.known
        found.append(noise.total)
    # Two numbers of a law from N (n - 1) departures, and from 8 draws.
    ratio = np.mean(found, axis=0) / truth
    assert np.abs(ratio - 1).max() < 0.05 + 2.0 / np.sqrt(N * (n - 1))


def test_single_frame_has_the_scatter_of_neighbours_and_photons_where_they_are_counted():
    rng = np.random.default_rng(2)
    ring = np.arange(300, N)
    wings = 400.0 * np.exp(-((COLUMNS - 15.0) ** 2 + (ROWS - 4.0) ** 2) / 300.0)
    image = STAR + wings + 7.0 * rng.standard_normal(N)
    for electrons in (True, False):
        noise = from_frames(np.zeros((1, N)), image, ring, COLUMNS, ROWS, electrons=electrons)
        # 300 pixels: 6 %; the wings' own scatter is some hundred.
        np.testing.assert_allclose(np.sqrt(noise.rest), 7.0, rtol=0.25)
        assert noise.stated is electrons
        assert noise.star.max() == (image.max() if electrons else 0.0)


def test_wild_values_alone_give_no_error_and_no_failure():
    same = np.zeros((4, N))
    noise = from_frames(same, STAR, np.arange(500, N), COLUMNS, ROWS, electrons=True)
    assert not noise.stated and (noise.total > 0).all()
    missing = np.full((3, N), np.nan)
    noise = from_frames(missing, STAR, np.arange(500, N), COLUMNS, ROWS, electrons=True)
    assert np.isfinite(noise.total).all() and (noise.total > 0).all()


@pytest.fixture(scope="module")
def long():
    made = simulated("F210M", n_int=80, jitter=0.01, transit_depth=0.0, seed=3)
    curve = run(exposure_of(made), Settings(background_smooth="none")).light_curve
    names = ("aperture_flux_err", "psf_flux_err", "background_err", "gauss_x_err")
    return {name: np.median(curve[name], axis=0) for name in names}


@pytest.mark.parametrize("n", [1, 2, 4, 5, 8])
def test_errors_of_few_frames_without_errors_are_those_of_many_with_them(n, long):
    # used to be 1e-9 and 1e-16 of it: a frame that is its own template leaves no residuals
    found = []
    for seed in range(3):
        made = simulated("F210M", n_int=n, jitter=0.01, transit_depth=0.0, seed=20 + seed)
        result = run(exposure_of(made, errors=False), Settings())
        curve = result.light_curve
        assert not (curve["flags"] & Flag.NO_ERROR).any()
        found.append({name: np.median(curve[name], axis=0) for name in long})
    for name, low, high in (
        ("aperture_flux_err", 0.88, 1.12),
        # without errors all pixels weigh the same, which costs a tenth and a third
        ("psf_flux_err", 0.95, 1.3),
        ("gauss_x_err", 1.1, 1.6),
        ("background_err", 0.85, 1.15),
    ):
        ratio = np.mean([values[name] for values in found], axis=0) / long[name]
        assert low < np.min(ratio) and np.max(ratio) < high, name


@pytest.mark.parametrize("n", [1, 3])
def test_background_error_of_few_frames_with_errors(n, long):
    # used to be 1e-13 of it for one frame
    made = simulated("F210M", n_int=n, jitter=0.01, transit_depth=0.0, seed=21)
    curve = run(exposure_of(made), Settings()).light_curve
    assert curve["background_err"] == pytest.approx(long["background_err"], rel=0.1)


def test_error_of_one_frame_in_another_unit_is_not_known():
    made = simulated("F210M", n_int=1, seed=22)
    exposure = dataclasses.replace(exposure_of(made, errors=False), unit="Jy")
    curve = run(exposure, Settings()).light_curve
    assert (curve["flags"] & Flag.NO_ERROR).all()
    for name in ("aperture_flux_err", "psf_flux_err", "psf_x_err", "gauss_x_err"):
        assert np.isnan(curve[name]).all()
    assert np.isfinite(curve["aperture_flux"]).all() and np.isfinite(curve["psf_x"]).all()
    # that of the background is: its pixels show it
    assert (curve["background_err"] > 0).all()
    two = simulated("F210M", n_int=2, seed=22)
    exposure = dataclasses.replace(exposure_of(two, errors=False), unit="Jy")
    assert (run(exposure, Settings()).light_curve["aperture_flux_err"] > 0).all()
