"""Read data models of the JWST pipeline in memory, and libraries of them.

They are recognised by their attributes: this layer does not import the pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tso_level3.readers.arrays import NO_ERRORS, ArrayFrames, as_cube, known_errors
from tso_level3.readers.errors import InputError, brief, quiet
from tso_level3.readers.inputs import Part
from tso_level3.readers.listings import is_science
from tso_level3.readers.metadata import (
    KEYWORDS,
    get,
    optics_of,
    plain,
    position_of,
    refuse_spectra,
)
from tso_level3.readers.order import labels_of
from tso_level3.readers.times import integration_times
from tso_level3.readers.units import normal_unit

__all__ = ["ARRAYS", "is_library", "is_model", "library_models", "model_part", "tree_part"]

#: Names of arrays in `tso_level3.datatypes.Pixels` and in a data model.
ARRAYS = {
    "values": "data",
    "errors": "err",
    "dq": "dq",
    "var_poisson": "var_poisson",
    "var_rnoise": "var_rnoise",
    "var_flat": "var_flat",
}


def is_model(item: Any) -> bool:
    """Whether an object is an open data model with images."""
    return all(hasattr(item, name) for name in ("meta", "data", "instance", "hasattr"))


def is_library(item: Any) -> bool:
    """Whether an object is a library from which data models are borrowed."""
    return all(hasattr(item, name) for name in ("borrow", "shelve", "__len__"))


def model_part(model: Any, number: int) -> Part:
    """Open a data model in memory as frames; it is neither changed nor copied.

    Parameters
    ----------
    model : CubeModel, ImageModel or a subclass
        The model.
    number : int
        Its number among several, from 1, for error messages.

    Returns
    -------
    Part
        The input, which refers to the arrays of the model.

    Raises
    ------
    InputError
        It holds no images.
    """
    with quiet():
        tree = plain(model.meta.instance)
        arrays = {name: _array(model, key) for name, key in ARRAYS.items()}
        rows = _array(model, "int_times")
    name = str(get(tree, "filename", f"model {number}"))
    refuse_spectra(name, tree)
    if arrays["values"] is None:
        raise InputError(f"{name}: {type(model).__name__} without data found, expected images")
    source, shape, notes = _from_arrays(name, arrays, model.meta.instance.get("wcs"))
    image = arrays["values"].ndim == 2
    return tree_part(name, source, shape, tree, rows, image, notes, record={"name": name})


def _array(model: Any, key: str) -> np.ndarray | None:
    """Return an array that the model has; asking for one that it lacks would create it."""
    if not model.hasattr(key):
        return None
    found = getattr(model, key)
    return None if found is None else np.asanyarray(found)


def _from_arrays(
    name: str, arrays: Mapping[str, Any], wcs: Any
) -> tuple[ArrayFrames, tuple[int, int, int], list[str]]:
    values = as_cube(arrays["values"], name)
    cubes: dict[str, np.ndarray] = {}
    for key, array in arrays.items():
        if key == "values" or array is None or array.size == 0:
            continue
        if array.shape[-2:] != values.shape[1:] or array.ndim > 3:
            raise InputError(
                f"{name}: shape {array.shape} found for {ARRAYS[key]}, expected {values.shape}"
            )
        cubes[key] = np.broadcast_to(array, values.shape)
    source = ArrayFrames(values, **cubes, wcs=wcs)
    notes = []
    if source.errors is not None and not known_errors(source, len(values), values.shape[1:]):
        source = source.without_errors()
        notes.append(NO_ERRORS)
    return source, values.shape, notes


def tree_part(
    name: str,
    source: Any,
    shape: tuple[int, int, int],
    tree: dict[str, Any],
    rows: Any,
    image: bool,
    notes: list[str],
    *,
    record: Mapping[str, Any],
    path: Path | None = None,
    has: tuple[bool, bool] | None = None,
) -> Part:
    """Make an input of the frames and metadata of a data model.

    Parameters
    ----------
    name : str
        Its name in error messages.
    source : FrameSource
        Its frames.
    shape : (int, int, int)
        (n, ny, nx).
    tree : dict
        Its metadata.
    rows : ndarray, structured, or None
        INT_TIMES.
    image : bool
        Whether it is a single image.
    notes : list of str
        What was assumed.
    record : mapping
        Name, size and date, which the product records.
    path : Path, optional
        Its file.
    has : (bool, bool), optional
        Whether errors and quality flags are known; None: as the source has them.
    """
    has_errors, has_dq = has or (source.errors is not None, source.dq is not None)
    return Part(
        name=name,
        source=source,
        n_frames=shape[0],
        shape=shape[1:],
        times=integration_times(rows, tree, shape[0], image=image),
        unit=normal_unit(get(tree, "bunit_data", "")),
        has_errors=has_errors,
        has_dq=has_dq,
        optics=optics_of(tree),
        tree=tree,
        meta=lambda: tree,
        position=position_of(tree),
        single=image,
        path=path,
        record=record,
        notes=tuple(notes),
        labels=labels_of({key: get(tree, place) for place, key in KEYWORDS.items()}),
    )


def library_models(library: Any) -> list[Any]:
    """Borrow all science models of a library, and return them to it unchanged.

    Parameters
    ----------
    library : ModelLibrary
        The library, open or not.

    Returns
    -------
    list
        Its models; their arrays stay valid while they are referred to.
    """
    try:
        return _borrowed(library)
    except Exception as problem:
        if "closed" not in f"{type(problem).__name__} {problem}".lower():
            raise InputError(f"library: a model cannot be borrowed ({brief(problem)})") from problem
    try:
        with library:
            return _borrowed(library)
    except Exception as problem:
        raise InputError(f"library: a model cannot be borrowed ({brief(problem)})") from problem


def _borrowed(library: Any) -> list[Any]:
    models = []
    for index in range(len(library)):
        model = library.borrow(index)
        if is_science(get(plain(model.meta.instance), "asn.exptype")):
            models.append(model)
        library.shelve(model, index, modify=False)
    return models
