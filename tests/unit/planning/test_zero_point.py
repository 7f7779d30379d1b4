"""Where the star is in its mean image: the kernel laid on it."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from tso_level3.planning.zero_point import place_kernel
from tso_level3.psf.kernel import GaussianKernel, jwst_kernel

SETUP = {"instrument": "NIRCAM", "filter": "F210M", "detector": "NRCA3"}
ORIGIN = (20, 31)
SHAPE = (33, 35)


def scene(kernel, x, y, flux=3e5, level=17.0):
    columns, rows = ORIGIN[0] + np.arange(SHAPE[1]), ORIGIN[1] + np.arange(SHAPE[0])
    return flux * kernel.evaluate(columns - x, rows - y) + level


@pytest.mark.parametrize("weak", [False, True])
def test_a_star_is_found_where_it_is(weak):
    kernel = jwst_kernel(**SETUP, pupil="WLP8" if weak else None)
    image = scene(kernel, 36.83, 46.21)
    place = place_kernel(image, np.ones(SHAPE), kernel, 36.2, 47.0, origin=ORIGIN)
    assert place.converged
    np.testing.assert_allclose([place.x, place.y], [36.83, 46.21], rtol=0, atol=1e-6)
    assert place.flux == pytest.approx(3e5, rel=1e-6)
    assert place.level == pytest.approx(17.0, abs=3e-3)


def test_it_is_the_weighted_least_squares_fit():
    """Also with another star's kernel, and with pixels that do not count."""
    truth, kernel = jwst_kernel(**SETUP), GaussianKernel(0.95, 1.05)
    rng = np.random.default_rng(3)
    image = scene(truth, 36.83, 46.21)
    weights = 1.0 / (image + 144.0)
    image = image + rng.standard_normal(SHAPE) / np.sqrt(weights)
    weights[10:12, 15] = 0.0
    image[10:12, 15] = 1e6
    columns, rows = ORIGIN[0] + np.arange(SHAPE[1]), ORIGIN[1] + np.arange(SHAPE[0])

    def residual(p):
        model = 1e5 * p[2] * kernel.evaluate(columns - p[0], rows - p[1]) + 10.0 * p[3]
        return (np.sqrt(weights) * (model - image)).ravel()

    best = least_squares(residual, [36.8, 46.2, 3.0, 2.0], xtol=1e-15, ftol=1e-15, gtol=1e-15)
    place = place_kernel(image, weights, kernel, 36.2, 47.0, origin=ORIGIN)
    assert place.converged
    np.testing.assert_allclose([place.x, place.y], best.x[:2], rtol=0, atol=2e-7)
    assert place.flux == pytest.approx(1e5 * best.x[2], rel=1e-6)


def test_its_mean_is_the_truth_within_the_noise():
    kernel = jwst_kernel(**SETUP)
    clean = scene(kernel, 36.83, 46.21, flux=2e4)
    weights = 1.0 / (clean + 144.0)
    rng = np.random.default_rng(5)
    found = []
    for _ in range(150):
        image = clean + rng.standard_normal(SHAPE) / np.sqrt(weights)
        place = place_kernel(image, weights, kernel, 36.8, 46.2, origin=ORIGIN)
        assert place.converged
        found.append((place.x, place.y, place.flux))
    found = np.array(found)
    error = found.std(axis=0) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - (36.83, 46.21, 2e4)) < 4 * error).all()


def test_what_is_no_star_does_not_converge():
    kernel = jwst_kernel(**SETUP)
    hole = -scene(kernel, 36.8, 46.2, level=0.0)
    assert not place_kernel(hole, np.ones(SHAPE), kernel, 36.8, 46.2, origin=ORIGIN).converged
    blank = np.zeros(SHAPE)
    assert not place_kernel(blank, np.ones(SHAPE), kernel, 36.8, 46.2, origin=ORIGIN).converged
