"""The step: what it is given, what it answers and what it saves."""

import json
import re
import subprocess
import sys

import asdf
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable
from stdatamodels.jwst import datamodels
from stpipe import _cmdline

from tests import level2, small_crds
from tso_level3 import Flag
from tso_level3.config.settings import Settings
from tso_level3.product.model import TSOLightCurveModel
from tso_level3.product.model import open as open_product
from tso_level3.readers.open import open_exposure
from tso_level3.run.measure import run
from tso_level3.stpipe.errors import StepError
from tso_level3.stpipe.inputs import root_name
from tso_level3.stpipe.step import TSOPhotometryStep

ALIAS = "tso_level3_photometry"
ROOT = "jw09999001001_04101_00001_nrca3"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return level2.write(tmp_path_factory.mktemp("level2"))


@pytest.fixture(scope="module")
def segments(tmp_path_factory):
    return level2.write(tmp_path_factory.mktemp("segments"), segments=3)


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No CRDS, and a folder of one's own."""
    monkeypatch.chdir(tmp_path)
    with small_crds.crds():
        yield


def strun(*arguments):
    """Do what `strun` does, in this process."""
    return _cmdline.step_from_cmdline([str(argument) for argument in arguments])


def numbers(model):
    """All numbers of a light curve, one row an integration."""
    columns = [np.asarray(model.light_curve[name], float) for name in model.light_curve.colnames]
    return np.column_stack([column.reshape(len(column), -1) for column in columns])


def test_alone_returns_the_light_curve(files):
    """Right to a few standard errors of the mean: 3e5 e-, 12 radii, the star and no transit."""
    model = TSOPhotometryStep.call(str(files.segments[0]))
    assert isinstance(model, TSOLightCurveModel)
    assert len(model.light_curve) == level2.N_INT
    expected = level2.in_jy(files)
    # the template's flux is scaled to the kernel, whose wings reach beyond the frame
    assert np.median(model.light_curve["psf_flux"]) == pytest.approx(expected, rel=0.05)
    # photon noise alone is 1826 ppm; 24 integrations give it to 15 %
    scatter = np.std(model.flux) / np.mean(model.flux)
    assert 0.6 * 1.83e-3 < scatter < 1.6 * 1.83e-3


def test_result_is_that_of_the_routine(files):
    """The step adds nothing to the numbers."""
    path = str(files.segments[0])
    result = run(open_exposure(path, Settings()), Settings())
    model = TSOPhotometryStep.call(path)
    for name in ("psf_x", "psf_flux", "aperture_flux"):
        np.testing.assert_array_equal(model.light_curve[name], result.light_curve[name])


def test_provenance(files):
    model = TSOPhotometryStep.call(str(files.segments[0]))
    steps = model.meta.cal_step.instance
    assert steps["tso_photometry"] == steps[ALIAS] == "COMPLETE"
    assert model.meta.calibration_software_version
    (lines,) = model.cal_logs.instance.values()
    (summary,) = [line for line in lines if "integrations measured" in line]
    assert re.search(
        r"24 integrations measured, (radius [\d.]+ pix|fit of the template), scatter \d+ ppm, "
        r"[\d.]+ s",
        summary,
    )
    with asdf.AsdfFile(model._instance) as tree:
        (entry,) = [e for e in tree["history"]["entries"] if "tso_level3" in e["description"]]
    assert entry["software"]["name"] == "tso_level3"


@pytest.mark.parametrize("copies", [1, 3])
def test_inputs_are_not_changed(copies, segments):
    models = [datamodels.CubeModel(path) for path in segments.segments[:copies]]
    before = [(m.data.copy(), m.err.copy(), m.dq.copy(), str(m.to_flat_dict())) for m in models]
    TSOPhotometryStep.call(models if copies > 1 else models[0])
    for model, (data, err, dq, tree) in zip(models, before):
        np.testing.assert_array_equal(model.data, data)
        np.testing.assert_array_equal(model.err, err)
        np.testing.assert_array_equal(model.dq, dq)
        assert str(model.to_flat_dict()) == tree


def test_all_forms_of_an_exposure_agree(segments):
    """A listing, a folder, an association, a list of names, of models: the same numbers."""
    from jwst.datamodels import ModelContainer, ModelLibrary

    paths = [str(path) for path in segments.segments]
    folder = segments.segments[0].parent
    forms = [
        str(segments.association),
        paths,
        str(folder / "*_calints.fits"),
        [datamodels.CubeModel(path) for path in paths],
        ModelContainer(paths),
        ModelLibrary(str(segments.association)),
    ]
    found = [numbers(TSOPhotometryStep.call(form)) for form in forms]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "wrap",
    [np.asarray, lambda a: list(a), lambda a: np.ma.masked_invalid(a)],
    ids=["array", "list", "masked array"],
)
def test_arrays(wrap):
    """`Step.call` used to die with an array."""
    y, x = np.mgrid[:41, :41]
    rng = np.random.default_rng(5)
    star = 1e5 / (2 * np.pi * 1.2**2) * np.exp(-0.5 * ((x - 20.3) ** 2 + (y - 19.6) ** 2) / 1.2**2)
    frames = rng.poisson(star + 50.0, (15, 41, 41)).astype(float)
    model = TSOPhotometryStep.call(wrap(frames), radii=[3, 5], radius_inner=10, radius_outer=18)
    assert model.light_curve["gauss_x"].mean() == pytest.approx(20.3, abs=0.01)
    assert model.light_curve["gauss_y"].mean() == pytest.approx(19.6, abs=0.01)
    assert np.all(np.asarray(model.light_curve["flags"]) & Flag.NO_TIME)


# What is saved


def test_saved_by_strun_and_named_after_the_input(files, tmp_path):
    strun(ALIAS, files.segments[0])
    assert [path.name for path in tmp_path.iterdir()] == [f"{ROOT}_phot.asdf"]
    assert len(open_product(f"{ROOT}_phot.asdf").light_curve) == level2.N_INT


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--output_file=mine"], "mine_phot.asdf"),
        (["--output_file=mine.asdf"], "mine_phot.asdf"),
        (["--output_dir=there"], f"there/{ROOT}_phot.asdf"),
        (["--output_ext=.fits"], f"{ROOT}_phot.asdf"),
        (["--suffix=lc"], f"{ROOT}_lc.asdf"),
    ],
)
def test_where_it_is_saved(options, expected, files, tmp_path):
    strun(ALIAS, files.segments[0], *options)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / expected]


def test_input_dir(files, tmp_path):
    path = files.segments[0]
    strun(ALIAS, path.name, f"--input_dir={path.parent}")
    assert (tmp_path / f"{ROOT}_phot.asdf").exists()


def test_association_and_list_have_names(segments, tmp_path):
    TSOPhotometryStep.call([str(path) for path in segments.segments], save_results=True)
    first = segments.segments[0].name.replace("calints.fits", "phot.asdf")
    assert [path.name for path in tmp_path.iterdir()] == [first]
    strun(ALIAS, segments.association)
    product = json.loads(segments.association.read_text())["products"][0]["name"]
    assert (tmp_path / f"{product}_phot.asdf").exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("there/x_calints.fits", "there/x_calints.asdf"),
        ("NRC_I001.slp.fits", "NRC_I001.asdf"),
        ("star.v2.fits.gz", "star.v2.asdf"),
        (["b.fits", "a.fits"], "b.asdf"),
        ({"products": [{"name": "jw1_t1_f210m"}]}, "jw1_t1_f210m.asdf"),
        ({"products": []}, None),  # used to be an IndexError
        (
            {"products": [{"members": [{"expname": "a_calints.fits", "exptype": "SCIENCE"}]}]},
            "a_calints.asdf",
        ),
        (np.zeros((2, 3, 3)), None),
    ],
)
def test_names(given, expected):
    """All of an image's endings go, and nothing else."""
    assert root_name(given, ()) == expected


def test_products_beside(files, tmp_path):
    pytest.importorskip("matplotlib")
    strun(ALIAS, files.segments[0], "--save_catalog=true", "--save_fits=true", "--save_plots=true")
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{ROOT}_phot.{ending}" for ending in ("asdf", "ecsv", "fits", "png")
    }
    model = open_product(f"{ROOT}_phot.asdf")
    table = QTable.read(f"{ROOT}_phot.ecsv")
    np.testing.assert_allclose(table["net_aperture_sum"].to_value("Jy"), model.flux, rtol=1e-12)
    assert table["aperture_x"].unit == "pix" and table.meta["filter"] == "F210M"
    with fits.open(f"{ROOT}_phot.fits") as saved:
        assert any(len(hdu.data) == level2.N_INT for hdu in saved[1:] if hdu.data is not None)
    assert (tmp_path / f"{ROOT}_phot.png").read_bytes().startswith(b"\x89PNG")


def test_plots_without_matplotlib_are_refused_before_measuring(files, monkeypatch):
    from tso_level3.report import further
    from tso_level3.stpipe import step

    monkeypatch.setattr(further.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(step, "open_exposure", lambda *_, **__: pytest.fail("it measured"))
    with pytest.raises(StepError, match=r"save_plots: matplotlib not found.*tso_level3\[report\]"):
        TSOPhotometryStep.call(str(files.segments[0]), save_plots=True)


# Units


def test_gain_as_a_number_and_as_an_override_agree(tmp_path):
    counts = level2.write(tmp_path / "counts", unit="DN/s")
    path = str(counts.segments[0])
    small_crds.make_cache(tmp_path / "crds", gain=counts.simulation.gain)
    reference = tmp_path / "crds/references/jwst/nircam/jwst_nircam_gain_0001.fits"
    plain = TSOPhotometryStep.call(path)
    number = TSOPhotometryStep.call(path, gain=counts.simulation.gain)
    override = TSOPhotometryStep.call(path, override_gain=str(reference))
    assert number.unit == override.unit == "electron" and plain.unit != "electron"
    np.testing.assert_allclose(override.flux, number.flux, rtol=1e-6)
    assert np.median(number.light_curve["psf_flux"]) == pytest.approx(level2.FLUX, rel=0.05)


def test_gain_that_does_not_cover_the_frame_is_refused(tmp_path):
    counts = level2.write(tmp_path / "counts", unit="DN/s")
    gain = datamodels.GainModel(np.ones((32, 32), dtype=np.float32))
    gain.meta.subarray.xstart = gain.meta.subarray.ystart = 1
    gain.save(tmp_path / "small.fits")
    with pytest.raises(StepError, match="small.fits has shape .32, 32., which does not cover"):
        TSOPhotometryStep.call(str(counts.segments[0]), override_gain=str(tmp_path / "small.fits"))


def command(*arguments, cwd):
    """Run `strun` as a process of its own."""
    code = "import sys; from stpipe._cli.strun import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_further_inputs_are_measured_too(segments, tmp_path):
    """Used to: the first alone, in silence."""
    shuffled = [segments.segments[k] for k in (1, 2, 0)]
    strun(ALIAS, *shuffled)
    (path,) = tmp_path.iterdir()
    assert path.name == f"{shuffled[0].name.removesuffix('_calints.fits')}_phot.asdf"
    found, whole = open_product(path), TSOPhotometryStep.call(str(segments.association))
    assert len(found.light_curve) == level2.N_INT
    assert (np.diff(found.light_curve["bmjd_tdb"]) > 0).all()
    np.testing.assert_array_equal(numbers(found), numbers(whole))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere.fits"], "nowhere.fits: no such file"),
        (["4", "5"], "4: no such file; a list of values is written with commas"),
    ],
)
def test_a_further_input_that_is_no_file_stops(arguments, sentence, files, tmp_path):
    with pytest.raises(StepError, match=sentence):
        strun(ALIAS, files.segments[0], *arguments)
    assert not list(tmp_path.iterdir())


def test_a_pattern_is_named_after_its_first_file(segments, tmp_path):
    """Used to be saved under the name of the pattern."""
    strun(ALIAS, segments.segments[0].parent / "*_calints.fits")
    assert [path.name for path in tmp_path.iterdir()] == [f"{ROOT[:-6]}-seg001_nrca3_phot.asdf"]


def test_parameters_are_logged_at_debug(files, tmp_path):
    """Used to: fifty lines of them at INFO; and our own lines are ten at the most."""
    strun(ALIAS, files.segments[0], "--log-file=own.log")
    lines = (tmp_path / "own.log").read_text().splitlines()
    assert not any("parameters are" in line or "radius_inner" in line for line in lines)
    assert 1 <= sum(" - tso_level3" in line for line in lines) <= 10
    strun(ALIAS, files.segments[0], "--log-file=own.log", "--verbose")
    assert "DEBUG - Step TSOPhotometryStep parameters are" in (tmp_path / "own.log").read_text()


def test_strun_ends_with_a_line_after_ctrl_c(files, tmp_path):
    """Used to end with a traceback."""
    code = (
        "import sys, tso_level3.stpipe.step; from stpipe._cli.strun import main\n"
        "def stop(*_, **__): raise KeyboardInterrupt\n"
        "tso_level3.stpipe.step.run = stop; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, ALIAS, str(files.segments[0])],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 130 and "Traceback" not in done.stdout + done.stderr
    assert done.stderr.splitlines()[-1].endswith(" - ERROR - interrupted")


def test_strun_end_to_end(files, tmp_path):
    done = command(ALIAS, files.segments[0], "--radii=3,5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "24 integrations measured" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [f"{ROOT}_phot.asdf"]
