"""Plain trees: what goes into a product's metadata, and what a product's file holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tso_level3._version import __version__
from tso_level3.columns import unit_of
from tso_level3.product.tables import TABLES, column_unit

if TYPE_CHECKING:
    from tso_level3.datatypes import Result

__all__ = [
    "FORMAT_VERSION",
    "load_extensions",
    "made_of",
    "metadata_of",
    "picture_of",
    "plain",
    "read_tree",
    "renewed",
]

#: Version of the product's form; the first number changes when older readers would go wrong.
FORMAT_VERSION = "2.0.0"


def load_extensions() -> None:
    """Make asdf load the extensions of all installed packages, as quickly as can be.

    asdf does so with the first model or file of a process, and reads some fifty manifests with
    PyYAML's parser in Python; the one in C answers the same in a fifth of the 0.6 s.
    """
    import asdf
    import yaml

    before = yaml.SafeLoader
    # asdf calls ``yaml.safe_load``, which takes no loader but looks this name up.
    yaml.SafeLoader = getattr(yaml, "CSafeLoader", before)
    try:
        _ = asdf.get_config().extensions
    finally:
        yaml.SafeLoader = before


def plain(value: object, *, nothing: object = None) -> Any:
    """Bring a value into a form that any file format can hold.

    Parameters
    ----------
    value : object
        Numbers, texts, arrays, paths, and mappings and lists of them.
    nothing : object
        What stands for None; a data model drops None when it saves.

    Returns
    -------
    object
        The same of Python's own numbers, texts, lists and dicts.
    """
    if value is None:
        return nothing
    if isinstance(value, Mapping):
        return {str(key): plain(item, nothing=nothing) for key, item in value.items()}
    if isinstance(value, np.generic):
        return plain(value.item(), nothing=nothing)
    if isinstance(value, np.ndarray):
        return plain(value.tolist(), nothing=nothing)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item, nothing=nothing) for item in value]
    if isinstance(value, (bool, int, float, str)):
        return value
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def metadata_of(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Take an input's metadata, given with or without the ``meta`` above it.

    Parameters
    ----------
    tree : mapping
        Either ``{'meta': {...}, ...}``, as it is read from a file, or what is below ``meta``.

    Returns
    -------
    dict
        ``{'meta': {...}}``, and ``cal_logs`` where there are any; arrays and tables are left out.
    """
    inner = tree.get("meta")
    meta = dict(inner) if isinstance(inner, Mapping) else dict(tree)
    # The product says these of itself.
    for name in ("model_type", "date", "tso_level3"):
        meta.pop(name, None)
    # Read from a file without its objects, this is a tree that computes nothing.
    if isinstance(meta.get("wcs"), Mapping):
        del meta["wcs"]
    found = {"meta": meta}
    if isinstance(inner, Mapping) and isinstance(tree.get("cal_logs"), Mapping):
        found["cal_logs"] = dict(tree["cal_logs"])
    return found


def made_of(result: Result) -> dict[str, Any]:
    """Say how a product was made, for its ``meta.tso_level3``.

    Parameters
    ----------
    result : tso_level3.datatypes.Result
        What a run found.

    Returns
    -------
    dict
        Versions, settings, radii, units, and all that is in the result's ``info``.
    """
    info = {key: value for key, value in result.info.items() if value is not None}
    made = plain({key: value for key, value in info.items() if key != "settings"})
    # A data model drops None, so that a setting of nothing is written as the word for it.
    made["settings"] = plain(info.get("settings", {}), nothing="none")
    made["format_version"] = FORMAT_VERSION
    made.setdefault("version", __version__)
    made.setdefault("time_scale", _scale_of(result.light_curve))
    made["radii"] = plain(np.asarray(result.radii, dtype=float))
    made["unit"] = result.unit
    units = {
        name: {item.name: text for item in columns if (text := unit_of(item, result.unit))}
        for name, columns in TABLES.items()
    }
    made.setdefault("units", units)
    return made


def _scale_of(light_curve: Mapping[str, np.ndarray]) -> str:
    for scale, name in (("BMJD_TDB", "bmjd_tdb"), ("MJD_UTC", "mjd_utc")):
        if np.isfinite(np.asarray(light_curve[name], dtype=float)).any():
            return scale
    return "none"


def picture_of(picture: Any) -> dict[str, Any]:
    """Write an image with a place in it as a node of the product.

    Parameters
    ----------
    picture : tso_level3.datatypes.Picture
        The image.

    Returns
    -------
    dict
        ``image, x, y, oversample, origin_x, origin_y``.
    """
    return {
        "image": np.array(picture.image),
        "x": float(picture.x),
        "y": float(picture.y),
        "oversample": int(picture.oversample),
        "origin_x": int(picture.origin[0]),
        "origin_y": int(picture.origin[1]),
    }


def read_tree(path: str | os.PathLike, model_type: str) -> dict[str, Any]:
    """Read the whole of a product's file into memory, and close it.

    Parameters
    ----------
    path : str or path-like
        The file.
    model_type : str
        What ``meta.model_type`` has to be.

    Returns
    -------
    dict
        The tree; its arrays do not refer to the file.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is not such a product, or it is damaged.
    """
    import asdf

    load_extensions()
    wanted = "a light-curve product of tso_level3 (ASDF)"
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file, expected {wanted}")
    if path.is_dir():
        raise ValueError(f"{path}: a folder found, expected {wanted}")
    with path.open("rb") as stream:
        start = stream.read(9)
    if start[:5] != b"#ASDF":
        kind = "an empty file" if not start else "another kind of file"
        kind = "a FITS file" if start.startswith(b"SIMPLE") else kind
        raise ValueError(f"{path}: {kind} found, expected {wanted}")
    try:
        # Everything is read now: a table that is read later than its file is closed loses columns.
        with asdf.config_context() as config:
            config.warn_on_failed_conversion = False
            with asdf.open(path, lazy_load=False, memmap=False) as file:
                tree = file.tree
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: a damaged file found ({reason}), expected {wanted}") from error
    meta = tree.get("meta")
    found = meta.get("model_type") if isinstance(meta, Mapping) else None
    if found != model_type:
        shown = f"model type {found!r}" if found else "ASDF without a model type"
        raise ValueError(f"{path}: {shown} found, expected {wanted}")
    return tree


def renewed(tree: dict[str, Any]) -> dict[str, Any]:
    """Bring the tree of a product of form 1 into the present form.

    Parameters
    ----------
    tree : dict
        What `read_tree` gave, of any form; its tables are changed.

    Returns
    -------
    dict
        The tree: events have the number of their integration in place of its row, which was
        counted from 0; columns that there were not yet are NaN, 0 or empty.
    """
    from astropy.table import Column, Table

    made = tree["meta"].get("tso_level3")
    if not isinstance(made, Mapping) or not str(made.get("format_version")).startswith("1."):
        return tree
    found = {name: tree[name] for name in TABLES if isinstance(tree.get(name), Table)}
    events, numbers = found.get("events"), found.get("light_curve", {})
    if events is not None and {"integration"} <= set(events.colnames) & set(numbers.keys()):
        rows = np.asarray(events["integration"])
        if len(rows) and 0 <= rows.min() and rows.max() < len(numbers):
            events["integration"][:] = np.asarray(numbers["integration"])[rows]
    unit = str(made.get("unit", ""))
    for name, table in found.items():
        for place, item in enumerate(TABLES[name]):
            if item.name not in table.colnames and not item.shape:
                data = np.zeros(len(table), item.dtype)
                if data.dtype.kind == "f":
                    data[:] = np.nan
                added = Column(
                    data, item.name, unit=column_unit(item, unit), description=item.description
                )
                table.add_column(added, index=place)
    if isinstance(tree.get("files"), Table) and "first_row" in tree["files"].colnames:
        tree["files"].remove_column("first_row")
    made["format_version"] = FORMAT_VERSION
    return tree
