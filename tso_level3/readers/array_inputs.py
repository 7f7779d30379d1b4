"""Open arrays in memory: NumPy and masked arrays, ``Quantity``, ``NDData``."""

from __future__ import annotations

from typing import Any

import numpy as np

from tso_level3.readers.arrays import (
    NO_ERRORS,
    ArrayFrames,
    as_cube,
    as_quality,
    known_errors,
    split_masked,
)
from tso_level3.readers.errors import InputError
from tso_level3.readers.header_times import header_time
from tso_level3.readers.inputs import Part
from tso_level3.readers.metadata import optics_of, tree_of
from tso_level3.readers.order import labels_of
from tso_level3.readers.times import unknown_times
from tso_level3.readers.units import normal_unit

__all__ = ["array_part", "is_array", "is_nddata"]


def is_nddata(item: Any) -> bool:
    """Whether an object is an ``NDData``, by its attributes: importing the class is slow."""
    return all(hasattr(item, name) for name in ("data", "uncertainty", "mask", "unit", "meta"))


def is_array(item: Any) -> bool:
    """Whether an object is one array of images, rather than a list of inputs."""
    if is_nddata(item):
        return True
    if hasattr(item, "meta") and hasattr(item, "instance"):
        return False
    dtype = getattr(item, "dtype", None)
    return hasattr(item, "__array__") and getattr(dtype, "kind", "O") in "fiubc"


def array_part(
    item: Any, *, place: int | None = None, errors: Any = None, mask: Any = None
) -> Part:
    """Open an array as frames, without a copy.

    Parameters
    ----------
    item : ndarray, masked array, Quantity or NDData; (n, ny, nx) or (ny, nx)
        The frames.
    place : int, optional
        Its number in a list, from 1.
    errors : array_like, optional
        Standard errors that broadcast to its shape; they replace its own.
    mask : array_like, optional
        True, or quality flags, where a pixel is bad; combined with its own.

    Returns
    -------
    Part
        The input, which refers to the array.

    Raises
    ------
    InputError
        It holds no images, or errors or mask do not broadcast to its shape.
    """
    name = "array" if place is None else f"array {place}"
    values, unit, own_mask, own_errors, header = _unpack(item, name)
    data, masked = split_masked(values)
    frames = as_cube(data, name)
    dq = _combine_masks(frames.shape, masked, own_mask, mask)
    error = own_errors if errors is None else _errors_in(unit, errors)
    error = None if error is None else _broadcast(error, frames.shape, "errors")
    source = ArrayFrames(frames, error, dq)
    notes: tuple[str, ...] = ()
    if source.errors is not None and not known_errors(source, len(frames), frames.shape[1:]):
        source = source.without_errors()
        notes = (NO_ERRORS,)
    tree = tree_of(header) if header else {}
    return Part(
        name=name,
        source=source,
        n_frames=len(frames),
        shape=frames.shape[1:],
        times=header_time([header]) if header and len(frames) == 1 else unknown_times(len(frames)),
        unit=normal_unit(unit),
        has_errors=source.errors is not None,
        has_dq=dq is not None,
        optics=optics_of(tree),
        tree=tree,
        single=data.ndim == 2,
        record={"name": name, "shape": list(data.shape), "type": str(data.dtype)},
        notes=notes,
        labels=labels_of(header) if header else {},
    )


def _unpack(item: Any, name: str) -> tuple[np.ndarray, str, Any, np.ndarray | None, dict[str, Any]]:
    """Split an object into values, unit, mask, standard errors and header."""
    values, unit, mask, errors, header = item, "", None, None, {}
    if is_nddata(item):
        values, mask, header = item.data, item.mask, dict(item.meta or {})
        errors = _standard_errors(item.uncertainty, name)
        unit = "" if item.unit is None else str(item.unit)
    elif hasattr(item, "unit") and hasattr(item, "value"):
        values, unit = item.value, str(item.unit)
        mask = getattr(item, "mask", None)
    try:
        return np.asanyarray(values), unit, mask, errors, header
    except (ValueError, TypeError) as problem:
        raise InputError(
            f"{name}: lists of unequal length found, expected an array of images"
        ) from problem


def _standard_errors(uncertainty: Any, name: str) -> np.ndarray | None:
    """Convert any kind of uncertainty of NDData to standard errors."""
    if uncertainty is None:
        return None
    array = np.asarray(uncertainty.array, dtype=float)
    kind = uncertainty.uncertainty_type
    if kind == "std":
        return np.asarray(uncertainty.array)
    with np.errstate(invalid="ignore", divide="ignore"):
        if kind == "var":
            return np.sqrt(array)
        if kind == "ivar":
            return 1 / np.sqrt(array)
    raise InputError(f"{name}: uncertainty of type {kind} found, expected std, var or ivar")


def _errors_in(unit: str, errors: Any) -> np.ndarray:
    """Convert errors that were given to an array in the unit of the pixels."""
    if hasattr(errors, "uncertainty_type"):
        errors = _standard_errors(errors, "errors")
    if unit and hasattr(errors, "to_value"):
        try:
            errors = errors.to_value(unit)
        except (TypeError, ValueError) as problem:
            raise InputError(f"errors: unit {errors.unit} found, expected {unit}") from problem
    array = np.asarray(getattr(errors, "value", errors))
    if array.dtype.kind not in "fiu":
        raise InputError(f"errors: values of type {array.dtype} found, expected real numbers")
    return array


def _broadcast(array: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    try:
        return np.broadcast_to(array, shape)
    except ValueError as problem:
        raise InputError(
            f"{name}: shape {np.shape(array)} found, expected {shape} or one that broadcasts to it"
        ) from problem


def _combine_masks(shape: tuple[int, ...], *masks: Any) -> np.ndarray | None:
    """Combine masks; one alone is not copied."""
    out: np.ndarray | None = None
    for given in masks:
        if given is None or given is np.ma.nomask:
            continue
        array = np.asarray(given)
        if array.dtype.kind not in "biu":
            raise InputError(
                f"mask: values of type {array.dtype} found, expected booleans or integers"
            )
        if array.ndim == 0 and not array:
            continue
        array = _broadcast(array, shape, "mask")
        out = array if out is None else as_quality(out) | as_quality(array)
    return out
