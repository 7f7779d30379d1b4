"""Find the files that a name stands for: folders, patterns, text listings, associations."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tso_level3.readers.errors import InputError, MissingInput, brief, check_file

__all__ = [
    "Files",
    "association_members",
    "files_of",
    "is_image_name",
    "is_pattern",
    "is_product_name",
    "is_science",
    "natural_key",
]

_FITS = (".fits", ".fit", ".fts")
_COMPRESSED = (".gz", ".bz2", ".xz", ".fz")
_LISTINGS = (".txt", ".dat", ".csv", ".lst", ".list")
_TABLES = (".ecsv", ".csv", ".parquet", ".h5")
_LARGEST_LISTING = 50_000_000


@dataclass(frozen=True)
class Files:
    """The inputs that one name stands for.

    Attributes
    ----------
    items : list
        Paths; members of an association may be open models.
    several : bool
        Whether the name can stand for several files.
    searched : bool
        Whether they were found in a folder or by a pattern, rather than named one by one.
    """

    items: list[Any]
    several: bool = False
    searched: bool = False


def natural_key(path: Path) -> list[Any]:
    """Return a key that sorts numbers in names by value: frame_9 before frame_10."""
    parts = re.split(r"(\d+)", str(path))
    return [(1, int(part), part) if part.isdigit() else (0, 0, part.lower()) for part in parts]


def is_product_name(path: Path) -> bool:
    """Whether a name is that of a product in a form that holds no images."""
    return path.stem.endswith("_phot") and path.suffix.lower() in _TABLES


def is_image_name(path: Path) -> bool:
    """Whether a name is that of a FITS or ASDF file."""
    name = path.name.lower()
    for ending in _COMPRESSED:
        name = name.removesuffix(ending)
    return name.endswith((*_FITS, ".asdf"))


def is_pattern(name: str | Path) -> bool:
    """Whether a name has a wildcard and is not itself the name of a file."""
    return any(sign in str(name) for sign in "*?[") and not Path(name).expanduser().exists()


def files_of(name: str | Path, *, within: tuple[str, ...] = ()) -> Files:
    """Find the files that one name stands for.

    Parameters
    ----------
    name : str or Path
        A file, folder, pattern, text listing or association.
    within : tuple of str
        Paths of the listings that the name was read from.

    Returns
    -------
    Files
        The files, in natural order where they were searched for.

    Raises
    ------
    InputError
        Nothing is there, or a listing names itself.
    """
    if not str(name).strip():
        raise InputError("source: an empty name found, expected the name of a file")
    try:
        path = Path(name).expanduser()
        link, folder, pattern = path.is_symlink(), path.is_dir(), is_pattern(name)
    except (OSError, ValueError, RuntimeError) as problem:  # RuntimeError: ~ of an unknown user
        raise InputError(f"{name}: cannot be a file name ({brief(problem)})") from problem
    if folder:
        return Files(_in_folder(path), several=True, searched=True)
    if pattern and not link:
        return Files(_matching(path), several=True, searched=True)
    ending = path.suffix.lower()
    if ending == ".json":
        members = association_members(_read_json(path), path.parent, str(path))
        return Files(members, several=True)
    # A table of a product is not a listing; the reader raises for it.
    if ending in _LISTINGS and not is_product_name(path):
        return Files(_listed(path, within), several=True)
    return Files([path])


def _in_folder(folder: Path) -> list[Path]:
    try:
        found = [path for path in folder.iterdir() if is_image_name(path)]
    except OSError as problem:
        raise InputError(f"{folder}: cannot be read ({brief(problem)})") from problem
    found = [path for path in found if not path.name.startswith(".")]
    if not found:
        raise MissingInput(f"{folder}: no FITS or ASDF file found in this folder, expected some")
    return sorted(found, key=natural_key)


def _matching(pattern: Path) -> list[Path]:
    found = [Path(name) for name in glob.glob(str(pattern), recursive=True)]  # noqa: PTH207
    found = [path for path in found if not path.is_dir()]
    if not found:
        raise MissingInput(f"{pattern}: no file matches this pattern")
    return sorted(found, key=natural_key)


def _text(path: Path) -> str:
    check_file(path)
    try:
        if path.stat().st_size > _LARGEST_LISTING:
            raise InputError(f"{path}: {path.stat().st_size} bytes found, expected a text listing")
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise InputError(f"{path}: no text found, expected a listing of file names") from problem
    except OSError as problem:
        raise InputError(f"{path}: cannot be read ({brief(problem)})") from problem
    if "\0" in text:
        raise InputError(f"{path}: no text found, expected a listing of file names")
    return text


def _listed(path: Path, within: tuple[str, ...]) -> list[Any]:
    """Read a listing of files, folders and patterns.

    Names are relative to the folder of the listing, else to the working folder.
    """
    own = os.path.realpath(path)
    if own in within:
        raise InputError(f"{path}: a listing that names itself found, expected file names")
    names = [line.strip() for line in _text(path).splitlines()]
    names = [name for name in names if name and not name.startswith("#")]
    entries = [_located(path, _entry(path, name)) for name in names]
    if path.suffix.lower() == ".csv" and entries:
        # The heading of a table is not a file; anything else in the first line is.
        first = entries[0]
        if not _exists(first) and not is_image_name(first):
            entries = entries[1:]
    if not entries:
        raise InputError(f"{path}: no file names found in this listing, expected one a line")
    within = (*within, own)
    return [item for entry in entries for item in files_of(entry, within=within).items]


def _entry(path: Path, line: str) -> str:
    """Extract the name from a line of a listing."""
    if not _exists(_located(path, line)):
        if path.suffix.lower() == ".csv":
            line = line.split(",")[0]
        elif " #" in line:
            line = line.split(" #")[0]
    return line.strip().strip("\"'")


def _located(listing: Path, name: str) -> Path:
    """Locate an entry beside its listing, else in the working folder."""
    try:
        entry = Path(name).expanduser()
    except RuntimeError as problem:
        raise InputError(
            f"{listing}: {name}: cannot be a file name ({brief(problem)})"
        ) from problem
    near = listing.parent / entry
    return entry if not _exists(near) and _exists(entry) else near


def _exists(path: Path) -> bool:
    """Whether a path, or a match of it as a pattern, exists."""
    try:
        return path.exists() or (is_pattern(path) and bool(glob.glob(str(path), recursive=True)))  # noqa: PTH207
    except (OSError, ValueError):  # a line that is far too long for a name
        return False


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError) as problem:
        if isinstance(problem, InputError):
            raise
        raise InputError(f"{path}: no association found in it ({brief(problem)})") from problem


def is_science(exptype: Any) -> bool:
    """Whether ``exptype`` of a member of an association is science, which None stands for."""
    return exptype is None or str(exptype).strip().lower() == "science"


def association_members(association: Any, folder: Path, name: str) -> list[Any]:
    """List the science members of an association's first product.

    Parameters
    ----------
    association : mapping
        The association.
    folder : Path
        Where its files are.
    name : str
        Name of the association in error messages.

    Returns
    -------
    list
        Paths, or open models where the association holds them.

    Raises
    ------
    InputError
        It is not an association of one product, or has no science members.
    """
    try:
        members = association["products"][0]["members"]
        found = [member["expname"] for member in members if is_science(member.get("exptype"))]
    except (TypeError, KeyError, IndexError, AttributeError) as problem:
        raise InputError(
            f"{name}: no association found in it, expected products with members"
        ) from problem
    if not found:
        raise InputError(f"{name}: no science members found in this association, expected some")
    if isinstance(association, Mapping) and len(association["products"]) > 1:
        raise InputError(
            f"{name}: {len(association['products'])} products found in this association,"
            " expected one"
        )
    wrong = next((m for m in found if not isinstance(m, str | Path) and not hasattr(m, "meta")), 0)
    if wrong != 0:
        raise InputError(f"{name}: expname {wrong!r} found, expected the name of a file")
    return [folder / item if isinstance(item, str | Path) else item for item in found]
