"""Open the input of a measurement: whatever holds frames becomes an `Exposure`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tso_level3.config.settings import Settings
from tso_level3.datatypes import Exposure
from tso_level3.readers import array_inputs
from tso_level3.readers.asdf_files import asdf_part
from tso_level3.readers.combine import combine, unreadable_part
from tso_level3.readers.concat import Workspace
from tso_level3.readers.errors import (
    InputError,
    MissingInput,
    ProductInput,
    TablesOnly,
    brief,
    check_file,
    quiet,
)
from tso_level3.readers.fits.generic import fits_part
from tso_level3.readers.inputs import FILE_SETTINGS, FITS_SETTINGS, Part, without
from tso_level3.readers.listings import (
    Files,
    association_members,
    files_of,
    is_image_name,
    is_product_name,
)
from tso_level3.readers.models import is_library, is_model, library_models, model_part
from tso_level3.readers.where import Selector

__all__ = ["is_product", "open_exposure"]

log = logging.getLogger(__name__)

_EXPECTED = (
    "expected the name of a file, folder, pattern or listing, an association, an array or an open"
    " data model, or a list of these"
)


def open_exposure(
    source: Any,
    settings: Settings | None = None,
    *,
    gain: Any = None,
    errors: Any = None,
    mask: Any = None,
    times: Any = None,
) -> Exposure:
    """Open the frames of a time series, from whatever holds them.

    Parameters
    ----------
    source : object
        - names (str or Path) of files of the JWST pipeline (``calints``, ``crfints``,
          ``rateints``; FITS or ASDF), of plain FITS images or cubes, of ``ncdhas`` slope images
          or ramps; of a folder, a glob pattern, a text listing, an association (``.json``);
          compressed files too;
        - an association as a dict;
        - open data models, a ``ModelContainer`` or ``ModelLibrary``;
        - arrays (n_int, ny, nx) or (ny, nx), masked arrays, ``Quantity``, ``NDData``;
        - an iterable of any of these, each of them one frame or one cube.
    settings : Settings, optional
        What to read and how; the defaults where it is None.
    gain : float, str, path or GainModel, optional
        Electrons per DN, or a reference of them, for DN/s; ``settings.gain`` wins.
    errors : array_like, optional
        Standard errors of an array; they broadcast to its shape.
    mask : array_like, optional
        For an array: booleans, true where a pixel is bad whatever ``dq_bits`` says, or integers,
        of which ``dq_bits`` selects the bits that make a pixel bad.
    times : array_like, (n_int,), or astropy.time.Time, optional
        Mid-times, MJD UTC.

    Returns
    -------
    Exposure
        Description of the frames; only headers and three frames of errors were read.

    Raises
    ------
    ValueError
        The input cannot be used; the message names it, what was found and what was expected.
    FileNotFoundError
        A file does not exist.
    """
    if isinstance(source, Exposure):
        return source
    settings = Settings() if settings is None else settings
    with quiet():
        if errors is not None or mask is not None or array_inputs.is_array(source):
            if not array_inputs.is_array(source):
                name = "errors" if errors is not None else "mask"
                raise InputError(f"{name}: given with a source that is no array, expected an array")
            part = array_inputs.array_part(source, errors=errors, mask=mask)
            parts: Sequence[Part] = [without(part, settings, *FILE_SETTINGS)]
            selector = Selector(settings.where or ())
            if not selector.accepts(None, parts[0].tree):
                raise selector.error()
        else:
            parts = _parts(source, settings)
        return combine(parts, settings, gain=gain, times=times)


def _parts(source: Any, settings: Settings) -> list[Part]:
    """Open all inputs of a source; those that cannot be read stand for a row of NaN each."""
    found = _items(source)
    items = _without_repeats(found.items)
    work = Workspace()
    selector = Selector(settings.where or ())
    parts: list[Part] = []
    products: list[str] = []
    others: list[str] = []
    for place, item in enumerate(items, 1):
        try:
            part = _selected(item, place, settings, work, selector)
            if part is not None:
                parts.append(part)
        except ProductInput as problem:
            if not found.searched:
                raise
            products.append(str(item))
            log.debug("%s", problem)
        except (ValueError, OSError) as problem:
            named = isinstance(item, str | Path)
            # A name that does not exist was misspelled; one that was searched for existed.
            missing = isinstance(problem, MissingInput) and not found.searched
            image = named and is_image_name(Path(item)) and not isinstance(problem, TablesOnly)
            if found.searched and named and not image:
                others.append(str(item))
                continue
            alone = not found.several or len(items) == 1 or settings.unreadable == "stop"
            if alone or missing or not image:
                raise
            log.debug("%s", brief(problem, length=400))
            parts.append(unreadable_part(Path(item), brief(problem, length=400)))
    _warn_left_out(products, "a product")
    _warn_left_out(others, "a file of another kind")
    if settings.where:
        if all(part.problem for part in parts):
            raise selector.error()
        log.info("%d of %d inputs fulfil %s.", len(parts), len(items), ", ".join(settings.where))
    if not parts and products:
        raise ProductInput(products[0])
    if not parts:
        raise InputError(f"{others[0]}: no image found, {_EXPECTED}")
    return parts


def _warn_left_out(names: Sequence[str], kind: str) -> None:
    if names:
        rest = f" and {len(names) - 1} more" if len(names) > 1 else ""
        log.warning("%s%s: %s, no image; left out.", names[0], rest, kind)


def _selected(
    item: Any, place: int, settings: Settings, work: Workspace, selector: Selector
) -> Part | None:
    """Open an input; None where it does not fulfil the conditions of ``where``."""
    if isinstance(item, str | Path) and Path(item).suffix.lower() != ".asdf":
        path = Path(item).expanduser()
        check_file(path)
        # The headers tell before the file is opened: of many files few may be meant.
        return _file_part(path, settings, work) if selector.accepts(path) else None
    part = _part(item, place, settings, work)
    return part if selector.accepts(None, part.tree) else None


def _without_repeats(items: Sequence[Any]) -> list[Any]:
    """Leave out files that were named before, with a warning."""
    seen: set[str] = set()
    out: list[Any] = []
    repeated: list[Any] = []
    for item in items:
        path = None
        if isinstance(item, str | Path):
            with suppress(ValueError):  # not the name of a file; the reader raises for it
                path = os.path.realpath(Path(item).expanduser())
        (repeated if path in seen else out).append(item)
        if path is not None:
            seen.add(path)
    if repeated:
        rest = f" and {len(repeated) - 1} more" if len(repeated) > 1 else ""
        log.warning("%s%s: named more than once; each file is counted once.", repeated[0], rest)
    return out


def _items(source: Any) -> Files:
    """List the inputs that a source stands for."""
    if isinstance(source, str | Path):
        if not str(source).strip():
            raise InputError(f"source: an empty name found, {_EXPECTED}")
        return files_of(source)
    _refuse_product(source)
    if isinstance(source, Mapping):
        return Files(association_members(source, Path(), "association"), several=True)
    if is_library(source):
        return Files(library_models(source), several=True)
    if is_model(source) or array_inputs.is_nddata(source):
        return Files([source])
    if isinstance(source, set | frozenset):
        raise InputError("source: a set found, which has no order, expected a list")
    # A table is not a list of its columns.
    table = hasattr(source, "columns")
    if isinstance(source, Iterable) and not isinstance(source, bytes) and not table:
        items: list[Any] = []
        searched = True
        for item in source:
            found = files_of(item) if isinstance(item, str | Path) else Files([item])
            searched = searched and found.searched
            items += found.items
        if not items:
            raise InputError(f"source: an empty {type(source).__name__} found, {_EXPECTED}")
        if any(_is_number(item) for item in items):
            raise InputError(f"source: a {type(source).__name__} of numbers found, {_EXPECTED}")
        return Files(items, several=True, searched=searched)
    raise InputError(f"source: {type(source).__name__} found, {_EXPECTED}")


def _refuse_product(item: Any) -> None:
    """Raise for an open product as for the file of one."""
    if hasattr(item, "light_curve") and hasattr(item, "meta"):
        raise ProductInput(item.meta.filename or "source")


def _is_number(item: Any) -> bool:
    return np.ndim(item) == 0 and isinstance(item, int | float | complex | np.number)


def _file_part(path: Path, settings: Settings, work: Workspace) -> Part:
    check_file(path)
    if is_product_name(path):
        raise ProductInput(path)
    try:
        if path.suffix.lower() == ".asdf":
            return without(asdf_part(path, settings), settings, *FITS_SETTINGS)
        return fits_part(path, settings, work=work)
    except InputError:
        raise
    except Exception as problem:  # damage that was not foreseen
        log.debug("%s", path, exc_info=True)
        kind = type(problem).__name__
        raise InputError(f"{path}: cannot be understood ({kind}: {brief(problem)})") from problem


def is_product(path: Path) -> bool:
    """Whether a file is a product of this package, which cannot be measured.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    bool
        False also for a file that cannot be read.
    """
    try:
        _file_part(path, Settings(), Workspace())
    except (ValueError, OSError) as problem:
        return isinstance(problem, ProductInput)
    return False


def _part(item: Any, place: int, settings: Settings, work: Workspace) -> Part:
    if isinstance(item, str | Path):
        return _file_part(Path(item).expanduser(), settings, work)
    _refuse_product(item)
    if is_model(item):
        return without(model_part(item, place), settings, *FILE_SETTINGS)
    if array_inputs.is_array(item) or isinstance(item, list | tuple):
        return without(array_inputs.array_part(item, place=place), settings, *FILE_SETTINGS)
    raise InputError(f"source: {type(item).__name__} found as item {place}, {_EXPECTED}")
