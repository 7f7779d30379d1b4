"""The parameters of the step: every one, from every place that they can come from."""

import asdf
import numpy as np
import pytest
from jwst.tso_photometry import TSOPhotometryStep as JwstPhotometryStep
from stpipe import _cmdline

from tests import level2, small_crds
from tso_level3.config.parameter_files import parameters
from tso_level3.config.settings import Settings, fields_of, from_strings
from tso_level3.product.model import open as open_product
from tso_level3.stpipe.step import TSOPhotometryStep

ALIAS = "tso_level3_photometry"
ROOT = "jw09999001001_04101_00001_nrca3"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return level2.write(tmp_path_factory.mktemp("level2"))


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


def test_parameters_of_jwst_are_all_here():
    own, theirs = TSOPhotometryStep.load_spec_file(), JwstPhotometryStep.load_spec_file()
    assert set(theirs) < set(own)
    assert {item.name for item in fields_of()} < set(own)
    assert "override_gain" in own


def test_defaults_are_those_of_the_settings():
    assert TSOPhotometryStep().settings() == Settings()
    assert TSOPhotometryStep().output_ext == ".asdf" and TSOPhotometryStep().suffix == "phot"


def test_help_can_be_printed():
    """A percent sign in a comment used to break it."""
    spec = TSOPhotometryStep.load_spec_file()
    parent = _cmdline._build_parent_arg_parser()
    parser = _cmdline._build_arg_parser_from_spec(spec, TSOPhotometryStep, parent=parent)
    text = parser.format_help()
    assert all(f"--{item.name}" in text for item in fields_of())


@pytest.mark.parametrize(
    ("argument", "name", "value"),
    [
        ("--radii=3", "radii", (3.0,)),
        ("--radii=3,4.5", "radii", (3.0, 4.5)),
        ("--radii=[3, 4.5]", "radii", (3.0, 4.5)),
        ("--position=31.2,30.8", "position", (31.2, 30.8)),
        ("--subframe=21", "subframe", 21),
        ("--subframe=21,31", "subframe", (21, 31)),
        ("--radius=None", "radius", None),
        ("--gain=2.05", "gain", 2.05),
        ("--dq_bits=DO_NOT_USE,SATURATED", "dq_bits", ("DO_NOT_USE", "SATURATED")),
        ("--fill=false", "fill", False),
        ("--n_workers=2", "n_workers", 2),
        ("--kernel=gaussian", "kernel", "gaussian"),
        ("--out_of_transit=1.5,2,3,4", "out_of_transit", (1.5, 2.0, 3.0, 4.0)),
    ],
)
def test_command_line_is_understood(argument, name, value, monkeypatch):
    monkeypatch.setattr(TSOPhotometryStep, "run", lambda self, *_: None)
    assert getattr(strun(ALIAS, argument).settings(), name) == value


@pytest.mark.parametrize("item", fields_of(), ids=lambda item: item.name)
def test_every_parameter_comes_through_the_command_line(item, monkeypatch):
    monkeypatch.setattr(TSOPhotometryStep, "run", lambda self, *_: None)
    value = _other_value(item)
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    settings = strun(ALIAS, f"--{item.name}={shown}").settings()
    assert getattr(settings, item.name) == value != item.default


def _other_value(item):
    """A value that is allowed and not the default."""
    meta = item.metadata
    if item.name == "position":
        return (11.5, 12.0)
    if item.name == "where":
        return ("FILTER=R", "OBJECT=WASP 39")
    if item.name == "dq_bits":
        return ("SATURATED",)
    if meta["choices"]:
        return next(choice for choice in meta["choices"][::-1] if choice != item.default)
    if meta["kind"] == "bool":
        return not item.default
    plain = {"float": 30.0, "int": 31, "size": 31, "floats": (3.0, 30.0), "any": 1.5}
    return plain.get(meta["kind"], "something")


@pytest.mark.parametrize(
    "given",
    [
        {"radii": np.array([3, 4.5]), "position": (31.5, 31.5)},
        {"radii": [3, 4.5], "position": np.array([31.5, 31.5])},
        {"radii": "3, 4.5", "position": "31.5 31.5"},
    ],
)
def test_values_from_python(given):
    settings = TSOPhotometryStep(**given).settings()
    assert settings.radii == (3.0, 4.5) and settings.position == (31.5, 31.5)


# Precedence


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    values = {"radius": 4.0, "radius_inner": 13.0, "radius_outer": 21.0, "fill": False}
    return small_crds.make_cache(tmp_path_factory.mktemp("crds"), parameters=values, gain=None)


def test_precedence(cache, files, tmp_path, monkeypatch):
    """Specification < CRDS < parameter file < command line, each seen to win and to lose."""
    monkeypatch.setattr(TSOPhotometryStep, "run", lambda self, *_: None)
    own = tmp_path / "own.asdf"
    tree = {"radius_inner": 14.0, "radius_outer": 22.0}
    asdf.AsdfFile(
        {"class": "tso_level3.TSOPhotometryStep", "name": "mine", "parameters": tree}
    ).write_to(own)
    path = files.segments[0]
    with small_crds.crds(cache):
        from_crds = strun(ALIAS, path).settings()
        from_file = strun(own, path).settings()
        from_line = strun(own, path, "--radius_outer=23").settings()
        disabled = strun(ALIAS, path, "--disable-crds-steppars").settings()
        called, _ = TSOPhotometryStep.build_config(
            str(path), config_file=str(own), radius_outer=23.0
        )
    assert disabled == Settings()
    assert from_crds == Settings(radius=4.0, radius_inner=13.0, radius_outer=21.0, fill=False)
    assert from_file == from_crds.replace(radius_inner=14.0, radius_outer=22.0)
    assert from_line == from_file.replace(radius_outer=23.0)
    assert from_strings(called) == from_line


def test_null_in_a_parameter_file_undoes_crds(cache, files, monkeypatch):
    monkeypatch.setattr(TSOPhotometryStep, "run", lambda self, *_: None)
    with small_crds.crds(cache):
        settings = strun(parameters("miri"), files.segments[0]).settings()
    assert settings == Settings(fill=False, for_mode="miri")


def test_saved_parameters_give_the_same_run(files, tmp_path):
    path = files.segments[0]
    first = strun(ALIAS, path, "--radii=2.5,4", "--outlier_sigma=6", "--save-parameters=saved.asdf")
    before = open_product(f"{ROOT}_phot.asdf")
    again = strun("saved.asdf", path, "--output_file=again")
    assert again.settings() == first.settings()
    np.testing.assert_array_equal(numbers(open_product("again_phot.asdf")), numbers(before))


def test_stored_settings_give_the_same_numbers(files):
    """What a product says of itself is enough to make it again."""
    model = TSOPhotometryStep.call(str(files.segments[0]), radii=[3, 4.5, 6], moving_centroid=True)
    stored = from_strings(model.meta.instance["tso_level3"]["settings"])
    again = TSOPhotometryStep.call(
        str(files.segments[0]),
        **{name: value for name, value in stored.as_dict().items() if value is not None},
    )
    np.testing.assert_array_equal(numbers(again), numbers(model))
