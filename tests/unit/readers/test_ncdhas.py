import numpy as np
import pytest

from tests.unit.readers import samples
from tso_level3.config.settings import Settings
from tso_level3.datatypes import Box
from tso_level3.flags import Flag
from tso_level3.readers.header_times import parse_date
from tso_level3.readers.open import open_exposure

FULL = Box(0, 0, 10, 12)


def test_slopes(tmp_path):
    names = [samples.write_slope(tmp_path, number) for number in (1, 2, 11)]
    exposure = open_exposure(tmp_path)
    assert exposure.filenames == tuple(name.name for name in names)
    assert exposure.integration.tolist() == [1, 2, 11]
    assert exposure.unit == "DN/s" and exposure.has_errors
    pixels = exposure.segments[0].source.load(0, 3, FULL)
    for place, number in enumerate((1, 2, 11)):
        values, errors, _ = samples.frames(seed=number)
        np.testing.assert_array_equal(pixels.values[place], values[0])
        np.testing.assert_array_equal(pixels.errors[place], errors[0])
    assert not pixels.dq.any()
    assert exposure.optics.detector == "NRCALONG" and exposure.optics.channel == "LONG"
    assert exposure.optics.filter == "F322W2" and exposure.optics.pixel_scale == 0.0629
    assert exposure.meta["subarray"] == {"xstart": 5, "ystart": 7}


def test_times_pass_midnight_and_count_from_one(tmp_path):
    # Used to be counted one integration late.
    for number in (1, 2, 11):
        samples.write_slope(tmp_path, number)
    times = open_exposure(tmp_path).times
    start = parse_date("2015-11-20T23:59:30")
    cadence = 40.0 + 2.0  # with a reset
    expected = start + (np.array([0, 1, 10]) * cadence + 20.0) / 86400
    np.testing.assert_allclose(times.mjd_utc, expected, rtol=0, atol=2e-11)
    assert times.source == "DATE-OBS, TIME-OBS and ON_NINT"
    assert (times.flags == Flag.TIME_FROM_HEADER | Flag.NO_BARYCENTRIC_TIME).all()
    assert times.exposure_time == 40.0


def test_zero_and_nan_uncertainty_is_bad(tmp_path):
    from astropy.io import fits

    path = samples.write_slope(tmp_path)
    with fits.open(path, mode="update") as hdus:
        hdus[0].data[1, 3, 4] = 0
        hdus[0].data[1, 5, 6] = np.nan
    dq = open_exposure(path).segments[0].source.load(0, 1, FULL).dq[0]
    assert np.argwhere(dq).tolist() == [[3, 4], [5, 6]]


def test_slope_alone(tmp_path):
    path = samples.write_slope(tmp_path, planes=1)
    exposure = open_exposure(path)
    assert exposure.n_int == 1 and not exposure.has_errors
    np.testing.assert_array_equal(
        exposure.segments[0].source.load(0, 1, FULL).values[0], samples.frames()[0][0]
    )


@pytest.mark.parametrize(
    ("planes", "ending"), [(3, ".slp.fits"), (2, ".red.fits"), (4, ".red.fits")]
)
def test_ramps(planes, ending, tmp_path):
    path = samples.write_slope(tmp_path, planes=planes, ending=ending)
    from astropy.io import fits

    data = fits.getdata(path).astype(float)
    exposure = open_exposure(path)
    found = exposure.segments[0].source.load(0, 1, Box(2, 3, 4, 5)).values[0]
    expected = (data[-1] - data[0])[3:8, 2:6] / (10.0 * (planes - 1))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    assert exposure.n_int == 1 and exposure.unit == "DN/s" and not exposure.has_errors


def test_gain(tmp_path):
    exposure = open_exposure(samples.write_slope(tmp_path), Settings(gain=1.8))
    assert exposure.unit == "electron" and exposure.segments[0].scale == 1.8 * 40.0


def test_number_from_the_name(tmp_path):
    from astropy.io import fits

    path = samples.write_slope(tmp_path, 3)
    fits.delval(path, "ON_NINT")
    times = open_exposure(path).times
    expected = parse_date("2015-11-20T23:59:30") + (2 * 42.0 + 20.0) / 86400
    assert times.mjd_utc[0] == pytest.approx(expected, abs=2e-11)
