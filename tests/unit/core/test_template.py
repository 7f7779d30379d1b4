"""The linear fit of the exposure's own model, and how its image moves."""

import pickle

import numpy as np
import pytest

from tso_level3.core.shift import ShiftedImage, without_noise
from tso_level3.core.template import Bad, Template, fit_frames
from tso_level3.psf.kernel import GaussianKernel, jwst_kernel

SHAPE = (25, 27)
ORIGIN = (8, 5)
PLACE = (20.9, 17.3)
FLUX = 3e5


def columns_rows():
    rows, columns = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    return columns.ravel() + ORIGIN[0], rows.ravel() + ORIGIN[1]


def star(kernel, sx=0.0, sy=0.0, flux=FLUX):
    u = np.arange(SHAPE[1]) + ORIGIN[0] - PLACE[0] - sx
    v = np.arange(SHAPE[0]) + ORIGIN[1] - PLACE[1] - sy
    return flux * kernel.evaluate(u, v)


def template(kernel, *, constant=True, moved_by=None):
    image = star(kernel)
    columns, rows = columns_rows()
    variance = image.ravel() + 164.0
    moved = ShiftedImage(image, ORIGIN, moved_by, *PLACE, FLUX)
    return Template(moved, *PLACE, FLUX, columns, rows, 1.0 / variance, variance, constant=constant)


KERNEL = jwst_kernel(instrument="NIRCAM", filter="F210M", detector="NRCA3")
GAUSS = GaussianKernel(1.9, 1.7)


@pytest.mark.parametrize("constant", [True, False])
def test_bad_pixels_have_no_weight(constant):
    """Against numpy.linalg.lstsq on the pixels that are left."""
    model = template(KERNEL, constant=constant, moved_by=KERNEL)
    rng = np.random.default_rng(1)
    n = 30
    images = np.stack([star(KERNEL, *s).ravel() for s in rng.normal(0, 0.01, (n, 2))])
    images += 20.0 * constant + rng.standard_normal(images.shape) * np.sqrt(model.variance)
    mask = rng.random(images.shape) < np.linspace(0, 0.2, n)[:, None]
    mask[5] = False
    images[mask] = 0.0
    fit = fit_frames(model, images, Bad.of(mask))
    node = model.node((0, 0))
    assert fit.ok.all() and (fit.nodes == 0).all()
    for i in range(n):
        keep = ~mask[i]
        root = np.sqrt(model.weights[keep])
        design = (node.terms[:, keep] * root).T
        size = np.sqrt((design**2).sum(axis=0))
        best = np.linalg.lstsq(design / size, images[i, keep] * root, rcond=None)[0] / size
        error = np.sqrt(np.diag(np.linalg.inv(design.T @ design)))
        assert np.abs((fit.coefficients[i] - best) / error).max() < 1e-9 * (best[0] / error[0])
        np.testing.assert_allclose(fit.coefficients[i, :3], best[:3], rtol=0, atol=1e-9)
        np.testing.assert_allclose(np.sqrt(np.diag(fit.covariance[i])), error, rtol=1e-6)


@pytest.mark.parametrize("kernel", [KERNEL, GAUSS], ids=["jwst", "gaussian"])
def test_known_shifts_come_back(kernel):
    model = template(kernel, moved_by=kernel)
    shifts = np.random.default_rng(2).uniform(-1.2, 1.2, (40, 2))
    images = np.stack([star(kernel, *s, flux=1.1 * FLUX).ravel() for s in shifts]) + 33.0
    fit = fit_frames(model, images, Bad.none())
    assert fit.ok.all()
    # What is left of the expansion 0.05 px from a node.
    np.testing.assert_allclose(fit.x, shifts[:, 0], rtol=0, atol=3e-5)
    np.testing.assert_allclose(fit.y, shifts[:, 1], rtol=0, atol=3e-5)
    np.testing.assert_allclose(fit.flux, 1.1, rtol=0, atol=1e-4)
    peak = images.max()
    assert np.abs(fit.model(model) - images).max() < 1e-3 * peak


def test_the_spline_moves_a_wide_image_as_the_kernel_does():
    by_spline = template(GAUSS)
    columns, rows = columns_rows()
    inner = (abs(columns - PLACE[0]) < 9) & (abs(rows - PLACE[1]) < 9)
    peak = star(GAUSS).max()
    for order in ((0, 0), (1, 0), (0, 1), (1, 1), (2, 0)):
        moved = by_spline.image.at(0.3, -0.2, *order, (columns, rows))
        u = np.arange(SHAPE[1]) + ORIGIN[0] - PLACE[0] - 0.3
        v = np.arange(SHAPE[0]) + ORIGIN[1] - PLACE[1] + 0.2
        exact = FLUX * GAUSS.evaluate(u, v, *order).ravel()
        assert np.abs(moved - exact)[inner].max() < 1e-3 * peak


def test_the_rest_moves_with_the_star_and_noise_stays():
    truth, near = GaussianKernel(1.9, 1.7), GaussianKernel(1.8, 1.8)
    rng = np.random.default_rng(3)
    noise = rng.standard_normal(SHAPE)
    rest = star(truth) - star(near)
    moved = ShiftedImage(star(truth) + noise, ORIGIN, near, *PLACE, FLUX, rest)
    values = moved.at(0.4, 0.1, 0, 0, columns_rows()).reshape(SHAPE)
    expected = star(truth, 0.4, 0.1) + noise
    assert np.abs(values - expected)[4:-4, 4:-4].max() < 1e-3 * star(truth).max()


def test_noise_does_not_pass_for_gradients():
    """Used to make the response of faint stars 25 % too small."""
    rng = np.random.default_rng(4)
    shape = (80, 90)
    y, x = np.indices(shape)
    wave = 30.0 * np.exp(-((x - 44) ** 2 + (y - 40) ** 2) / (2 * 6.0**2))
    noisy = wave + 10.0 * rng.standard_normal(shape)
    clean = without_noise(noisy, 100.0)
    # The error left is a few per cent of the noise, and uncorrelated with what is kept.
    assert np.mean((clean - wave) ** 2) < 0.06 * 100.0
    assert abs(np.mean(clean * (wave - clean))) < 0.03 * np.mean(wave**2)
    # Noise alone nearly vanishes, also where its size is not known; a bright image stays.
    assert without_noise(noisy - wave, 0.0).std() < 0.25 * 10.0
    bright = 1e5 * wave
    assert np.abs(without_noise(bright + noisy - wave, 100.0) - bright).max() < 1e-5 * bright.max()


def test_nodes_and_company_do_not_matter():
    model = template(KERNEL, moved_by=KERNEL)
    rng = np.random.default_rng(6)
    shifts = rng.normal(0, 0.15, (50, 2))
    images = np.stack([star(KERNEL, *s).ravel() for s in shifts])
    images += rng.standard_normal(images.shape) * np.sqrt(model.variance)
    mask = rng.random(images.shape) < 0.01
    images[mask] = 0.0
    whole = fit_frames(model, images, Bad.of(mask))
    for k in range(0, 50, 9):
        part = fit_frames(model, images[k : k + 9], Bad.of(mask[k : k + 9]))
        np.testing.assert_allclose(part.x, whole.x[k : k + 9], rtol=0, atol=1e-12)
        np.testing.assert_allclose(part.flux, whole.flux[k : k + 9], rtol=1e-12)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(fit_frames(again, images, Bad.of(mask)).x, whole.x)


def test_frames_that_cannot_be_fitted_say_so():
    model = template(KERNEL, moved_by=KERNEL)
    images = np.stack([star(KERNEL).ravel()] * 3) + 20.0
    images[1] = -images[1]
    images[2] = star(KERNEL, 40.0, 0.0).ravel()  # gone from the subframe
    mask = np.zeros(images.shape, bool)
    images = np.concatenate([images, images[:1], images[:1]])
    mask = np.concatenate([mask, np.ones((1, images.shape[1]), bool), mask[:1]])
    images[3] = 0.0
    noise = np.random.default_rng(1).standard_normal(images.shape[1]) * np.sqrt(model.variance)
    images[4] = 20.0 + noise  # no star
    fit = fit_frames(model, images, Bad.of(mask))
    np.testing.assert_array_equal(fit.ok, [True, False, False, False, False])
    assert abs(fit.x[0]) < 1e-6


def test_the_list_of_bad_pixels():
    mask = np.zeros((4, 6), bool)
    mask[1, 2] = mask[1, 5] = mask[3, 0] = True
    bad = Bad.of(mask)
    np.testing.assert_array_equal(bad.frame, [1, 1, 3])
    part = bad.select(np.array([1, 2]), 4)
    np.testing.assert_array_equal(part.frame, [0, 0])
    more = bad.join(Bad(np.array([0, 1]), np.array([4, 2])))
    np.testing.assert_array_equal(more.frame, [0, 1, 1, 3])
    np.testing.assert_array_equal(more.pixel, [4, 2, 5, 0])
    assert bad.join(Bad.none()) is bad


@pytest.mark.parametrize("undersampled", [False, True])
def test_all_of_the_image_moves(undersampled):
    # used to leave behind what the kernel does not explain and the filter takes for noise: faint
    # stars that drifted answered with 0.995 of their motion
    truth, kernel = GaussianKernel(1.6, 1.6), GaussianKernel(1.45, 1.45)
    columns, rows = (axis.ravel() for axis in np.meshgrid(np.arange(25), np.arange(25)))
    image = truth.render(12.2, 11.7, (25, 25))
    nothing = None if undersampled else np.zeros(image.shape)
    moving = ShiftedImage(image, (0, 0), kernel, 12.2, 11.7, 1.0, nothing)
    moved = moving.at(0.6, -0.4, 0, 0, (columns, rows)).reshape(25, 25)
    expected = truth.render(12.8, 11.3, (25, 25))
    # an interpolated difference is not exact, but it is nearer by ten times than one that stays
    stayed = image - kernel.render(12.2, 11.7, (25, 25)) + kernel.render(12.8, 11.3, (25, 25))
    assert abs(moved - expected).max() < 3e-3 * expected.max()
    assert abs(stayed - expected).max() > 10 * abs(moved - expected).max()
    # the kernel's own derivative, since nothing else is known to be light
    slope = moving.at(0.0, 0.0, 1, 0, (columns, rows)).reshape(25, 25)
    u, v = np.arange(25) - 12.2, np.arange(25) - 11.7
    np.testing.assert_allclose(slope, kernel.evaluate(u, v, 1, 0), rtol=0, atol=1e-12)
