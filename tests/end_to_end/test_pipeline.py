"""The level-3 pipeline: all segments in one measurement, in the place of calwebb_tso3."""

import json

import asdf
import numpy as np
import pytest
from astropy.table import QTable
from jwst.datamodels import ModelContainer, ModelLibrary
from jwst.pipeline import Tso3Pipeline
from stdatamodels.jwst import datamodels
from stpipe import _cmdline

from tests import level2, small_crds
from tso_level3.config.settings import fields_of
from tso_level3.product.model import open as open_product
from tso_level3.stpipe.errors import StepError
from tso_level3.stpipe.pipeline import TSOLevel3Pipeline
from tso_level3.stpipe.step import TSOPhotometryStep

ALIAS = "tso_level3"
COSMIC_RAY = (3, 20, 41)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two segments with a cosmic ray in the first, beside the star."""
    made = level2.write(tmp_path_factory.mktemp("level2"), segments=2)
    with datamodels.CubeModel(made.segments[0]) as model:
        model.data[COSMIC_RAY] += 200 * model.err[COSMIC_RAY]
        model.save(made.segments[0])
    return made


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No CRDS, and a folder of one's own."""
    monkeypatch.chdir(tmp_path)
    with small_crds.crds():
        yield


@pytest.fixture(scope="module")
def product_name(files):
    return json.loads(files.association.read_text())["products"][0]["name"]


def strun(*arguments):
    """Do what `strun` does, in this process."""
    return _cmdline.step_from_cmdline([str(argument) for argument in arguments])


def names(folder):
    return {path.name for path in folder.iterdir()}


def crfints(files, asn_id):
    return {path.name.replace("calints", f"{asn_id}_crfints") for path in files.segments}


def test_official_steps_are_left_alone():
    assert Tso3Pipeline.step_defs["tso_photometry"] is not TSOPhotometryStep
    assert TSOLevel3Pipeline.step_defs["tso_photometry"] is TSOPhotometryStep
    assert set(TSOLevel3Pipeline.step_defs) == set(Tso3Pipeline.step_defs)
    assert TSOLevel3Pipeline.get_config_reftype() == "pars-tso3pipeline"


def test_association_gives_the_products(files, product_name, tmp_path):
    strun(ALIAS, files.association)
    asn_id = json.loads(files.association.read_text())["asn_id"]
    expected = {f"{product_name}_phot.asdf", f"{product_name}_phot.ecsv"}
    assert names(tmp_path) == expected | crfints(files, asn_id)

    model = open_product(f"{product_name}_phot.asdf")
    assert list(model.light_curve["integration"]) == list(range(1, level2.N_INT + 1))
    assert list(np.unique(model.light_curve["segment"])) == [1, 2]
    assert model.meta.cal_step.outlier_detection == "COMPLETE"
    assert model.meta.asn.table_name == files.association.name
    assert any("integrations measured" in line for line in model.cal_logs.tso_level3)

    table = QTable.read(f"{product_name}_phot.ecsv")
    assert len(table) == table.meta["number_of_integrations"] == level2.N_INT
    np.testing.assert_allclose(table["net_aperture_sum"].to_value("Jy"), model.flux, rtol=1e-12)


def test_one_measurement_of_all_segments(files, product_name, tmp_path):
    """The same numbers as the step's with both crfints: one template, one aperture."""
    strun(ALIAS, files.association)
    model = open_product(f"{product_name}_phot.asdf")
    saved = sorted(str(path) for path in tmp_path.glob("*_crfints.fits"))
    alone = TSOPhotometryStep.call(saved)
    for name in ("psf_x", "psf_flux", "aperture_flux"):
        np.testing.assert_array_equal(model.light_curve[name], alone.light_curve[name])


def test_further_inputs_are_measured_too(files, product_name, tmp_path):
    """Used to end with a TypeError about positional arguments."""
    first, second = files.segments
    strun(ALIAS, second, first)
    found = open_product(f"{second.name.removesuffix('_calints.fits')}_phot.asdf")
    strun(ALIAS, files.association)
    whole = open_product(f"{product_name}_phot.asdf")
    assert len(found.light_curve) == level2.N_INT
    np.testing.assert_array_equal(found.light_curve["psf_flux"], whole.light_curve["psf_flux"])


def test_associations_are_not_mixed_with_files(files, tmp_path):
    with pytest.raises(StepError, match="expected one association that holds all of them"):
        strun(ALIAS, files.segments[0], files.association)
    with pytest.raises(StepError, match="nowhere.fits: no such file"):
        strun(ALIAS, files.segments[0], "nowhere.fits")


def test_outliers_are_flagged_before_the_measurement(files, tmp_path):
    strun(ALIAS, files.association)
    (first,) = tmp_path.glob("*seg001*_crfints.fits")
    with datamodels.open(first) as model:
        assert model.dq[COSMIC_RAY] & datamodels.dqflags.pixel["OUTLIER"]
        assert np.isnan(model.data[COSMIC_RAY])
    with datamodels.open(files.segments[0]) as model:
        assert not model.dq[COSMIC_RAY] & datamodels.dqflags.pixel["OUTLIER"]


def test_table_is_like_the_official_one(files, product_name, tmp_path):
    """Columns, units and keys of calwebb_tso3's table, for the same association."""

    class Official(Tso3Pipeline):
        prefetch_references = False

    reference = small_crds.make_cache(tmp_path / "crds")
    with small_crds.crds(reference):
        Official.call(str(files.association), output_dir="official")
    strun(ALIAS, files.association, "--output_dir=own")
    official = QTable.read(f"official/{product_name}_phot.ecsv")
    own = QTable.read(f"own/{product_name}_phot.ecsv")
    assert own.colnames == official.colnames
    assert [own[name].unit for name in own.colnames] == [
        official[name].unit for name in official.colnames
    ]
    assert list(own.meta) == list(official.meta)
    same = [key for key in own.meta if key != "apertures"]
    assert {key: own.meta[key] for key in same} == {key: official.meta[key] for key in same}
    for name in ("MJD", "BJD_TDB"):
        np.testing.assert_allclose(own[name], official[name], rtol=0, atol=1e-9)
    for name in ("aperture_ra_icrs", "aperture_dec_icrs"):
        # within a fifth of a pixel of 0.03 arcsec
        assert abs(own[name] - official[name]).max().to_value("arcsec") < 0.006


@pytest.mark.parametrize(
    "source",
    ["path", "Path", "model", "list of models", "container", "library", "dict"],
)
def test_inputs(source, files, product_name, tmp_path):
    path = files.segments[0]
    both = [datamodels.CubeModel(item) for item in files.segments]
    asn = json.loads(files.association.read_text())
    for member in asn["products"][0]["members"]:
        member["expname"] = str(path.parent / member["expname"])
    given, n_int = {
        "path": (str(path), level2.N_INT // 2),
        "Path": (path, level2.N_INT // 2),
        "model": (both[0], level2.N_INT // 2),
        "list of models": (both, level2.N_INT),
        "container": (ModelContainer(both), level2.N_INT),
        "library": (ModelLibrary(str(files.association)), level2.N_INT),
        "dict": (asn, level2.N_INT),
    }[source]
    before = both[0].data.copy(), both[0].dq.copy()
    TSOLevel3Pipeline.call(given, output_dir=str(tmp_path / "out"))
    (saved,) = (tmp_path / "out").glob("*_phot.asdf")
    assert len(open_product(saved).light_curve) == n_int
    assert saved.with_suffix(".ecsv").exists()
    if source in ("library", "dict"):
        assert saved.name == f"{product_name}_phot.asdf"
    np.testing.assert_array_equal(both[0].data, before[0])
    np.testing.assert_array_equal(both[0].dq, before[1])


def test_single_file_from_the_command_line(files, tmp_path):
    strun(ALIAS, files.segments[0])
    root = files.segments[0].name.removesuffix("_calints.fits")
    assert names(tmp_path) == {
        f"{root}_{end}" for end in ("crfints.fits", "phot.asdf", "phot.ecsv")
    }


# Skipping


def test_photometry_skipped_leaves_the_crfints(files, tmp_path, caplog):
    """It used to crash calwebb_tso3."""
    strun(ALIAS, files.association, "--steps.tso_photometry.skip=true")
    asn_id = json.loads(files.association.read_text())["asn_id"]
    assert names(tmp_path) == crfints(files, asn_id)
    assert any("tso_photometry is skipped: no light curve" in line for line in caplog.messages)


def test_outlier_detection_skipped(files, product_name, tmp_path, caplog):
    strun(ALIAS, files.association, "--steps.outlier_detection.skip=true")
    assert names(tmp_path) == {f"{product_name}_phot.asdf", f"{product_name}_phot.ecsv"}
    assert any("outlier_detection is skipped" in line for line in caplog.messages)
    alone = TSOPhotometryStep.call([str(path) for path in files.segments])
    model = open_product(f"{product_name}_phot.asdf")
    np.testing.assert_array_equal(model.light_curve["psf_flux"], alone.light_curve["psf_flux"])


def test_both_skipped(files, tmp_path):
    skip = ["--steps.tso_photometry.skip=true", "--steps.outlier_detection.skip=true"]
    strun(ALIAS, files.association, *skip)
    assert not names(tmp_path)


# Parameters


def test_every_parameter_of_the_step_is_there():
    section = TSOLevel3Pipeline.load_spec_file()["steps"]["tso_photometry"]
    assert {item.name for item in fields_of()} < set(section)


def test_parameters_from_the_command_line(files, product_name):
    options = {"radii": "3,4.5", "choose_aperture": "false", "radius": "4.5", "fill": "false"}
    strun(
        ALIAS,
        files.association,
        *(f"--steps.tso_photometry.{name}={value}" for name, value in options.items()),
    )
    model = open_product(f"{product_name}_phot.asdf")
    assert list(model.radii) == [3.0, 4.5] and model.quoted.radius == 4.5
    assert model.meta.instance["tso_level3"]["settings"]["fill"] is False


def test_precedence(files, tmp_path, monkeypatch):
    """Step's reference < pipeline's reference < parameter file < command line."""
    monkeypatch.setattr(TSOLevel3Pipeline, "run", lambda self, *_: None)
    cache = small_crds.make_cache(
        tmp_path / "crds",
        parameters={"radius": 4.0, "radius_inner": 13.0, "radius_outer": 21.0, "chunk": 7},
        pipeline={"tso_photometry": {"radius_inner": 14.0, "radius_outer": 22.0, "chunk": 8}},
        gain=None,
    )
    own = tmp_path / "own.asdf"
    step = {
        "class": "tso_level3.TSOPhotometryStep",
        "name": "tso_photometry",
        "parameters": {"radius_outer": 23.0, "chunk": 9},
    }
    asdf.AsdfFile(
        {"class": "tso_level3.TSOLevel3Pipeline", "name": "p", "parameters": {}, "steps": [step]}
    ).write_to(own)
    with small_crds.crds(cache):
        made = strun(own, files.association, "--steps.tso_photometry.chunk=10")
    settings = made.tso_photometry.settings()
    found = settings.radius, settings.radius_inner, settings.radius_outer, settings.chunk
    assert found == (4.0, 14.0, 23.0, 10)


def test_packaged_parameter_file_for_the_step(files, product_name):
    from tso_level3.config.parameter_files import parameters

    strun(
        ALIAS,
        files.association,
        f"--steps.tso_photometry.config_file={parameters('nircam-focused')}",
    )
    model = open_product(f"{product_name}_phot.asdf")
    assert model.meta.instance["tso_level3"]["settings"]["radius_inner"] == 16.0


def test_saved_parameters_give_the_same_run(files, product_name, tmp_path):
    options = ["--steps.tso_photometry.radii=3,5", "--save-parameters=saved.asdf"]
    strun(ALIAS, files.association, *options)
    first = open_product(f"{product_name}_phot.asdf")
    strun("saved.asdf", files.association, "--output_dir=again")
    again = open_product(f"again/{product_name}_phot.asdf")
    assert list(again.radii) == list(first.radii) == [3.0, 5.0]
    np.testing.assert_array_equal(
        again.light_curve["aperture_flux"], first.light_curve["aperture_flux"]
    )


# What is wrong


def test_wrong_parameter_is_one_sentence(files, tmp_path, capsys):
    with pytest.raises(StepError, match="radius: -2.0 found, expected a number of 0.1 or more"):
        strun(ALIAS, files.association, "--steps.tso_photometry.radius=-2")
    assert "usage" not in capsys.readouterr().out
    assert not names(tmp_path)


def test_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(StepError, match="nowhere.json: not found") as caught:
        strun(ALIAS, "nowhere.json")
    assert caught.value.exit_status == 1
    assert not names(tmp_path)


@pytest.mark.parametrize("products", [[], [{}], [{"members": []}]])
def test_an_association_without_products_is_one_sentence(products, files, tmp_path):
    """Used to be an IndexError."""
    tree = {**json.loads(files.association.read_text()), "products": products}
    with pytest.raises(StepError, match="^association: no .* found in (it|this assoc.*), expected"):
        TSOLevel3Pipeline.call(tree)
    (tmp_path / "empty.json").write_text(json.dumps(tree))
    with pytest.raises(StepError, match="empty.json"):
        strun(ALIAS, "empty.json")
    with pytest.raises(StepError, match="empty.json: no .* found in (it|this assoc.*), expected"):
        strun("tso_level3_photometry", "empty.json")
    with pytest.raises(StepError, match="no .* found in (it|this association), expected"):
        TSOPhotometryStep.call(tree)
    assert names(tmp_path) == {"empty.json"}


@pytest.mark.parametrize("skipped", [False, True])
def test_files_are_closed(skipped, files, tmp_path, monkeypatch):
    """Used to stay open: one image, and a cube whose outliers were not flagged."""
    with datamodels.CubeModel(files.segments[0]) as cube:
        image = datamodels.ImageModel(cube.data[0])
        image.update(cube)
        image.save("image.fits")
    opened, closed = [], []
    read, close = datamodels.open, datamodels.JwstDataModel.close
    monkeypatch.setattr(datamodels, "open", lambda *a: opened.append(read(*a)) or opened[-1])
    monkeypatch.setattr(
        datamodels.JwstDataModel, "close", lambda model: closed.append(model) or close(model)
    )
    pipeline = TSOLevel3Pipeline()
    source = str(files.segments[0]) if skipped else "image.fits"
    if skipped:
        pipeline.outlier_detection.skip = True
    assert pipeline._flag_outliers(source) == source
    assert len(opened) >= 1 and all(any(model is c for c in closed) for model in opened)


def test_what_is_no_time_series_is_refused(files, tmp_path):
    with datamodels.CubeModel(files.segments[0]) as model:
        model.meta.exposure.type = "NRC_IMAGE"
        model.meta.visit.tsovisit = False
        with pytest.raises(StepError, match="exposure type NRC_IMAGE .* expected a time series"):
            TSOLevel3Pipeline.call(model)
    assert not names(tmp_path)


def test_spectroscopy_goes_the_official_way(files, monkeypatch):
    seen = []
    monkeypatch.setattr(Tso3Pipeline, "process", lambda self, given: seen.append(given))
    with datamodels.CubeModel(files.segments[0]) as model:
        model.meta.exposure.type = "NRC_TSGRISM"
        TSOLevel3Pipeline.call(model)
        model.meta.exposure.type = "MIR_LRS-SLITLESS"
        TSOLevel3Pipeline.call([model, model])
    assert [len(given) for given in seen] == [1, 2]
