import gc
import gzip
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from tests.unit.readers import samples
from tso_level3.config.settings import Settings
from tso_level3.datatypes import Box
from tso_level3.flags import Flag
from tso_level3.readers.arrays import BAD
from tso_level3.readers.open import open_exposure

DAY = 86400.0
FULL = Box(0, 0, 10, 12)
HALF = 15.0 / DAY


def one_time(tmp_path, **cards):
    exposure = open_exposure(samples.write_plain(tmp_path, **cards))
    return exposure.times


@pytest.mark.parametrize(
    ("cards", "expected", "source"),
    [
        ({"MJD_AVG": 60000.5, "MJD_OBS": 1.0}, 60000.5, "MJD-AVG"),
        ({"MJD_OBS": 60000.5}, 60000.5 + HALF, "MJD-OBS + half the exposure time"),
        ({"MJD_BEG": 60000.5}, 60000.5 + HALF, "MJD-BEG + half the exposure time"),
        ({"DATE_OBS": "2023-02-25T12:00:00"}, 60000.5 + HALF, "DATE-OBS + half the exposure time"),
        (
            {"DATE_OBS": "2023-02-25", "TIME_OBS": "12:00:00.0"},
            60000.5 + HALF,
            "DATE-OBS and TIME-OBS + half the exposure time",
        ),
        ({"DATE_AVG": "2023-02-25T12:00:00"}, 60000.5, "DATE-AVG"),
        ({"JD": 2460001.0}, 60000.5 + HALF, "JD + half the exposure time"),
    ],
)
def test_keywords(cards, expected, source, tmp_path):
    times = one_time(tmp_path, **cards)
    assert times.mjd_utc[0] == pytest.approx(expected, abs=1e-9)
    assert times.source == source
    assert times.flags[0] == Flag.TIME_FROM_HEADER | Flag.NO_BARYCENTRIC_TIME
    assert times.scale == "MJD_UTC"
    assert times.exposure_time == 30.0


@pytest.mark.parametrize("key", ["BJD_TDB", "BJD", "BMJD_TDB"])
def test_barycentric_keywords(key, tmp_path):
    value = 60000.5 if key.startswith("BMJD") else 2460001.0
    times = one_time(tmp_path, **{"MJD_OBS": 60000.4}, **{})
    assert np.isnan(times.bmjd_tdb).all()
    path = samples.write_plain(tmp_path)
    fits.setval(path, key, value=value)
    times = open_exposure(path).times
    assert times.bmjd_tdb[0] == pytest.approx(60000.5, abs=1e-9)
    assert np.isnan(times.mjd_utc[0])  # scales are never mixed
    assert times.source == key and times.scale == "BMJD_TDB"
    assert times.flags[0] == Flag.TIME_FROM_HEADER


def test_time_system(tmp_path):
    times = one_time(tmp_path, MJD_AVG=60000.5, TIMESYS="TT")
    assert times.mjd_utc[0] == pytest.approx(60000.5 - 69.184 / DAY, abs=1e-9)
    assert any("TT" in note for note in times.notes)


def test_no_exposure_time_is_said(tmp_path):
    path = samples.write_plain(tmp_path, MJD_OBS=60000.5)
    fits.delval(path, "EXPTIME")
    times = open_exposure(path).times
    assert times.mjd_utc[0] == 60000.5
    assert any("mid-time" in note for note in times.notes)


def test_no_time(tmp_path):
    times = one_time(tmp_path)
    assert times.flags[0] == Flag.NO_TIME | Flag.NO_BARYCENTRIC_TIME
    assert times.source == "none" and times.scale == "none"


def test_list_keeps_its_order_and_folder_sorts_naturally(tmp_path):
    for k in (10, 9, 2, 1):
        samples.write_plain(tmp_path, f"frame_{k}.fits", MJD_OBS=60000.0 + k)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.fits").write_text("not an image")
    order = ["frame_1.fits", "frame_2.fits", "frame_9.fits", "frame_10.fits"]
    assert open_exposure(tmp_path).filenames == tuple(order)
    assert open_exposure(str(tmp_path / "frame_*.fits")).filenames == tuple(order)
    names = [tmp_path / name for name in order[::-1]]
    exposure = open_exposure(names)
    assert exposure.filenames == tuple(order[::-1])
    assert np.all(np.diff(exposure.times.mjd_utc) < 0)
    assert any("do not rise" in note for note in exposure.times.notes)
    assert exposure.segment.tolist() == [1, 2, 3, 4] == exposure.integration.tolist()


def test_times_of_a_list_may_be_given(tmp_path):
    names = [samples.write_plain(tmp_path, f"f{k}.fits") for k in range(3)]
    times = open_exposure(names, times=[60000.0, 60000.1, 60000.2]).times
    assert times.mjd_utc.tolist() == [60000.0, 60000.1, 60000.2] and times.source == "given"
    with pytest.raises(ValueError, match="times.*3 frames"):
        open_exposure(names, times=[60000.0])


def test_unreadable_file_of_a_list(tmp_path):
    names = [samples.write_plain(tmp_path, f"f{k}.fits", MJD_OBS=60000 + k) for k in range(4)]
    names[1].write_bytes(names[1].read_bytes()[:3000])
    names.append(tmp_path / "empty.fits")
    names[-1].touch()
    exposure = open_exposure(names)
    assert ((exposure.times.flags & Flag.UNREADABLE) > 0).tolist() == [False, True, 0, 0, True]
    pixels = exposure.segments[0].source.load(0, 5, FULL)
    assert np.isnan(pixels.values[[1, 4]]).all() and (pixels.dq[[1, 4]] == BAD).all()
    assert np.isfinite(pixels.values[[0, 2, 3]]).all() and not pixels.dq[[0, 2, 3]].any()
    assert exposure.filenames[4] == "empty.fits"
    assert any("2 of 5 inputs cannot be read" in note for note in exposure.notes)
    assert any(note.endswith("then empty.fits.") for note in exposure.notes)
    assert "truncated" in exposure.inputs[1]["problem"]
    with pytest.raises(ValueError, match="f1.fits.*truncated"):
        open_exposure(names, Settings(unreadable="stop"))


@pytest.mark.parametrize("lost", ["missing.fits", "4", "word"])
def test_a_named_file_that_does_not_exist_stops(lost, tmp_path, monkeypatch):
    """Used to become a row of NaN, so that radii that were taken for files went by."""
    monkeypatch.chdir(tmp_path)
    names = [samples.write_plain(tmp_path, f"f{k}.fits", MJD_OBS=60000 + k) for k in range(3)]
    with pytest.raises(FileNotFoundError, match=f"{lost}: no such file"):
        open_exposure([*names, lost])
    (tmp_path / "list.txt").write_text(f"f0.fits\n{lost}\nf1.fits\n")
    with pytest.raises(FileNotFoundError, match=f"{lost}: no such file"):
        open_exposure(tmp_path / "list.txt")


def test_file_that_becomes_unreadable(tmp_path, caplog):
    names = [samples.write_plain(tmp_path, f"f{k}.fits") for k in range(3)]
    kept, stopped = open_exposure(names), open_exposure(names, Settings(unreadable="stop"))
    names[1].unlink()
    values = kept.segments[0].source.load(0, 3, FULL).values
    assert np.isnan(values[1]).all() and np.isfinite(values[[0, 2]]).all()
    assert "f1.fits cannot be read" in caplog.text
    with pytest.raises(OSError, match="f1.fits"):
        stopped.segments[0].source.load(0, 3, FULL)


def test_mixed_shapes_name_both(tmp_path):
    one = samples.write_plain(tmp_path, "a.fits")
    two = samples.write_plain(tmp_path, "b.fits", image=np.ones((5, 6)))
    with pytest.raises(ValueError, match=r"shape \(12, 10\) .* a.fits\) and \(5, 6\) .*b.fits"):
        open_exposure([one, two])


def test_extensions_and_planes(tmp_path):
    values, errors, dq = samples.frames()
    path = tmp_path / "x.fits"
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.ImageHDU(values, name="FLUX"),
            fits.ImageHDU(errors, name="SIGMA"),
            fits.ImageHDU(dq[0].astype(np.uint8), name="FLAGGED"),
            fits.ImageHDU(values * 2, name="OTHER"),
        ]
    ).writeto(path)
    assert open_exposure(path).n_int == 6  # the first that has an image
    settings = Settings(extension="other", plane=4, error_extension="2", mask_extension="FLAGGED")
    exposure = open_exposure(path, settings)
    assert exposure.n_int == 1 and exposure.has_errors
    pixels = exposure.segments[0].source.load(0, 1, FULL)
    np.testing.assert_array_equal(pixels.values[0], values[4] * 2)
    np.testing.assert_array_equal(pixels.errors[0], errors[4])
    np.testing.assert_array_equal(pixels.dq[0], np.where(dq[0] > 0, BAD, 0))
    with pytest.raises(ValueError, match="extension: ABSENT is no image of .*FLUX, SIGMA"):
        open_exposure(path, Settings(extension="ABSENT"))
    with pytest.raises(ValueError, match="plane: 6 found, expected less than 6"):
        open_exposure(path, Settings(plane=6))


def test_ccddata_file(tmp_path):
    from astropy import units as u
    from astropy.nddata import CCDData, StdDevUncertainty, VarianceUncertainty

    values, errors, dq = samples.frames()
    for kind, stored in ((StdDevUncertainty, errors[0]), (VarianceUncertainty, errors[0] ** 2)):
        path = tmp_path / f"{kind.__name__}.fits"
        CCDData(values[0], uncertainty=kind(stored), mask=dq[0] > 0, unit=u.electron).write(path)
        exposure = open_exposure(path)
        pixels = exposure.segments[0].source.load(0, 1, FULL)
        np.testing.assert_allclose(pixels.errors[0], errors[0], rtol=1e-6)
        np.testing.assert_array_equal(pixels.dq[0] > 0, dq[0] > 0)
        assert exposure.unit == "electron"


def test_zero_errors_of_an_image(tmp_path):
    path = samples.write_plain(tmp_path, errors=np.zeros((12, 10), np.float32))
    exposure = open_exposure(path)
    assert not exposure.has_errors
    assert exposure.segments[0].source.load(0, 1, FULL).errors is None


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (np.ones(7), "NAXIS = 1"),
        (np.ones((2, 3, 4, 5)), "NAXIS = 4"),
        (None, "no image"),
    ],
)
def test_wrong_dimensions(image, found, tmp_path):
    path = tmp_path / "x.fits"
    fits.PrimaryHDU(image).writeto(path)
    with pytest.raises(ValueError, match=f"x.fits: {found}"):
        open_exposure(path)


def test_axes_of_length_one(tmp_path):
    path = samples.write_plain(tmp_path, image=samples.frames()[0][np.newaxis])
    assert open_exposure(path).n_int == 6


def test_errors_of_another_shape(tmp_path):
    path = samples.write_plain(tmp_path, errors=np.ones((3, 4), np.float32))
    with pytest.raises(ValueError, match=r"\(3, 4\) found for ERR"):
        open_exposure(path)


def test_listings(tmp_path, monkeypatch):
    folder = tmp_path / "lists"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    samples.write_plain(folder, "a.fits")  # beside the listing
    samples.write_plain(tmp_path, "b 2.fits")  # in the working folder
    text = "a.fits\n# a comment\n\nb 2.fits\n"
    for name in ("x.txt", "x.dat", "x.csv"):
        (folder / name).write_text(text)
        assert open_exposure(folder / name).filenames == ("a.fits", "b 2.fits")
    (folder / "x.csv").write_text("file,exposure\na.fits,1\nb 2.fits,2\n")
    assert open_exposure(folder / "x.csv").filenames == ("a.fits", "b 2.fits")
    (folder / "lost.fits").touch()
    (folder / "x.txt").write_text("lost.fits\na.fits  # the first\n")
    exposure = open_exposure(folder / "x.txt")
    assert exposure.filenames == ("lost.fits", "a.fits")  # the first line is not lost
    assert exposure.times.flags[0] & Flag.UNREADABLE
    (folder / "x.txt").write_text("# nothing\n")
    with pytest.raises(ValueError, match="no file names"):
        open_exposure(folder / "x.txt")


def test_nothing_matches(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file matches"):
        open_exposure(str(tmp_path / "*.fits"))
    with pytest.raises(FileNotFoundError, match="no FITS or ASDF file"):
        open_exposure(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        open_exposure(tmp_path / "x.fits")


def test_name_with_brackets_is_a_file(tmp_path):
    assert open_exposure(samples.write_plain(tmp_path, "frame[1].fits")).n_int == 1


@pytest.mark.parametrize("source", [[], "", 7, None, b"x.fits", [1, 2], {}, {"products": []}])
def test_what_is_no_input(source):
    with pytest.raises(ValueError, match="source|association"):
        open_exposure(source)


def test_real_list(shared_data):
    names = sorted((shared_data / "k22_luci2").glob("*.fits"))
    exposure = open_exposure(iter(names))
    box = Box(20, 30, 100, 90)
    expected = np.array([fits.getdata(name)[box.slices] for name in names])
    np.testing.assert_array_equal(exposure.segments[0].source.load(0, 10, box).values, expected)
    begin = fits.getval(names[0], "MJD-OBS") + fits.getval(names[0], "EXPTIME") / 2 / DAY
    assert exposure.times.mjd_utc[0] == pytest.approx(begin, abs=1e-9)
    assert exposure.unit == "electron" and exposure.optics.instrument == "LUCI2"
    assert exposure.meta == {}


def test_real_image_of_the_telescope(shared_data):
    exposure = open_exposure(shared_data / "wasp39_nrca3_f210m_wlp8" / "median_image.fits")
    assert exposure.shape == (252, 1024) and exposure.unit == "electron"
    assert exposure.optics.pupil == "WLP8" and exposure.optics.pixel_scale == 0.0312
    assert exposure.meta["instrument"]["detector"] == "NRCA3"


@pytest.mark.parametrize("stored", ["u1", "i2", "u2", "i4", "f4"])
@pytest.mark.parametrize("tiles", [False, True])
def test_any_value_of_a_mask_is_bad(stored, tiles, tmp_path):
    # used to be bit 0 of the mask alone: pixels of 2 were good
    values, _, _ = samples.frames()
    mask = np.zeros(samples.SHAPE[1:], stored)
    mask[2, 3], mask[4, 5], mask[6, 7] = 1, 2, 64
    kind = {"compression_type": "GZIP_1", "quantize_level": 0} if tiles else {}
    kind_of = fits.CompImageHDU if tiles else fits.ImageHDU
    path = tmp_path / "x.fits"
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(values[0], name="SCI")]
    fits.HDUList([*hdus, kind_of(mask, name="BPM", **kind)]).writeto(path)
    exposure = open_exposure(path, Settings(mask_extension="BPM"))
    found = exposure.segments[0].source.load(0, 1, FULL).dq[0]
    np.testing.assert_array_equal(found, np.where(mask != 0, BAD, 0))


def test_the_flags_of_an_extension_dq_stay_flags(tmp_path):
    values, errors, dq = samples.frames()
    path = tmp_path / "x.fits"
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(values, name="SCI"), fits.ImageHDU(dq, name="DQ")]
    fits.HDUList(hdus).writeto(path)
    for settings in (Settings(), Settings(mask_extension="DQ")):
        found = open_exposure(path, settings).segments[0].source.load(0, 6, FULL).dq
        np.testing.assert_array_equal(found, dq)


def science_file(tmp_path, science):
    _, errors, _ = samples.frames()
    path = tmp_path / "x.fits"
    hdus = [fits.PrimaryHDU(), *science, fits.ImageHDU(errors, name="ERR")]
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


TABLE = fits.BinTableHDU.from_columns([fits.Column("a", "D", array=[1.0, 2.0])], name="SCI")


@pytest.mark.parametrize(
    ("science", "words"),
    [
        ([], "x.fits: no image found beside ERR in 2 HDUs"),
        ([fits.ImageHDU(name="SCI")], r"SCI without an image \(image\) found beside ERR"),
        ([TABLE], r"SCI without an image \(table\) found beside ERR"),
    ],
)
def test_errors_are_not_taken_for_the_image(science, words, tmp_path):
    # used to be measured as if they were the image
    with pytest.raises(ValueError, match=words):
        open_exposure(science_file(tmp_path, science))
    exposure = open_exposure(tmp_path / "x.fits", Settings(extension="ERR"))
    assert exposure.n_int == 6  # where it is asked for


@pytest.mark.parametrize("card", [b"END\0", b"E\0D ", b"\0ND ", b"END\xff"])
def test_a_damaged_end_card(card, tmp_path):
    # used to read on to the next END, and ERR as SCI with its shape
    values, errors, _ = samples.frames()
    path = science_file(tmp_path, [fits.ImageHDU(values, name="SCI")])
    content = bytearray(path.read_bytes())
    second = content.index(b"XTENSION=")
    end = content.index(b"END ".ljust(80), second)
    content[end : end + 4] = card
    path.write_bytes(content)
    if card.startswith(b"END"):  # as astropy reads it
        found = open_exposure(path).segments[0].source.load(0, 6, FULL)
        np.testing.assert_array_equal(found.values, values)
        np.testing.assert_array_equal(found.errors, errors)
    else:
        with pytest.raises(ValueError, match="x.fits: no image found in 1 HDUs.*is damaged"):
            open_exposure(path)


def with_errors(tmp_path, n=24):
    errors = samples.frames()[1][0]
    return [
        samples.write_plain(tmp_path, f"f{k:02d}.fits", errors=errors * (k + 1), MJD_OBS=60000 + k)
        for k in range(n)
    ]


def test_one_file_without_errors_does_not_take_those_of_all(tmp_path, caplog):
    # used to leave the whole exposure without errors
    names = with_errors(tmp_path)
    samples.write_plain(tmp_path, "f07.fits", MJD_OBS=60007)
    exposure = open_exposure(names)
    assert exposure.has_errors
    assert "f07.fits: no standard errors; those of the nearest input were taken" in caplog.text
    own = samples.frames()[1][0]
    whole = exposure.segments[0].source.load(0, 24, FULL)
    assert np.isfinite(whole.values).all()
    for start, stop in ((0, 24), (7, 8), (5, 9)):
        found = exposure.segments[0].source.load(start, stop, FULL)
        expected = [own * (k + 1) if k != 7 else own * 7 for k in range(start, stop)]
        np.testing.assert_array_equal(found.errors, np.array(expected))
        np.testing.assert_array_equal(found.values, samples.frames()[0][[0] * (stop - start)])


def test_errors_of_few_files_are_not_used(tmp_path, caplog):
    names = with_errors(tmp_path, 5)
    for k in range(3):
        samples.write_plain(tmp_path, f"f{k:02d}.fits", MJD_OBS=60000 + k)
    exposure = open_exposure(names)
    assert not exposure.has_errors
    assert "f00.fits and 2 more: no standard errors; those of the other inputs" in caplog.text


def test_a_file_of_tables_in_a_folder_is_left_out(tmp_path, caplog):
    # used to become a row of NaN
    names = [samples.write_plain(tmp_path, f"f{k}.fits", MJD_OBS=60000 + k) for k in range(3)]
    TABLE.writeto(tmp_path / "catalog.fits")
    for source in (tmp_path, str(tmp_path / "*.fits")):
        exposure = open_exposure(source)
        assert exposure.filenames == ("f0.fits", "f1.fits", "f2.fits")
        assert not (exposure.times.flags & Flag.UNREADABLE).any()
    assert "catalog.fits: a file of another kind, no image; left out" in caplog.text
    with pytest.raises(ValueError, match="catalog.fits: tables and no image found"):
        open_exposure([*names, tmp_path / "catalog.fits"])


def test_a_compressed_cube_leaks_no_descriptor(tmp_path):
    # used to leave one open for each file, until a run of a thousand failed
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("no /proc: open descriptors cannot be counted")
    plain = samples.write_plain(tmp_path, "cube.fits", image=samples.frames()[0])
    path = tmp_path / "cube.fits.gz"
    path.write_bytes(gzip.compress(plain.read_bytes()))
    before = len(list(folder.iterdir()))
    for _ in range(5):
        exposure = open_exposure(path)
        assert exposure.segments[0].source.load(0, 1, FULL).values.shape == (1, 12, 10)
        del exposure
    gc.collect()
    assert len(list(folder.iterdir())) <= before


@pytest.mark.parametrize("ending", ["txt", "dat", "csv", "lst", "list"])
def test_listings_and_patterns_inside_a_list(ending, tmp_path, monkeypatch):
    # used to be read as images, but for .txt and .lst, and patterns in a listing as names
    for k in range(4):
        samples.write_plain(tmp_path, f"f{k}.fits", MJD_OBS=60000 + k)
    listing = tmp_path / f"names.{ending}"
    listing.write_text("f1.fits\nf[23].fits\n")
    everything = tuple(f"f{k}.fits" for k in range(4))
    assert open_exposure([tmp_path / "f0.fits", listing]).filenames == everything
    (tmp_path / f"outer.{ending}").write_text(f"f0.fits\n{listing.name}\n")
    assert open_exposure(tmp_path / f"outer.{ending}").filenames == everything
    listing.write_text(f"f0.fits\n{listing.name}\n")
    with pytest.raises(ValueError, match="a listing that names itself"):
        open_exposure(listing)
    listing.write_text("f0.fits\ng*.fits\n")
    with pytest.raises(FileNotFoundError, match=r"g\*.fits: no file matches"):
        open_exposure(listing)


def test_an_empty_name_in_a_list(tmp_path, monkeypatch):
    # used to be read as the working folder
    monkeypatch.chdir(tmp_path)
    samples.write_plain(tmp_path)
    with pytest.raises(ValueError, match="an empty name"):
        open_exposure(["frame_1.fits", ""])
