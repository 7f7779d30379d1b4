import numpy as np
import pytest
from astropy.io import fits

from tests.unit.readers import samples
from tso_level3.config.settings import Settings
from tso_level3.readers.open import open_exposure
from tso_level3.readers.units import conversion, normal_unit

TREE = {"photometry": {"pixelarea_steradians": 2.0e-14}, "exposure": {"integration_time": 40.0}}


def test_surface_brightness_becomes_flux():
    found = conversion("x", "MJy/sr", TREE, (4, 5), None)
    assert (found.unit, found.note) == ("Jy", "")
    assert found.scale == pytest.approx(2.0e-8, rel=1e-15)


def test_no_pixel_area():
    found = conversion("x", "MJy/sr", {}, (4, 5), 2.0)
    assert (found.unit, found.scale) == ("MJy/sr", 1.0)
    assert "pixel area" in found.note


def test_slopes_become_electrons():
    gain = np.full((4, 5), 2.0)
    gain[1, 1], gain[2, 2] = np.nan, -1.0
    found = conversion("x", "DN/s", TREE, (4, 5), gain)
    assert found.unit == "electron"
    assert np.isnan(found.scale[[1, 2], [1, 2]]).all()
    assert found.scale[0, 0] == 80.0
    assert conversion("x", "DN/s", TREE, (4, 5), 2.0).scale == 80.0


@pytest.mark.parametrize(("gain", "tree"), [(None, TREE), (2.0, {})])
def test_slopes_without_gain_or_time_stay(gain, tree):
    found = conversion("x", "DN/s", tree, (4, 5), gain)
    assert (found.unit, found.scale) == ("DN/s", 1.0)
    assert "DN/s" in found.note


@pytest.mark.parametrize("gain", [np.ones((5, 4)), 0.0, np.nan])
def test_wrong_gain(gain):
    with pytest.raises(ValueError, match="gain"):
        conversion("x", "DN/s", TREE, (4, 5), gain)


@pytest.mark.parametrize(
    ("given", "unit"),
    [
        ("e-", "electron"),
        ("ELECTRONS", "electron"),
        ("dn/s", "DN/s"),
        ("MJy / sr", "MJy/sr"),
        ("mJy", "mJy"),
        ("mJy/sr", "mJy/sr"),
        ("ct", "ct"),
        (None, ""),
    ],
)
def test_spelling(given, unit):
    assert normal_unit(given) == unit


def test_gain_wins_from_the_settings(tmp_path):
    path = samples.write_cube(tmp_path, meta__bunit_data="DN/s", meta__bunit_err="DN/s")
    assert open_exposure(path).unit == "DN/s"
    assert open_exposure(path, gain=3.0).segments[0].scale == 3.0 * samples.LENGTH
    exposure = open_exposure(path, Settings(gain=2.0), gain=3.0)
    assert exposure.segments[0].scale == 2.0 * samples.LENGTH
    assert exposure.unit == "electron"


def test_gain_reference_of_the_whole_detector(tmp_path):
    path = samples.write_cube(tmp_path, meta__bunit_data="DN/s")
    image = np.random.default_rng(2).uniform(1, 2, (30, 40)).astype(np.float32)
    reference = tmp_path / "gain.fits"
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image, name="SCI")])
    hdus[0].header["SUBSTRT1"] = hdus[0].header["SUBSTRT2"] = 1
    hdus.writeto(reference)
    scale = open_exposure(path, Settings(gain=str(reference))).segments[0].scale
    ny, nx = samples.SHAPE[1:]  # the subarray begins at column 3, row 2 (1-based)
    np.testing.assert_allclose(scale, samples.LENGTH * image[1 : 1 + ny, 2 : 2 + nx], rtol=1e-7)


def test_gain_reference_that_does_not_cover_the_frames(tmp_path):
    path = samples.write_cube(tmp_path, meta__bunit_data="DN/s")
    reference = samples.write_plain(tmp_path, "gain.fits", image=np.ones((5, 5)))
    with pytest.raises(ValueError, match="gain.*cover"):
        open_exposure(path, Settings(gain=str(reference)))
    with pytest.raises(ValueError, match="no such file"):
        open_exposure(path, Settings(gain=str(tmp_path / "none.fits")))


def test_gain_is_for_slopes_only(tmp_path):
    path = samples.write_cube(tmp_path)
    exposure = open_exposure(path, Settings(gain=2.0))
    assert exposure.unit == "Jy"
    assert exposure.segments[0].scale == pytest.approx(2.3e-8)


@pytest.mark.parametrize("unit", ["adu", "ADU", "DN", "counts", "count", "ct", ""])
def test_gain_is_for_counts_too(unit, tmp_path):
    """Used to count for DN/s alone: the pixels stayed in DN, in silence."""
    path = samples.write_plain(tmp_path, **({"BUNIT": unit} if unit else {}))
    exposure = open_exposure(path, Settings(gain=1.5))
    assert (exposure.unit, exposure.segments[0].scale) == ("electron", 1.5)
    assert any("taken as DN" in note for note in exposure.notes) == (not unit)
    array = open_exposure(np.ones((3, 4, 5)), Settings(gain=1.5, unit=unit or None))
    assert (array.unit, array.segments[0].scale) == ("electron", 1.5)


@pytest.mark.parametrize("unit", ["adu/s", "DN/s", "counts/s"])
def test_rates_of_a_plain_file_have_an_integration_time(unit, tmp_path):
    """Used to stay in DN/s, since EXPTIME was not looked at."""
    path = samples.write_plain(tmp_path, BUNIT=unit)  # 30 s
    exposure = open_exposure(path, Settings(gain=1.5))
    assert (exposure.unit, exposure.segments[0].scale) == ("electron", 45.0)


@pytest.mark.parametrize(
    ("unit", "why"),
    [
        ("electron", "the pixels are in electron"),
        ("Jy", "the pixels are in Jy"),
        ("DN/s", "no integration time is known"),
    ],
)
def test_a_gain_that_is_not_used_is_warned_of(unit, why, caplog):
    exposure = open_exposure(np.ones((3, 4, 5)), Settings(gain=1.5, unit=unit))
    assert exposure.unit == unit and np.all(exposure.segments[0].scale == 1)
    assert f"gain=1.5 is not used: {why}" in caplog.text


@pytest.mark.parametrize(
    ("given", "unit"),
    [
        ("e-", "electron"),
        ("electron / s", "electron / s"),
        ("erg / (s cm2)", "erg / (s cm2)"),
        ("uJy", "uJy"),
        ("mJy/sr", "mJy/sr"),
    ],
)
def test_every_unit_can_be_given(given, unit, tmp_path, caplog):
    path = samples.write_plain(tmp_path, BUNIT="K")
    exposure = open_exposure(path, Settings(unit=given))
    assert exposure.unit == unit
    assert f"The input says K; unit={unit}, which was given, is used." in caplog.text


def test_a_unit_that_nobody_knows():
    with pytest.raises(ValueError, match="unit: 'electorns' found.*perhaps electron"):
        open_exposure(np.ones((3, 4, 5)), Settings(unit="electorns"))


@pytest.mark.parametrize("name", ["extension", "error_extension", "mask_extension", "plane"])
def test_settings_of_files_are_not_dropped_in_silence(name, caplog):
    value = 0 if name == "plane" else "SCI"
    open_exposure(np.ones((3, 4, 5)), Settings(**{name: value}))
    assert f"Not used, since not for data in memory: {name}={value}." in caplog.text


def test_mixed_units_name_both(tmp_path):
    one = samples.write_plain(tmp_path, "a.fits", BUNIT="electron")
    two = samples.write_plain(tmp_path, "b.fits", BUNIT="Jy")
    with pytest.raises(ValueError, match="unit electron .*a.fits.* and Jy .*b.fits"):
        open_exposure([one, two])
