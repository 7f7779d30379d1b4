"""The house stands: imports go downwards only, and heavy packages stay on their floors."""

import ast
from pathlib import Path

import pytest

import tso_level3

ROOT = Path(tso_level3.__file__).parent

#: The floor of every room and of every file that is a room of its own.
FLOORS = {
    "__init__": 0, "_version": 0, "_integration": 0,
    "flags": 0, "columns": 0, "garbage": 0, "fields": 0, "settings": 0, "overrides": 0,
    "frames": 0, "modes": 0,
    "core": 1, "psf": 1, "quality": 1,
    "readers": 2, "product": 2, "product_tree": 2, "tables": 2, "exports": 2, "official": 2,
    "product_rows": 2, "product_view": 2, "summary": 2,
    "atomic": 2, "executors": 2, "progress": 2,
    "acquisition": 3,
    "first_look": 3, "batches": 3, "sampling": 3, "wishes": 3, "run": 3, "plots": 3, "report": 3,
    "simulate": 3,
    "judgement": 3,
    "step": 4, "step_errors": 4, "step_hosts": 4, "step_inputs": 4, "step_tables": 4,
    "pipeline": 4,
    "crds_optional": 4, "parsfiles": 4, "cli": 4, "commands": 4, "demo": 4,
}  # fmt: skip

#: The lowest floor on which a package may be imported.
OUTSIDE = {
    "numpy": 0, "scipy": 1, "astropy": 2, "asdf": 2, "pandas": 2, "stdatamodels": 2, "gwcs": 3,
    "photutils": 99, "jwst": 4, "stpipe": 4, "crds": 4, "matplotlib": 3,
    "tqdm": 2, "threadpoolctl": 2,
}  # fmt: skip

#: What a file may import inside a function alone, though its floor is too low.
AT_LAST = {("_integration.py", "asdf"), ("detrend.py", "astropy")}

#: Below the top floor only these may know data models.
MODELS = {"readers/jwst.py", "product.py", "product_tree.py", "exports.py", "official.py"}

FILES = sorted(ROOT.rglob("*.py"))


def floor_of(path):
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert room in FLOORS, f"{room} has no floor; give it one in this test"
    return FLOORS[room]


def imports(path):
    """Give (module, whether it is inside a function or only for type checkers)."""
    tree = ast.parse(path.read_text())
    hidden = set()
    for node in ast.walk(tree):
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if inside or typing:
            hidden.update(id(child) for child in ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in hidden) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            if node.module == "tso_level3":
                yield from ((f"tso_level3.{a.name}", id(node) in hidden) for a in node.names)
            else:
                yield node.module, id(node) in hidden


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downwards(path):
    own = floor_of(path)
    for module, _ in imports(path):
        if module.startswith("tso_level3."):
            room = module.split(".")[1]
            other = FLOORS.get(room, 0)
            assert other <= own, f"{path.name} (floor {own}) imports {module} (floor {other})"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_packages_stay_on_their_floors(path):
    own = floor_of(path)
    for module, hidden in imports(path):
        package = module.split(".")[0]
        lowest = OUTSIDE.get(package, 0)
        if (path.name, package) in AT_LAST:
            assert hidden
            continue
        assert lowest <= own, f"{path.name} (floor {own}) imports {module}"
        if package == "stdatamodels" and own < 4:
            name = str(path.relative_to(ROOT))
            assert name in MODELS or (own == 3 and hidden), f"{name} imports {module}"


def test_every_room_of_the_list_exists():
    there = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in FILES}
    assert set(FLOORS) <= there, set(FLOORS) - there


def test_files_are_small():
    long = {str(f.relative_to(ROOT)): n for f in FILES if (n := f.read_text().count("\n")) > 800}
    assert not long
