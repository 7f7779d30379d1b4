"""Metadata trees of a product, and reading the tree of a product's file."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np

from tso_level3.columns import TABLES
from tso_level3.datatypes import Picture
from tso_level3.product.record import FORMAT_VERSION
from tso_level3.product.tables import column_unit

__all__ = [
    "metadata_of",
    "picture_of",
    "read_tree",
    "setup_of",
    "upgraded",
]


def metadata_of(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Take the metadata of an input, given with or without the ``meta`` above it.

    Parameters
    ----------
    tree : mapping
        ``{'meta': {...}, ...}``, as read from a file, or the content of ``meta``.

    Returns
    -------
    dict
        ``{'meta': {...}}``, and ``cal_logs`` where there are any, without arrays and tables.
    """
    inner = tree.get("meta")
    meta = dict(inner) if isinstance(inner, Mapping) else dict(tree)
    # The product has its own values of these.
    for name in ("model_type", "date", "tso_level3"):
        meta.pop(name, None)
    # Read without its classes, this is a tree that cannot be evaluated.
    if isinstance(meta.get("wcs"), Mapping):
        del meta["wcs"]
    found = {"meta": meta}
    if isinstance(inner, Mapping) and isinstance(tree.get("cal_logs"), Mapping):
        found["cal_logs"] = dict(tree["cal_logs"])
    return found


def setup_of(meta: Any) -> dict[str, str | None]:
    """Name the set-up and the target of a product.

    Parameters
    ----------
    meta : stdatamodels.properties.ObjectNode
        The product's ``meta``.

    Returns
    -------
    dict of str or None
        ``instrument, detector, channel, subarray, filter, pupil, target_name``.
    """
    return {
        "instrument": meta.instrument.name,
        "detector": meta.instrument.detector,
        "channel": meta.instrument.channel,
        "subarray": meta.subarray.name,
        "filter": meta.instrument.filter,
        "pupil": meta.instrument.pupil,
        "target_name": meta.target.catalog_name,
    }


def picture_of(picture: Picture) -> dict[str, Any]:
    """Make a node of the product from an image.

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


def read_tree(path: str | os.PathLike[str], model_type: str) -> dict[str, Any]:
    """Read a product's file into memory and close it.

    Parameters
    ----------
    path : str or path-like
        The file.
    model_type : str
        Expected ``meta.model_type``.

    Returns
    -------
    dict
        The tree, with arrays in memory.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is not such a product, or is damaged.
    """
    import asdf

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
        # All is read now: a table that is read after its file is closed loses columns.
        with asdf.config_context() as config:
            config.warn_on_failed_conversion = False
            with asdf.open(path, lazy_load=False, memmap=False) as file:
                tree: dict[str, Any] = file.tree
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: a damaged file found ({reason}), expected {wanted}") from error
    meta = tree.get("meta")
    found = meta.get("model_type") if isinstance(meta, Mapping) else None
    if found != model_type:
        shown = f"model type {found!r}" if found else "ASDF without a model type"
        raise ValueError(f"{path}: {shown} found, expected {wanted}")
    return tree


def upgraded(tree: dict[str, Any]) -> dict[str, Any]:
    """Convert the tree of a product of format 1 to the present format.

    Parameters
    ----------
    tree : dict
        From `read_tree`, of any format; its tables are changed.

    Returns
    -------
    dict
        The tree: events have the number of their integration in place of its row from 0, and
        new columns are NaN, 0 or empty.
    """
    from astropy.table import Column, Table

    made = tree["meta"].get("tso_level3")
    if not isinstance(made, MutableMapping) or not str(made.get("format_version")).startswith("1."):
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
