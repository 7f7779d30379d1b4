"""The command line: what it writes, what it says, and how it fails."""

import base64
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from importlib.metadata import entry_points
from pathlib import Path

import asdf
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import tso_level3
from tests import level2, small_crds
from tso_level3.commands import common, measure, parameter_file, simulate
from tso_level3.commands import main as cli
from tso_level3.config.settings import Settings, fields_of
from tso_level3.product import exports
from tso_level3.product.model import TSOLightCurveModel
from tso_level3.product.model import open as open_product
from tso_level3.simulate import simulate_files, simulation, visit

ROOT = "jw09999001001_04101_00001"
PRODUCT = "jw09999-o001_t001_nircam_clear-f210m-sub64p_phot.asdf"
HEAVY = ("numpy", "scipy", "astropy", "asdf", "pandas", "matplotlib", "tqdm", "jwst", "stpipe")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return level2.write(tmp_path_factory.mktemp("cli"), segments=2, cosmic_rays=2.0)


@pytest.fixture(scope="module")
def product(files, tmp_path_factory):
    """A product of the command itself."""
    path = tmp_path_factory.mktemp("product") / "x_phot.asdf"
    assert cli.main(["measure", str(files.association), "--output", str(path)]) == 0
    return path


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """A folder of one's own, and the log left as it was."""
    import logging
    import warnings

    monkeypatch.chdir(tmp_path)
    root, package = logging.getLogger(), logging.getLogger("tso_level3")
    handlers, level, shown = list(root.handlers), package.level, warnings.showwarning
    yield
    logging.captureWarnings(False)
    root.handlers[:], warnings.showwarning = handlers, shown
    package.setLevel(level)


def run(capsys, *arguments):
    """Run a command; answers with status, standard output and standard error."""
    capsys.readouterr()
    status = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def names_in(folder="."):
    return sorted(path.name for path in Path(folder).iterdir())


def started(*arguments, **options):
    """The command in a process of its own."""
    command = [sys.executable, "-m", "tso_level3.commands.main", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


# Help


def test_the_command_is_installed():
    found = [item for item in entry_points(group="console_scripts") if item.name == "tso-level3"]
    assert found and found[0].load() is cli.main


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from tso_level3.commands import main as cli; status = cli.main(['--help']);"
        f"print(status, [name for name in {HEAVY!r} if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.splitlines()[-1] == "0 []"
    assert all(f"\n  {name} " in answer.stdout for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_a_page(name, capsys):
    status, out, err = run(capsys, name, "--help")
    assert status == 0 and not err
    assert out.startswith(f"usage: tso-level3 {name}") and "example" in out


def test_version(capsys):
    assert run(capsys, "--version")[:2] == (0, f"tso-level3 {tso_level3.__version__}\n")


def test_measure_explains_every_parameter(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    out = run(capsys, "measure", "--help")[1]
    for item in fields_of():
        assert f"--{item.name.replace('_', '-')}" in out
        assert item.metadata["help"] in out
    assert set(measure.GROUPS) <= {item.name for item in fields_of()}
    assert all(f"\n{title}:\n" in out for title in measure.GROUPS.values())


# Measuring


def test_measure_writes_what_the_routine_finds(files, capsys):
    options = ["--radii", "3,4,5", "--position", "31.2,30.8", "--subframe", "21"]
    status, out, err = run(capsys, "measure", *files.segments, *options)
    assert (status, err) == (0, "")
    assert len(out.splitlines()) == 1
    name = f"{ROOT}-seg001_nrca3_phot.asdf"
    assert out.startswith(f"wrote {name}: {level2.N_INT} integrations, r = ")
    assert re.search(r"scatter \d+ ppm \(expected \d+ ppm\), [\d.]+ s$", out.strip())
    expected = tso_level3.measure(
        [str(path) for path in files.segments],
        radii=[3, 4, 5],
        position=(31.2, 30.8),
        subframe=21,
    )
    found = open_product(name)
    np.testing.assert_array_equal(found.radii, [3, 4, 5])
    for column in ("bmjd_tdb", "psf_x", "aperture_flux", "aperture_flux_err", "flags"):
        np.testing.assert_array_equal(found.light_curve[column], expected.light_curve[column])


def test_options_may_stand_anywhere_and_be_spelled_as_for_strun(files, capsys):
    first, second = files.segments
    answer = run(
        capsys, "measure", first, "--radius_inner=12", "--fill=false", second, "-o", "a.asdf"
    )
    assert answer[0] == 0
    settings = open_product("a.asdf").meta.tso_level3.instance["settings"]
    assert settings["radius_inner"] == 12.0 and settings["fill"] is False


@pytest.fixture
def caught(monkeypatch):
    """The settings that a measurement would be made with."""
    seen = []

    def stop(source, settings, **options):
        seen.append(settings)
        raise ValueError("stopped")

    monkeypatch.setattr("tso_level3.run.measure.measure", stop)
    return seen


def other_value(item):
    """A value that is allowed and not the default, as text and as it should arrive."""
    kind, choices = item.metadata["kind"], item.metadata["choices"]
    if choices:
        value = next(choice for choice in choices if choice != item.default)
        return value, value
    return {
        "int": ("7", 7),
        "float": ("7.5", 7.5),
        "str": ("some.fits", "some.fits"),
        "floats": ("30.5,31.25", (30.5, 31.25)),
        "strs": ("SATURATED,4", ("SATURATED", "4")),
        "conditions": ("FILTER=R,OBJECT=WASP 39", ("FILTER=R", "OBJECT=WASP 39")),
        "size": ("21,31", (21, 31)),
        "any": ("2.05", 2.05),
    }[kind]


@pytest.mark.parametrize("item", fields_of(), ids=lambda item: item.name)
def test_every_parameter_arrives(item, caught, capsys):
    option = f"--{item.name.replace('_', '-')}"
    if item.metadata["kind"] == "bool":
        options, value = [option if not item.default else f"--no-{option[2:]}"], not item.default
    else:
        text, value = other_value(item)
        options = [option, text]
    assert run(capsys, "measure", "x.fits", *options)[2] == "tso-level3: error: stopped\n"
    assert getattr(caught[0], item.name) == value != item.default
    assert caught[0] == Settings(**{item.name: value})


@pytest.mark.parametrize("ending", common.ENDINGS)
def test_every_form_can_be_asked_for(ending, files, capsys):
    status, out, _ = run(capsys, "measure", files.segments[0], "--output", f"lc{ending}")
    assert status == 0 and out.startswith(f"wrote lc{ending}: ")
    assert names_in() == [f"lc{ending}"]


def test_one_frame(tmp_path, capsys):
    """A scatter of one used to be reported as unknown."""
    frame = tmp_path / "one.fits"
    image = np.random.default_rng(3).normal(100.0, 1.0, (41, 41))
    y, x = np.mgrid[:41, :41]
    fits.writeto(frame, image + 5e3 * np.exp(-((x - 20.3) ** 2 + (y - 19.6) ** 2) / 4.5))
    status, out, _ = run(capsys, "measure", frame, "--kernel", "gaussian", "--radii", "4")
    assert status == 0
    assert re.match(
        r"wrote one_phot.asdf: 1 integration, r = 4 pix, annulus [^,]+, doubtful, [\d.]+ s$", out
    )


def test_what_is_replaced_is_named(files, capsys):
    Path("a.csv").write_text("of before")
    out = run(capsys, "measure", files.segments[0], "-o", "a.csv")[1]
    assert out.startswith("replaced a.csv: ")
    assert Path("a.csv").read_text().startswith("integration,")


def test_the_forms_are_those_of_the_product(product):
    with pytest.raises(ValueError) as caught:
        exports.write(open_product(product), "x.nothing")
    assert str(caught.value).endswith(", ".join(common.ENDINGS))


def test_products_beside_the_main_one(files, capsys):
    options = ["--save-catalog", "--save-fits", "--save-plots"]
    status, out, _ = run(capsys, "measure", files.segments[0], "-o", "a.ecsv", *options)
    assert status == 0
    assert names_in() == ["a.ecsv", "a.fits", "a.png", "a_catalog.ecsv"]
    assert "time" in Table.read("a.ecsv").colnames
    assert "net_aperture_sum" in Table.read("a_catalog.ecsv").colnames
    for name in ("a.fits", "a.png", "a_catalog.ecsv"):
        assert name in out


def test_a_folder_as_output(files, capsys, tmp_path):
    (tmp_path / "out").mkdir()
    assert run(capsys, "measure", files.association, "-o", "out")[0] == 0
    assert names_in("out") == [PRODUCT]


def test_names_are_those_of_strun(files, tmp_path):
    first = files.segments[0]
    inputs = [{"name": path.name} for path in files.segments]
    names = {
        str(first): f"{ROOT}-seg001_nrca3_phot.asdf",
        str(files.association): PRODUCT,
        "night1": "night1_phot.asdf",
        "a/my_list.txt": "my_list_phot.asdf",
        "x_rateints.fits": "x_phot.asdf",
        "plain.fits": "plain_phot.asdf",
    }
    assert {name: measure.default_name(name, inputs) for name in names} == names
    assert measure.default_name([str(first), "b.fits"], inputs) == names[str(first)]


# Parameter files


def write_parameters(path, **tree):
    asdf.AsdfFile(tree).write_to(path)
    return path


def test_the_command_line_comes_before_the_file(caught, capsys):
    write_parameters(
        "p.asdf",
        **{"class": "tso_level3.TSOPhotometryStep", "name": "tso_photometry"},
        parameters={"radius": 7.0, "radii": [6.0, 7.0], "fill": False, "output_dir": "x"},
    )
    run(capsys, "measure", "x.fits", "--parameters", "p.asdf", "--radius", "6")
    assert caught[0] == Settings(radius=6.0, radii=(6, 7), fill=False)


def test_a_mode_by_its_name(caught, capsys):
    run(capsys, "measure", "x.fits", "-p", "nircam-wlp8")
    # the radius is left to the noise
    assert caught[0].radius is None and caught[0].radius_inner == 75.0


def test_the_section_of_a_pipeline(caught, capsys):
    section = {
        "class": "x.TSOPhotometryStep",
        "name": "tso_photometry",
        "parameters": {"radius": 9},
    }
    other = {"class": "x.OutlierStep", "name": "outlier_detection", "parameters": {"weird": 1}}
    write_parameters("p.asdf", **{"class": "jwst.Tso3Pipeline", "steps": [other, section]})
    run(capsys, "measure", "x.fits", "-p", "p.asdf")
    assert caught[0] == Settings(radius=9.0)


def test_a_file_that_strun_saved(caught, capsys):
    from tso_level3.stpipe.step import TSOPhotometryStep

    names = set(TSOPhotometryStep.load_spec_file())
    fields = {item.name for item in fields_of()}
    assert names - fields == set(parameter_file.STEP_ONLY) & names - fields
    TSOPhotometryStep(radius=8.0).export_config("saved.asdf")
    run(capsys, "measure", "x.fits", "-p", "saved.asdf")
    assert caught[0] == Settings(radius=8.0)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"class": "x.JumpStep", "parameters": {}}, "class 'x.JumpStep' found"),
        ({"a": 1}, "without a class"),
        ({"class": "x.TSOPhotometryStep", "parameters": {"raddi": 3}}, "'raddi' found"),
        ({"class": "x.TSOPhotometryStep", "parameters": {"radius": -3}}, "p.asdf: radius: -3"),
        ({"class": "x.TSOPhotometryStep", "parameters": [3]}, "list found as parameters"),
    ],
)
def test_wrong_parameter_files(tree, message, capsys):
    write_parameters("p.asdf", **tree)
    status, out, err = run(capsys, "measure", "x.fits", "-p", "p.asdf")
    assert (status, out) == (1, "") and message in err and len(err.splitlines()) == 1


# What goes wrong


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ("measure missing.fits", 1, "missing.fits: no such file"),
        ("measure empty", 1, "empty: no FITS or ASDF file found"),
        ("measure empty.fits", 1, "empty.fits: an empty file found"),
        ("measure text.fits", 1, "text.fits"),
        ("measure x*.fits", 1, "no file matches"),
        ("measure empty.fits -o x.doc", 1, "ending '.doc' found, expected one of .asdf"),
        ("measure empty.fits -o x", 1, "no ending found"),
        ("measure empty.fits -o no/x.csv", 1, "no folder no found"),
        ("measure empty.fits -o text.fits -o empty.fits", 1, "empty.fits is an input"),
        ("measure empty.fits -p nowhere", 1, "expected a parameter file or a mode: miri, "),
        ("measure empty.fits -p text.fits", 1, "another kind of file found"),
        ("measure empty.fits -p empty.fits", 1, "an empty file found"),
        ("measure empty.fits -p empty", 1, "a folder found"),
        ("measure empty.fits --radii abc", 2, "radii: 'abc' found, expected a number or a list"),
        ("measure empty.fits --center middle", 2, "center: 'middle' found, expected one of auto"),
        ("measure empty.fits --radius-inner 9 --radius-outer 5", 2, "radius_outer: 5.0 found"),
        ("measure empty.fits --rdii 3", 2, "unrecognized arguments: --rdii 3, perhaps --radii"),
        ("measure", 2, "required: SOURCE"),
        ("mesure empty.fits", 2, "perhaps measure"),
        ("--nothing", 2, "unrecognized arguments"),
        ("info missing.asdf", 1, "missing.asdf: no such file"),
        ("info empty.fits", 1, "an empty file found"),
        ("info text.fits", 1, "another kind of file"),
        ("plot text.fits", 1, "another kind of file"),
        ("plot a.asdf b.asdf -o c.png", 2, "one name found for 2 products"),
        ("report text.fits -o x.png", 1, "expected one of .html"),
        ("pars nothing", 1, "'nothing' found, expected one of miri"),
        ("simulate --preset nothing", 2, "expected one of F210M"),
        ("simulate --set nothing=1", 2, "nothing: not a field"),
        ("simulate --set nothing", 2, "expected NAME=VALUE"),
        ("simulate --flux much", 2, "flux: 'much' found, expected a number"),
        ("simulate --n-int 2.5", 2, "n_int: '2.5' found, expected a whole number"),
        ("simulate --segments 9 --n-int 3", 2, "segments is 9"),
        ("demo --preset nothing", 2, "expected one of F210M"),
        ("demo --n-int 0", 2, "n_int is 0"),
    ],
)
def test_one_sentence_and_nothing_written(command, status, message, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.fits").touch()
    (tmp_path / "text.fits").write_text("not an image\n")
    before = sorted(tmp_path.rglob("*"))
    found, out, err = run(capsys, *command.split())
    assert (found, out) == (status, "")
    assert len(err.splitlines()) == 1 and err.startswith("tso-level3: error: ")
    assert message in err
    assert sorted(tmp_path.rglob("*")) == before


def test_no_command_at_all(capsys):
    status, out, err = run(capsys)
    assert (status, out) == (2, "") and err.startswith("usage: tso-level3 COMMAND")


def test_an_input_is_not_replaced(files, tmp_path, capsys):
    """An association used to hide that its member was about to be replaced."""
    for path in (*files.segments, files.association):
        shutil.copy(path, tmp_path)
    member = tmp_path / files.segments[1].name
    before = member.read_bytes()
    for source in (files.association.name, "."):
        status, _, err = run(capsys, "measure", source, "--output", member)
        assert status == 1 and "is an input" in err
    assert member.read_bytes() == before


def test_debug_shows_where(capsys):
    with pytest.raises(FileNotFoundError):
        cli.main(["measure", "missing.fits", "--debug"])


def test_a_fault_of_ours_is_named_as_such(monkeypatch, capsys):
    monkeypatch.setattr("tso_level3.run.measure.measure", lambda *a, **k: {}["key"])
    status, _, err = run(capsys, "measure", "x.fits")
    assert status == 1 and "KeyError" in err and "--debug" in err and len(err.splitlines()) == 1


def test_verbose_shows_the_log(files, capsys):
    err = run(capsys, "measure", files.segments[0], "-v")[2]
    assert "tso_level3.planning.plan_exposure INFO: Star at" in err
    assert "INFO" not in run(capsys, "measure", files.segments[0])[2]


@pytest.mark.parametrize("stopped_by", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("ending", [".asdf", ".csv"])
def test_nothing_half_written(stopped_by, ending, files, tmp_path, monkeypatch, capsys):
    def part(*arguments, **options):
        names = [a for a in arguments if isinstance(a, (str, os.PathLike))]
        (tmp_path / names[0]).write_text("half")
        raise stopped_by

    monkeypatch.setattr("asdf.AsdfFile.write_to", part)
    monkeypatch.setattr("pandas.DataFrame.to_csv", part)
    (tmp_path / f"old{ending}").write_text("of before")
    status, out, err = run(capsys, "measure", files.segments[0], "-o", f"old{ending}")
    assert out == "" and len(err.splitlines()) == 1
    assert status == (130 if stopped_by is KeyboardInterrupt else 1)
    assert names_in() == [f"old{ending}"]
    assert (tmp_path / f"old{ending}").read_text() == "of before"


def test_ctrl_c(tmp_path):
    sim = simulation("W3", n_int=2000)
    process = started(
        "simulate", "--preset", "W3", "--n-int", sim.n_int, "--output-dir", tmp_path / "x"
    )
    # The part files appear when the work has begun.
    for _ in range(600):
        if list(tmp_path.glob("x/*.part")):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "tso-level3: interrupted\n")
    assert not list((tmp_path / "x").iterdir())


def test_a_reader_that_goes_away(product):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "tso_level3.commands.main", "info", str(product)]
    answer = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (answer.returncode, answer.stderr) == (141, "")


# Products


def annulus_of(model):
    row = model.apertures[0]
    return f"{row['radius_inner']:.4g}-{row['radius_outer']:.4g}"


@pytest.mark.parametrize("columns", [80, 120])
def test_info(product, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    status, out, err = run(capsys, "info", product)
    assert (status, err) == (0, "")
    model = open_product(product)
    lines = out.splitlines()
    table = [k for k, line in enumerate(lines) if re.match(r" *radius +annulus", line)][0]
    prose = lines[1:table] + lines[table + 15 :]
    assert max(map(len, prose)) <= columns
    assert sum(line.startswith("* ") for line in lines) == 1
    for radius in model.radii:
        assert re.search(rf"^\*? +{radius:g} +{annulus_of(model)} ", out, re.MULTILINE)
    for words in ("SIMULATED-1", "NIRCAM NRCA3 F210M SUB64P", "24 from 2 inputs", "BMJD_TDB 60310"):
        assert words in out
    assert re.search(r"kernel +jwst NIRCAM F210M", out)
    outliers = int(((model.light_curve["flags"] & tso_level3.Flag.OUTLIER) != 0).sum())
    assert outliers > 0
    assert re.search(rf"^  OUTLIER +{outliers}  a pixel around", out, re.MULTILINE)
    assert f"{ROOT}-seg002_nrca3_calints.fits: integrations" in out


def test_info_names_what_was_changed(files, capsys):
    run(
        capsys,
        "measure",
        files.segments[0],
        "--radius",
        "4",
        "--no-choose-aperture",
        "-o",
        "a.asdf",
    )
    out = run(capsys, "info", "a.asdf")[1]
    head, _, changed = out.partition("settings, where not the default\n")
    assert changed.split("\n")[:2] == ["  radius = 4.0", "  choose_aperture = false"]
    assert "aperture of r = 4 pix" in head


def test_plot(product, capsys):
    pytest.importorskip("matplotlib", reason="the extra report is not installed")
    assert run(capsys, "plot", product)[:2] == (0, "wrote x_phot.png\n")
    assert run(capsys, "plot", product)[:2] == (0, "replaced x_phot.png\n")
    assert Path("x_phot.png").read_bytes()[:4] == b"\x89PNG"
    status, _, err = run(capsys, "plot", product, "-o", "x.doc")
    assert status == 1 and "x.doc" in err and names_in() == ["x_phot.png"]


def test_report_is_one_whole_page(product, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="the extra report is not installed")
    model = open_product(product)
    model.meta.target.catalog_name = '<b>"A&B"</b>'
    model.save("odd_phot.asdf")
    assert run(capsys, "report", "odd_phot.asdf")[:2] == (0, "wrote odd_phot.html\n")
    text = (tmp_path / "odd_phot.html").read_text()
    page = ET.fromstring(text.removeprefix("<!DOCTYPE html>"))
    assert page.find("head/title").text.startswith('<b>"A&B"</b>, NIRCAM')
    images = [item.get("src") for item in page.iter("img")]
    assert len(images) == 2
    for source in images:
        kind, _, code = source.partition(",")
        assert kind == "data:image/png;base64" and base64.b64decode(code)[:4] == b"\x89PNG"
    # Nothing is fetched from elsewhere.
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text) and "url(" not in text
    rows = [["".join(cell.itertext()) for cell in row] for row in page.iter("tr")]
    assert [row[0] for row in rows if row[1:2] == [annulus_of(model)]] == [
        f"{r:g}" for r in model.radii
    ]
    assert any(row[0] == "OUTLIER" for row in rows)
    assert len([row for row in page.iter("tr") if row.get("class") == "chosen"]) == 1


def test_without_matplotlib(product, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for command in ("plot", "report"):
        status, _, err = run(capsys, command, product)
        assert status == 1 and "tso_level3[report]" in err and len(err.splitlines()) == 1
    assert not names_in()


def test_pars(capsys):
    status, out, _ = run(capsys, "pars")
    assert status == 0 and re.search(r"^miri +MIRI imaging$", out, re.MULTILINE)
    path = run(capsys, "pars", "nircam-wlp8")[1].strip()
    assert path == str(tso_level3.parameters("nircam-wlp8"))


# Synthetic exposures


def test_simulate_writes_what_the_routine_writes(tmp_path, capsys):
    options = "--preset WLP8-SUB64P --n-int 6 --segments 2 --seed 5 --output-dir a".split()
    status, out, err = run(capsys, "simulate", *options, "--set", "drift=0.2,0")
    assert (status, err) == (0, "")
    changes = {"n_int": 6, "segments": 2, "seed": 5, "drift": (0.2, 0)}
    expected = simulate_files(visit("WLP8-SUB64P", **changes), tmp_path / "b")
    assert names_in("a") == names_in("b")
    for path in expected.segments:
        assert f"  a/{path.name}\n" in out
        ours, theirs = tmp_path / "a" / path.name, path
        data = [fits.getdata(name, "SCI") for name in (ours, theirs)]
        np.testing.assert_array_equal(*data)


def test_simulate_without_options_looks_like_a_visit(monkeypatch, capsys):
    """Used to last 55 s, with a transit of 22 s."""
    made = []

    def written(sim, folder):
        made.append(sim)
        return simulate_files(dataclasses.replace(sim, n_int=3, noise=False), folder)

    monkeypatch.setattr("tso_level3.simulate.simulate_files", written)
    status, out, err = run(capsys, "simulate")
    assert (status, err) == (0, "")
    (sim,) = made
    assert sim.n_int * sim.cadence / 3600 == pytest.approx(4, abs=0.02)
    assert sim.transit_duration == pytest.approx(2, abs=0.01) and sim.transit_mid is None
    assert 24 * sim.n_int * sim.shape[0] * sim.shape[1] < 150e6
    assert "4 h, a transit of 2 h and 1 % (baseline 1 h before, 1 h after)" in out
    (name,) = [name for name in names_in() if name.endswith("_asn.json")]
    assert f"next: tso-level3 measure {name}" in out
    run(capsys, "simulate", "--hours", "1", "--preset", "F1500W", "--transit-duration", "0.2")
    assert made[1].n_int * made[1].cadence / 3600 == pytest.approx(1, abs=0.02)
    assert made[1].transit_duration == 0.2
    run(capsys, "simulate", "--ngroups", "7", "--n-int", "50")
    assert (made[2].ngroups, made[2].n_int) == (7, 50)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("n_int", "1e3", 1000),
        ("flux", "3e5", 3e5),
        ("noise", "false", False),
        ("shape", "32,48", (32, 48)),
        ("position", "none", None),
        ("position", "3.5,4", (3.5, 4)),
        ("transit_duration", "2", 2),
        ("target", "7", "7"),
        ("bad_pixels", "3,4", ((3, 4),)),
        ("bad_pixels", "[(3, 4), (5, 6)]", ((3, 4), (5, 6))),
        ("companions", "(5, 3, 0.1)", ((5, 3, 0.1),)),
        ("jumps", "(20, 0.1, -0.2)", ((20, 0.1, -0.2),)),
        ("antenna_moves", "[(20, 5, 0.1, 0), (40, 6, 0, 0.1)]", ((20, 5, 0.1, 0), (40, 6, 0, 0.1))),
    ],
)
def test_values_of_a_simulation(name, text, value):
    found = simulate.parse_field(name, text)
    assert found == value and type(found) is type(value)


def test_a_tilt_of_a_simulation():
    (tilt,) = simulate.parse_field("tilts", "{'integration': 5, 'segment': 3, 'tip': 1e-7}")
    assert (tilt.integration, tilt.segment, tilt.tip) == (5, 3, 1e-7)


@pytest.mark.parametrize("name", list(simulate._defaults()))
def test_wrong_values_of_a_simulation(name):
    if isinstance(simulate._defaults()[name], str):
        return
    for text in ("spam", "[1, [2]]", "{'a': 1}", "'x', 'y'"):
        with pytest.raises(ValueError, match=name):
            simulate.parse_field(name, text)


def test_list_of_presets(capsys):
    out = run(capsys, "simulate", "--list")[1]
    assert "WLP8-SUB64P" in out and "\n  transit_depth = 0.01\n" in out and not names_in()


# Demonstration


@pytest.mark.slow
def test_demo_comes_near_the_truth(capsys):
    with small_crds.crds():
        status, out, err = run(capsys, "demo", "--n-int", "120", "--output-dir", "d")
    assert (status, err) == (0, "")
    assert f"light curve  d/{PRODUCT}" in out
    assert {PRODUCT, PRODUCT.replace(".asdf", ".png")} <= set(names_in("d"))
    lines = {line[2:].split("  ")[0].strip(): line for line in out.splitlines() if "truth:" in line}
    depth, error, truth = map(
        float, re.findall(r"(\d+) \+- (\d+) ppm +truth: (\d+) ppm", lines["transit depth"])[0]
    )
    # 120 integrations of 2000 ppm: 2000 / sqrt(120) = 190 ppm in the mean, twice that in a step.
    assert truth == 15000 and 200 < error < 800
    assert abs(depth - truth) < 4 * error
    # A robust scatter of 120 is known to 1.17 / sqrt(2 * 120) = 8 %; five of that.
    ratio = float(re.search(r"ratio ([\d.]+)", lines["scatter"])[1])
    assert abs(ratio - 1) < 0.4
    for axis in "xy":
        ratio, mean = re.search(
            r"ratio ([\d.]+), mean ([+-][\d.]+)", lines[f"centre in {axis}"]
        ).groups()
        assert float(ratio) < 1.4 and abs(float(mean)) < 0.002
    assert re.search(r"within ([\d.e-]+) ms", lines["mid-times"])
    model = open_product(f"d/{PRODUCT}")
    assert isinstance(model, TSOLightCurveModel) and len(model.light_curve) == 120


# Progress


class Terminal:
    """A standard error that is a terminal."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return True


def test_bars_on_a_terminal(files, monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert cli.main(["measure", str(files.association), "--chunk", "4"]) == 0
    bars = [part.strip() for part in re.split(r"[\r\n]", terminal.text) if part.strip()]
    assert any(bar.startswith("first look 100%") for bar in bars)
    last = [bar for bar in bars if bar.startswith("measuring")][-1]
    assert "100%" in last and f"{level2.N_INT}/{level2.N_INT}" in last
    assert "left" in last and "frames/s" in last


def test_no_bars_elsewhere(monkeypatch):
    from tso_level3.utils.progress import progress

    assert progress("x", 3) is None  # pytest's standard error is a file
    monkeypatch.setattr(sys, "stderr", None)
    assert progress("x", 3) is None


@pytest.mark.parametrize(
    "options, words",
    [
        ((), "mean of the annulus, averaged over (all|about [0-9]+) integrations"),
        (("--background-smooth", "none"), "mean of the annulus$"),
        (("--background-level", "0"), "as given$"),
    ],
)
def test_info_says_where_the_background_is_from(files, options, words, capsys):
    run(capsys, "measure", files.association, *options, "-o", "b.asdf")
    out = " ".join(run(capsys, "info", "b.asdf")[1].partition("  kernel")[0].split())
    assert re.search(rf"background \S+ Jy / pix, {words}", out)


# What is typed is what is measured


@pytest.mark.parametrize(
    ("typed", "name", "value"),
    [
        ("--radii 3 4 5", "radii", (3, 4, 5)),
        ("--radii 3,4,5", "radii", (3, 4, 5)),
        ("--radii 3, 4, 5", "radii", (3, 4, 5)),
        ("--radii=3 4.5", "radii", (3, 4.5)),
        ("--radii [3, 4]", "radii", (3, 4)),
        ("--position 82 90", "position", (82, 90)),
        ("--position -1.5 90", "position", (-1.5, 90)),
        ("--subframe 21 31", "subframe", (21, 31)),
        ("--out_of_transit 1 2 3 4", "out_of_transit", (1, 2, 3, 4)),
        ("--dq-bits SATURATED 4 hot", "dq_bits", ("SATURATED", "4", "hot")),
        ("--where FILTER=R OBJECT=WASP*", "where", ("FILTER=R", "OBJECT=WASP*")),
    ],
)
def test_lists_with_blanks(typed, name, value, caught, capsys):
    """Used to take all values but the first for files, and to give rows of NaN for them."""
    for words in (["x.fits", *typed.split()], [*typed.split(), "x.fits"]):
        assert run(capsys, "measure", *words)[2] == "tso-level3: error: stopped\n"
        assert getattr(caught.pop(), name) == value


def test_files_behind_a_list_stay_files(monkeypatch, capsys):
    seen = []
    name = "tso_level3.run.measure.measure"
    monkeypatch.setattr(name, lambda source, *_, **__: seen.append(source))
    run(capsys, "measure", "--radii", "3", "4", "a_4.fits", "b.fits")
    run(capsys, "measure", "a.fits", "--radii", "3", "4", "--", "5.fits")
    assert seen == [["a_4.fits", "b.fits"], ["a.fits", "5.fits"]]


@pytest.mark.parametrize("word", ["nothing", "nothing.fits", "4"])
def test_a_word_that_is_no_file_stops(word, files, capsys):
    status, out, err = run(capsys, "measure", files.segments[0], files.segments[1], word)
    assert (status, out) == (1, "") and not names_in()
    assert err == f"tso-level3: error: {word}: no such file\n"


def test_a_pattern_is_named_after_its_first_file(files, capsys):
    """Used to be written to ``*_calints_phot.asdf``."""
    folder = files.segments[0].parent
    out = run(capsys, "measure", folder / "*_calints.fits")[1]
    assert names_in() == [f"{ROOT}-seg001_nrca3_phot.asdf"]
    assert f": {level2.N_INT} integrations" in out


def test_this_folder_has_a_name(files, capsys, tmp_path, monkeypatch):
    """Used to be written to the hidden ``._phot.asdf``; a second run stopped at the first's."""
    night = tmp_path / "night"
    night.mkdir()
    shutil.copy(files.segments[0], night)
    monkeypatch.chdir(night)
    for verb in ("wrote", "replaced"):
        assert run(capsys, "measure", ".")[1].startswith(f"{verb} night_phot.asdf: ")


def write_night(folder, n=16, unit="adu", **cards):
    """A star of 5e5 electrons that loses 5 % in the middle, in counts of 1.5 electrons."""
    rng = np.random.default_rng(8)
    y, x = np.mgrid[:41, :41]
    star = np.exp(-((x - 20.3) ** 2 + (y - 19.6) ** 2) / (2 * 1.8**2)) / (2 * np.pi * 1.8**2)
    for k in range(n):
        flux = 5e5 * (0.95 if n // 4 <= k < 3 * n // 4 else 1.0)
        header = fits.Header({"MJD-OBS": 60000 + k / 1440, "EXPTIME": 30.0, **cards})
        if unit:
            header["BUNIT"] = unit
        image = rng.poisson(flux * star + 200) / 1.5
        fits.writeto(folder / f"f{k}.fits", image, header, overwrite=True)


@pytest.mark.parametrize("unit", ["adu", "ADU", "DN", "counts", ""])
def test_gain_gives_electrons(unit, tmp_path, capsys):
    """Used to be dropped in silence but for DN/s."""
    (tmp_path / "night").mkdir()
    write_night(tmp_path / "night", unit=unit)
    status, _, err = run(capsys, "measure", "night", "--gain", "1.5", "--radii", "8")
    assert status == 0 and ("they were taken as DN" in err) == (not unit)
    table = open_product("night_phot.asdf").light_curve
    assert str(table["aperture_flux"].unit) == "electron"
    flux = np.array(table["aperture_flux"][:, 0])
    outside = np.r_[flux[:4], flux[12:]].mean()
    assert outside == pytest.approx(5e5, rel=3e-3)
    assert 1 - flux[4:12].mean() / outside == pytest.approx(0.05, abs=3 * 1.0e-3)


def test_where_picks(tmp_path, capsys):
    for k, name in enumerate("RV"):
        (tmp_path / name).mkdir()
        write_night(tmp_path / name, n=6, FILTER=name)
    (tmp_path / "all").mkdir()
    for path in sorted(tmp_path.glob("[RV]/*")):
        path.rename(tmp_path / "all" / f"{path.parent.name}{path.name}")
    status, _, err = run(capsys, "measure", "all")
    assert status == 1 and "filter R (6 of 12, such as Rf0.fits) and V (6 of 12" in err
    assert run(capsys, "measure", "all", "--where", "FILTER=v", "-o", "v.asdf")[0] == 0
    files_of_v = open_product("v.asdf").meta.tso_level3.instance["inputs"]
    assert [item["name"] for item in files_of_v] == [f"Vf{k}.fits" for k in range(6)]


def test_ctrl_c_while_workers_start(tmp_path):
    """Used to: the processes that were being started answered with tracebacks."""
    # more frames than are measured without processes
    fits.writeto(tmp_path / "x.fits", np.random.default_rng(1).normal(9, 1, (40, 41, 41)))
    with started("measure", tmp_path / "x.fits", "--n-workers", 2, start_new_session=True) as run_:
        children = Path(f"/proc/{run_.pid}/task/{run_.pid}/children")
        if not children.exists():
            run_.kill()
            pytest.skip("the children of a process cannot be listed here")
        while run_.poll() is None and not children.read_text():
            time.sleep(0.01)
        time.sleep(0.1)
        os.killpg(run_.pid, signal.SIGINT)
        out, err = run_.communicate(timeout=30)
    assert (run_.returncode, out, err.splitlines()[-1]) == (130, "", "tso-level3: interrupted")
    assert "Traceback" not in err
