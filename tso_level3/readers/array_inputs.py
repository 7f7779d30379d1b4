"""Arrays, masked arrays, quantities and ``NDData`` that the caller has in memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from tso_level3.readers.arrays import (
    NO_ERRORS,
    ArrayFrames,
    as_quality,
    cube,
    known_errors,
    plain_masked,
)
from tso_level3.readers.errors import InputError
from tso_level3.readers.fits.generic import header_time
from tso_level3.readers.inputs import Part
from tso_level3.readers.metadata import optics_of, tree_of
from tso_level3.readers.order import labels_of
from tso_level3.readers.times import unknown_times
from tso_level3.readers.units import normal_unit

__all__ = ["array_part", "is_array", "is_nddata"]


def is_nddata(item: Any) -> bool:
    """Whether an object is an ``NDData``; told by what it offers, which saves a slow import."""
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
    """Take the frames of an array; it is not copied.

    Parameters
    ----------
    item : ndarray, masked array, Quantity or NDData; (n, ny, nx) or (ny, nx)
        The frames.
    place : int, optional
        Which of a list, from 1.
    errors : array_like, optional
        Standard errors that broadcast to its shape; they win over its own.
    mask : array_like, optional
        True, or bits, where a pixel is bad; added to its own.

    Returns
    -------
    Part
        References to the arrays.

    Raises
    ------
    InputError
        It holds no images, or errors or mask do not fit.
    """
    name = "array" if place is None else f"array {place}"
    values, unit, own_mask, own_errors, header = _taken_apart(item, name)
    data, masked = plain_masked(values)
    frames = cube(data, name)
    dq = _joined_masks(frames.shape, (masked, "mask"), (own_mask, "mask"), (mask, "mask"))
    error = own_errors if errors is None else _plain_errors(errors, unit)
    source = ArrayFrames(frames, _fitted(error, frames.shape, "errors"), dq)
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


def _taken_apart(
    item: Any, name: str
) -> tuple[np.ndarray, str, Any, np.ndarray | None, dict[str, Any]]:
    """Part an object into values, unit, mask, standard errors and header."""
    values, unit, mask, errors, header = item, "", None, None, {}
    if is_nddata(item):
        values, mask, header = item.data, item.mask, dict(item.meta or {})
        errors = _standard(item.uncertainty, name)
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


def _standard(uncertainty: Any, name: str) -> np.ndarray | None:
    """Take standard errors from any kind of uncertainty of NDData."""
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


def _plain_errors(errors: Any, unit: str) -> np.ndarray:
    if hasattr(errors, "uncertainty_type"):
        errors = _standard(errors, "errors")
    if unit and hasattr(errors, "to_value"):
        try:
            errors = errors.to_value(unit)
        except (TypeError, ValueError) as problem:
            raise InputError(f"errors: unit {errors.unit} found, expected {unit}") from problem
    array = np.asarray(getattr(errors, "value", errors))
    if array.dtype.kind not in "fiu":
        raise InputError(f"errors: values of type {array.dtype} found, expected real numbers")
    return array


def _fitted(array: Any, shape: tuple[int, ...], name: str) -> np.ndarray | None:
    if array is None:
        return None
    try:
        return np.broadcast_to(array, shape)
    except ValueError as problem:
        raise InputError(
            f"{name}: shape {np.shape(array)} found, expected {shape} or one that broadcasts to it"
        ) from problem


def _joined_masks(shape: tuple[int, ...], *masks: tuple[Any, str]) -> np.ndarray | None:
    """Unite masks; one alone is not copied."""
    out: np.ndarray | None = None
    for given, name in masks:
        if given is None or given is np.ma.nomask:
            continue
        array = np.asarray(given)
        if array.dtype.kind not in "biu":
            raise InputError(
                f"{name}: values of type {array.dtype} found, expected booleans or integers"
            )
        if array.ndim == 0 and not array:
            continue
        fitted = _fitted(array, shape, name)
        out = fitted if out is None else as_quality(out) | as_quality(fitted)
    return out
