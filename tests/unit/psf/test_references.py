"""The computed kernel against STPSF and against published widths."""

import time

import numpy as np
import pytest

from tests.unit.psf import stpsf_files
from tso_level3.psf import bands, pupil, wavefront
from tso_level3.psf import kernel as kernels

F210M = {"instrument": "NIRCAM", "filter": "F210M", "detector": "NRCA3"}
WLP8 = {**F210M, "pupil": "WLP8"}
F444W = {"instrument": "NIRCAM", "filter": "F444W", "detector": "NRCALONG"}
F1500W = {"instrument": "MIRI", "filter": "F1500W", "detector": "MIRIMAGE"}
# Power of the lens at the field point of the file (ISIM26) as measured on the ground: R. Telfer
# 2021, JWST-REF-046515, whose table STPSF uses. Over the field of module A it goes from 7.60 to
# 8.10 waves; at the middle of the module it is 8.03. A real image of NRCA3 wants 8.1.
STPSF_WLP8 = 7.86507


def departure(reference, model):
    """Relative rms after one factor of flux, and that factor."""
    factor = (reference * model).sum() / (model**2).sum()
    rms = np.sqrt(((reference - factor * model) ** 2).sum() / (reference**2).sum())
    return rms, factor


@pytest.fixture(scope="module")
def normalisation():
    """Flux of STPSF's files over ours.

    STPSF sums the squared amplitude of 1024 samples across, where half-open samples at the edges
    of segments lose half of their light, and calls that one.
    """
    changed = pytest.MonkeyPatch()
    changed.setattr(pupil, "NPUP", 1024)
    pupil.draw.cache_clear()
    amplitude = pupil.draw().amplitude
    changed.undo()
    pupil.draw.cache_clear()
    return amplitude.sum() / (amplitude**2).sum()


def test_half_open_samples_lose_light(normalisation):
    assert normalisation == pytest.approx(1.0035, abs=3e-4)


@pytest.mark.parametrize(
    ("name", "setup", "reach", "allowed"),
    [
        ("F210M_NRCA3", F210M, 30, 0.005),
        ("F444W_NRCA5", F444W, 30, 0.005),
        # this file has a telescope of 70 nm rms that no header lists
        ("F1500W_MIRIM", F1500W, 30, 0.005),
        ("F210M_WLP8_NRCA3", {**WLP8, "waves": STPSF_WLP8}, 90, 0.03),
    ],
)
def test_the_light_is_that_of_stpsf(shared_data, normalisation, name, setup, reach, allowed):
    reference, header, offsets = stpsf_files.read(shared_data, name)
    near = np.abs(offsets) <= reach
    reference = reference[np.ix_(near, near)]
    kernel = kernels.jwst_kernel(**setup, half_width=reach + 2, box=0, oversample=4)
    model = normalisation * kernel.evaluate(offsets[near], offsets[near])
    assert np.linalg.norm(reference - model) <= allowed * np.linalg.norm(reference)
    # the flux is not left to a fit: the factor that a fit would take differs by no more than this
    assert abs(departure(reference, model)[1] - 1) <= 0.002


@pytest.mark.parametrize(
    ("name", "setup"), [("F210M_NRCA3", F210M), ("F444W_NRCA5", F444W)], ids=["F210M", "F444W"]
)
def test_built_in_terms_are_those_of_the_headers(shared_data, name, setup):
    _, header, _ = stpsf_files.read(shared_data, name)
    terms = stpsf_files.terms(header)
    band = bands.resolve(setup["instrument"], setup["filter"])
    known = wavefront.instrument(band, setup["detector"])
    np.testing.assert_allclose(known.terms, terms, rtol=0, atol=6e-13)
    kernel = kernels.jwst_kernel(**setup, half_width=8)
    same = kernels.jwst_kernel(**setup, half_width=8, zernikes=terms)
    np.testing.assert_allclose(same.image, kernel.image, rtol=0, atol=1e-4 * kernel.image.max())
    assert same.description["wavefront"] == "terms given"
    assert setup["detector"].replace("LONG", "5") in kernel.description["wavefront"]


@pytest.mark.parametrize(
    ("name", "setup", "least"), [("F210M_NRCA3", F210M, 4), ("F444W_NRCA5", F444W, 3)]
)
def test_without_the_instrument_the_light_is_not_that_of_stpsf(shared_data, name, setup, least):
    reference, _, offsets = stpsf_files.read(shared_data, name)
    near = np.abs(offsets) <= 30
    rms = []
    for which in ("none", "instrument"):
        kernel = kernels.jwst_kernel(**setup, wavefront=which, half_width=32, box=0)
        model = kernel.evaluate(offsets[near], offsets[near])
        rms.append(departure(reference[np.ix_(near, near)], model)[0])
    assert rms[0] > least * rms[1]


def test_miri_pupil_is_turned_the_right_way(shared_data):
    reference, _, offsets = stpsf_files.read(shared_data, "F1500W_MIRIM")
    near = np.abs(offsets) <= 30
    kernel = kernels.jwst_kernel(**F1500W, half_width=34, box=0)
    model = kernel.evaluate(offsets[near], offsets[near])
    data = reference[np.ix_(near, near)]
    right, wrong = departure(data, model)[0], departure(data, model[:, ::-1])[0]
    assert wrong > 2 * right


@pytest.mark.parametrize(
    ("name", "setup", "reach"),
    [
        ("F210M_NRCA3", F210M, 38),
        ("F444W_NRCA5", F444W, 38),
        ("F1500W_MIRIM", F1500W, 38),
        ("F210M_WLP8_NRCA3", {**WLP8, "waves": STPSF_WLP8}, 95),
    ],
)
def test_encircled_energy(shared_data, name, setup, reach):
    reference, _, offsets = stpsf_files.read(shared_data, name, "DET_DIST")
    kernel = kernels.jwst_kernel(**setup)
    model = kernel.evaluate(offsets, offsets)
    radius = np.hypot(offsets[None, :], offsets[:, None])
    radii = np.arange(1.0, reach, 0.5)
    ours = np.array([model[radius <= r].sum() for r in radii])
    theirs = np.array([reference[radius <= r].sum() for r in radii])
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.01)


# STScI's table of widths in pixels. They are those of simulated light in front of the detector:
# with charge diffusion ours would be 3 to 9 % too wide in the long channel, with the pixel as well
# 3 to 20 % everywhere. Below 1.3 um the wavefront and the jitter of that simulation decide.
PUBLISHED = {
    "F140M": 1.553, "F150W": 1.628, "F162M": 1.770, "F164N": 1.801,
    "F182M": 1.990, "F187N": 2.060, "F200W": 2.141, "F210M": 2.304, "F212N": 2.341,
    "F250M": 1.340, "F277W": 1.444, "F300M": 1.585, "F322W2": 1.547, "F323N": 1.711,
    "F335M": 1.760, "F356W": 1.830, "F360M": 1.901, "F405N": 2.165, "F410M": 2.179,
    "F430M": 2.300, "F444W": 2.302, "F460M": 2.459, "F466N": 2.507, "F470N": 2.535,
    "F480M": 2.574, "F560W": 1.636, "F770W": 2.187, "F1000W": 2.888, "F1130W": 3.318,
    "F1280W": 3.713, "F1500W": 4.354, "F1800W": 5.224, "F2100W": 5.989,
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_widths(name):
    instrument = "NIRCAM" if name in bands._NIRCAM else "MIRI"
    setup = {"instrument": instrument, "filter": name, "half_width": 12}
    channel = bands.resolve(instrument, name).channel
    setup["detector"] = {"NIRCAM_SHORT": "NRCA3", "NIRCAM_LONG": "NRCA5", "MIRI": "MIRIMAGE"}[
        channel
    ]
    light = kernels.jwst_kernel(**setup, detected=False, oversample=8)
    allowed = 0.05 if channel == "MIRI" else 0.03
    assert abs(kernels.fwhm(light) / PUBLISHED[name] - 1) <= allowed
    # what pixels hold is wider
    assert kernels.fwhm(kernels.jwst_kernel(**setup)) > kernels.fwhm(light)


def test_struts_matter_on_a_weak_lens(monkeypatch):
    with_struts = kernels.jwst_kernel(**WLP8, opd=np.zeros((pupil.NPUP, pupil.NPUP)))
    monkeypatch.setattr(pupil, "_struts", lambda axis, cos, sin: np.zeros((1, 1), dtype=bool))
    pupil.draw.cache_clear()
    try:
        without = kernels.jwst_kernel(**WLP8, opd=np.zeros((pupil.NPUP, pupil.NPUP)))
    finally:
        pupil.draw.cache_clear()
    assert departure(with_struts.image, without.image)[0] > 0.1


def every_setup():
    detectors = {"NIRCAM_SHORT": "NRCA3", "NIRCAM_LONG": "NRCALONG", "MIRI": "MIRIMAGE"}
    for instrument, table in bands._BANDS.items():
        for name in table:
            detector = detectors[bands.resolve(instrument, name).channel]
            yield {"instrument": instrument, "filter": name, "detector": detector}
            if detector == "NRCA3":
                for lens in ("WLP8", "WLM8"):
                    yield {**F210M, "filter": name, "pupil": lens}
    yield {**F210M, "filter": "WLP4", "pupil": "CLEAR"}
    yield {**F210M, "filter": "WLP4", "pupil": "WLP8"}


def test_every_kernel_takes_half_a_second():
    pupil.draw()
    slow = {}
    for setup in every_setup():
        times = []
        for _ in range(3):
            kernels._cached.cache_clear()
            start = time.process_time()
            kernels.jwst_kernel(**setup)
            times.append(time.process_time() - start)
            if times[-1] <= 0.5:
                break
        if min(times) > 0.5:
            slow[str(setup)] = min(times)
    assert not slow
