"""The door: whatever holds frames becomes an `Exposure`."""

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
from tso_level3.readers import array_inputs as memory
from tso_level3.readers.asdf_files import asdf_part
from tso_level3.readers.combine import stitch, unreadable_part
from tso_level3.readers.concat import Workspace
from tso_level3.readers.errors import (
    InputError,
    MissingInput,
    ProductInput,
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
    is_pattern,
    is_product_name,
)
from tso_level3.readers.models import is_library, is_model, library_models, model_part
from tso_level3.readers.where import Picker

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
    """Open anything that holds the frames of a time series.

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
        - an iterable of any of these: one frame or one cube each.
    settings : Settings, optional
        What to read and how; the defaults where it is None.
    gain : float, str, path or GainModel, optional
        Electrons per DN, or a reference of them, for DN/s; ``settings.gain`` wins.
    errors : array_like, optional
        Standard errors of an array, of its shape or one for all.
    mask : array_like, optional
        True, or data-quality bits, where a pixel of an array is bad.
    times : array_like, (n_int,), or astropy.time.Time, optional
        Mid-times, MJD UTC.

    Returns
    -------
    Exposure
        All that is known of the frames; only headers and three frames of errors were read.

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
        if errors is not None or mask is not None or memory.is_array(source):
            if not memory.is_array(source):
                name = "errors" if errors is not None else "mask"
                raise InputError(f"{name}: given with a source that is no array, expected an array")
            part = memory.array_part(source, errors=errors, mask=mask)
            parts: Sequence[Part] = [without(part, settings, *FILE_SETTINGS)]
            if settings.where:
                picker = Picker(settings.where)
                if not _picked(parts[0], picker):
                    raise picker.refused()
        else:
            parts = _parts(source, settings)
        return stitch(parts, settings, gain=gain, times=times)


def _parts(source: Any, settings: Settings) -> list[Part]:
    try:
        found = _items(source)
        found.items[:] = _once(found.items)
    except RuntimeError as problem:  # ~name of nobody
        raise InputError(f"{source}: cannot be a file name ({brief(problem)})") from problem
    work = Workspace()
    picker = Picker(settings.where) if settings.where else None
    parts: list[Part] = []
    products, strays = [], []
    for place, item in enumerate(found.items, 1):
        named = isinstance(item, str | Path)
        try:
            if picker is None:
                parts.append(_part(item, place, settings, work))
            elif named and Path(item).suffix.lower() != ".asdf":
                check_file(Path(item).expanduser())
                if picker.takes(Path(item).expanduser()):
                    parts.append(_part(item, place, settings, work))
            else:
                parts += _picked(_part(item, place, settings, work), picker)
        except ProductInput as problem:
            if not found.searched:
                raise
            products.append(str(item))
            log.debug("%s", problem)
        except (ValueError, OSError) as problem:
            alone = not found.several or len(found.items) == 1 or settings.unreadable == "stop"
            # What does not exist was misspelled; what was searched for existed a moment ago.
            missing = isinstance(problem, MissingInput) and not found.searched
            stray = named and not missing and not is_image_name(Path(item))
            if stray and found.searched:
                strays.append(str(item))
                continue
            if alone or missing or not named or stray:
                raise
            log.debug("%s", brief(problem, length=400))
            parts.append(unreadable_part(Path(item), brief(problem, length=400)))
    for names, kind in ((products, "a product"), (strays, "a file of another kind")):
        if names:
            rest = f" and {len(names) - 1} more" if len(names) > 1 else ""
            log.warning("%s%s: %s, no image; left out.", names[0], rest, kind)
    if picker is not None:
        if all(part.problem for part in parts):
            raise picker.refused()
        log.info(
            "%d of %d inputs fulfil %s.", len(parts), len(found.items), ", ".join(settings.where)
        )
    if not parts and products:
        raise ProductInput(products[0])
    if not parts:
        raise InputError(f"{strays[0]}: no image found, {_EXPECTED}")
    return parts


def _once(items: list[Any]) -> list[Any]:
    """Leave out files that were named before, and say so."""
    seen: set[str] = set()
    out, again = [], []
    for item in items:
        path = None
        if isinstance(item, str | Path):
            with suppress(ValueError):  # no name of a file; the reader tells of it
                path = os.path.realpath(Path(item).expanduser())
        (again if path in seen else out).append(item)
        if path is not None:
            seen.add(path)
    if again:
        rest = f" and {len(again) - 1} more" if len(again) > 1 else ""
        log.warning("%s%s: named more than once; each file is counted once.", again[0], rest)
    return out


def _picked(part: Part, picker: Picker) -> list[Part]:
    """Take a part that is no FITS file, or nothing."""
    return [part] if picker.takes(None, part.tree) else []


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
    if is_model(source) or memory.is_nddata(source):
        return Files([source])
    if isinstance(source, set | frozenset):
        raise InputError("source: a set found, which has no order, expected a list")
    # A table is no list of its columns.
    table = hasattr(source, "columns")
    if isinstance(source, Iterable) and not isinstance(source, bytes) and not table:
        items: list[Any] = []
        searched = True
        for item in source:
            found = files_of(item) if _is_several(item) else Files([item])
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


def _is_several(item: Any) -> bool:
    """Whether a name in a list stands for several files itself."""
    if not isinstance(item, str | Path):
        return False
    listing = str(item).lower().endswith((".json", ".txt", ".lst"))
    return listing or is_pattern(item) or Path(item).expanduser().is_dir()


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
    except Exception as problem:  # damage that nobody thought of
        log.debug("%s", path, exc_info=True)
        kind = type(problem).__name__
        raise InputError(f"{path}: cannot be understood ({kind}: {brief(problem)})") from problem


def is_product(path: Path) -> bool:
    """Whether a file is a product of this package, which is no input.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    bool
        False also for what cannot be read.
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
    if memory.is_array(item) or isinstance(item, list | tuple):
        return without(memory.array_part(item, place=place), settings, *FILE_SETTINGS)
    raise InputError(f"source: {type(item).__name__} found as item {place}, {_EXPECTED}")
