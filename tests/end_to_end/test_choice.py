"""What is quoted, of arrays that are made here: the depth of a transit is right."""

import numpy as np
import pytest

from tso_level3 import measure

SHAPE, CENTRE = (48, 48), (23.6, 24.2)


def _arrays(star, sky, depth, response, *, n=200, seed=0, jitter=0.01):
    """A Gaussian star on a sky, through pixels of unequal response; errors are known."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    light = np.where(np.abs(np.arange(n) - n / 2) < n / 5, 1.0 - depth, 1.0)
    moved = CENTRE + jitter * rng.standard_normal((n, 2))
    away = (x - moved[:, 0, None, None]) ** 2 + (y - moved[:, 1, None, None]) ** 2
    images = star / (2 * np.pi * 1.6**2) * np.exp(-0.5 * away / 1.6**2)
    images = (images * light[:, None, None] + sky) * response
    errors = np.sqrt(images + 10.0**2)
    return images + errors * rng.standard_normal(images.shape), errors, light


def _depth(flux, light):
    inside = light < 1.0
    one, two = flux[inside], flux[~inside]
    error = np.hypot(one.std() / np.sqrt(one.size), two.std() / np.sqrt(two.size))
    return 1.0 - one.mean() / two.mean(), error / two.mean()


def _with_dead(n_dead, seed, value=0.1):
    rng = np.random.default_rng(seed)
    response = np.ones(SHAPE)
    for _ in range(n_dead):
        r, angle = rng.uniform(4, 12), rng.uniform(0, 2 * np.pi)
        x, y = (round(c + r * f(angle)) for c, f in zip(CENTRE, (np.cos, np.sin)))
        response[y, x] = value
    return response


@pytest.mark.parametrize("seed", range(4))
def test_dead_pixels_in_the_sky_do_not_change_the_depth(seed):
    # used to quote 1.32 % for 2 %: the template held the sky's holes, and scaled them with the star
    images, errors, light = _arrays(1e6, 2e4, 0.02, _with_dead(2, seed), seed=seed)
    product = measure(images, errors=errors, position=CENTRE, unit="electron")
    found, error = _depth(product.flux, light)
    assert found == pytest.approx(0.02, abs=4 * error)
    fit, _ = _depth(np.asarray(product.light_curve["psf_flux"]), light)
    if abs(fit - 0.02) > 4 * error:
        assert product.apertures["rejected"][-1] != ""


def test_a_quiet_scene_rejects_nothing():
    images, errors, light = _arrays(1e6, 200.0, 0.02, np.ones(SHAPE), seed=3)
    product = measure(images, errors=errors, position=CENTRE, unit="electron")
    inside = product.apertures["radius"] <= product.apertures["radius_inner"]
    assert not np.any(product.apertures["rejected"][inside | (product.apertures["kind"] == "psf")])
    found, error = _depth(product.flux, light)
    assert found == pytest.approx(0.02, abs=4 * error)
