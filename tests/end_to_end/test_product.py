"""The product: what is saved comes back, and what is wrong is said in a sentence."""

import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time as clock
from pathlib import Path

import asdf
import numpy as np
import pytest
from asdf.exceptions import ValidationError
from astropy import units as u
from astropy.table import QTable, Table
from stdatamodels.jwst.datamodels import ImageModel

from tests.products import FLUX, NOISE, RADII, make_result, metadata
from tso_level3 import columns
from tso_level3.columns import TABLES
from tso_level3.config.settings import Settings
from tso_level3.flags import Flag
from tso_level3.product import model as product
from tso_level3.product.model import FORMAT_VERSION, TSOLightCurveModel, build
from tso_level3.product.record import RunRecord
from tso_level3.product.tables import column_unit, expand_files, files_table

N_INT = 200


@pytest.fixture(scope="module")
def result():
    return make_result(N_INT)


@pytest.fixture(scope="module")
def built(result):
    return build(result)


@pytest.fixture(scope="module")
def content(built, tmp_path_factory):
    return Path(built.copy().save(tmp_path_factory.mktemp("product") / "a.asdf")).read_bytes()


@pytest.fixture
def model(built):
    return built.copy()


@pytest.fixture
def saved(content, tmp_path):
    path = tmp_path / "star_phot.asdf"
    path.write_bytes(content)
    return str(path)


# Building


def test_tables_have_their_columns(model, result):
    for name, items in TABLES.items():
        table = getattr(model, name)
        assert type(table) is Table
        assert table.colnames == [item.name for item in items]
        for item in items:
            found = table[item.name]
            assert found.dtype.kind == np.dtype(item.dtype).kind
            assert found.description == item.description
            assert found.unit == column_unit(item, "Jy")
            expected = np.asarray(getattr(result, name)[item.name]).astype(found.dtype)
            np.testing.assert_array_equal(np.asarray(found), expected)


def test_metadata_of_the_input_is_kept(model):
    meta = model.meta
    assert meta.instrument.filter == "F210M"
    assert meta.exposure.type == "NRC_TSIMAGE"
    assert meta.photometry.pixelarea_steradians == 2.3e-14
    assert meta.wcsinfo.siaf_xref_sci == 32.5
    assert meta.cal_step.photom == "COMPLETE"
    assert meta.cal_step.tso_photometry == "COMPLETE"
    assert meta.cal_step.tso_level3_photometry == "COMPLETE"
    assert meta.bunit_data == meta.bunit_err == "Jy"
    assert meta.model_type == "TSOLightCurveModel"
    assert meta.filename == metadata()["meta"]["filename"]


def test_metadata_as_it_is_read_from_a_file(result, tmp_path, caplog):
    from stdatamodels.jwst.datamodels import CubeModel
    from stdatamodels.jwst.datamodels.util import read_metadata

    path = str(tmp_path / "x_calints.fits")
    with CubeModel((3, 8, 8)) as cube:
        cube.update(metadata())
        cube.meta.wcs = world_coordinates()
        cube.cal_logs = {"calwebb_image2": ["a line", "another"]}
        cube.save(path)
        expected = cube.to_flat_dict(include_arrays=False)
    model = build(dataclasses.replace(result, meta=read_metadata(path, flatten=False)))
    found = model.to_flat_dict(include_arrays=False)
    # These the product says of itself; world coordinates are not read with the metadata.
    own = ("meta.bunit_data", "meta.date", "meta.model_type", "meta.wcs")
    kept = [key for key in expected if key.startswith("meta.") and key not in own]
    assert len(kept) > 20
    assert {key: found.get(key) for key in kept} == {key: expected[key] for key in kept}
    assert not model.meta.hasattr("wcs")
    assert not caplog.records


def test_metadata_without_the_node_above(result, model):
    bare = build(dataclasses.replace(result, meta=metadata()["meta"]))
    assert bare.meta.instrument.instance == model.meta.instrument.instance


def test_no_metadata_at_all(result):
    model = build(dataclasses.replace(result, meta={}))
    assert model.meta.instrument.name is None
    assert model.to_qtable().meta["filter"] is None


def test_metadata_that_the_schema_refuses_does_not_cost_the_product(result, caplog):
    tree = metadata()
    tree["meta"]["instrument"]["filter"] = 3.0  # not a text
    model = build(dataclasses.replace(result, meta=tree))
    assert model.meta.instrument.filter is None
    assert model.meta.instrument.pupil == "WLP8"
    assert "metadata left out" in caplog.text


def test_how_it_was_made(model, result):
    made = model.meta.tso_level3
    assert made.format_version == FORMAT_VERSION
    assert made.time_scale == "BMJD_TDB"
    assert made.kernel.kind == "jwst"
    assert made.units.instance["light_curve"]["psf_flux"] == "Jy"
    assert made.notes.instance == list(result.record.notes)
    assert made.inputs.instance[0]["frames"] == [0, N_INT]
    assert not made.hasattr("verdict")  # None is left out
    assert model.record == RunRecord.from_tree(made.instance)


def test_settings_come_back_as_settings(saved):
    found = product.open(saved).meta.tso_level3.settings.instance
    assert Settings(**found) == Settings(radii=(2, 3, 4.5, 6), radius=3.0)


def test_input_is_not_changed_and_not_shared(result):
    before = pickle.dumps(result)
    model = build(result)
    model.light_curve["time"][0] = 0.0
    model.template.image[0, 0] = 99.0
    model.meta.instrument.filter = "F444W"
    assert pickle.dumps(result) == before


@pytest.mark.parametrize("scale", ["bmjd_tdb", "mjd_utc", None])
def test_time_scale(result, scale):
    light_curve = dict(result.light_curve)
    empty = np.full(N_INT, np.nan)
    light_curve |= {name: empty for name in ("bmjd_tdb", "mjd_utc", "time") if name != scale}
    if scale:
        light_curve["time"] = light_curve[scale]
    named = {"bmjd_tdb": "BMJD_TDB", "mjd_utc": "MJD_UTC", None: "none"}[scale]
    record = RunRecord(time_scale=named)
    model = build(dataclasses.replace(result, light_curve=light_curve, record=record))
    assert model.time_scale == named
    if scale is None:
        with pytest.raises(ValueError, match="no times found"):
            _ = model.times
    else:
        assert model.times.scale == scale[-3:]


def test_missing_column_and_wrong_shape(result):
    short = {key: value for key, value in result.light_curve.items() if key != "cc_x"}
    with pytest.raises(ValueError, match="light_curve: column cc_x not found"):
        build(dataclasses.replace(result, light_curve=short))
    flat = result.light_curve | {"aperture_flux": np.zeros(N_INT)}
    with pytest.raises(ValueError, match="light_curve.aperture_flux: an array of 1 dim"):
        build(dataclasses.replace(result, light_curve=flat))
    longer = result.light_curve | {"cc_x": np.zeros(N_INT + 1)}
    with pytest.raises(ValueError, match=f"light_curve.cc_x: {N_INT + 1} rows found"):
        build(dataclasses.replace(result, light_curve=longer))
    with pytest.raises(ValidationError, match="4 values a row found, expected 3"):
        build(dataclasses.replace(result, radii=RADII[:3]))


@pytest.mark.parametrize("unit", ["Jy", "electron", "DN/s", "MJy/sr", "", "counts of my own"])
def test_every_unit_comes_back(unit, tmp_path):
    path = build(make_result(10, unit=unit)).save(tmp_path / "a.asdf")
    model = product.open(path)
    assert model.unit == unit
    found = model.light_curve["background"].unit
    if unit in ("", "counts of my own"):
        assert found is None
    else:
        assert found == u.Unit(unit) / u.pix


# Schema


def test_schema_and_columns_agree():
    schema = asdf.schema.load_schema(TSOLightCurveModel.schema_url, resolve_references=False)
    nodes = schema["allOf"][-1]["properties"]
    for name, items in TABLES.items():
        assert nodes[name]["tag"] == "tag:astropy.org:astropy/table/table-1.*"
        colnames = nodes[name]["properties"]["colnames"]
        assert [entry["enum"] for entry in colnames["items"]] == [[item.name] for item in items]
        assert colnames["minItems"] == len(items)
    merged = TSOLightCurveModel().schema["properties"]
    for name in TABLES:
        assert merged[name] == nodes[name]


def test_column_names_are_used_once():
    for items in TABLES.values():
        names = [item.name for item in items]
        assert len(set(names)) == len(names)
    keys = [item.key for item in columns.LIGHT_CURVE if item.key]
    assert len(set(keys)) == len(keys)


# Saving and opening


def test_round_trip(model, saved):
    found = product.open(saved)
    for name in TABLES:
        before, after = getattr(model, name), getattr(found, name)
        assert after.colnames == before.colnames
        for column in before.colnames:
            np.testing.assert_array_equal(np.asarray(after[column]), np.asarray(before[column]))
            assert after[column].unit == before[column].unit
            assert after[column].description == before[column].description
            assert after[column].dtype.newbyteorder("=") == before[column].dtype
    for name in ("template", "kernel"):
        before, after = getattr(model, name), getattr(found, name)
        np.testing.assert_array_equal(np.asarray(after.image), before.image)
        assert (after.x, after.y, after.oversample) == (before.x, before.y, before.oversample)
        assert (after.origin_x, after.origin_y) == (before.origin_x, before.origin_y)
    np.testing.assert_array_equal(np.asarray(found.components), model.components)
    assert found.meta.tso_level3.instance == model.meta.tso_level3.instance
    assert found.meta.instrument.instance == model.meta.instrument.instance
    assert found.meta.filename == "star_phot.asdf"
    np.testing.assert_array_equal(found.filenames, model.filenames)


def test_second_save_is_the_same(saved, tmp_path):
    first = product.open(saved)
    again = product.open(first.save(tmp_path / "again.asdf"))
    np.testing.assert_array_equal(again.flux, first.flux)
    # Used to lose what it says of its origin, because history is kept apart from the tree.
    with asdf.open(tmp_path / "again.asdf") as file:
        assert "tso_level3" in file["history"]["entries"][0]["description"]


def test_opened_product_does_not_hold_the_file(saved, tmp_path):
    found = product.open(saved)
    os.truncate(saved, 10)
    np.testing.assert_allclose(
        np.asarray(found.light_curve["aperture_flux"])[:, -1], FLUX, rtol=0.05
    )
    assert np.isfinite(np.asarray(found.components)).all()
    found.save(tmp_path / "other.asdf")


def test_plain_asdf_where_the_package_is_absent(saved):
    script = f"""
    import importlib, sys
    absent = ("tso_level3", "stdatamodels", "jwst", "stpipe")
    # asdf takes the backport where it is installed.
    for name in ("importlib.metadata", "importlib_metadata"):
        try:
            metadata = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        def filtered(*, real=metadata.entry_points, kind=metadata.EntryPoints, **how):
            if not how:
                return real()
            return kind(p for p in real(**how) if not p.value.startswith(absent))
        metadata.entry_points = filtered
    class Absent:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in absent:
                raise ModuleNotFoundError(name)
    sys.meta_path.insert(0, Absent())
    import warnings
    warnings.simplefilter("error")
    import asdf
    from astropy.table import Table
    with asdf.open({str(saved)!r}) as file:
        for name in ("light_curve", "apertures", "grid", "events"):
            assert type(file[name]) is Table, type(file[name])
        table = file["light_curve"]
        assert str(table["aperture_flux"].unit) == "Jy"
        assert table["aperture_flux"].shape == ({N_INT}, {len(RADII)})
        assert table["flags"].description
        assert file["meta"]["tso_level3"]["time_scale"] == "BMJD_TDB"
        assert file["template"]["image"].shape == (21, 21)
    assert "tso_level3" not in sys.modules
    """
    done = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(script)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("asked", "written"),
    [("a_phot.fits", "a_phot.asdf"), ("a_phot", "a_phot.asdf"), ("v1.2", "v1.2.asdf")],
)
def test_save_is_asdf_whatever_the_ending(model, tmp_path, asked, written):
    assert model.save(str(tmp_path / asked)) == str(tmp_path / written)
    assert [path.name for path in tmp_path.iterdir()] == [written]
    assert model.meta.filename == written


def test_save_as_stpipe_calls_it(model, tmp_path):
    model.meta.filename = "b_phot.fits"
    path = model.save(lambda name: str(tmp_path / name), overwrite=True)
    assert path == str(tmp_path / "b_phot.asdf")
    assert model.save("b_phot.fits", dir_path=str(tmp_path)) == path


def test_failed_save_leaves_what_was_there(model, tmp_path, monkeypatch):
    path = tmp_path / "star_phot.asdf"
    path.write_bytes(b"older")

    def broken(self, target, *args, **kwargs):
        with target.open("wb") as stream:
            stream.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(asdf.AsdfFile, "write_to", broken)
    before = model.meta.filename
    with pytest.raises(OSError, match="No space left"):
        model.save(path)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]
    assert model.meta.filename == before


@pytest.mark.parametrize("ending", ["asdf", "ecsv", "fits", "csv", "parquet", "h5"])
def test_interrupted_write_leaves_nothing(model, tmp_path, monkeypatch, ending):
    def interrupted(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.write(tmp_path / f"a.{ending}")
    assert list(tmp_path.iterdir()) == []


def test_killed_save_leaves_no_product(tmp_path):
    script = f"""
    import os, signal, asdf
    from tests.products import make_result
    from tso_level3.product.model import build
    real = asdf.AsdfFile.write_to
    def killed(self, target, *args, **kwargs):
        real(self, target, *args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
    asdf.AsdfFile.write_to = killed
    build(make_result(5)).save({str(tmp_path / "a_phot.asdf")!r})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "a_phot.asdf").exists()
    assert not list(tmp_path.glob("*.asdf"))


def test_folder_that_is_not_there(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder .*missing"):
        model.save(tmp_path / "missing" / "a.asdf")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.asdf: no such file, expected a light-curve"):
        product.open(tmp_path / "none.asdf")


def test_other_files(tmp_path):
    cases = {
        "empty.asdf": b"",
        "text.asdf": b"time flux\n1 2\n",
        "fits.asdf": b"SIMPLE  =                    T",
    }
    found = {"empty.asdf": "an empty file", "text.asdf": "another kind", "fits.asdf": "a FITS file"}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}: {found[name]}.* found, expected a light"):
            product.open(tmp_path / name)
    with pytest.raises(ValueError, match="a folder found"):
        product.open(tmp_path)


def test_other_asdf_files(tmp_path, model):
    asdf.AsdfFile({"a": 1}).write_to(tmp_path / "plain.asdf")
    with pytest.raises(ValueError, match="plain.asdf: ASDF without a model type found"):
        product.open(tmp_path / "plain.asdf")
    ImageModel((4, 4)).save(str(tmp_path / "image.asdf"))
    with pytest.raises(ValueError, match="image.asdf: model type 'ImageModel' found"):
        product.open(tmp_path / "image.asdf")
    with asdf.AsdfFile({"meta": {"model_type": "TSOLightCurveModel"}}) as file:
        file.write_to(tmp_path / "bare.asdf")
    with pytest.raises(ValueError, match="bare.asdf: format version none found"):
        product.open(tmp_path / "bare.asdf")


def _rewritten(saved, path, change):
    with asdf.open(saved, lazy_load=False, memmap=False) as file:
        tree = dict(file.tree)
    change(tree)
    asdf.AsdfFile(tree).write_to(path)
    return path


def test_later_form(saved, tmp_path):
    def later(tree):
        tree["meta"]["tso_level3"]["format_version"] = "3.0.0"

    path = _rewritten(saved, tmp_path / "later.asdf", later)
    with pytest.raises(ValueError, match=r"later.asdf: format version 3.0.0 found"):
        product.open(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree.pop("grid"), "grid.* is a required property"),
        (lambda tree: tree.update(grid="no table"), "grid"),
        (
            lambda tree: tree["light_curve"].remove_column("psf_x"),
            "light_curve: column psf_x not found",
        ),
        (lambda tree: setattr(tree["light_curve"]["psf_x"], "unit", "m"), "unit m found"),
        (lambda tree: tree["meta"]["tso_level3"].update(time_scale="JD"), "JD"),
    ],
)
def test_changed_product(saved, tmp_path, change, message):
    path = _rewritten(saved, tmp_path / "changed.asdf", change)
    with pytest.raises(ValueError, match=rf"changed.asdf: .*{message}"):
        product.open(path)


def test_truncated_file_is_an_error_wherever_it_ends(content, tmp_path):
    path = tmp_path / "cut.asdf"
    # The last bytes are the index of the blocks, without which a file is still whole.
    index = content.rindex(b"#ASDF BLOCK INDEX")
    for end in [*np.linspace(0, index - 1, 40).astype(int)]:
        path.write_bytes(content[:end])
        with pytest.raises(ValueError, match=r"cut.asdf: .* found") as error:
            product.open(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", ["a text", 3.0, np.zeros(3)])
def test_wrong_value_raises_and_the_old_one_stays(model, value):
    before = model.light_curve
    with pytest.raises(ValidationError):
        model.light_curve = value
    assert model.light_curve is before
    with pytest.raises(ValidationError):
        model.light_curve = model.events


def test_wrong_metadata_raises(model):
    with pytest.raises(ValidationError):
        model.meta.cal_step.tso_level3_photometry = "PERHAPS"
    with pytest.raises(ValidationError):
        model.meta.tso_level3.time_scale = "JD"


def test_further_column_is_allowed(model, tmp_path):
    model.light_curve["mine"] = np.arange(N_INT)
    found = product.open(model.save(tmp_path / "a.asdf"))
    np.testing.assert_array_equal(found.light_curve["mine"], np.arange(N_INT))


def test_no_events_and_no_components(tmp_path):
    result = make_result(10, no_events=True)
    light_curve = result.light_curve | {"components": np.zeros((10, 0))}
    result = dataclasses.replace(
        result, light_curve=light_curve, components=np.zeros((0, 21, 21)), filenames=None
    )
    found = product.open(build(result).save(tmp_path / "a.asdf"))
    assert len(found.events) == 0
    assert found.components.shape == (0, 21, 21)
    assert found.filenames is None
    assert "filename" not in found.to_flat_dataframe()
    assert "filename" not in found.to_dataframe()
    found.write(tmp_path / "a.fits")


def test_products_are_quick(tmp_path):
    model = build(make_result(10000))
    start = clock.perf_counter()
    path = model.save(tmp_path / "a.asdf")
    product.open(path)
    # About half a second here; the bound is to notice when it becomes many.
    assert clock.perf_counter() - start < 10


def test_copy_is_its_own(model):
    copied = model.copy()
    copied.light_curve["time"][0] = 0.0
    assert model.light_curve["time"][0] > 60000


# What is quoted


def test_quoted_aperture(model, result):
    assert model.chosen_radius == 3.0
    assert (model.quoted.kind, model.quoted.index) == ("aperture", 1)
    np.testing.assert_array_equal(model.radii, RADII)
    np.testing.assert_array_equal(model.flux, result.light_curve["aperture_flux"][:, 1])
    np.testing.assert_array_equal(model.flux_err, result.light_curve["aperture_flux_err"][:, 1])
    np.testing.assert_array_equal(model.flux_at(4.5)[0], result.light_curve["aperture_flux"][:, 2])
    with pytest.raises(ValueError, match="radius: 7 found, expected one of 2, 3, 4.5, 6"):
        model.flux_at(7)


def test_quoted_fit():
    result = make_result(20, quoted="psf")
    model = build(result)
    assert model.quoted.kind == "psf"
    assert np.isnan(model.chosen_radius)
    np.testing.assert_array_equal(model.flux, result.light_curve["psf_flux"])
    np.testing.assert_array_equal(model.flux_err, result.light_curve["psf_flux_err"])


def test_times(model, result):
    model.light_curve["time"][7] = np.nan
    times = model.times
    assert times.scale == "tdb"
    np.testing.assert_array_equal(times.mjd, np.delete(result.light_curve["time"], 7))


def test_detrended(model):
    time = np.asarray(model.light_curve["time"])
    width = time[-1] - time[0]
    window = (time.mean() - width / 5, time.mean() + width / 5)
    found = model.detrended(window=window)
    assert found.names == ("constant", "time", "psf_x", "psf_y")
    # The light curve follows x with 0.05 a pixel inside a jitter of 0.01 pixel.
    index = found.names.index("psf_x")
    assert abs(found.coefficients[index] - 0.05) < 4 * found.errors[index]
    assert found.scatter_after == pytest.approx(NOISE, rel=0.35)
    assert found.scatter_after < found.scatter_before
    more = model.detrended(("psf_x",), radius=4.5, components=True, order=0, window=window)
    assert more.names == ("constant", "psf_x", "component_1", "component_2", "component_3")
    with pytest.raises(ValueError, match="vectors: 'aperture_flux' found, expected columns"):
        model.detrended(("aperture_flux",))


def test_detrended_without_times(result):
    light_curve = result.light_curve | {
        name: np.full(N_INT, np.nan) for name in ("time", "bmjd_tdb", "mjd_utc")
    }
    model = build(dataclasses.replace(result, light_curve=light_curve, record=RunRecord()))
    assert np.isfinite(model.detrended().flux).all()


def test_files_as_runs():
    names = ["a", "a", "b", "a"]
    table = files_table(names)
    assert list(table["n_rows"]) == [2, 1, 1]
    assert list(expand_files(table)) == names
    assert list(expand_files(files_table([]))) == []


def world_coordinates():
    """A plain shift of pixels to degrees."""
    from astropy import coordinates
    from astropy.modeling import models
    from gwcs import coordinate_frames
    from gwcs.wcs import WCS

    sky = coordinate_frames.CelestialFrame(reference_frame=coordinates.ICRS(), name="world")
    detector = coordinate_frames.Frame2D(name="detector")
    return WCS([(detector, models.Shift(100.0) & models.Shift(-20.0)), (sky, None)])


# The official table


def test_qtable_has_the_official_columns(model, result):
    table = model.to_qtable()
    assert type(table) is QTable
    assert table.colnames == [
        "MJD", "BJD_TDB", "aperture_sum", "aperture_sum_err", "annulus_sum", "annulus_sum_err",
        "annulus_mean", "annulus_mean_err", "aperture_bkg", "aperture_bkg_err",
        "net_aperture_sum", "net_aperture_sum_err", "aperture_x", "aperture_y",
        "aperture_ra_icrs", "aperture_dec_icrs", "centroid_x", "centroid_y", "psf_width_x",
        "psf_width_y", "psf_flux",
    ]  # fmt: skip
    np.testing.assert_array_equal(table["net_aperture_sum"].value, model.flux)
    np.testing.assert_allclose(
        (table["aperture_sum"] - table["aperture_bkg"]).to_value("Jy"), model.flux, rtol=1e-12
    )
    np.testing.assert_allclose(
        np.hypot(table["aperture_sum_err"], table["aperture_bkg_err"]).to_value("Jy"),
        model.flux_err,
        rtol=1e-12,
    )
    np.testing.assert_array_equal(table["BJD_TDB"], result.light_curve["bmjd_tdb"])
    assert np.isnan(table["aperture_ra_icrs"]).all()
    assert "tso_level3" in table.meta["apertures"]
    assert "r=3 pixels" in table.meta["apertures"]
    # The table may be stacked with those of other segments, which joins lists.
    assert all(value is None or isinstance(value, str) for value in table.meta.values())


def test_qtable_says_where_the_background_is_from(result):
    for background, text in (("none", "No background"), ("frame", "in the frame outside")):
        settings = dict(result.record.settings) | {"background": background}
        record = dataclasses.replace(result.record, settings=settings)
        light_curve = result.light_curve | {"background": np.full(N_INT, np.nan)}
        model = build(dataclasses.replace(result, record=record, light_curve=light_curve))
        table = model.to_qtable()
        assert text in table.meta["apertures"]
        np.testing.assert_array_equal(table["aperture_sum"].value, model.flux)


def test_qtable_centroids_are_those_the_apertures_follow(result):
    light_curve = dict(result.light_curve)
    light_curve["gauss_x"] = light_curve["psf_x"] + 0.25
    table = build(dataclasses.replace(result, light_curve=light_curve)).to_qtable()
    np.testing.assert_array_equal(table["centroid_x"].value, light_curve["gauss_x"])
    light_curve["gauss_x"] = np.full(N_INT, np.nan)
    table = build(dataclasses.replace(result, light_curve=light_curve)).to_qtable()
    np.testing.assert_array_equal(table["centroid_x"].value, light_curve["psf_x"])


def test_qtable_of_the_fit():
    model = build(make_result(20, quoted="psf"))
    table = model.to_qtable()
    np.testing.assert_array_equal(table["net_aperture_sum"].value, model.flux)
    assert np.isnan(table["annulus_mean"]).all()
    assert "mean image" in table.meta["apertures"]


@pytest.mark.parametrize("pupil", ["CLEAR", "WLP8"])
def test_qtable_is_shaped_as_that_of_jwst(pupil):
    from jwst.tso_photometry.tso_photometry import tso_aperture_photometry
    from stdatamodels.jwst.datamodels import CubeModel

    n_int = 4
    cube = CubeModel((n_int, 64, 64))
    cube.err = np.ones_like(cube.data)
    cube.update(metadata())
    cube.meta.instrument.pupil = pupil
    cube.meta.bunit_data = "Jy"
    cube.meta.wcs = world_coordinates()
    cube.meta.exposure.integration_start = 1
    rows = [(k + 1, *([60000.0] * 6)) for k in range(n_int)]
    cube.int_times = np.array(rows, dtype=cube.get_dtype("int_times"))
    ones = np.ones(n_int)
    official = tso_aperture_photometry(
        cube, 31.0, 31.0, 3.0, 16.0, 20.0,
        centroid_x=ones, centroid_y=ones, psf_width_x=ones, psf_width_y=ones, psf_flux=ones,
    )  # fmt: skip
    ours = build(make_result(n_int, quoted="psf" if pupil == "WLP8" else "aperture")).to_qtable()
    assert ours.colnames == official.colnames
    assert list(ours.meta) == list(official.meta)
    for name in ours.colnames:
        assert type(ours[name]) is type(official[name]), name
        assert ours[name].unit == official[name].unit, name
        assert ours[name].shape == official[name].shape


def test_qtable_position_from_the_world_coordinates(result):
    tree = metadata()
    tree["meta"]["wcs"] = world_coordinates()
    model = build(dataclasses.replace(result, meta=tree))
    table = model.to_qtable()
    np.testing.assert_allclose(table["aperture_ra_icrs"].to_value("deg"), 131.5)
    np.testing.assert_allclose(table["aperture_dec_icrs"].to_value("deg"), 10.5)


# Windows of a decorrelation


def test_detrended_without_a_window_warns_that_a_transit_goes(model, caplog):
    """Used to fit the transit away in silence."""
    model.detrended()
    assert "an eclipse or transit is fitted away in part" in caplog.text
    caplog.clear()
    assert np.isfinite(model.detrended(window=()).flux).all()
    assert "fitted away" not in caplog.text


def test_detrended_knows_the_transit_from_the_setting(result, caplog):
    time = result.light_curve["time"]
    edges = np.quantile(time, [0.0, 0.3, 0.7, 1.0])
    settings = dict(result.record.settings) | {"out_of_transit": edges.tolist()}
    model = build(
        dataclasses.replace(result, record=dataclasses.replace(result.record, settings=settings))
    )
    found = model.detrended()
    assert not caplog.records
    np.testing.assert_array_equal(found.used, (time <= edges[1]) | (time >= edges[2]))


def test_detrended_takes_times(model):
    from astropy.time import Time

    edges = np.quantile(model.light_curve["time"], [0.3, 0.7])
    one = model.detrended(window=edges)
    for window in (
        Time(edges, format="mjd", scale="tdb"),
        [Time(t, format="mjd", scale="tdb") for t in edges],
    ):
        np.testing.assert_array_equal(model.detrended(window=window).flux, one.flux)
    with pytest.raises(ValueError, match=r"from 0.1 to 0.2 found, expected times from 60123.4 to"):
        model.detrended(window=(0.1, 0.2))


# What can be set


@pytest.mark.parametrize("name", ["flux", "flux_err", "radii", "unit", "quoted", "to_dataframe"])
def test_what_is_worked_out_cannot_be_set(model, name):
    """Used to be taken in silence, and to change nothing."""
    before = repr(getattr(model, name))
    with pytest.raises(AttributeError, match=f"{name}: cannot be set"):
        setattr(model, name, 3)
    assert repr(getattr(model, name)) == before


def test_unknown_attribute_cannot_be_set(model):
    """Used to be taken in silence."""
    with pytest.raises(AttributeError, match="ligth_curve: not an .*, perhaps light_curve"):
        model.ligth_curve = model.light_curve
    with pytest.raises(AttributeError, match="zzz: not an attribute of the product$"):
        model.zzz = 1
    model._own = 1
    model.meta.target.catalog_name = "other"
    model.light_curve = model.light_curve.copy()
    model.cal_logs = {}
    assert model.meta.target.catalog_name == "other"


# At a glance


def test_info_prints_what_the_command_prints(saved, capsys):
    from tso_level3.commands import main as cli

    assert product.open(saved).info() is None
    ours = capsys.readouterr().out
    assert cli.main(["info", saved]) == 0
    theirs = capsys.readouterr().out
    assert theirs == f"{saved}\n{ours}" and "WASP-39" in ours
    product.open(saved).info(max_rows=5)
    assert "root" in capsys.readouterr().out.splitlines()[0]


def test_repr_is_short(model):
    """Used to name the class and the file alone."""
    lines = repr(model).splitlines()
    assert len(lines) < 10 and max(map(len, lines[1:])) <= 100
    for words in (
        "WASP-39",
        "NIRCAM NRCA3 F210M WLP8",
        "200",
        "r = 3 pix",
        f"{1e6 * NOISE:.0f} ppm",
    ):
        assert words in repr(model)
    assert repr(TSOLightCurveModel()).startswith("<TSOLightCurveModel")


def test_html_for_notebooks(model):
    model.meta.target.catalog_name = "<b>"
    model.meta.tso_level3.instance["verdict"] = {"grade": "doubtful", "reasons": ["3 rows lost"]}
    text = model._repr_html_()
    assert "&lt;b&gt;" in text and "<table>" in text and "doubtful: 3 rows lost" in text
    assert f"{1e6 * NOISE:.0f} ppm" in text and "OUTLIER 1" in text
    from xml.etree import ElementTree

    ElementTree.fromstring(text)


# Rows


def test_length_and_truth(model):
    assert len(model) == N_INT and bool(model)
    assert len(TSOLightCurveModel()) == 0 and bool(TSOLightCurveModel())


def test_single_rows_columns_and_nodes(model):
    assert model[7]["integration"] == 8 and model[-1]["integration"] == N_INT
    assert (
        model["psf_x"] is model.light_curve["psf_x"]
        or (model["psf_x"] == model.light_curve["psf_x"]).all()
    )
    assert model["meta.instrument.filter"] == "F210M"
    with pytest.raises(KeyError):
        _ = model["nothing"]


@pytest.mark.parametrize("kind", ["slice", "mask", "places", "between", "times"])
def test_some_rows_are_a_product(model, kind, tmp_path):
    from astropy.time import Time

    time = np.array(model.light_curve["time"])
    inside = np.zeros(N_INT, bool)
    inside[10:110] = True
    before = pickle.dumps({name: np.array(model.light_curve[name]) for name in ("time", "flags")})
    edges = Time(time[[10, 109]], format="mjd", scale="tdb")
    part = {
        "slice": lambda: model[10:110],
        "mask": lambda: model[inside],
        "places": lambda: model[np.arange(10, 110)],
        "between": lambda: model.between(time[10], time[109]),
        "times": lambda: model[edges[0] : edges[1]],
    }[kind]()
    assert type(part) is TSOLightCurveModel and len(part) == 100
    np.testing.assert_array_equal(part.flux, model.flux[10:110])
    assert list(part.filenames) == list(model.filenames[10:110])
    assert part.quoted == model.quoted
    assert [int(n) for n in part.events["integration"]] == [61]
    assert "100 of 200 integrations, 11 to 110" in part.meta.tso_level3.notes.instance[-1]
    again = product.open(part.save(tmp_path / "part.asdf"))
    np.testing.assert_array_equal(again.flux, part.flux)
    part.light_curve["time"][:] = 0
    assert before == pickle.dumps(
        {name: np.array(model.light_curve[name]) for name in ("time", "flags")}
    )


def test_what_follows_a_selection(model):
    flags = model.light_curve["flags"]
    flags[:30] |= np.uint32(Flag.SETTLING)
    model.events.add_row((1, "settling", 9.0, 1e-3, 1e-4, model.light_curve["time"][0]))
    assert list(model[70:].events["kind"]) == []
    assert list(model[20:].events["kind"]) == ["tilt", "settling"]
    assert list(model[:20].events["kind"]) == ["settling"]
    assert model[:20].meta.tso_level3.inputs.instance == [
        {"name": "a_calints.fits", "size": 2880, "frames": [1, 20]}
    ]


def test_noise_of_a_selection_is_measured_in_it():
    """The second half is noisier, which the first half does not know."""
    result = make_result(600, no_events=True)
    rng = np.random.default_rng(5)
    extra = np.where(np.arange(600) < 300, 0.0, 3 * NOISE) * rng.normal(size=600)
    flux = result.light_curve["aperture_flux"]
    flux *= (1 + extra)[:, None]
    model = build(result)
    halves = [model[rows].apertures for rows in (slice(300), slice(300, 600))]
    # The made-up flux follows the centres.
    quiet, loud = (half["scatter_regressed"][1] for half in halves)
    assert quiet == pytest.approx(NOISE, rel=0.3)
    assert loud == pytest.approx(np.hypot(1, 3) * NOISE, rel=0.3)
    assert halves[0]["ratio"][1] == pytest.approx(halves[0]["scatter"][1] / NOISE)


def test_noise_of_a_selection_in_transit(result):
    """Of rows that out_of_transit leaves out the scatter is known all the same."""
    time = result.light_curve["time"]
    edges = np.quantile(time, [0.0, 0.3, 0.7, 1.0])
    settings = dict(result.record.settings) | {"out_of_transit": edges.tolist()}
    model = build(
        dataclasses.replace(result, record=dataclasses.replace(result.record, settings=settings))
    )
    inside = model.between(edges[1] + 0.001, edges[2] - 0.001)
    assert inside.apertures["scatter_regressed"][1] == pytest.approx(NOISE, rel=0.5)


def test_a_text_is_no_time(model):
    # used to end in a RecursionError
    for call in (lambda: model.detrended(window="60000,60001"), lambda: model.between("a", "b")):
        with pytest.raises(ValueError, match="found, expected times: days as numbers"):
            call()


def test_no_row_left(model):
    with pytest.raises(ValueError, match="expected some of the 200 rows"):
        _ = model[500:600]
    with pytest.raises(ValueError, match=r"between: no integration from 0.1 to 0.2 found"):
        model.between(0.1, 0.2)


def test_events_are_counted_as_integrations_are(result):
    """Used to count rows from 0 beside integrations from 1, and to be wrong after a gap."""
    from tso_level3.product.tables import rows_of_events

    light_curve = result.light_curve | {"integration": np.arange(1001, 1001 + N_INT)}
    events = result.events | {"integration": np.array([1061])}
    model = build(dataclasses.replace(result, light_curve=light_curve, events=events))
    assert list(rows_of_events(model.light_curve, model.events)) == [60]
    assert len(model[50:70].events) == 1 and len(model[:50].events) == 0
    # Two exposures measured together number their integrations alike: the time decides.
    light_curve["integration"] = np.tile(np.arange(1, 101), 2)
    time = light_curve["time"][160]
    events = events | {"integration": np.array([61]), "time": np.array([time])}
    model = build(dataclasses.replace(result, light_curve=light_curve, events=events))
    assert list(rows_of_events(model.light_curve, model.events)) == [160]


def test_product_of_the_first_form_is_read(saved, tmp_path):
    def first(tree):
        tree["meta"]["tso_level3"]["format_version"] = "1.0.0"
        tree["events"].remove_column("size_err")
        tree["events"]["integration"] = np.array([60], "i4")
        tree["files"].add_column(np.array([0, 100], "i4"), name="first_row", index=1)
        for name in ("apertures", "grid"):
            tree[name].remove_columns(["rejected", "depth_difference", "scatter_regressed"])

    found = product.open(_rewritten(saved, tmp_path / "first.asdf", first))
    assert found.meta.tso_level3.format_version == FORMAT_VERSION
    assert list(found.events["integration"]) == [61]
    assert np.isnan(found.events["size_err"]).all()
    assert "first_row" not in found.files.colnames
    assert np.isnan(found.apertures["depth_difference"]).all()
    assert (found.apertures["rejected"] == "").all()
    product.open(found.save(tmp_path / "again.asdf"))
