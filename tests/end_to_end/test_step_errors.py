"""What the step says of a wrong parameter or a bad input: one sentence, and status 1."""

import re
import subprocess
import sys
import textwrap

import asdf
import numpy as np
import pytest
from astropy.io import fits
from stpipe import _cmdline

from tests import level2, small_crds
from tso_level3.stpipe.errors import StepError
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


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("--radius=-1", "radius: -1.0 found, expected a number of 0.1 or more"),
        ("--radius=wide", "radius: 'wide' found, expected a number"),
        ("--center=middle", "center: 'middle' found, expected one of auto, psf"),
        ("--fill=perhaps", "fill: 'perhaps' found, expected true or false"),
        ("--dq_bits=NOTHING", "dq_bits: 'NOTHING' is not a data-quality bit"),
        ("--position=1,2,3", "position: [1.0, 2.0, 3.0] found, expected two numbers"),
        ("--n_workers=1.5", "n_workers: '1.5' found, expected a whole number"),
        ("--radius_inner=9 --radius_outer=8", "radius_outer: 8.0 found, expected more than"),
    ],
)
def test_wrong_parameter_is_one_sentence(argument, sentence, files, tmp_path, capsys, caplog):
    with pytest.raises(StepError, match=re.escape(sentence)) as caught:
        strun(ALIAS, files.segments[0], *argument.split())
    assert caught.value.exit_status == 1
    assert "\n" not in str(caught.value)
    printed = capsys.readouterr()
    assert "usage" not in printed.out + printed.err
    assert sum(sentence in line for line in caplog.messages) == 1
    assert not list(tmp_path.iterdir())


def test_unknown_name_in_a_parameter_file_is_one_sentence(files, tmp_path, capsys):
    path = tmp_path / "own.asdf"
    asdf.AsdfFile(
        {"class": "tso_level3.TSOPhotometryStep", "name": "x", "parameters": {"radiuss": 3.0}}
    ).write_to(path)
    with pytest.raises(StepError, match="radiuss"):
        strun(path, files.segments[0])
    assert "usage" not in capsys.readouterr().out


def damaged(kind, path):
    """Write an input that cannot be measured."""
    if kind == "missing":
        return
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("this is not an image\n" * 100)
    elif kind == "no image":
        fits.PrimaryHDU().writeto(path)
    elif kind == "all NaN":
        fits.PrimaryHDU(np.full((5, 20, 20), np.nan, np.float32)).writeto(path)
    elif kind == "four dimensions":
        fits.PrimaryHDU(np.ones((2, 2, 2, 2), np.float32)).writeto(path)


@pytest.mark.parametrize(
    "kind", ["missing", "empty", "text", "no image", "all NaN", "four dimensions", "truncated"]
)
def test_bad_input_is_one_sentence(kind, files, tmp_path, capsys):
    path = tmp_path / "x_calints.fits"
    if kind == "truncated":
        path.write_bytes(files.segments[0].read_bytes()[:50_000])
    else:
        damaged(kind, path)
    with pytest.raises(StepError) as caught:
        strun(ALIAS, path)
    assert caught.value.exit_status == 1
    assert "\n" not in str(caught.value)
    # "all NaN" may speak of the star instead of the file
    assert path.name in str(caught.value) or kind == "all NaN"
    assert "ERROR RUNNING STEP" in capsys.readouterr().out
    assert {item.name for item in tmp_path.iterdir()} <= {path.name}


def test_aperture_outside_the_frame_is_one_sentence(files):
    with pytest.raises(StepError):
        TSOPhotometryStep.call(str(files.segments[0]), position=[500.0, 500.0])


def test_python_callers_get_value_and_file_errors():
    with pytest.raises(ValueError):
        TSOPhotometryStep.call(np.full((3, 20, 20), np.nan))
    with pytest.raises(OSError):
        TSOPhotometryStep.call("nowhere_calints.fits")


def test_strun_with_a_bad_input_and_a_bad_parameter(files, tmp_path):
    script = textwrap.dedent(
        f"""
        import sys
        from stpipe._cli.strun import main
        for arguments in (["x_calints.fits"], [{str(files.segments[0])!r}, "--radius=-1"]):
            sys.argv = ["strun", "{ALIAS}", *arguments]
            try:
                main()
            except SystemExit as end:
                print("STATUS", end.code)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.count("STATUS 1") == 2
    # used to: a box of dashes on standard output, the sentence broken into lines of 70
    lines = [line for line in done.stderr.splitlines() if " - ERROR - " in line]
    assert lines[0].endswith(" - ERROR - x_calints.fits: no such file")
    assert lines[1].endswith(" - radius: -1.0 found, expected a number of 0.1 or more")
    assert done.stderr.splitlines()[-1] == lines[1]
    assert "Traceback" not in done.stdout + done.stderr
    assert not list(tmp_path.iterdir())
