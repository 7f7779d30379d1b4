"""Reads parameter files of stpipe without stpipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tso_level3.config.fields import nearest
from tso_level3.config.parameter_files import parameters
from tso_level3.config.settings import fields_of, from_strings

__all__ = ["STEP_ONLY", "read_parameters"]

#: Parameters that stpipe uses, not the measurement.
STEP_ONLY = frozenset(
    (
        "pre_hooks",
        "post_hooks",
        "output_file",
        "output_dir",
        "output_ext",
        "output_use_model",
        "output_use_index",
        "save_results",
        "skip",
        "suffix",
        "search_output_file",
        "input_dir",
        "override_gain",
    )
)

_STEP, _PIPELINES = "TSOPhotometryStep", ("TSOLevel3Pipeline", "Tso3Pipeline")


def read_parameters(name: str) -> dict[str, Any]:
    """Read the parameters of a measurement from a file as `strun` takes it.

    Parameters
    ----------
    name : str
        The file, of the step or of a pipeline; or an observing mode, for the file that comes with
        the package.

    Returns
    -------
    dict
        Fields of `Settings` and their checked values.

    Raises
    ------
    ValueError
        It is no parameter file, or a parameter in it is unknown or out of bounds.
    FileNotFoundError
        There is no such file or mode.
    """
    path = _path_of(name)
    found = _parameters_in(_tree_of(path), path)
    known = {item.name for item in fields_of()}
    for parameter in found:
        if parameter not in known | STEP_ONLY:
            meant = nearest(parameter, known | STEP_ONLY)
            raise ValueError(
                f"{path}: parameter {parameter!r} found, expected parameters of the step{meant}"
            )
    values = {key: value for key, value in found.items() if key in known}
    try:
        from_strings(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return values


def _path_of(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise ValueError(f"{path}: a folder found, expected a parameter file")
    try:
        return parameters(name)
    except ValueError as error:
        modes = str(error).partition("expected one of ")[2]
        raise FileNotFoundError(
            f"{name}: no such file, expected a parameter file or a mode: {modes}"
        ) from None


def _tree_of(path: Path) -> Mapping[str, Any]:
    import asdf

    with path.open("rb") as stream:
        start = stream.read(5)
    if start != b"#ASDF":
        kind = "another kind of file" if start else "an empty file"
        raise ValueError(f"{path}: {kind} found, expected a parameter file (ASDF)")
    try:
        with asdf.open(path, lazy_load=False, memmap=False) as file:
            return dict(file.tree)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path}: a damaged file found ({reason}), expected a parameter file"
        ) from error


def _parameters_in(tree: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Find the section of the step in its own file or in a pipeline's."""
    kind = str(tree.get("class", "")).rpartition(".")[2]
    if kind in _PIPELINES:
        sections = [item for item in tree.get("steps", ()) if isinstance(item, Mapping)]
        sections = [item for item in sections if item.get("name") == "tso_photometry"]
        section = sections[0] if sections else {}
    elif kind == _STEP:
        section = tree
    else:
        shown = f"class {tree['class']!r}" if "class" in tree else "ASDF without a class"
        raise ValueError(f"{path}: {shown} found, expected a parameter file of {_STEP}")
    found = section.get("parameters") or {}
    if not isinstance(found, Mapping):
        raise ValueError(f"{path}: {type(found).__name__} found as parameters, expected names")
    return {str(key): value for key, value in found.items()}
