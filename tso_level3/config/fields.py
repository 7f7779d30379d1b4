"""Declaration, conversion and checks of a single parameter; `settings` has the parameters."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import Any

import numpy as np

__all__ = [
    "UnknownParameter",
    "check",
    "coerce",
    "expected",
    "nearest",
    "parameter",
    "refuse_unknown",
]


class UnknownParameter(ValueError, TypeError):
    """A name that is not a parameter; the message suggests the nearest one."""


def parameter(
    default: object,
    kind: str,
    text: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare a parameter.

    Parameters
    ----------
    default : object
        Its default.
    kind : str
        One of bool, int, float, str, floats, strs, conditions, size, any.
    text : str
        Help, without a percent sign (stpipe formats it).
    unit : str
        Unit as text.
    low, high : float, optional
        Bounds, included.
    choices : tuple of str
        Allowed values.

    Returns
    -------
    dataclasses.Field
        The field; ``metadata`` holds the other arguments.
    """
    meta = {"kind": kind, "help": text, "unit": unit, "low": low, "high": high, "choices": choices}
    return field(default=default, metadata=meta)


_TRUE, _FALSE = ("true", "t", "yes", "y", "1", "on"), ("false", "f", "no", "n", "0", "off")
# A longer value is shown by its type alone.
_LONGEST = 200
_NOTHING = {"none", ""}


def coerce(item: dataclasses.Field[Any], value: object) -> object:
    """Convert a value to the type of a parameter.

    Parameters
    ----------
    item : dataclasses.Field
        The parameter.
    value : object
        The value, which may be text.

    Returns
    -------
    object
        The converted value; None for None and for ``none`` or an empty text.

    Raises
    ------
    ValueError
        The value cannot be converted.
    """
    kind = item.metadata["kind"]
    if isinstance(value, str) and value.strip().lower() in _NOTHING - set(item.metadata["choices"]):
        value = None
    if value is None:
        if item.default is not None:
            raise ValueError(f"{item.name}: nothing found, expected {expected(item)}")
        return None
    try:
        return _CONVERT[kind](_plain(value, item.metadata["unit"]))
    except (TypeError, ValueError, OverflowError):
        shown = repr(value)
        if "\n" in shown or len(shown) > _LONGEST:
            shown = f"{type(value).__name__}"
        raise ValueError(f"{item.name}: {shown} found, expected {expected(item)}") from None


def _plain(value: object, unit: str) -> object:
    """Convert quantities to numbers; those of another unit raise `ValueError`."""
    if hasattr(value, "to_value") and hasattr(value, "unit"):
        bare = unit not in ("pix", "d") or value.unit.is_equivalent("")
        return value.to_value("" if bare else unit)
    if isinstance(value, (list, tuple)):
        return [_plain(part, unit) for part in value]
    return value


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the known name that is nearest to an unknown one.

    Parameters
    ----------
    name : str
        The unknown name.
    known : iterable of str
        The known names.

    Returns
    -------
    str
        ``, perhaps NAME``; '' where none is near.
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, 1, 0.55)
    near = near or [item for item in known if item.startswith(name)]
    return f", perhaps {near[0]}" if near else ""


def refuse_unknown(given: Iterable[str], known: Iterable[str]) -> None:
    """Raise an error for a name that is not a parameter.

    Parameters
    ----------
    given : iterable of str
        The names.
    known : iterable of str
        Names of the parameters.

    Raises
    ------
    UnknownParameter
        A name is unknown.
    """
    known = sorted(known)
    for name in given:
        if name not in known:
            meant = nearest(name, known) or f"; expected one of {', '.join(known)}"
            raise UnknownParameter(f"{name}: not a parameter{meant}")


def _bool(value: Any) -> bool:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(value)


def _int(value: Any) -> int:
    number = float(value)
    if isinstance(value, bool) or number != int(number):
        raise ValueError(value)
    return int(number)


def _float(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or math.isnan(number):
        raise ValueError(value)
    return number


def _str(value: Any) -> str:
    # A unit has a name, and an extension may have a number.
    if isinstance(value, (str, os.PathLike, int, float)) or hasattr(value, "to_string"):
        if not hasattr(value, "columns"):
            return str(value)
    raise ValueError(value)


def _listed(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [part for part in value.strip("[]() ").replace(",", " ").split() if part]
    if np.ndim(value) == 0:
        return [value]
    parts = []
    for part in value:
        parts.extend(_listed(part) if isinstance(part, (str, list, tuple)) else [part])
    return parts


def _conditions(value: Any) -> tuple[str, ...]:
    """Convert a mapping, a list or a text with commas to a tuple of ``KEY=VALUE``."""
    if isinstance(value, Mapping):
        parts = [f"{key}={wanted}" for key, wanted in value.items()]
    elif isinstance(value, str):
        # A comma inside a value is not followed by another KEY=.
        parts = re.split(r"[,;](?=[^,;=]+=)", value)
    else:
        parts = [part for item in value for part in _conditions(item)]
    parts = [part.strip() for part in parts]
    for part in parts:
        key, equal, wanted = part.partition("=")
        if not (key.strip() and equal and wanted.strip()):
            raise ValueError(part)
    return tuple(parts)


def _size(value: Any) -> int | tuple[int, ...]:
    parts = tuple(_int(part) for part in _listed(value))
    if len(parts) not in (1, 2):
        raise ValueError(value)
    return parts[0] if len(parts) == 1 else parts


def _any(value: Any) -> str | float:
    try:
        return _float(value)
    except ValueError:
        return str(value)


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "bool": _bool,
    "int": _int,
    "float": _float,
    "str": _str,
    "floats": lambda value: tuple(_float(part) for part in _listed(value)),
    "strs": lambda value: tuple(str(part) for part in _listed(value)),
    "conditions": _conditions,
    "size": _size,
    "any": _any,
}


def expected(item: dataclasses.Field[Any]) -> str:
    """Describe the values that a parameter may have.

    Parameters
    ----------
    item : dataclasses.Field
        The parameter.

    Returns
    -------
    str
        A few words.
    """
    meta = item.metadata
    words = {
        "bool": "true or false",
        "int": "a whole number",
        "float": "a number",
        "str": "a text",
        "floats": "a number or a list of numbers",
        "strs": "a list of names",
        "conditions": "KEYWORD=VALUE, or a list of such",
        "size": "one or two whole numbers",
        "any": "a number or a file",
    }[meta["kind"]]
    if meta["choices"]:
        return "one of " + ", ".join(meta["choices"])
    if meta["low"] is not None:
        words += f" of {meta['low']:g} or more"
    if meta["high"] is not None:
        words += f", at most {meta['high']:g}"
    return words


def check(item: dataclasses.Field[Any], value: object) -> None:
    """Check bounds and choices of one value.

    Parameters
    ----------
    item : dataclasses.Field
        The parameter.
    value : object
        Value returned by `coerce`.

    Raises
    ------
    ValueError
        The value is out of bounds.
    """
    meta = item.metadata
    if value is None:
        return
    wrong = bool(meta["choices"]) and value not in meta["choices"]
    if meta["low"] is not None or meta["high"] is not None:
        low = -math.inf if meta["low"] is None else meta["low"]
        high = math.inf if meta["high"] is None else meta["high"]
        numbers = value if isinstance(value, tuple) else (value,)
        wrong = wrong or not all(low <= number <= high for number in numbers)
        wrong = wrong or any(math.isinf(number) for number in numbers)
    if wrong:
        shown = list(value) if isinstance(value, tuple) else value
        raise ValueError(f"{item.name}: {shown!r} found, expected {expected(item)}")
