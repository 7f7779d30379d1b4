import copy
import json
import pickle

import numpy as np
import pytest

from tests.unit.readers import samples
from tso_level3.config.settings import Settings
from tso_level3.datatypes import Box
from tso_level3.flags import Flag
from tso_level3.readers.jwst import sky_position
from tso_level3.readers.open import open_exposure

BOX = Box(2, 3, 7, 6)


def assert_exposure(exposure, seeds=(1,)):
    """The frames are those that were written, box by box, and their variances too."""
    assert len(exposure.segments) == len(seeds)
    for segment, seed in zip(exposure.segments, seeds):
        values, errors, dq = samples.frames(seed=seed)
        pixels = segment.source.load(1, 5, BOX, variances=True)
        cut = (slice(1, 5), *BOX.slices)
        np.testing.assert_array_equal(pixels.values, values[cut])
        np.testing.assert_array_equal(pixels.errors, errors[cut])
        np.testing.assert_array_equal(pixels.dq, dq[cut])
        np.testing.assert_array_equal(pixels.var_rnoise, (errors**2 / 4)[cut])
        whole = segment.source.load(0, 6, Box(0, 0, 10, 12))
        np.testing.assert_array_equal(whole.dq, dq)
        assert pixels.values.dtype == np.float32 and pixels.dq.dtype == np.uint32
        assert whole.var_rnoise is None
    assert exposure.unit == "Jy"
    assert exposure.has_errors
    assert exposure.position == (4.5, 5.25)  # 1-based in the header
    assert exposure.optics.filter == "F210M" and exposure.optics.detector == "NRCA3"
    assert exposure.optics.pixel_scale == pytest.approx(0.000978**0.5)
    assert exposure.meta["instrument"]["filter"] == "F210M"
    n = 6 * len(seeds)
    np.testing.assert_array_equal(exposure.integration, np.arange(1, n + 1))
    np.testing.assert_allclose(
        exposure.times.mjd_utc, samples.mid_times(1, n), rtol=0, atol=2e-6 / samples.DAY
    )
    assert exposure.times.scale == "BMJD_TDB"
    assert not exposure.times.flags.any()
    assert exposure.times.exposure_time == samples.LENGTH


@pytest.fixture
def segments(tmp_path):
    return [
        samples.write_cube(tmp_path, first=1, segment=1),
        samples.write_cube(tmp_path, first=7, segment=2),
    ]


def test_file(tmp_path):
    path = samples.write_cube(tmp_path)
    exposure = open_exposure(path, Settings(checksum=True))
    assert_exposure(exposure)
    assert_exposure(open_exposure(str(path)))
    (record,) = exposure.inputs
    assert record["name"] == path.name and record["size"] == path.stat().st_size
    assert len(record["sha256"]) == 64 and record["frames"] == [1, 6]
    assert record["date"].startswith("20") and "T" in record["modified"]
    assert exposure.filenames == (path.name,) * 6


def test_open_model_is_neither_changed_nor_copied():
    with samples.cube_model() as model:
        before = copy.deepcopy(model.meta.instance)
        arrays = {k: model[k].copy() for k in ("data", "err", "dq", "int_times")}
        exposure = open_exposure(model, Settings(gain=2.0))
        assert_exposure(exposure)
        assert exposure.filenames is None
        pixels = exposure.segments[0].source.load(0, 6, Box(0, 0, 10, 12))
        assert np.shares_memory(pixels.values, model.data)
        assert np.shares_memory(pixels.errors, model.err)
        assert np.shares_memory(pixels.dq, model.dq)
        assert model.meta.instance == before
        for key, array in arrays.items():
            np.testing.assert_array_equal(model[key], array)


def test_open_model_without_errors_does_not_get_them():
    # Asking a data model for an array that it does not have makes the array.
    from stdatamodels.jwst.datamodels import CubeModel

    values, _, _ = samples.frames()
    with CubeModel(data=values) as model:
        present = [key for key in ("err", "dq", "var_flat", "int_times") if model.hasattr(key)]
        exposure = open_exposure(model)
        assert not exposure.has_errors
        assert present == [k for k in ("err", "dq", "var_flat", "int_times") if model.hasattr(k)]
        assert exposure.position is None
        assert (exposure.times.flags & Flag.NO_TIME).all()


@pytest.mark.parametrize("kind", ["list", "reversed", "generator", "asn", "dict", "glob", "folder"])
def test_segments(kind, segments, tmp_path, monkeypatch):
    members = [{"expname": path.name, "exptype": "science"} for path in segments[::-1]]
    members.append({"expname": "other.fits", "exptype": "background"})
    association = {"products": [{"name": "x", "members": members}]}
    path = tmp_path / "asn.json"
    path.write_text(json.dumps(association))
    monkeypatch.chdir(tmp_path)
    source = {
        "list": segments,
        "reversed": [str(s) for s in segments[::-1]],
        "generator": (s for s in segments),
        "asn": path,
        "dict": association,
        "glob": str(tmp_path / "*calints.fits"),
        "folder": tmp_path,
    }[kind]
    exposure = open_exposure(source)
    assert_exposure(exposure, seeds=(1, 2))
    assert exposure.segment.tolist() == [1] * 6 + [2] * 6
    assert [record["frames"] for record in exposure.inputs] == [[1, 6], [7, 12]]
    assert [segment.first_integration for segment in exposure.segments] == [1, 7]
    assert exposure.filenames[6] == segments[1].name


@pytest.mark.parametrize("kind", ["list", "container", "library", "open library"])
def test_open_models(kind):
    from jwst.datamodels import ModelContainer, ModelLibrary

    models = [samples.cube_model(first=7, segment=2, seed=2), samples.cube_model(segment=1)]
    for model in models:
        model.meta.asn.exptype = "science"
    if kind == "list":
        assert_exposure(open_exposure(models), seeds=(1, 2))
    elif kind == "container":
        assert_exposure(open_exposure(ModelContainer(models)), seeds=(1, 2))
    else:
        library = ModelLibrary(models)
        if kind == "library":
            assert_exposure(open_exposure(library), seeds=(1, 2))
        with library:
            assert_exposure(open_exposure(library), seeds=(1, 2))
            model = library.borrow(0)  # all were given back
            library.shelve(model, 0, modify=False)


@pytest.mark.parametrize("word", ["SCIENCE", "Science", " science ", None])
def test_letter_case_of_exptype(word, segments, tmp_path):
    members = [{"expname": path.name, "exptype": word} for path in segments]
    members.append({"expname": "other.fits", "exptype": "BACKGROUND"})
    path = tmp_path / "asn.json"
    path.write_text(json.dumps({"products": [{"name": "x", "members": members}]}))
    assert open_exposure(path).n_int == 12


@pytest.mark.parametrize("products", [[], [{}], [{"members": []}], None, {}, [None]])
def test_an_association_of_nothing(products, tmp_path):
    # used to be an IndexError
    path = tmp_path / "asn.json"
    path.write_text(json.dumps({"products": products}))
    for source in (path, {"products": products}):
        with pytest.raises(ValueError, match="association"):
            open_exposure(source)


def test_association_of_open_models():
    models = [samples.cube_model(first=7, segment=2, seed=2), samples.cube_model(segment=1)]
    members = [{"expname": model, "exptype": "science"} for model in models]
    assert_exposure(open_exposure({"products": [{"members": members}]}), seeds=(1, 2))


def test_asdf(tmp_path):
    path = tmp_path / "x_calints.asdf"
    with samples.cube_model() as model:
        model.save(path)
    exposure = open_exposure(path)
    assert_exposure(exposure)
    source = pickle.loads(pickle.dumps(exposure.segments[0].source))
    np.testing.assert_array_equal(
        source.load(2, 3, BOX).values[0], samples.frames()[0][2, 3:9, 2:9]
    )


def test_duplicate_segment_names_both(segments, tmp_path):
    again = tmp_path / "again_calints.fits"
    again.write_bytes(segments[0].read_bytes())
    with pytest.raises(ValueError, match=r"(?s)seg001.*again_calints.*overlap.*1 to 6 and 1 to 6"):
        open_exposure([*segments, again])


def test_overlap(tmp_path):
    one = samples.write_cube(tmp_path, first=1, segment=1)
    two = samples.write_cube(tmp_path, first=5, segment=2)
    with pytest.raises(ValueError, match="overlap.*1 to 6 and 5 to 10"):
        open_exposure([two, one])


def test_missing_segment_is_said(tmp_path):
    one = samples.write_cube(tmp_path, first=1, segment=1)
    three = samples.write_cube(tmp_path, first=13, segment=3, meta__exposure__nints=18)
    exposure = open_exposure([three, one])
    assert exposure.integration.tolist() == [*range(1, 7), *range(13, 19)]
    assert any("7 to 12 are missing" in note for note in exposure.notes)


def test_two_exposures_in_the_order_of_time(tmp_path):
    one = samples.write_cube(tmp_path)
    two = tmp_path / "second_calints.fits"
    with samples.cube_model(seed=2) as model:
        model.meta.observation.exposure_number = "2"
        rows = model.int_times.copy()
        for name in rows.dtype.names[1:]:
            rows[name] += 0.1
        model.int_times = rows
        model.save(two)
    exposure = open_exposure([two, one])
    assert exposure.integration.tolist() == [*range(1, 7)] * 2
    assert np.all(np.diff(exposure.times.mjd_utc) > 0)
    assert exposure.filenames[0] == one.name


@pytest.mark.parametrize(
    ("place", "value", "found"),
    [
        ("meta.instrument.filter", "F182M", "filter F210M .*seg001.* and F182M .*seg002"),
        ("meta.instrument.detector", "NRCA1", "detector NRCA3 .*seg001.* and NRCA1 .*seg002"),
        ("meta.bunit_data", "DN/s", "unit MJy/sr .*seg001.* and DN/s .*seg002"),
    ],
)
def test_mixed_inputs_name_both(place, value, found, tmp_path):
    one = samples.write_cube(tmp_path)
    two = samples.write_cube(tmp_path, first=7, segment=2, **{place.replace(".", "__"): value})
    with pytest.raises(ValueError, match=found):
        open_exposure([one, two])


def test_spectra_are_refused(tmp_path):
    path = samples.write_cube(tmp_path, meta__exposure__type="NRS_BRIGHTOBJ")
    with pytest.raises(ValueError, match="NRS_BRIGHTOBJ found, expected an imaging"):
        open_exposure(path)


def test_weak_lens_side_of_a_grism_series_is_an_image(tmp_path):
    path = samples.write_cube(tmp_path, meta__exposure__type="NRC_TSGRISM")
    assert open_exposure(path).n_int == 6


def test_zero_errors_are_unknown(tmp_path):
    path = tmp_path / "x_calints.fits"
    with samples.cube_model() as model:
        model.err = np.zeros(samples.SHAPE, np.float32)
        exposure = open_exposure(model)
        assert not exposure.has_errors
        assert exposure.segments[0].source.load(0, 1, BOX).errors is None
        model.save(path)
    exposure = open_exposure(path)
    assert not exposure.has_errors
    assert exposure.segments[0].source.load(0, 1, BOX).errors is None
    assert any("zero" in note for note in exposure.notes)


def test_image_models_are_frames():
    from stdatamodels.jwst.datamodels import ImageModel

    values, errors, _ = samples.frames()
    models = []
    for k in range(3):
        model = ImageModel(data=values[k], err=errors[k])
        model.meta.exposure.mid_time = 60000.0 + k
        model.meta.bunit_data = "MJy/sr"
        model.meta.photometry.pixelarea_steradians = 1e-14
        models.append(model)
    exposure = open_exposure(models)
    assert exposure.n_int == 3 and len(exposure.segments) == 1
    assert exposure.times.mjd_utc.tolist() == [60000.0, 60001.0, 60002.0]
    loaded = exposure.segments[0].source.load(0, 3, BOX)
    np.testing.assert_array_equal(loaded.values, values[:3][(slice(None), *BOX.slices)])
    np.testing.assert_array_equal(loaded.errors, errors[:3][(slice(None), *BOX.slices)])


def test_lost_asdf_extension(tmp_path):
    from astropy.io import fits

    path = samples.write_cube(tmp_path)
    with fits.open(path) as hdus:
        kept = fits.HDUList([hdu for hdu in hdus if hdu.name != "ASDF"])
        kept.writeto(tmp_path / "x_calints.fits", output_verify="ignore")
    assert_exposure(open_exposure(tmp_path / "x_calints.fits"))


def test_sky_position(tmp_path):
    assert sky_position(open_exposure(samples.write_cube(tmp_path)), 3, 4) is None
    assert sky_position(open_exposure(np.ones((3, 9, 9))), 3, 4) is None


def test_simulated_files_have_sky_positions(tmp_path):
    from stdatamodels.jwst import datamodels

    from tso_level3.simulate import simulate_files, simulation

    sim = simulation("F210M", n_int=3, segments=1)
    (path,) = simulate_files(sim, tmp_path).segments
    exposure = open_exposure(path)
    ra, dec = sky_position(exposure, *exposure.position)
    assert (ra, dec) == pytest.approx((sim.ra, sim.dec), abs=1e-9)
    with datamodels.open(path) as model:
        exposure = open_exposure(model)
        assert sky_position(exposure, *exposure.position) == pytest.approx((sim.ra, sim.dec))
        assert "wcs" not in exposure.meta
        pickle.dumps(exposure.segments)  # the world coordinates stay behind


def test_meta_goes_into_a_data_model(tmp_path):
    from stdatamodels.jwst.datamodels import CubeModel

    exposure = open_exposure(samples.write_cube(tmp_path))
    json.dumps(exposure.meta)
    with CubeModel() as model:
        model.update({"meta": dict(exposure.meta)})
        assert model.meta.instrument.filter == "F210M"
        assert model.meta.wcsinfo.siaf_xref_sci == 5.5
