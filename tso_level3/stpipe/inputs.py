"""Finds names, units and groups of a step's inputs without reading pixels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stdatamodels.jwst.datamodels import JwstDataModel

from tso_level3.readers.errors import InputError
from tso_level3.readers.fits.cards import value
from tso_level3.readers.fits.scan import scan
from tso_level3.readers.listings import association_members, files_of, is_pattern

__all__ = [
    "exposures_of",
    "filename_of",
    "first_member",
    "joined",
    "root_name",
    "unit_of_file",
]

_ENDINGS = {".fits", ".fit", ".fts", ".asdf", ".slp", ".red", ".gz", ".bz2", ".xz", ".fz", ".txt"}


def exposures_of(source: Any) -> list:
    """Sort the products of a level-2 pipeline by exposure and detector.

    Parameters
    ----------
    source : object
        The input of a hook.

    Returns
    -------
    list
        A list of models per exposure; the input alone where it is not several models.
    """
    several = isinstance(source, (list, tuple)) and len(source) > 1
    if not several or not all(isinstance(item, JwstDataModel) for item in source):
        return [source]
    groups: dict[tuple, list] = {}
    for model in source:
        meta = model.meta
        key = (
            meta.instrument.detector,
            meta.instrument.filter,
            meta.instrument.pupil,
            meta.observation.program_number,
            meta.observation.observation_number,
            meta.observation.visit_number,
            meta.observation.exposure_number,
        )
        groups.setdefault(key, []).append(model)
    return list(groups.values())


def first_member(source: Any) -> Any:
    """Return the input, or the first of several.

    Parameters
    ----------
    source : object
        The input of the step.

    Returns
    -------
    object
        A path, a model or the input itself; None for an association without a science member.
    """
    if isinstance(source, Mapping):
        try:
            first = association_members(source, Path(), "association")[0]
        except InputError:
            return None
        return str(first) if isinstance(first, Path) else first
    if isinstance(source, (list, tuple)) and source:
        return first_member(source[0])
    return source


def joined(*inputs: Any) -> list:
    """Join several inputs of `strun` to the list of one exposure.

    Parameters
    ----------
    *inputs : str, path, model or list
        Names of files, patterns, listings, open models, or lists of these.

    Returns
    -------
    list
        All of them.

    Raises
    ------
    InputError
        An input is a number: a list of values without commas.
    """
    out: list = []
    for item in inputs:
        if isinstance(item, (str, Path)) and not Path(item).exists() and _is_number(str(item)):
            raise InputError(
                f"{item}: no such file; a list of values is written with commas, as --radii=3,4,5"
            )
        out += item if isinstance(item, (list, tuple)) else [item]
    return out


def _is_number(word: str) -> bool:
    try:
        float(word.strip("[](),"))
    except ValueError:
        return False
    return True


def filename_of(source: Any) -> str | None:
    """Find the name of the file that an input comes from, or of the first of several.

    Parameters
    ----------
    source : object
        The input of the step.

    Returns
    -------
    str or None
        The name; None where it has none.
    """
    first = first_member(source)
    if isinstance(first, (str, Path)):
        return str(first)
    if not isinstance(first, JwstDataModel) and isinstance(first, Sequence) and len(first):
        first = first[0]
    return first.meta.filename if isinstance(first, JwstDataModel) else None


def unit_of_file(first: Any) -> str | None:
    """Read the unit of a FITS file in its headers.

    Parameters
    ----------
    first : object
        The result of `first_member`.

    Returns
    -------
    str or None
        The unit of its science extension; None where there is none, or the file is not FITS.
    """
    if not isinstance(first, (str, Path)):
        return None
    if not Path(first).name.lower().endswith((".fits", ".fits.gz")):
        return None
    try:
        science = scan(Path(first)).find("SCI")
    except (OSError, ValueError):
        return None
    found = None if science is None else value(science.header, "BUNIT")
    return None if found is None else str(found).strip()


def root_name(source: Any, inputs: Sequence[Mapping]) -> str | None:
    """Name the product after an association's product, else after the first input.

    Parameters
    ----------
    source : object
        The input of the step.
    inputs : sequence of mapping
        ``Exposure.inputs``.

    Returns
    -------
    str or None
        The product's name without suffix; None where the inputs have no name.
    """
    table = getattr(source, "asn_table", None) or getattr(source, "asn", None) or source
    if isinstance(source, (str, Path)) and str(source).lower().endswith(".json"):
        table = json.loads(Path(source).read_text())
    if isinstance(table, Mapping):
        products = table.get("products") or [{}]
        if products[0].get("name"):
            return f"{products[0]['name']}.asdf"
    name = filename_of(source)
    if name is not None and is_pattern(name):
        # The first file of a pattern need not be an image.
        first = inputs[0].get("name") if inputs else None
        name = next((str(file) for file in files_of(name).items if file.name == first), None)
    elif name is not None and Path(name).name in ("", "..") and Path(name).is_dir():
        # "." is no name for a product.
        name = str(Path(name).resolve())
    name = name or (inputs[0].get("name") if inputs else None)
    return _bare(str(name)) if name else None


def _bare(name: str) -> str:
    """Replace all endings of an image's file name by that of the product."""
    path = Path(name)
    while path.suffix.lower() in _ENDINGS:
        path = path.with_suffix("")
    return f"{path}.asdf"
