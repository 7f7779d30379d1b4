"""Keyword arguments of the routines: documented as the fields of `Settings`, and angles."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tso_level3.config.fields import expected
from tso_level3.config.settings import fields_of

__all__ = ["angles_in", "explained", "in_pixels"]

F = TypeVar("F", bound=Callable[..., Any])


def angles_in(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the lengths on the detector that were given as angles on the sky.

    Parameters
    ----------
    values : mapping
        Name to value.

    Returns
    -------
    dict
        Values that are a ``Quantity`` of an angle, or a list with one.
    """
    lengths = {item.name for item in fields_of() if item.metadata["unit"] == "pix"}
    return {name: value for name, value in values.items() if name in lengths and _angular(value)}


def _angular(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_angular(part) for part in value)
    return hasattr(value, "to_value") and bool(value.unit.is_equivalent("arcsec"))


def in_pixels(values: Mapping[str, Any], pixel_scale: float) -> dict[str, Any]:
    """Convert angles to pixels.

    Parameters
    ----------
    values : mapping
        Values returned by `angles_in`.
    pixel_scale : float
        Side of a pixel [arcsec]; NaN where unknown.

    Returns
    -------
    dict
        Name to number or list of numbers.

    Raises
    ------
    ValueError
        The pixel scale is not known.
    """
    if values and not pixel_scale > 0:
        name, value = next(iter(values.items()))
        raise ValueError(
            f"{name}: {value} found, expected pixels, since the pixel scale of the input is not"
            " known"
        )

    def converted(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [converted(part) for part in value]
        return value.to_value("arcsec") / pixel_scale if _angular(value) else value

    return {name: converted(value) for name, value in values.items()}


def explained(function: F) -> F:
    """Show the fields of `Settings` in the signature and the docstring of a function.

    Parameters
    ----------
    function : callable
        Function with ``**overrides``, the last of the parameters in its docstring.

    Returns
    -------
    callable
        The same function, whose help and completion now list the names.
    """
    signature = inspect.signature(function)
    shown = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    for item in fields_of():
        one = inspect.Parameter(item.name, inspect.Parameter.KEYWORD_ONLY, default=item.default)
        shown.append(one.replace(annotation=item.type))
    function.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    text = inspect.getdoc(function)
    if text is None:  # python -OO
        return function
    before, _, after = text.partition("**overrides\n")
    after = after.partition("\n\n")[2]
    function.__doc__ = f"{before}{_described()}\n\n{after}"
    return function


def _described() -> str:
    lines = []
    for item in fields_of():
        meta, default = item.metadata, item.default
        unit = f" [{meta['unit']}]" if meta["unit"] else ""
        shown = ", ".join(default) if isinstance(default, tuple) else default
        end = "" if default is None else f"; default: {shown}"
        lines += [f"{item.name} : {expected(item)}", f"    {meta['help']}{unit}{end}"]
    return "\n".join(lines)
