import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, InverseVariance, NDData, StdDevUncertainty, VarianceUncertainty
from astropy.time import Time

import tso_level3
from tests.unit.readers import samples
from tso_level3.config.settings import Settings
from tso_level3.core.measure import marked
from tso_level3.datatypes import Box
from tso_level3.flags import Flag, dq_mask
from tso_level3.readers.arrays import BAD
from tso_level3.readers.open import open_exposure

BOX = Box(2, 3, 7, 6)
CUT = (slice(1, 4), *BOX.slices)


def load(exposure):
    return exposure.segments[0].source.load(1, 4, BOX)


def test_cube():
    values, errors, dq = samples.frames()
    before = values.copy(), errors.copy(), dq.copy()
    exposure = open_exposure(values, errors=errors, mask=dq, times=60000.0 + np.arange(6))
    pixels = load(exposure)
    np.testing.assert_array_equal(pixels.values, values[CUT])
    np.testing.assert_array_equal(pixels.errors, errors[CUT])
    np.testing.assert_array_equal(pixels.dq, dq[CUT])
    assert np.shares_memory(pixels.values, values) and np.shares_memory(pixels.dq, dq)
    assert exposure.times.source == "given" and exposure.times.scale == "MJD_UTC"
    assert exposure.shape == (12, 10) and exposure.n_int == 6
    assert exposure.has_errors and exposure.filenames is None and exposure.position is None
    for array, copy in zip((values, errors, dq), before):
        np.testing.assert_array_equal(array, copy)


def test_image_is_one_frame():
    exposure = open_exposure(samples.frames()[0][0])
    assert exposure.n_int == 1 and not exposure.has_errors
    assert exposure.times.flags[0] == Flag.NO_TIME | Flag.NO_BARYCENTRIC_TIME


@pytest.mark.parametrize("dtype", ["i2", ">f4", ">f8", "f8", "u1", "i8", "f2", "?"])
def test_types(dtype):
    values = np.abs(samples.frames()[0]).astype(dtype)
    pixels = load(open_exposure(values))
    np.testing.assert_array_equal(pixels.values, values[CUT].astype(float))
    assert pixels.values.dtype in (np.float32, np.float64) and pixels.values.dtype.isnative


@pytest.mark.parametrize("dtype", ["?", "i1", "u1", "i4", "i8", "u4"])
def test_masks(dtype):
    mask = np.zeros(samples.SHAPE[1:], dtype)
    mask[4, 5] = 1
    dq = load(open_exposure(samples.frames()[0], mask=mask)).dq
    assert dq.dtype == np.uint32
    assert np.argwhere(dq[0]).tolist() == [[1, 3]]
    assert (dq[:, 1, 3] == (BAD if dtype == "?" else 1)).all()


@pytest.mark.parametrize("bits", [("SATURATED",), ("HOT", "4"), ("strict",)])
def test_a_boolean_mask_counts_whatever_the_bits(bits):
    # used to be bit 0 alone, which is ignored where dq_bits lacks DO_NOT_USE
    mask = np.zeros(samples.SHAPE, bool)
    mask[:, 4, 5] = True
    given = {"mask": mask}, {"mask": None}
    sources = samples.frames()[0], np.ma.array(samples.frames()[0], mask=mask)
    for source, more in zip(sources, given):
        marks = marked(load(open_exposure(source, **more)), dq_mask(bits))
        assert np.argwhere(marks[0]).tolist() == [[1, 3]]


def test_a_mask_counts_in_the_light_curve():
    # used to be ignored where dq_bits lacks DO_NOT_USE: a transit of 1 % came out as 3 %
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[:41, :41]
    star = 2e4 * np.exp(-0.5 * ((columns - 20.2) ** 2 + (rows - 19.7) ** 2) / 2.25)
    inside = (np.arange(40) >= 14) & (np.arange(40) < 26)
    frames = 100.0 + np.where(inside, 0.99, 1.0)[:, None, None] * star
    frames += np.sqrt(frames) * rng.standard_normal(frames.shape)
    mask = np.zeros(frames.shape, bool)
    mask[inside, 22, 21] = True
    frames[mask] -= 0.02 * star.sum()
    found = tso_level3.measure(
        frames, mask=mask, dq_bits="SATURATED", unit="electron", radius=6.0, outlier_sigma=0
    )
    depth = 1 - np.median(found.flux[inside]) / np.median(found.flux[~inside])
    noise = 1.25 * 1.2 / np.sqrt(star.sum() * 12)  # of two medians, 12 and 28 frames
    assert depth == pytest.approx(0.01, abs=4 * noise)


def test_masked_array_and_mask_together():
    values, _, _ = samples.frames()
    own, other = np.zeros((2, *samples.SHAPE), bool)
    own[1, 3, 2] = other[2, 4, 3] = True
    dq = load(open_exposure(np.ma.array(values, mask=own), mask=other)).dq
    assert np.argwhere(dq).tolist() == [[0, 0, 0], [1, 1, 1]]
    assert load(open_exposure(np.ma.array(values))).dq is None


@pytest.mark.parametrize("errors", [2.0, np.full((12, 10), 2.0), np.full(samples.SHAPE, 2.0)])
def test_errors_broadcast(errors):
    assert (load(open_exposure(samples.frames()[0], errors=errors)).errors == 2).all()


def test_zero_errors_are_unknown():
    exposure = open_exposure(samples.frames()[0], errors=0.0)
    assert not exposure.has_errors and load(exposure).errors is None


def test_quantity():
    exposure = open_exposure(samples.frames()[0] * u.electron)
    assert exposure.unit == "electron"
    assert type(load(exposure).values) is np.ndarray
    assert open_exposure(samples.frames()[0] * u.Jy, Settings(unit="e-")).unit == "electron"
    assert open_exposure(np.ones((2, 3, 3)), Settings(unit="adu")).unit == "DN"


@pytest.mark.parametrize(
    ("kind", "power"), [(StdDevUncertainty, 1), (VarianceUncertainty, 2), (InverseVariance, -2)]
)
def test_nddata(kind, power):
    values, errors, dq = samples.frames()
    data = NDData(values, uncertainty=kind(errors**power), mask=dq > 0, unit=u.Jy)
    exposure = open_exposure(data)
    np.testing.assert_allclose(load(exposure).errors, errors[CUT], rtol=1e-6)
    np.testing.assert_array_equal(load(exposure).dq, (dq > 0)[CUT])
    assert exposure.unit == "Jy"


def test_header_of_nddata():
    header = {"MJD-OBS": 60000.0, "EXPTIME": 20.0, "FILTER": "Ks"}
    image = CCDData(samples.frames()[0][0], unit="adu", meta=header)
    exposure = open_exposure([image])
    assert exposure.times.mjd_utc[0] == pytest.approx(60000.0 + 10 / 86400, abs=1e-9)
    assert exposure.optics.filter == "KS"


def test_lists():
    values, errors, _ = samples.frames()
    exposure = open_exposure([values[k] for k in range(6)])
    assert len(exposure.segments) == 1 and exposure.n_int == 6
    np.testing.assert_array_equal(load(exposure).values, values[CUT])
    images = [
        CCDData(v, unit="electron", uncertainty=StdDevUncertainty(e))
        for v, e in zip(values, errors)
    ]
    exposure = open_exposure(image for image in images)
    assert exposure.has_errors and exposure.unit == "electron"
    np.testing.assert_array_equal(load(exposure).errors, errors[CUT])
    exposure = open_exposure([values, values + 1], times=Time(60000 + np.arange(12), format="mjd"))
    assert [segment.n_frames for segment in exposure.segments] == [6, 6]
    assert exposure.times.mjd_utc[-1] == pytest.approx(60011.0, abs=1e-9)
    assert open_exposure(values[:2].tolist()).n_int == 2


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        (np.ones(5), "1 dimensions"),
        (np.ones((2, 2, 2, 2)), "4 dimensions"),
        (np.ones((0, 4, 4)), "no pixels"),
        (np.ones((3, 4, 4), complex), "complex"),
    ],
)
def test_what_is_no_cube(bad, found):
    with pytest.raises(ValueError, match=f"array: .*{found}"):
        open_exposure(bad)


def test_what_does_not_fit():
    values = samples.frames()[0]
    with pytest.raises(ValueError, match=r"errors: shape \(3, 3\)"):
        open_exposure(values, errors=np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"mask: shape \(3, 3\)"):
        open_exposure(values, mask=np.ones((3, 3), bool))
    with pytest.raises(ValueError, match="mask: values of type float64"):
        open_exposure(values, mask=np.ones((12, 10)))
    with pytest.raises(ValueError, match="shape .*array 1.* and .*array 2"):
        open_exposure([values[0], values[1, :5]])
    with pytest.raises(ValueError, match="errors: given with a source that is no array"):
        open_exposure(["x.fits"], errors=1.0)


def test_an_exposure_stays_one():
    exposure = open_exposure(samples.frames()[0])
    assert open_exposure(exposure) is exposure


def test_a_mask_without_bits_is_told_of(caplog):
    # used to be ignored without a word
    open_exposure(samples.frames()[0], mask=samples.frames()[2] > 0, settings=Settings(dq_bits=()))
    assert "dq_bits names no bit" in caplog.text
