"""The layout: a folder imports only from folders below it, and heavy packages stay above."""

import ast
from pathlib import Path

import pytest

import tso_level3

ROOT = Path(tso_level3.__file__).parent

#: Folders, and files at the top, from below; those on one line do not import each other.
LAYERS = (
    ("_version", "_integration", "datatypes", "flags", "columns", "config", "utils"),
    ("psf",),
    ("core",),
    ("readers", "quality"),
    ("planning",),
    ("product",),
    ("run",),
    ("report", "simulate"),
    ("stpipe",),
    ("commands",),
    ("__init__",),
)
FLOORS = {room: floor for floor, rooms in enumerate(LAYERS) for room in rooms}

#: The lowest layer that may import a package, by the name of a room in it.
OUTSIDE = {
    "scipy": "psf", "astropy": "readers", "asdf": "readers", "pandas": "product",
    "stdatamodels": "product", "gwcs": "run", "jwst": "stpipe", "stpipe": "stpipe",
    "crds": "stpipe", "matplotlib": "report", "photutils": "__init__",
}  # fmt: skip

#: What a file may import all the same, inside a function.
INSIDE = {
    ("_integration", "asdf"), ("readers/jwst", "stdatamodels"), ("readers/models", "stdatamodels"),
}  # fmt: skip

FILES = sorted(ROOT.rglob("*.py"))


def name_of(path):
    return path.relative_to(ROOT).with_suffix("").as_posix()


def imports(path):
    """Give (module, whether it is inside a function), those for type checkers included."""
    tree = ast.parse(path.read_text())
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    hidden = {id(child) for function in functions for child in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in hidden) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                known = (ROOT.parent / full.replace(".", "/")).with_suffix(".py").exists()
                yield (full if known else node.module), id(node) in hidden


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_downwards(path):
    room = name_of(path).split("/")[0]
    assert room in FLOORS, f"{room} has no floor"
    for module, _ in imports(path):
        parts = module.split(".")
        if parts[0] != "tso_level3" or len(parts) == 1 or parts[1] not in FLOORS:
            continue
        other = parts[1]
        below = FLOORS[other] < FLOORS[room] or FLOORS[room] == 0 == FLOORS[other]
        assert other == room or below, f"{name_of(path)} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_packages_stay_on_their_floors(path):
    name = name_of(path)
    for module, hidden in imports(path):
        package = module.split(".")[0]
        if (name, package) in INSIDE and hidden:
            continue
        lowest = FLOORS[OUTSIDE.get(package, "utils")]
        assert lowest <= FLOORS[name.split("/")[0]], f"{name} imports {module}"


def test_files_import_in_no_circle():
    """What a function imports when it is called is left out."""
    edges = {}
    for path in FILES:
        own = edges.setdefault(name_of(path), set())
        for module, hidden in imports(path):
            target = module.replace(".", "/").removeprefix("tso_level3/")
            if module.startswith("tso_level3.") and not hidden and (ROOT / f"{target}.py").exists():
                own.add(target)
    done = set()

    def follow(name, trail):
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for other in sorted(edges[name]):
                follow(other, [*trail, name])
            done.add(name)

    for name in edges:
        follow(name, [])


def test_the_core_knows_arrays_alone():
    """No settings, log or file: what is per chunk is arithmetic."""
    for path in (ROOT / "core").glob("*.py"):
        for module, _ in imports(path):
            assert not module.startswith("tso_level3.config"), f"{name_of(path)}: {module}"
            assert module not in ("logging", "pathlib", "io", "os"), f"{name_of(path)}: {module}"


def test_every_room_of_the_list_exists():
    there = {name_of(path).split("/")[0] for path in FILES}
    assert set(FLOORS) == there
