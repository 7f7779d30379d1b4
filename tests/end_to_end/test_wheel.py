"""What is installed: schema and parameter files are in the wheel, and the version needs no tags."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tso_level3

ROOT = Path(tso_level3.__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("the package is installed; there is no source tree to build from")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(folder), str(ROOT)], check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_schema_and_parameter_files(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    package = ROOT / "tso_level3"
    shipped = [
        *package.glob("config/pars/*.asdf"),
        *package.glob("product/schemas/*.yaml"),
        package / "py.typed",
    ]
    assert len(shipped) >= 7
    assert {path.relative_to(ROOT).as_posix() for path in shipped} <= set(names)
    assert tso_level3.__version__ in wheel.name
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)


def test_the_wheel_works_where_it_is_installed(wheel, tmp_path):
    place = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(place)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import tso_level3;"
        "from tso_level3.product.model import TSOLightCurveModel as M;"
        "assert tso_level3.__file__.startswith(sys.argv[1]), tso_level3.__file__;"
        "print(tso_level3.parameters('miri').is_file(), M().schema_url)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(place)], cwd=tmp_path, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("True ")
