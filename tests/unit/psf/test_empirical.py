import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage

from tso_level3.planning.empirical import (
    empirical_kernel,
    fill_missing,
    refine_defocus,
    scan_range,
)
from tso_level3.planning.star_search import acquire
from tso_level3.psf.kernel import GaussianKernel, jwst_kernel, nominal_waves

SETUP = {"instrument": "NIRCAM", "filter": "F210M", "pupil": "WLP8", "detector": "NRCA3"}


SCAN = scan_range(8.03)


def make(waves):
    return jwst_kernel(**SETUP, waves=waves)


@pytest.fixture(scope="module")
def wasp39(shared_data):
    image = fits.getdata(shared_data / "wasp39_nrca3_f210m_wlp8" / "median_image.fits")
    image = image.astype(float)
    # dark pixels: far below their surroundings
    bad = ~np.isfinite(image) | (image < 0.6 * ndimage.median_filter(image, 5) - 200)
    return image, bad


def test_real_weak_lens_image(wasp39):
    image, bad = wasp39
    before = image.copy()
    found = refine_defocus(image, bad, make, (548.6, 161.5), scan=SCAN)
    assert found.correlation >= 0.955
    assert 8.0 <= found.waves <= 8.25
    assert not found.at_edge
    # the reference centroid is a centre of mass of an image with structure
    assert np.hypot(found.x - 548.57, found.y - 161.48) < 0.5
    np.testing.assert_array_equal(image, before)
    # a kernel of the other sign, or without refinement, does worse
    other = refine_defocus(image, bad, make, (548.6, 161.5), scan=(-8.4, -7.6), steps=3)
    assert other.correlation < found.correlation - 0.05


def test_real_image_cut_to_64_pixels(wasp39):
    image, bad = wasp39
    cut = np.s_[161 - 32 : 161 + 32, 548 - 32 : 548 + 32]
    found = refine_defocus(image[cut], bad[cut], make, (32, 32), scan=SCAN)
    assert 7.9 <= found.waves <= 8.3
    assert np.hypot(found.x + 516 - 548.8, found.y + 129 - 161.6) < 0.5
    assert found.correlation > 0.85


@pytest.mark.parametrize(
    ("pupil", "filter", "truth"),
    [("WLP8", "F210M", 8.13), ("WLM8", "F210M", -7.87), ("CLEAR", "WLP4", 4.07)],
)
def test_defocus_of_a_simulated_star(pupil, filter, truth):
    setup = {"instrument": "NIRCAM", "filter": filter, "pupil": pupil}
    rng = np.random.default_rng(5)
    image = jwst_kernel(**setup, waves=truth).render(80.3, 77.6, (161, 160), flux=8e6)
    image = rng.poisson(image + 20.0) - 20.0
    found = refine_defocus(
        image,
        None,
        lambda waves: jwst_kernel(**setup, waves=waves),
        scan=scan_range(nominal_waves(**setup)),
    )
    # the parabola over steps of 0.2 waves is good to a few hundredths
    assert abs(found.waves - truth) < 0.04
    assert np.hypot(found.x - 80.3, found.y - 77.6) < 0.03
    assert found.correlation > 0.99


def fourier_star(waves, wavelength, scale, side, wide=5):
    """Image of a defocused star by a plain FFT: eighteen hexagons, one wavelength, no struts."""
    n, diameter = 512, 6.603464
    axis = (np.arange(n) - 0.5 * (n - 1)) * diameter / n
    x, y = axis[None, :], axis[:, None]
    pupil = np.zeros((n, n))
    for q in range(-2, 3):
        for r in range(-2, 3):
            if (q, r) == (0, 0) or abs(q + r) > 2:
                continue
            u, v = 1.32 * np.sqrt(0.75) * r, 1.32 * (q + r / 2)
            dx, dy = abs(x - u), abs(y - v)
            pupil[(dy <= 0.654) & (dx * np.sqrt(3) + dy <= 1.308)] = 1.0
    rho2 = 4.0 * (x**2 + y**2) / diameter**2
    field = pupil * np.exp(2j * np.pi * waves * 2.12e-6 * (rho2 - 0.5) / wavelength)
    step = np.deg2rad(scale / 3600) / wide
    m = 2 * round(0.5 * n * wavelength / (diameter * step))
    image = np.abs(np.fft.fftshift(np.fft.fft2(field, s=(m, m)))) ** 2
    half = wide * (side // 2) + wide // 2
    image = image[m // 2 - half : m // 2 + half + 1, m // 2 - half : m // 2 + half + 1]
    return image.reshape(side, wide, side, wide).sum(axis=(1, 3))


@pytest.mark.parametrize(
    ("setup", "waves"),
    [
        ({"filter": "F212N", "pupil": "WLP8"}, 7.6),
        ({"filter": "F212N", "pupil": "WLP8"}, 8.35),
        ({"filter": "F212N", "pupil": "WLM8"}, -7.7),
        ({"filter": "WLP4", "pupil": "CLEAR"}, 3.78),
    ],
)
def test_no_defocus_is_better_than_the_one_that_is_found(setup, waves):
    setup = {"instrument": "NIRCAM", "detector": "NRCB1", **setup}
    image = fourier_star(waves, 2.12e-6, 0.0307465, 141)
    image = image * 8e6 / image.sum() + 20.0
    image = np.random.default_rng(2).poisson(image).astype(float)

    def kernel_at(value):
        return jwst_kernel(**setup, waves=value)

    scan = scan_range(
        nominal_waves(instrument="NIRCAM", filter=setup["filter"], pupil=setup["pupil"])
    )
    found = refine_defocus(image, None, kernel_at, (70, 70), scan=scan)
    near = {"near": (found.x, found.y), "radius": 4.0}
    # the optics of the two models differ by struts and gaps, their powers by little
    others = [
        acquire(image, None, kernel_at(found.waves + away), **near).value
        for away in (-0.25, -0.1, -0.04, 0.04, 0.1, 0.25)
    ]
    assert found.correlation > max(others) - 0.003
    assert found.correlation > 0.9
    assert abs(found.waves - waves) < 0.1
    assert not found.at_edge


def test_nothing_to_find_and_the_edge_of_the_scan():
    nothing = refine_defocus(np.zeros((64, 64)), None, make, scan=SCAN, steps=3)
    assert np.isnan(nothing.waves)
    assert nothing.kernel.kind == "jwst"
    star = make(8.4).render(60, 60, (121, 121), flux=1e6)
    assert refine_defocus(star, None, make, scan=(7.6, 8.2), steps=3).at_edge
    with pytest.raises(ValueError, match="in 2 steps"):
        refine_defocus(star, None, make, scan=SCAN, steps=2)


def test_scan_range():
    # used to be 0.4 waves about the whole number: WLP8 on NRCB1 (7.59) lay outside
    assert scan_range(8.03) == pytest.approx((7.43, 8.63))
    assert scan_range(-8.0) == pytest.approx((-8.6, -7.4))
    assert scan_range(4.0) == pytest.approx((3.4, 4.6))


def test_empirical_kernel_renders_what_it_was_made_of():
    truth = GaussianKernel(2.0, 2.5)
    image = truth.render(20.25, 19.5, (41, 41), flux=5000) + 3.0
    kernel = empirical_kernel(image, (20.25, 19.5), background=3.0)
    assert kernel.kind == "empirical"
    assert kernel.enclosed == pytest.approx(1.0, abs=1e-12)
    rendered = kernel.render(12.8, 15.1, (31, 27))
    np.testing.assert_allclose(rendered, truth.render(12.8, 15.1, (31, 27)), rtol=0, atol=2e-6)


def test_missing_pixels_of_an_empirical_kernel_are_filled():
    truth = GaussianKernel(3.0, 3.0)
    image = truth.render(20, 20, (41, 41), flux=1.0)
    mask = np.zeros(image.shape, dtype=bool)
    mask[22, 18] = True
    damaged = image.copy()
    damaged[22, 18] = 1e9
    damaged[30, 12] = np.nan
    kernel = empirical_kernel(damaged, (20, 20), mask=mask)
    assert kernel.description["filled_pixels"] == 2
    np.testing.assert_allclose(kernel.image, image / image.sum(), rtol=0, atol=2e-3 * image.max())
    assert damaged[22, 18] == 1e9


def test_fill_reaches_across_wide_holes():
    image = np.full((30, 30), 7.0)
    good = np.ones(image.shape, dtype=bool)
    good[5:20, 5:20] = False
    image[~good] = np.nan
    np.testing.assert_allclose(fill_missing(image, good), 7.0, rtol=0, atol=1e-9)


def test_empirical_kernel_errors():
    with pytest.raises(ValueError, match="no good pixel"):
        empirical_kernel(np.full((9, 9), np.nan), (4, 4))
    with pytest.raises(ValueError, match="sums to"):
        empirical_kernel(-np.ones((9, 9)), (4, 4))
    with pytest.raises(ValueError, match=r"mask has shape \(3, 3\)"):
        empirical_kernel(np.ones((9, 9)), (4, 4), mask=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="center"):
        empirical_kernel(np.ones((9, 9)), (40, 4))
