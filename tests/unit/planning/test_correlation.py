"""Acquisition: the star is found wherever it is, and its place is right."""

import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage

from tso_level3.planning.correlation import correlation_at
from tso_level3.planning.star_search import acquire
from tso_level3.psf.kernel import GaussianKernel, Kernel, jwst_kernel

# B1 is the detector of most short-wave time series
SHORT = {"instrument": "NIRCAM", "filter": "F210M", "detector": "NRCB1"}
SKY, READ_NOISE = 20.0, 12.0


def build(name):
    if name == "gaussian":
        return GaussianKernel(1.2, 1.2)
    return jwst_kernel(**SHORT, pupil="WLP8" if name == "lens" else "CLEAR")


def flux_of(name):
    return 8e6 if name == "lens" else 3e5


def scene(kernel, shape, x, y, flux, rng, *, neighbour=0.0, bad=0.02):
    """Noisy frame of a star, its mask, and the bad pixels' values left in it."""
    image = kernel.render(x, y, shape, flux=flux) + SKY
    if neighbour:
        image += kernel.render(x + 8.0, y, shape, flux=neighbour * flux)
    image = rng.poisson(image) + rng.normal(0.0, READ_NOISE, shape)
    mask = rng.random(shape) < bad
    image[mask] = np.where(rng.random(np.count_nonzero(mask)) < 0.5, np.nan, 1e6)
    return image, mask


@pytest.mark.parametrize("name", ["gaussian", "focus", "lens"])
@pytest.mark.parametrize(("shape", "off"), [((160, 160), 20.0), ((64, 64), 10.0)])
def test_no_failure_with_the_star_off_its_expected_place(name, shape, off):
    kernel, rng = build(name), np.random.default_rng(11)
    middle = (0.5 * shape[1], 0.5 * shape[0])
    for angle in rng.uniform(0, 2 * np.pi, 15):
        x, y = middle[0] + off * np.cos(angle), middle[1] + off * np.sin(angle)
        image, mask = scene(kernel, shape, x, y, flux_of(name), rng)
        peak = acquire(image, mask, kernel, near=middle)
        # photon noise allows 0.003 in focus, 0.008 on a 64-pixel cut of the lens's image
        assert np.hypot(peak.x - x, peak.y - y) < 0.04
        assert peak.value > 0.99


@pytest.mark.parametrize("name", ["gaussian", "focus", "lens"])
@pytest.mark.parametrize("shape", [(160, 160), (64, 64)])
def test_within_three_pixels_of_an_edge(name, shape):
    kernel, rng = build(name), np.random.default_rng(12)
    ny, nx = shape
    for x, y in ((2.3, 30.0), (nx - 3.1, 31.2), (30.2, 2.4), (31.0, ny - 2.6), (2.5, 2.7)):
        image, mask = scene(kernel, shape, x, y, flux_of(name), rng)
        peak = acquire(image, mask, kernel)
        assert np.hypot(peak.x - x, peak.y - y) < 0.04


@pytest.mark.parametrize(("name", "allowed"), [("gaussian", 0.03), ("focus", 0.03), ("lens", 0.2)])
@pytest.mark.parametrize("shape", [(160, 160), (64, 64)])
def test_with_a_neighbour_of_ten_percent(name, allowed, shape):
    kernel, rng = build(name), np.random.default_rng(13)
    for x, y in rng.uniform(30, 34, (8, 2)):
        image, mask = scene(kernel, shape, x, y, flux_of(name), rng, neighbour=0.1)
        peak = acquire(image, mask, kernel)
        # on a weak lens the neighbour lies on top of the star's image and pulls it
        assert np.hypot(peak.x - x, peak.y - y) < allowed


@pytest.mark.parametrize("name", ["gaussian", "focus", "lens"])
def test_no_pixel_phase_error(name):
    # used to be 0.02 px with a parabola through three pixels
    kernel = build(name)
    for x, y in np.random.default_rng(14).uniform(30, 34, (6, 2)):
        image = 1e4 * kernel.render(x, y, (64, 65)) + 500.0
        peak = acquire(image, None, kernel)
        assert np.hypot(peak.x - x, peak.y - y) < 1e-5
        assert peak.value == pytest.approx(1.0, abs=1e-9)


def test_centre_of_even_and_odd_frames():
    kernel = GaussianKernel(1.5, 1.0)
    for shape in ((31, 31), (32, 32), (31, 40)):
        y, x = 0.5 * (shape[0] - 1), 0.5 * (shape[1] - 1)
        peak = acquire(kernel.render(x, y, shape), None, kernel)
        assert (peak.x, peak.y) == pytest.approx((x, y), abs=1e-7)


def test_kernel_larger_than_the_frame():
    kernel = build("lens")
    assert 2 * kernel.half_width + 1 > 64
    image = kernel.render(29.7, 33.4, (64, 64), flux=8e6)
    peak = acquire(image, None, kernel)
    assert np.hypot(peak.x - 29.7, peak.y - 33.4) < 1e-5
    assert 0.1 < peak.overlap < 0.5


@pytest.mark.parametrize("waves", [8.03, 8.1])
@pytest.mark.parametrize("cut", [(548, 161), (540, 150), (560, 170), (530, 161), (548, 180)])
def test_64_pixel_cuts_of_a_real_weak_lens_image(shared_data, waves, cut):
    image = fits.getdata(shared_data / "wasp39_nrca3_f210m_wlp8" / "median_image.fits")
    image = image.astype(float)
    bad = ~np.isfinite(image) | (image < 0.6 * ndimage.median_filter(image, 5) - 200)
    kernel = jwst_kernel(
        instrument="NIRCAM", filter="F210M", pupil="WLP8", detector="NRCA3", waves=waves
    )
    whole = acquire(image, bad, kernel)
    assert whole.value >= 0.955
    box = np.s_[cut[1] - 32 : cut[1] + 32, cut[0] - 32 : cut[0] + 32]
    peak = acquire(image[box], bad[box], kernel)
    # the wavefront, which the kernel does not know, differs between parts of the image
    assert abs(peak.x + cut[0] - 32 - whole.x) < 0.6
    assert abs(peak.y + cut[1] - 32 - whole.y) < 0.6
    assert peak.value > 0.8


def test_near_breaks_ties_and_radius_restricts():
    kernel = GaussianKernel(1.5, 1.5)
    image = kernel.render(15, 20, (50, 60), flux=1e4) + kernel.render(42, 30, (50, 60), flux=9e3)
    assert acquire(image, None, kernel, near=(13, 19)).x == pytest.approx(15, abs=0.05)
    assert acquire(image, None, kernel, near=(45, 32)).x == pytest.approx(42, abs=0.05)
    inside = acquire(image, None, kernel, near=(40, 31), radius=5)
    assert (inside.x, inside.y) == pytest.approx((42, 30), abs=0.05)
    far = acquire(image, None, kernel, near=(-50, 20), radius=5)
    assert np.isnan(far.value)


def test_the_cut_made_for_radius_changes_nothing():
    kernel, rng = build("focus"), np.random.default_rng(15)
    image, mask = scene(kernel, (200, 220), 100.3, 120.8, 3e5, rng)
    whole = acquire(image, mask, kernel)
    cut = acquire(image, mask, kernel, near=(102, 119), radius=6)
    assert (cut.x, cut.y) == pytest.approx((whole.x, whole.y), abs=1e-5)


def test_a_slope_of_the_background_and_its_level_do_little():
    kernel = build("focus")
    image = kernel.render(31.3, 30.6, (64, 64), flux=3e5)
    image += 1e5 + 2.0 * np.arange(64)
    peak = acquire(image, None, kernel)
    assert np.hypot(peak.x - 31.3, peak.y - 30.6) < 0.005


def test_a_star_too_faint_shows_in_the_value():
    kernel, rng = build("focus"), np.random.default_rng(16)
    nothing = [acquire(*scene(kernel, (64, 64), 32, 32, 0.0, rng), kernel).value for _ in range(5)]
    bright = acquire(*scene(kernel, (64, 64), 32, 32, 2e4, rng), kernel).value
    assert max(nothing) < 0.3
    assert bright > 0.9


@pytest.mark.parametrize("image", [np.full((40, 40), 3.0), np.full((40, 40), np.nan)])
def test_nothing_there_is_nan(image):
    peak = acquire(image, None, build("focus"))
    assert np.isnan([peak.x, peak.y, peak.value]).all()


def test_input_is_not_changed():
    kernel = build("focus")
    image, mask = scene(kernel, (64, 64), 30, 30, 3e5, np.random.default_rng(17))
    copies = image.copy(), mask.copy()
    acquire(image, mask, kernel)
    np.testing.assert_array_equal(image, copies[0])
    np.testing.assert_array_equal(mask, copies[1])


def test_correlation_and_gradient_where_the_star_is_not():
    kernel = build("focus")
    image = kernel.render(30.0, 31.0, (64, 64), flux=1e4)
    good = np.ones(image.shape, dtype=bool)
    h = 1e-5
    value, gradient, _ = correlation_at(image, good, kernel, 30.3, 30.9)
    ahead = correlation_at(image, good, kernel, 30.3 + h, 30.9)[0]
    behind = correlation_at(image, good, kernel, 30.3 - h, 30.9)[0]
    assert gradient[0] == pytest.approx((ahead - behind) / (2 * h), rel=1e-4)
    assert value < 0.99


def test_sampled_kernel_off_its_middle():
    truth = GaussianKernel(2.0, 1.5)
    sampled = Kernel(truth.render(9.25, 14.5, (27, 23)), 1, (9.25, 14.5), "file")
    peak = acquire(truth.render(20.4, 18.7, (40, 40)), None, sampled)
    assert (peak.x, peak.y) == pytest.approx((20.4, 18.7), abs=2e-3)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mask": np.zeros((3, 3), dtype=bool)}, r"mask has shape \(3, 3\)"),
        ({"image": np.zeros(5)}, r"image has shape \(5,\)"),
        ({"min_overlap": 0.0}, "min_overlap is 0"),
        ({"radius": 5.0}, "radius is 5"),
        ({"radius": -1.0, "near": (3, 3)}, "radius is -1"),
    ],
)
def test_bad_calls(change, told):
    call = {"image": np.zeros((20, 20)), "mask": None, "kernel": GaussianKernel(1, 1), **change}
    with pytest.raises(ValueError, match=told):
        acquire(**call)
