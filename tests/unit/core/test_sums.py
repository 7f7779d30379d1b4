"""Honest errors: the departure from the truth has the scatter that is stated."""

import numpy as np
import pytest

from tests.trials import measured, simulated
from tso_level3.core.aperture import overlap

N = 1000
#: 0.05, and three standard errors of a scatter of N values.
ALLOWED = 0.05 + 3 / np.sqrt(2 * N)


def _pull(trial):
    return ((trial.flux - trial.true_flux()) / trial.error).std(axis=0)


@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("bad", [0.0, 3e-3])
@pytest.mark.parametrize("flux, jitter", [(3e5, 0.01), (1e7, 0.05)])
def test_pull_at_every_radius(flux, jitter, bad, moving):
    made = simulated("F210M", n_int=N, flux=flux, jitter=jitter, bad_random=bad, bad_fixed=bad / 3)
    trial = measured(made, moving_centroid=moving)
    pull = (trial.flux - trial.true_flux()) / trial.error
    np.testing.assert_allclose(pull.std(axis=0), 1.0, rtol=0, atol=ALLOWED)
    # 3e-4 of the flux at most: circles and background are those of the star.
    np.testing.assert_allclose(pull.mean(axis=0), 0.0, rtol=0, atol=0.1 + 3 / np.sqrt(N))


@pytest.mark.parametrize("flux, flat", [(1e6, 0.02), (1e7, 0.002), (3e5, 0.002)])
def test_pull_with_flat_field_errors_in_err(flux, flat):
    # 2 % would add 5,000 ppm of what is no noise between integrations.
    made = simulated("F210M", n_int=N, flux=flux, flat_error=flat, jitter=0.005, transit_depth=0)
    for parts in (True, False):
        trial = measured(made, parts=parts)
        np.testing.assert_allclose(_pull(trial), 1.0, rtol=0, atol=ALLOWED)
        read = np.sqrt(np.median(trial.found.read_variance, axis=0))
        expected = 12.0 * np.sqrt(np.sum(trial.plan.overlap**2, axis=1))
        np.testing.assert_allclose(read, expected, rtol=0.02 if parts else 0.3)


def test_pull_without_errors():
    made = simulated("F210M", n_int=N, jitter=0.01)
    trial = measured(made, errors=False)
    assert not trial.plan.noise.known
    assert len(np.unique(trial.plan.weights[trial.plan.weights > 0])) == 1
    # The scatter of each pixel in the sample is known to 5 %; the smooth law between, better.
    np.testing.assert_allclose(_pull(trial), 1.0, rtol=0, atol=ALLOWED + 0.05)


def test_pull_on_a_bright_sky():
    made = simulated("F1500W", n_int=400, jitter=0.02)
    trial = measured(made)
    np.testing.assert_allclose(_pull(trial), 1.0, rtol=0, atol=0.05 + 3 / np.sqrt(800))


def test_pull_of_the_fitted_flux():
    made = simulated("F210M", n_int=N, jitter=0.02, bad_random=2e-3)
    trial = measured(made)
    ratio = trial.found.psf[:, 2] / made.truth["flux"]
    pull = (ratio - ratio.mean()) * made.truth["flux"] / trial.found.psf_err[:, 2]
    assert pull.std() == pytest.approx(1.0, abs=ALLOWED)


def test_two_group_slopes_have_twice_the_photon_noise():
    made = simulated("F210M", n_int=N, flux=1e6, jitter=0.005, excess_noise=2.0)
    np.testing.assert_allclose(_pull(measured(made)), 1.0, rtol=0, atol=ALLOWED)


def test_error_follows_the_star_through_an_eclipse():
    made = simulated("F210M", n_int=N, flux=1e7, jitter=0.005, transit_depth=0.3)
    trial = measured(made)
    inside = np.array(made.truth["transit"]) < 0.72
    ratio = np.median(trial.error[inside], axis=0) / np.median(trial.error[~inside], axis=0)
    np.testing.assert_allclose(ratio, np.sqrt(0.7), rtol=0.02)


def test_variance_of_a_sum_is_that_of_squared_weights():
    made = simulated("F210M", n_int=60, flux=1e6, jitter=0.001, transit_depth=0.0)
    trial = measured(made)
    sim, image = made.simulation, made.expected(0)
    weight = overlap(*trial.plan.center, trial.plan.radii, np.arange(64), np.arange(64))
    expected = np.sum(weight**2 * (image + sim.read_noise**2), axis=(1, 2))
    np.testing.assert_allclose(np.median(trial.found.variance, axis=0), expected, rtol=0.01)
    read = np.sum(weight**2, axis=(1, 2)) * sim.read_noise**2
    np.testing.assert_allclose(trial.found.read_variance[0], read, rtol=1e-5)
    area = np.pi * trial.plan.radii**2
    np.testing.assert_allclose(trial.found.areas[0], area, rtol=1e-9)


def test_variance_with_filled_pixels_by_monte_carlo():
    """The same missing pixels in every frame: filling has an error of its own, tied to the fit."""
    made = simulated("F210M", n_int=N, flux=1e6, jitter=0.0, drift=(0, 0), transit_depth=0.0)
    rows = np.arange(N) % 3 > 0
    for x, y in ((32, 31), (31, 31), (33, 32)):
        made.dq[rows, y, x] |= np.uint32(1)
    trial = measured(made)
    # Missing in two thirds of the frames, these pixels are dead: filled alike in all.
    assert trial.plan.dead.sum() == 3
    assert (trial.error > 0).all()
    made = simulated("F210M", n_int=N, flux=1e6, jitter=0.0, drift=(0, 0), transit_depth=0.0)
    rows = np.arange(N) % 5 < 2
    for x, y in ((32, 31), (31, 31), (33, 32)):
        made.dq[rows, y, x] |= np.uint32(1)
    trial = measured(made)
    pull = (trial.flux - trial.true_flux()) / trial.error
    allowed = 0.05 + 3 / np.sqrt(2 * rows.sum())
    np.testing.assert_allclose(pull[rows].std(axis=0), 1.0, rtol=0, atol=allowed)
    grown = np.median(trial.error[rows], axis=0) / np.median(trial.error[~rows], axis=0)
    assert (grown > 1.05).all()


def test_numbers_do_not_depend_on_the_chunk():
    made = simulated("F210M", n_int=90, jitter=0.03, bad_random=3e-3, cosmic_rays=1.0)
    whole, pieces = measured(made, chunk=90), measured(made, chunk=7)
    for name in ("sums", "variance", "replaced", "background", "psf", "areas"):
        np.testing.assert_allclose(
            getattr(pieces.found, name), getattr(whole.found, name), rtol=1e-11, atol=1e-9
        )
    np.testing.assert_array_equal(pieces.found.flags, whole.found.flags)
