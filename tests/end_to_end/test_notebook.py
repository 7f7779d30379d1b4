"""The notebooks as they are kept: without outputs, runnable anywhere. CI executes them too."""

import ast
import json
from pathlib import Path

import pytest

import tso_level3
from tso_level3.config.settings import fields_of

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells(path, kind):
    found = json.loads(path.read_text())["cells"]
    return [cell for cell in found if cell["cell_type"] == kind]


def source(cell):
    lines = "".join(cell["source"]).splitlines()
    return "\n".join(line for line in lines if not line.startswith("%"))


def test_there_is_one():
    assert FOLDER / "quickstart.ipynb" in NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_outputs_are_stripped(path):
    for cell in cells(path, "code"):
        assert cell["outputs"] == [] and cell["execution_count"] is None
    assert json.loads(path.read_text())["metadata"]["kernelspec"]["name"] == "python3"
    assert path.stat().st_size < 40_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_cells_are_python_that_knows_the_package(path):
    """A public name that was taken away, or a parameter's, is found without running anything."""
    trees = [ast.parse(source(cell)) for cell in cells(path, "code")]
    names = {
        node.attr
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "tso_level3"
    }
    assert names and names <= set(tso_level3.__all__)
    known = {item.name for item in fields_of()}
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "tso_level3.measure":
            assert {keyword.arg for keyword in node.keywords} <= known


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_needs_no_folder_of_its_own(path):
    text = "\n".join(source(cell) for cell in cells(path, "code"))
    assert "tempfile" in text
    for place in ("/home/", "/tmp", "/work", "../", "~"):
        assert f'"{place}' not in text
