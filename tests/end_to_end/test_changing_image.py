"""Ground frames whose seeing changes: nothing of the star is taken for cosmic rays."""

import numpy as np
import pytest

import tso_level3
from tests.skies import night
from tso_level3.flags import Flag


def moffat(fwhm: float, beta: float = 3.0):
    """A Moffat profile summed over 3 x 3 points a pixel."""
    width = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)

    def image(x, y, shape):
        v, u = np.mgrid[: 3 * shape[0], : 3 * shape[1]]
        square = ((u - 1) / 3 - x) ** 2 + ((v - 1) / 3 - y) ** 2
        profile = (beta - 1) / (np.pi * width**2) * (1 + square / width**2) ** -beta / 9
        return profile.reshape(shape[0], 3, shape[1], 3).sum((1, 3))

    return image


def seeing(kind, n):
    rng = np.random.default_rng(3)
    return {
        "slow": 4 * (1 + 0.3 * np.sin(np.arange(n) / 20)),
        "fast": 4 * (1 + 0.15 * rng.standard_normal(n).clip(-2, 3)),
        "bursts": 4 * (1 + 0.6 * (rng.random(n) < 0.1)),
    }[kind]


def light_curve(made, errors, sigma):
    product = tso_level3.measure(
        made.data,
        errors=made.errors if errors else None,
        times=made.times,
        unit="electron",
        position=(35, 35),
        radii=(16,),
        radius_inner=20,
        radius_outer=30,
        choose_aperture=False,
        find_events=False,
        outlier_sigma=sigma,
    )
    return np.asarray(product.light_curve["aperture_flux"])[:, 0], product.light_curve


@pytest.mark.parametrize("kind", ["slow", "fast", "bursts"])
@pytest.mark.parametrize("errors", [True, False])
@pytest.mark.parametrize("sigma", [0.0, 5.0])
def test_changing_seeing_is_not_taken_away(kind, errors, sigma):
    n = 100
    how = {"n": n, "width": seeing(kind, n), "shape": (71, 71), "at": (35.3, 34.7), "drift": 0.8}
    made = night(moffat, 2e6, 300.0, seed=4, **how)
    flux, table = light_curve(made, errors, sigma)
    # The sum of the pixels less the sky that is known here, with nothing filled.
    rows, columns = np.mgrid[:71, :71]
    inside = np.hypot(columns - 35.3, rows - 34.7) < 16
    plain = (made.data[:, inside] - 300.0).sum(axis=1)
    away = flux / np.median(flux) - plain / np.median(plain)
    # used to take up to 42 % of the flux of a frame as cosmic rays, and 2 % of all as row noise
    assert np.abs(away).max() < 0.03
    assert np.median(flux) == pytest.approx(np.median(plain), rel=0.005)
    assert np.std(away) < 0.002
    replaced = np.asarray(table["aperture_replaced"])[:, 0]
    changed = (np.asarray(table["flags"]) & Flag.IMAGE_CHANGED) > 0
    assert np.all(replaced[changed] == 0)
    found, error = made.depth_of(flux)
    # The annulus holds wings that change with the seeing.
    assert abs(found - made.depth_of(plain)[0]) < error


def test_rays_on_the_core_are_still_filled():
    made = night(
        moffat, 1e6, 300.0, n=100, seed=4, shape=(71, 71), at=(35.3, 34.7), width=[4] * 100
    )
    clean, _ = light_curve(made, True, 5.0)
    rng = np.random.default_rng(1)
    hit = np.arange(0, 100, 9)
    for frame in hit:
        y, x = 35 + rng.integers(-2, 3, 2)
        made.data[frame, y, x] += 1e5
        made.data[frame, y, x + 1] += 4e4
    flux, table = light_curve(made, True, 5.0)
    assert np.all(np.asarray(table["flags"])[hit] & Flag.OUTLIER)
    assert np.abs(flux - clean)[hit].max() < 4 * np.std(clean[~made.inside])
