import numpy as np
import pytest

from tso_level3.psf import bands, optics, pupil, wavefront
from tso_level3.psf.kernel import jwst_kernel

SHORT = {"instrument": "NIRCAM", "filter": "F210M"}
LONG = {"instrument": "NIRCAM", "filter": "F444W"}


def disc(n=801):
    """Points inside the unit circle, evenly spread."""
    axis = np.linspace(-1, 1, n)
    x, y = np.meshgrid(axis, axis)
    inside = x**2 + y**2 <= 1
    return x[inside], y[inside]


def test_zernikes_are_orthonormal():
    x, y = disc()
    basis = np.array([wavefront.zernike(j, x, y) for j in range(1, 37)])
    np.testing.assert_allclose(basis @ basis.T / len(x), np.eye(36), rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("j", "formula"),
    [
        (1, lambda r, t: np.ones_like(r)),
        (2, lambda r, t: 2 * r * np.cos(t)),
        (3, lambda r, t: 2 * r * np.sin(t)),
        (4, lambda r, t: np.sqrt(3) * (2 * r**2 - 1)),
        (5, lambda r, t: np.sqrt(6) * r**2 * np.sin(2 * t)),
        (6, lambda r, t: np.sqrt(6) * r**2 * np.cos(2 * t)),
        (7, lambda r, t: np.sqrt(8) * (3 * r**3 - 2 * r) * np.sin(t)),
        (8, lambda r, t: np.sqrt(8) * (3 * r**3 - 2 * r) * np.cos(t)),
        (9, lambda r, t: np.sqrt(8) * r**3 * np.sin(3 * t)),
        (11, lambda r, t: np.sqrt(5) * (6 * r**4 - 6 * r**2 + 1)),
        (12, lambda r, t: np.sqrt(10) * (4 * r**4 - 3 * r**2) * np.cos(2 * t)),
        (22, lambda r, t: np.sqrt(7) * (20 * r**6 - 30 * r**4 + 12 * r**2 - 1)),
    ],
)
def test_zernikes_are_those_of_the_table(j, formula):
    x, y = disc(41)
    expected = formula(np.hypot(x, y), np.arctan2(y, x))
    np.testing.assert_allclose(wavefront.zernike(j, x, y), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("j", [0, -1, 1.5])
def test_there_is_no_such_polynomial(j):
    with pytest.raises(ValueError, match="j is"):
        wavefront.noll(j)


def test_a_focus_term_is_a_weak_lens():
    # a lens of one wave, peak to valley, is a focus term of 1 / sqrt(12) waves
    term = optics.WEAK_LENS_WAVELENGTH / np.sqrt(12)
    np.testing.assert_allclose(
        wavefront.opd([0, 0, 0, term]), optics.defocus(1.0), rtol=0, atol=1e-18
    )
    two = jwst_kernel(**SHORT, pupil="WLP8", waves=7.0, half_width=30, zernikes=[0, 0, 0, term])
    one = jwst_kernel(**SHORT, pupil="WLP8", waves=8.0, half_width=30, zernikes=[0])
    np.testing.assert_allclose(two.image, one.image, rtol=0, atol=1e-12)


def test_terms_are_turned_with_the_image():
    tilt = wavefront.opd([0, 1e-7])
    assert tilt[0, 0] > 0 > tilt[0, -1]  # half a turn against the pupil drawn here
    quarter = wavefront.opd([0, 1e-7], rotation=90.0)
    np.testing.assert_allclose(quarter, wavefront.opd([0, 0, 1e-7]), rtol=0, atol=1e-20)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    # the design is in focus near 0.7, 2.1 and 4.6 um, and by as much off it between as is seen here
    [("F212N", 0.0, 0.0), ("F140M", -52e-9, -46e-9), ("F323N", -1.3e-7, -1.1e-7)],
)
def test_focus_against_wavelength(name, low, high):
    band = bands.resolve("NIRCAM", name)
    focus = wavefront.chromatic_focus(band, np.array([band.middle]), measured=False)
    assert low <= focus[0] <= high


def test_the_focus_of_the_filter_of_measurement_counts_once():
    # NRCA5 was measured in F323N, which has a focus of its own
    band = bands.resolve("NIRCAM", "F323N")
    assert wavefront.chromatic_focus(band, np.array([3.23e-6]), measured=True)[0] == 0
    band = bands.resolve("NIRCAM", "F444W")
    waves, _ = band.samples()
    difference = wavefront.chromatic_focus(band, waves, measured=True)
    difference -= wavefront.chromatic_focus(band, waves, measured=False)
    np.testing.assert_allclose(difference, 1.206e-7, rtol=1e-12)


def test_descriptions_say_what_is_known():
    def words(**setup):
        return jwst_kernel(**setup, half_width=8).description

    assert words(**SHORT, detector="NRCA3")["wavefront"] == "measured on NRCA3"
    assert words(**SHORT, detector="NRCB1")["wavefront"] == "not known for NRCB1"
    assert words(**SHORT)["wavefront"] == "no detector is known"
    assert words(instrument="MIRI", filter="F1500W")["wavefront"] == "not known for MIRIMAGE"
    assert words(**SHORT, detector="NRCA3", wavefront="none")["wavefront"] == "none"
    assert words(**SHORT, detector="NRCA3", wavefront="none")["instrument_rms"] == 0
    assert words(**SHORT, detector="NRCA3")["instrument_rms"] == pytest.approx(34e-9, rel=0.05)
    given = words(**LONG, detector="NRCB5", zernikes=[0, 0, 0, 0, 5e-8])
    assert given["wavefront"] == "terms given"


def test_given_terms_alone():
    terms = np.zeros(6)
    terms[5] = 1e-7
    alone = jwst_kernel(**LONG, wavefront="none", zernikes=terms, half_width=8)
    same = jwst_kernel(**LONG, wavefront="none", opd=wavefront.opd(terms), half_width=8)
    np.testing.assert_allclose(alone.image, same.image, rtol=0, atol=1e-14)
    assert alone.description["instrument_rms"] == pytest.approx(
        same.description["wavefront_rms"], rel=1e-12
    )


def test_a_given_path_difference_is_added_to_the_instrument():
    opd = pupil.segment_wavefront(seed=4, rms=60e-9)
    both = jwst_kernel(**SHORT, detector="NRCA3", opd=opd, half_width=8)
    band = bands.resolve("NIRCAM", "F210M")
    own = wavefront.opd(wavefront.instrument(band, "NRCA3").terms)
    waves, _ = band.samples()
    focus = wavefront.chromatic_focus(band, waves, measured=True)
    assert abs(focus).max() > 5e-9
    plain = jwst_kernel(**SHORT, detector="NRCA3", opd=opd + own, wavefront="none", half_width=8)
    # what is left of the difference is the focus across the band
    assert 1e-4 < abs(both.image - plain.image).max() / plain.image.max() < 1e-2


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"wavefront": "telescope"}, "wavefront is 'telescope'"),
        ({"zernikes": [0, np.nan]}, "1 of them not finite"),
        ({"zernikes": np.zeros(101)}, "101 terms"),
    ],
)
def test_bad_wavefront(more, words):
    with pytest.raises(ValueError, match=words):
        jwst_kernel(**SHORT, **more)


def test_transform_is_that_of_the_definition():
    rng = np.random.default_rng(8)
    amplitude = rng.uniform(0, 1, (16, 16))
    opds = [rng.normal(0, 2e-7, (16, 16)) for _ in range(2)]
    waves, weights = np.array([1.5e-6, 2.0e-6]), np.array([0.3, 0.7])
    u, v = np.arange(-4, 5) * 4e-8, np.arange(-3, 4) * 3e-8
    axis = (np.arange(16) - 7.5) * pupil.SIDE / 16
    expected = np.zeros((7, 9))
    for wave, weight, opd in zip(waves, weights, opds, strict=True):
        field = amplitude * np.exp(2j * np.pi * opd / wave)
        left = np.exp(-2j * np.pi / wave * np.outer(v, axis))
        right = np.exp(-2j * np.pi / wave * np.outer(axis, u))
        share = weight * 4e-8 * 3e-8 * (pupil.SIDE / 16 / wave) ** 2 / amplitude.sum()
        expected += share * np.abs(left @ field @ right) ** 2
    found = optics.propagate(amplitude, opds, waves, weights, u, v)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * expected.max())
    # One path difference stands for all wavelengths.
    one = optics.propagate(amplitude, opds[0], waves, weights, u, v)
    same = optics.propagate(amplitude, [opds[0]] * 2, waves, weights, u, v)
    np.testing.assert_array_equal(one, same)
    assert abs(one - found).max() > 0.01 * found.max()


def test_neighbours_share_charge_across_the_corners_too():
    image = np.zeros((12, 12))
    image[6, 6] = 1.0
    blur = optics.Blur(0.0, 0.03, 0.02, box=0.0, ipc_corner=0.01)
    seen = optics.detect(image, 1, blur)[5:8, 5:8]
    expected = [[0.01, 0.02, 0.01], [0.03, 0.86, 0.03], [0.01, 0.02, 0.01]]
    np.testing.assert_allclose(seen, expected, rtol=0, atol=1e-12)
