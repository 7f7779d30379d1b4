"""Settling of flux and of the image's width, made with NumPy: its components take it out."""

import numpy as np
import pytest

import tso_level3
from tests.skies import gaussian
from tso_level3.quality.components import slow_components

SHAPE = (48, 48)
DEPTH = 300e-6


def settling(seed, n=300, flux=5e7, minutes=40.0):
    """An eclipse during which flux and width settle, once a minute."""
    rng = np.random.default_rng(seed)
    time = np.arange(n) * 1.0
    settle = np.exp(-time / minutes)
    start = rng.uniform(80, 200)
    inside = (time > start) & (time < start + 60)
    level = (1 - DEPTH * inside) * (1 + 0.005 * rng.choice([-1, 1]) * settle)
    narrow, wide = gaussian(1.9), gaussian(1.95)
    data = np.empty((n, *SHAPE))
    for i in range(n):
        x, y = 23.4 + 0.005 * rng.standard_normal(2)
        part = 0.2 * settle[i]
        image = (1 - part) * narrow(x, y, SHAPE) + part * wide(x, y, SHAPE)
        data[i] = flux * level[i] * image + 1000.0
    errors = np.sqrt(data + 100.0)
    return data + errors * rng.standard_normal(data.shape), errors, time / 1440, inside, settle


@pytest.mark.parametrize("seed", range(3))
def test_the_slowest_component_is_the_settling(seed):
    # used to hold none of it, since changes of width were taken out before
    data, errors, time, inside, settle = settling(seed)
    product = tso_level3.measure(
        data,
        errors=errors,
        times=60000 + time,
        unit="electron",
        radii=[6.0],
        find_events=False,
        choose_aperture=False,
    )
    components = np.asarray(product.light_curve["components"])
    assert abs(np.corrcoef(components[:, 0], settle)[0, 1]) > 0.98
    made = dict(product.meta.tso_level3.components.instance)
    assert made["significant"] == 1 and made["red"][0] > 100 > 10 > made["red"][1]
    window = 60000 + time[inside][[0, -1]] + [-1e-5, 1e-5]
    for count in ("auto", 3, True):
        found = product.detrended((), components=count, window=window)
        depth = found.flux[~inside].mean() - found.flux[inside].mean()
        assert abs(depth - DEPTH) < 4 * 25e-6
    # the image of the first: brighter in the middle, or darker, and the opposite round it
    image = np.asarray(product.components)[0]
    x, y = np.array([23.4, 23.4]) - made["origin"]
    v, u = np.mgrid[: image.shape[0], : image.shape[1]]
    r = np.hypot(u - x, v - y)
    assert image[r < 1].mean() * image[(r > 3) & (r < 5)].mean() < 0
    with pytest.raises(ValueError, match="components: 'most' found"):
        product.detrended(components="most")


def test_noise_has_no_slow_component():
    rng = np.random.default_rng(1)
    chance = 0
    for _ in range(20):
        found = slow_components(rng.standard_normal((300, 12)), np.eye(12), 10)
        chance += found.significant
        # in white noise of one
        assert np.std(np.diff(found.values, axis=0)) / np.sqrt(2) == pytest.approx(1.0, abs=0.05)
        # the values and their images give the whole
    assert chance <= 1


def test_values_times_images_are_the_projections():
    rng = np.random.default_rng(2)
    slow = np.sin(np.arange(200) / 30)[:, None] * rng.standard_normal((1, 6))
    projections = rng.standard_normal((200, 6)) + 5 * slow
    found = slow_components(projections, np.eye(6), 10)
    whole = found.values @ found.images + np.median(projections, axis=0)
    np.testing.assert_allclose(whole, projections, rtol=0, atol=1e-9)
    again = slow_components(projections[::-1], np.eye(6), 10)
    np.testing.assert_allclose(again.values[::-1], found.values, rtol=0, atol=1e-6)


def test_missing_rows_and_few_integrations():
    rng = np.random.default_rng(3)
    projections = rng.standard_normal((60, 3))
    projections[10] = np.nan
    found = slow_components(projections, np.eye(3), 5)
    assert np.isnan(found.values[10]).all() and np.isfinite(found.values[11]).all()
    assert slow_components(projections[:5], np.eye(3), 5).values.shape == (5, 0)
    assert slow_components(np.zeros((60, 0)), np.zeros((0, 9)), 5).values.shape == (60, 0)
