import pickle
import time

import numpy as np
import pytest

from tso_level3.psf import kernel as kernels
from tso_level3.psf import pupil
from tso_level3.psf.kernel import GaussianKernel, Kernel, choose_kernel, jwst_kernel
from tso_level3.psf.spline import ImageSpline

SETUPS = {
    "focus": {"instrument": "NIRCAM", "filter": "F210M"},
    "short": {"instrument": "NIRCAM", "filter": "F070W"},
    "long": {"instrument": "NIRCAM", "filter": "F444W"},
    "lens": {"instrument": "NIRCAM", "filter": "F210M", "pupil": "WLP8"},
    "miri": {"instrument": "MIRI", "filter": "F1500W"},
}


def build(name):
    if name == "gaussian":
        return GaussianKernel(0.9, 1.3)
    return jwst_kernel(**SETUPS[name])


EVERY = [*SETUPS, "gaussian"]


@pytest.mark.parametrize("name", EVERY)
def test_flux_of_a_rendered_star(name):
    kernel = build(name)
    reach = int(kernel.half_width) + 2
    image = kernel.render(reach + 0.3, reach - 0.2, (2 * reach + 1,) * 2, flux=1000.0)
    # the edge of the support cuts through faint wings, 1e-5 of the flux in a pixel
    assert abs(image.sum() / 1000.0 - kernel.enclosed) < 3e-3 * (1 - kernel.enclosed) + 2e-3
    assert 0.93 < kernel.enclosed <= 1.0


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("order", [(1, 0), (0, 1), (2, 0), (1, 1), (0, 2)])
def test_derivatives(name, order):
    kernel = build(name)
    u, v = np.linspace(-4, 4, 17) + 0.03, np.linspace(-3, 5, 13)
    h = 1e-4
    nu, nv = order
    if nu:
        difference = kernel.evaluate(u + h, v, nu - 1, nv) - kernel.evaluate(u - h, v, nu - 1, nv)
    else:
        difference = kernel.evaluate(u, v + h, nu, nv - 1) - kernel.evaluate(u, v - h, nu, nv - 1)
    exact = kernel.evaluate(u, v, nu, nv)
    np.testing.assert_allclose(exact, difference / (2 * h), rtol=0, atol=1e-6 * abs(exact).max())


@pytest.mark.parametrize("name", list(SETUPS))
def test_values_at_the_samples(name):
    kernel = build(name)
    x = (np.arange(kernel.image.shape[1]) - kernel.center[0]) / kernel.oversample
    y = (np.arange(kernel.image.shape[0]) - kernel.center[1]) / kernel.oversample
    np.testing.assert_allclose(
        kernel.evaluate(x, y), kernel.image, rtol=0, atol=1e-12 * kernel.image.max()
    )


@pytest.mark.parametrize("name", list(SETUPS))
def test_interpolation_error(name):
    # the same optics sampled twice as finely: what the spline makes up between samples
    kernel = build(name)
    fine = jwst_kernel(**SETUPS[name], oversample=2 * kernel.oversample, half_width=12)
    between = (np.arange(-80, 80) + 0.5) / (10 * kernel.oversample)
    error = kernel.evaluate(between, between) - fine.evaluate(between, between)
    assert abs(error).max() <= 2e-4 * fine.image.max()


def test_zero_outside_the_support_only():
    kernel = build("focus")
    edge = kernel.half_width
    values = kernel.evaluate(np.array([-edge - 0.01, -edge, 0.0, edge, edge + 0.01]), [0.0])[0]
    assert values[0] == values[4] == 0
    assert np.all(values[1:4] > 0)
    assert kernel.evaluate(np.array([]), [0.0]).shape == (1, 0)


@pytest.mark.parametrize(("waves", "expected"), [(None, 100), (-8.0, 100), (4.0, 70), (0.0, 40)])
def test_default_half_width(waves, expected):
    assert jwst_kernel(**SETUPS["lens"], waves=waves).half_width == expected


def test_no_second_star_in_a_wide_kernel():
    # used to repeat the star 160 px away, where the transform of 256 pupil samples wraps
    kernel = jwst_kernel(**SETUPS["short"], half_width=400, oversample=2)
    assert kernel.half_width == kernel.description["half_width"] == 119
    assert jwst_kernel(**SETUPS["focus"], half_width=400, oversample=2).half_width == 382
    far = np.arange(60.0, 119.0)
    assert abs(kernel.evaluate(far, far)).max() < 1e-5


def test_the_weak_lens_spreads_the_light_and_its_sign_turns_it():
    plus = jwst_kernel(**SETUPS["lens"], wavefront="none")
    minus = jwst_kernel(**{**SETUPS["lens"], "pupil": "WLM8"}, waves=-8.03, wavefront="none")
    turned = minus.image[::-1, ::-1]
    np.testing.assert_allclose(turned, plus.image, rtol=0, atol=1e-3 * plus.image.max())
    assert abs(minus.image - plus.image).max() > 0.1 * plus.image.max()
    offsets = np.arange(-80.0, 81.0)
    radius = np.hypot(offsets[None, :], offsets[:, None])
    image = plus.evaluate(offsets, offsets)
    assert 0.8 < image[radius < 60].sum() < 0.985
    assert image[radius < 30].sum() < 0.45


def test_a_tilted_segment_moves_its_light():
    kernel = jwst_kernel(**SETUPS["focus"], wavefront="none")
    slope = 2e-7
    opd = pupil.segment_tilt(8, tip=0, tilt=slope)
    moved = jwst_kernel(**SETUPS["focus"], opd=opd, wavefront="none")
    offsets = np.arange(-38.0, 39.0)
    change = moved.evaluate(offsets, offsets) - kernel.evaluate(offsets, offsets)
    # over the whole image plane the first moment moves by the mean slope, that of one segment
    # in eighteen; half of it is in the far wings of a hard-edged pupil
    shift = slope / np.deg2rad(1 / 3600) / 0.0312 / 18
    assert 0.3 * shift < (change.sum(axis=0) * offsets).sum() < shift
    assert abs((change.sum(axis=1) * offsets).sum()) < 0.1 * shift
    weight = pupil.draw().amplitude / pupil.draw().amplitude.sum()
    rms = np.sqrt((weight * opd**2).sum() - (weight * opd).sum() ** 2)
    assert moved.description["wavefront_rms"] == pytest.approx(rms, rel=1e-9)


def test_a_wavefront_slope_moves_the_star():
    slope = 1e-7
    x = pupil.pupil_axis()
    opd = np.broadcast_to(slope * x[None, :], (pupil.NPUP, pupil.NPUP))
    kernel = jwst_kernel(**SETUPS["focus"], opd=opd)
    shift = slope / np.deg2rad(1 / 3600) / 0.0312
    still = jwst_kernel(**SETUPS["focus"])
    offsets = np.linspace(-5, 5, 41)
    expected = still.evaluate(offsets - shift, offsets)
    np.testing.assert_allclose(
        kernel.evaluate(offsets, offsets), expected, rtol=0, atol=1e-3 * expected.max()
    )


def test_speed_of_evaluate():
    kernel = build("focus")
    u, v = np.arange(64) - 31.2, np.arange(64) - 30.9
    kernel.evaluate(u, v)
    best = np.inf
    for _ in range(20):
        start = time.perf_counter()
        kernel.evaluate(u, v)
        best = min(best, time.perf_counter() - start)
    assert best < 2e-3


@pytest.mark.parametrize("name", EVERY)
def test_pickle(name):
    kernel = build(name)
    u = np.linspace(-2, 2, 9)
    before = kernel.evaluate(u, u)
    blob = pickle.dumps(kernel)
    if isinstance(kernel, Kernel):
        assert len(blob) < kernel.image.nbytes + 2000  # no coefficients travel
    other = pickle.loads(blob)
    np.testing.assert_array_equal(other.evaluate(u, u), before)
    assert other.description == kernel.description


def test_input_is_neither_changed_nor_shared():
    image = np.ones((9, 9))
    kernel = Kernel(image, 1, (4, 4), "file")
    image[:] = 5
    assert kernel.image.max() == 1
    assert image.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        kernel.image[0, 0] = 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image": np.full((9, 9), np.nan)}, "81 values that are not finite"),
        ({"image": np.zeros((9, 9))}, "positive flux"),
        ({"image": np.ones(9)}, r"shape \(9,\)"),
        ({"center": (9, 4)}, r"center is \(9, 4\)"),
        ({"oversample": 0}, "oversample is 0"),
    ],
)
def test_bad_samples(change, told):
    good = {"image": np.ones((9, 9)), "oversample": 1, "center": (4, 4), "kind": "file"}
    with pytest.raises(ValueError, match=told):
        Kernel(**{**good, **change})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"filter": "F999W"}, "filter is 'F999W'"),
        ({"waves": 50}, "waves is 50"),
        ({"half_width": 1}, "half_width is 1"),
        ({"oversample": 2.5}, "oversample is 2.5"),
        ({"opd": np.zeros((4, 4))}, r"opd has shape \(4, 4\)"),
    ],
)
def test_bad_calls(change, told):
    with pytest.raises(ValueError, match=told):
        jwst_kernel(**{**SETUPS["focus"], **change})


def test_gaussian_sums_and_keeps_its_tails():
    kernel = GaussianKernel(0.4, 0.7)
    offsets = np.arange(-12.0, 13.0)
    assert abs(kernel.evaluate(offsets + 0.3, offsets).sum() - 1) < 1e-14
    tail = kernel.evaluate(np.array([-7.0, 7.0]), [0.0])[0]
    assert tail[0] == pytest.approx(tail[1], rel=1e-12)
    assert tail[0] > 0
    with pytest.raises(ValueError, match="sigma_x is 0"):
        GaussianKernel(0, 1)


def test_gaussian_is_the_integral_over_each_pixel():
    # midpoints of 200 strips per pixel
    sigma, star = (0.7, 1.2), (5.3, 4.6)
    inside = (np.arange(200) + 0.5) / 200 - 0.5
    along = [
        np.exp(-0.5 * ((np.arange(11)[:, None] + inside - at) / width) ** 2).mean(axis=1)
        / (np.sqrt(2 * np.pi) * width)
        for width, at in zip(sigma, star, strict=True)
    ]
    image = GaussianKernel(*sigma).render(*star, (11, 11), flux=3.0)
    np.testing.assert_allclose(image, 3.0 * np.outer(along[1], along[0]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.8, 1.5])
def test_fwhm_of_a_gaussian(sigma):
    # the pixel adds 1/12 px^2 to the variance
    expected = 2.354820045 * np.sqrt(sigma**2 + 1 / 12)
    assert kernels.fwhm(GaussianKernel(sigma, sigma)) == pytest.approx(expected, rel=0.02)


def test_choice():
    assert choose_kernel(instrument="NIRCAM", filter="F210M").kind == "jwst"
    ground = choose_kernel(instrument="LUCI2", filter="Ks", fwhm=4.0)
    assert ground.kind == "gaussian"
    assert kernels.fwhm(ground) == pytest.approx(4.0, rel=0.02)
    assert kernels.fwhm(choose_kernel()) == pytest.approx(3.0, rel=0.02)
    narrow = choose_kernel("gaussian", instrument="NIRCAM", filter="F210M")
    wanted = kernels.fwhm(jwst_kernel(instrument="NIRCAM", filter="F210M"))
    assert kernels.fwhm(narrow) == pytest.approx(wanted, rel=0.02)
    assert narrow.description["width_from"] == "computed kernel"
    with pytest.raises(ValueError, match="instrument is 'LUCI2'"):
        choose_kernel("jwst", instrument="LUCI2", filter="Ks")
    with pytest.raises(ValueError, match="kernel is 'moffat'"):
        choose_kernel("moffat")
    with pytest.raises(ValueError, match="fwhm is -1"):
        choose_kernel("gaussian", fwhm=-1)


def test_known_and_scale():
    assert kernels.known("NIRCAM", "F210M", "WLP8")
    assert not kernels.known("NIRISS", "F210M", None)
    assert kernels.pixel_scale("NIRCAM", "F210M", detector="NRCA3") == pytest.approx(0.031365)
    assert kernels.pixel_scale("MIRI", "F1500W") == pytest.approx(0.1109)


def test_description_holds_plain_values():
    for value in build("lens").description.values():
        assert type(value) in (str, int, float)


def test_spline_between_samples():
    x = np.arange(60.0)
    spline = ImageSpline(np.sin(0.3 * x)[None, :] * np.cos(0.2 * x)[:, None])
    at = np.linspace(25, 32, 15)
    exact = np.sin(0.3 * at)[None, :] * np.cos(0.2 * at)[:, None]
    np.testing.assert_allclose(spline.grid(at, at), exact, rtol=0, atol=1e-5)
    slope = 0.3 * np.cos(0.3 * at)[None, :] * np.cos(0.2 * at)[:, None]
    np.testing.assert_allclose(spline.grid(at, at, 1, 0), slope, rtol=0, atol=1e-5)
    bend = -0.04 * np.sin(0.3 * at)[None, :] * np.cos(0.2 * at)[:, None]
    np.testing.assert_allclose(spline.grid(at, at, 0, 2), bend, rtol=0, atol=1e-4)


def test_spline_goes_through_the_samples_and_is_zero_outside():
    image = np.random.default_rng(3).normal(size=(9, 12))
    spline = ImageSpline(image)
    np.testing.assert_allclose(spline.grid(np.arange(12), np.arange(9)), image, rtol=0, atol=1e-12)
    beyond = spline.grid(np.array([-0.01, 5.0, 11.01, np.nan]), np.array([4.0, 8.01]))
    assert beyond[0, 1] != 0
    beyond[0, 1] = 0.0
    assert not beyond.any()
