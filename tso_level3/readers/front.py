"""The door: whatever holds frames becomes an `Exposure`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tso_level3.frames import Exposure
from tso_level3.readers import memory
from tso_level3.readers.asdf_files import asdf_part
from tso_level3.readers.errors import InputError, brief, check_file, quiet
from tso_level3.readers.fits import fits_part
from tso_level3.readers.joined import Workspace
from tso_level3.readers.listings import association_members, files_of
from tso_level3.readers.models import is_library, is_model, library_models, model_part
from tso_level3.readers.part import Part
from tso_level3.readers.stitch import stitch, unreadable_part
from tso_level3.settings import Settings

__all__ = ["open_exposure"]

log = logging.getLogger(__name__)

_EXPECTED = (
    "expected the name of a file, folder, pattern or listing, an association, an array or an open"
    " data model, or a list of these"
)


def open_exposure(
    source: Any,
    settings: Settings | None = None,
    *,
    gain: float | np.ndarray | None = None,
    errors: Any = None,
    mask: Any = None,
    times: Any = None,
    unit: str | None = None,
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
    gain : float or ndarray (ny, nx), optional
        Electrons a DN, for DN/s; ``settings.gain`` wins.
    errors : array_like, optional
        Standard errors of an array, of its shape or one for all.
    mask : array_like, optional
        True, or data-quality bits, where a pixel of an array is bad.
    times : array_like, (n_int,), or astropy.time.Time, optional
        Mid-times, MJD UTC.
    unit : str, optional
        Unit of the frames.

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
            parts: Sequence[Part] = [memory.array_part(source, errors=errors, mask=mask)]
        else:
            parts = _parts(source, settings)
        return stitch(parts, settings, gain=gain, times=times, unit=unit)


def _parts(source: Any, settings: Settings) -> list[Part]:
    items, several = _items(source)
    work = Workspace()
    parts = []
    for place, item in enumerate(items, 1):
        try:
            parts.append(_part(item, place, settings, work))
        except (ValueError, OSError) as problem:
            alone = not several or len(items) == 1 or settings.unreadable == "stop"
            if alone or not isinstance(item, str | Path):
                raise
            log.warning("%s", brief(problem, length=400))
            parts.append(unreadable_part(Path(item), brief(problem, length=400)))
    return parts


def _items(source: Any) -> tuple[list[Any], bool]:
    """List the inputs that a source stands for; and whether one may be lost."""
    if isinstance(source, str | Path):
        if not str(source).strip():
            raise InputError(f"source: an empty name found, {_EXPECTED}")
        return files_of(source)
    if isinstance(source, Mapping):
        return association_members(source, Path(), "association"), True
    if is_library(source):
        return library_models(source), True
    if is_model(source) or memory.is_nddata(source):
        return [source], False
    if isinstance(source, Iterable) and not isinstance(source, bytes):
        items: list[Any] = []
        for item in source:
            items += files_of(item)[0] if _is_pattern(item) else [item]
        if not items:
            raise InputError(f"source: an empty {type(source).__name__} found, {_EXPECTED}")
        if any(_is_number(item) for item in items):
            raise InputError(f"source: a {type(source).__name__} of numbers found, {_EXPECTED}")
        return items, True
    raise InputError(f"source: {type(source).__name__} found, {_EXPECTED}")


def _is_number(item: Any) -> bool:
    return np.ndim(item) == 0 and isinstance(item, int | float | complex | np.number)


def _is_pattern(item: Any) -> bool:
    """Whether a name in a list stands for several files itself."""
    if not isinstance(item, str | Path):
        return False
    name = str(item).lower()
    return name.endswith((".json", ".txt", ".lst")) or any(sign in name for sign in "*?")


def _file_part(path: Path, settings: Settings, work: Workspace) -> Part:
    check_file(path)
    try:
        if path.suffix.lower() == ".asdf":
            return asdf_part(path, settings)
        return fits_part(path, settings, work=work)
    except InputError:
        raise
    except Exception as problem:  # damage that nobody thought of
        log.debug("%s", path, exc_info=True)
        kind = type(problem).__name__
        raise InputError(f"{path}: cannot be understood ({kind}: {brief(problem)})") from problem


def _part(item: Any, place: int, settings: Settings, work: Workspace) -> Part:
    if isinstance(item, str | Path):
        return _file_part(Path(item).expanduser(), settings, work)
    if is_model(item):
        return model_part(item, place)
    if memory.is_array(item) or isinstance(item, list | tuple):
        return memory.array_part(item, place=place)
    raise InputError(f"source: {type(item).__name__} found as item {place}, {_EXPECTED}")
