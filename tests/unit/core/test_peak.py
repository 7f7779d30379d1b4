"""The exact peak of the normalised correlation, against brute force."""

import numpy as np
import pytest
from scipy.optimize import root

from tso_level3.core.peak import Correlator
from tso_level3.psf.kernel import GaussianKernel, jwst_kernel

FOCUS = {"instrument": "NIRCAM", "filter": "F210M", "detector": "NRCA3"}
WEAK = {**FOCUS, "pupil": "WLP8"}


def setup(kernel, half, flux, *, n=12, spread=0.3, seed=4):
    """Noisy frames at known shifts, and a correlator for them."""
    rng = np.random.default_rng(seed)
    grid = np.arange(2 * half + 1) + 7
    center = np.array([7.0 + half + 0.13, 7.0 + half - 0.28])
    shift = rng.normal(0, spread, (n, 2))
    clean = np.array([flux * kernel.evaluate(grid - x, grid - y) for x, y in center + shift])
    images = clean + rng.standard_normal(clean.shape) * np.sqrt(np.maximum(clean, 0) + 144)
    good = np.ones(len(grid) ** 2)
    return Correlator(kernel, *center, grid, grid, good), images.reshape(n, -1), shift, grid


def slopes(correlator, image, grid, s):
    """Gradient of the normalised correlation by its definition, and its value."""
    kernel, good = correlator.kernel, correlator.good
    u, v = grid - correlator.x - s[0], grid - correlator.y - s[1]

    def apart(values):
        values = values.ravel()
        return good * (values - (good @ values) / good.sum())

    image = apart(image)
    k = apart(kernel.evaluate(u, v))
    norm = np.sqrt(k @ k) * np.sqrt(image @ image)
    out = []
    for order in ((1, 0), (0, 1)):
        d = -apart(kernel.evaluate(u, v, *order))
        out.append((image @ d - (image @ k) * (k @ d) / (k @ k)) / norm)
    return np.array(out), (image @ k) / norm


@pytest.mark.parametrize(
    ("kernel", "half", "flux"),
    [
        (jwst_kernel(**FOCUS), 10, 3e5),
        (jwst_kernel(**WEAK), 40, 8e7),
        (GaussianKernel(1.4, 1.1), 8, 1e5),
    ],
    ids=["focus", "weak lens", "gaussian"],
)
def test_brute_force_finds_the_same_peak(kernel, half, flux):
    correlator, images, shift, grid = setup(kernel, half, flux)
    correlator.good[[3, 77, half * (2 * half + 2)]] = 0.0  # dead pixels, one of them central
    found = correlator.peaks(images, np.zeros(len(images)), np.zeros(len(images)))
    for image, x, y, value, s in zip(images, found.x, found.y, found.value, shift):
        best = root(lambda p, image=image: slopes(correlator, image, grid, p)[0], s, tol=1e-14)
        np.testing.assert_allclose([x, y], best.x, rtol=0, atol=1e-6)
        assert value == pytest.approx(slopes(correlator, image, grid, best.x)[1], abs=1e-7)


def test_the_start_and_the_level_do_not_matter():
    correlator, images, _, _ = setup(jwst_kernel(**FOCUS), 10, 3e5)
    zero = np.zeros(len(images))
    first = correlator.peaks(images, zero, zero)
    second = correlator.peaks(images + 500.0, zero + 0.5, zero - 0.4)
    np.testing.assert_allclose(second.x, first.x, rtol=0, atol=1e-6)
    np.testing.assert_allclose(second.y, first.y, rtol=0, atol=1e-6)
    np.testing.assert_allclose(second.value, first.value, rtol=0, atol=1e-9)


def test_a_star_larger_than_the_subframe_is_followed_in_full():
    # used to follow by three quarters: the kernel's norm on the subframe changes with the shift
    kernel = jwst_kernel(**WEAK)
    correlator, _, _, grid = setup(kernel, 30, 8e7)
    shift = np.linspace(-0.4, 0.4, 9)
    clean = np.array(
        [8e7 * kernel.evaluate(grid - correlator.x - s, grid - correlator.y + s) for s in shift]
    )
    found = correlator.peaks(clean.reshape(9, -1), np.zeros(9), np.zeros(9))
    np.testing.assert_allclose(found.x, shift, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.y, -shift, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.value, 1.0, rtol=0, atol=1e-9)


def test_frames_do_not_depend_on_their_company():
    correlator, images, _, _ = setup(jwst_kernel(**FOCUS), 10, 3e4, n=40)
    zero = np.zeros(40)
    whole = correlator.peaks(images, zero, zero)
    for k in range(0, 40, 7):
        part = correlator.peaks(images[k : k + 7], zero[k : k + 7], zero[k : k + 7])
        for name in ("x", "y", "value"):
            a, b = getattr(part, name), getattr(whole, name)[k : k + 7]
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def test_no_peak_is_nan():
    correlator, images, _, _ = setup(jwst_kernel(**FOCUS), 10, 3e5, n=4)
    images[1] = 0.0
    images[2] = np.nan
    found = correlator.peaks(images, np.array([0, 0, 0, np.nan]), np.zeros(4))
    assert np.isfinite(found.x[0]) and np.isfinite(found.value[0])
    assert np.isnan(found.x[2:]).all() and np.isnan(found.value[1:]).all()
