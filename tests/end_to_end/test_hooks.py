"""The step as a hook: it saves its product, and the host's is what it would have been."""

import sys

import asdf
import numpy as np
import pytest
from jwst.pipeline import Image2Pipeline
from jwst.stpipe import Step
from jwst.tso_photometry import TSOPhotometryStep as JwstPhotometryStep
from stdatamodels.jwst import datamodels

from tests import level2, small_crds
from tso_level3.product.model import open as open_product
from tso_level3.stpipe.step import TSOPhotometryStep

PRODUCT = "jw09999001001_04101_00001_nrca3_phot.asdf"

#: The forms of a hook that stpipe knows, but for the shell command. (A text with parameters that
#: hold a point is taken for a shell command: stpipe looks for the class behind the last point.)
FORMS = {
    "class": TSOPhotometryStep,
    "instance": lambda: TSOPhotometryStep(radius=4.0),
    "name": "tso_level3.TSOPhotometryStep",
    "module": "tso_level3.stpipe.step.TSOPhotometryStep",
    "call": "tso_level3.TSOPhotometryStep(radius=4)",
    "function": "tests.end_to_end.test_hooks.measure_and_save",
}


def measure_and_save(model):
    """A function as a hook: what is called in it plays alone."""
    TSOPhotometryStep.call(model, radius=4.0, save_results=True, configure_log=False)


class Host(Step):
    """A step that does something to its input."""

    class_alias = "a_host"

    def process(self, input_data):
        """Double the fluxes."""
        result = self.prepare_output(input_data)
        result.data = result.data * 2
        result.meta.cal_step.photom = "COMPLETE"
        return result


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return level2.write(tmp_path_factory.mktemp("level2"))


@pytest.fixture
def cube(files):
    with datamodels.open(files.segments[0]) as model:
        yield model


@pytest.fixture(autouse=True)
def no_crds(tmp_path, monkeypatch):
    """No CRDS, and a folder of one's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STPIPE_DISABLE_CRDS_STEPPARS", "true")
    with small_crds.crds():
        yield


def form(name):
    hook = FORMS[name]
    return hook() if name == "instance" else hook


def same(found, expected):
    """Compare two models, but for what names the run."""
    for name in ("data", "err", "dq", "var_poisson", "var_rnoise", "var_flat", "int_times"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    one, other = (
        {key: value for key, value in model.to_flat_dict().items() if "cal_logs" not in key}
        for model in (found, expected)
    )
    for key in ("meta.date", "meta.filename", "_fits_hash"):
        one.pop(key, None), other.pop(key, None)
    assert {k: str(v) for k, v in one.items()} == {k: str(v) for k, v in other.items()}


@pytest.mark.parametrize("name", FORMS)
def test_post_hook_saves_and_leaves_the_host_alone(name, cube, tmp_path):
    expected = Host.call(cube)
    result = Host.call(cube, post_hooks=[form(name)], output_dir=str(tmp_path))
    same(result, expected)
    folder = tmp_path
    with open_product(folder / PRODUCT) as product:
        assert len(product.light_curve) == level2.N_INT
        assert product.meta.cal_step.instance["tso_level3_photometry"] == "COMPLETE"
        # what the hook was handed is the host's result
        assert product.meta.cal_step.photom == "COMPLETE"
    assert not list(tmp_path.glob("*.fits"))


@pytest.mark.parametrize("name", ["class", "instance", "name", "call"])
def test_pre_hook_sees_the_input(name, cube, tmp_path):
    """A hook's return would become the host's input."""
    expected = Host.call(cube)
    result = Host.call(cube, pre_hooks=[form(name)], output_dir=str(tmp_path))
    same(result, expected)
    before, after = (
        np.median(open_product(path).light_curve["psf_flux"])
        for path in (tmp_path / PRODUCT, measured_after(cube, tmp_path / "after"))
    )
    assert after == pytest.approx(2 * before, rel=1e-3)


def measured_after(cube, folder):
    Host.call(cube, post_hooks=[TSOPhotometryStep], output_dir=str(folder))
    return folder / PRODUCT


def test_shell_command_is_a_hook(files, tmp_path):
    """The seventh form; stpipe writes the model to a file and names it."""
    script = tmp_path / "measure.py"
    script.write_text(
        "import sys\n"
        "from tso_level3.stpipe.step import TSOPhotometryStep\n"
        "TSOPhotometryStep.call(sys.argv[1], output_file='from_shell', radius=4.0)\n"
    )
    with datamodels.open(files.segments[0]) as model:
        result = Host.call(model, post_hooks=[f"{sys.executable} {script} {{0}}"])
    assert isinstance(result, datamodels.CubeModel)
    assert len(open_product(tmp_path / "from_shell_phot.asdf").light_curve) == level2.N_INT


def test_hook_with_parameters_uses_them(cube, tmp_path):
    Host.call(
        cube,
        post_hooks=["tso_level3.TSOPhotometryStep(radii=[3, 4], choose_aperture=False)"],
        output_dir=str(tmp_path),
    )
    product = open_product(tmp_path / PRODUCT)
    assert list(product.radii) == [3.0, 4.0]
    assert product.meta.instance["tso_level3"]["settings"]["choose_aperture"] is False


def test_wrong_parameter_of_a_hook_is_found_before_the_host_runs(cube, monkeypatch):
    monkeypatch.setattr(Host, "process", lambda *_: pytest.fail("the host ran"))
    with pytest.raises(ValueError, match="radius: -1.0 found"):
        Host.call(cube, post_hooks=["tso_level3.TSOPhotometryStep(radius=-1)"])


def test_hook_that_cannot_measure_does_not_cost_the_host_its_product(cube, tmp_path, caplog):
    cube.data[:] = np.nan
    result = Host.call(cube, post_hooks=[TSOPhotometryStep], save_results=True)
    assert isinstance(result, datamodels.CubeModel)
    assert (tmp_path / "jw09999001001_04101_00001_nrca3_host.fits").exists()
    assert not list(tmp_path.glob("*.asdf"))
    assert any("No light curve from the hook of Host" in line for line in caplog.messages)


def test_lines_of_a_hook_reach_the_hosts_log(cube, tmp_path):
    result = Host.call(cube, post_hooks=[TSOPhotometryStep])
    assert any("integrations measured" in line for line in result.cal_logs.a_host)
    product = open_product(tmp_path / PRODUCT)
    assert "integrations measured" in str(product.cal_logs.instance)


def test_products_of_a_hook_are_named_by_exposure(files, tmp_path):
    """Two detectors in one run are two light curves, not a mixture."""

    class Many(Host):
        def process(self, input_data):
            other = input_data.copy()
            other.meta.instrument.detector = "NRCA1"
            other.meta.filename = PRODUCT.replace("nrca3_phot.asdf", "nrca1_calints.fits")
            return [input_data, other]

    with datamodels.open(files.segments[0]) as model:
        Many.call(model, post_hooks=[TSOPhotometryStep])
    assert {path.name for path in tmp_path.glob("*.asdf")} == {
        PRODUCT,
        PRODUCT.replace("nrca3", "nrca1"),
    }


SKIPPED = {
    name: {"skip": True} for name in ("bkg_subtract", "assign_wcs", "flat_field", "photom")
} | {"resample": {"skip": True}}


def rateints(files):
    """The cube as level 2 gets it."""
    model = datamodels.CubeModel(files.segments[0])
    model.meta.filename = model.meta.filename.replace("calints", "rateints")
    return model


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return small_crds.make_cache(tmp_path_factory.mktemp("crds"), gain=None)


def image2(files, cache, folder, steps=(), **options):
    """Run calwebb_image2 with its steps skipped; answers with the calints it saved."""
    steps = {name: SKIPPED[name] | dict(steps).get(name, {}) for name in SKIPPED}
    folder.mkdir()
    with small_crds.crds(cache):
        Image2Pipeline.call(
            rateints(files), steps=steps, output_dir=str(folder), save_results=True, **options
        )
    return datamodels.open(folder / PRODUCT.replace("phot.asdf", "calints.fits"))


@pytest.fixture(scope="module")
def without_hook(files, cache, tmp_path_factory):
    with image2(files, cache, tmp_path_factory.mktemp("image2") / "without") as model:
        yield model


@pytest.mark.parametrize("name", FORMS)
def test_after_the_level_2_pipeline(name, files, cache, without_hook, tmp_path):
    """Chained after calwebb_image2: our product, and its calints as it would have been."""
    with image2(files, cache, tmp_path / "with", post_hooks=[form(name)]) as result:
        same(result, without_hook)
    folder = tmp_path if name == "function" else tmp_path / "with"
    assert len(open_product(folder / PRODUCT).light_curve) == level2.N_INT


def test_after_photom(files, cache, without_hook, tmp_path):
    """As post-hook of a step inside the pipeline."""
    steps = {"photom": {"post_hooks": ["tso_level3.TSOPhotometryStep"]}}
    with image2(files, cache, tmp_path / "with", steps) as result:
        same(result, without_hook)
    assert len(open_product(tmp_path / "with" / PRODUCT).light_curve) == level2.N_INT


def test_from_rateints_to_light_curve_without_a_file(files, cache, tmp_path):
    """The models of level 2 go on as they are, in one process."""
    with small_crds.crds(cache):
        result = Image2Pipeline.call(rateints(files), steps=SKIPPED)
    product = TSOPhotometryStep.call(result)
    alone = TSOPhotometryStep.call(str(files.segments[0]))
    assert len(product.light_curve) == level2.N_INT
    np.testing.assert_allclose(
        product.light_curve["psf_flux"], alone.light_curve["psf_flux"], rtol=1e-12
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:Cannot merge meta key 'apertures'")  # one in each segment
def test_inside_somebodys_pipeline(files, tmp_path):
    """As its `tso_photometry`: a table goes back, and each segment has a file of its own."""
    from jwst.pipeline import Tso3Pipeline

    class Theirs(Tso3Pipeline):
        step_defs = {**Tso3Pipeline.step_defs, "tso_photometry": TSOPhotometryStep}
        prefetch_references = False

    assert Tso3Pipeline.step_defs["tso_photometry"] is JwstPhotometryStep
    two = level2.write(tmp_path / "in", segments=2)
    Theirs.call(str(two.association), output_dir=str(tmp_path / "out"))
    saved = sorted((tmp_path / "out").glob("*_phot.asdf"))
    segments = [PRODUCT.replace("_nrca3", f"-seg00{k}_nrca3") for k in (1, 2)]
    assert [path.name for path in saved] == segments
    with asdf.open(saved[1]) as tree:
        assert len(tree["light_curve"]) == level2.N_INT // 2
    from astropy.table import QTable

    (path,) = (tmp_path / "out").glob("*_phot.ecsv")
    table = QTable.read(path)
    assert len(table) == table.meta["number_of_integrations"] == level2.N_INT
    both = np.concatenate([open_product(path).light_curve["bmjd_tdb"] for path in saved])
    np.testing.assert_array_equal(np.asarray(table["BJD_TDB"]), both)
