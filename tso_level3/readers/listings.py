"""From what names files to the files: folders, patterns, listings, associations."""

from __future__ import annotations

import glob
import json
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
    "natural_key",
]

_FITS = (".fits", ".fit", ".fts")
_PACKED = (".gz", ".bz2", ".xz", ".fz")
_LISTS = (".txt", ".dat", ".csv", ".lst", ".list")
_TABLES = (".ecsv", ".csv", ".parquet", ".h5")
_LONGEST_LIST = 50_000_000


@dataclass(frozen=True)
class Files:
    """What one name stands for.

    Attributes
    ----------
    items : list
        Paths; members of an association may be open models.
    several : bool
        Whether the name can stand for several files.
    searched : bool
        Whether they were found in a folder or by a pattern: nobody named each of them.
    """

    items: list[Any]
    several: bool = False
    searched: bool = False


def natural_key(path: Path) -> list[Any]:
    """Give a key that sorts names as people do: frame_9 before frame_10."""
    parts = re.split(r"(\d+)", str(path))
    return [(1, int(part), part) if part.isdigit() else (0, 0, part.lower()) for part in parts]


def is_product_name(path: Path) -> bool:
    """Whether a name is that of a product in a form that holds no images."""
    return path.stem.endswith("_phot") and path.suffix.lower() in _TABLES


def is_image_name(path: Path) -> bool:
    """Whether a name is that of a FITS or ASDF file."""
    name = path.name.lower()
    for ending in _PACKED:
        name = name.removesuffix(ending)
    return name.endswith((*_FITS, ".asdf"))


def is_pattern(name: str | Path) -> bool:
    """Whether a name has a wildcard and is not itself the name of something."""
    return any(sign in str(name) for sign in "*?[") and not Path(name).expanduser().exists()


def files_of(name: str | Path) -> Files:
    """Find the files that one name stands for.

    Parameters
    ----------
    name : str or Path
        A file, folder, pattern, text listing or association.

    Returns
    -------
    Files
        The files, in natural order where they were searched for.

    Raises
    ------
    InputError
        Nothing is there.
    """
    path = Path(name).expanduser()
    try:
        link, folder, pattern = path.is_symlink(), path.is_dir(), is_pattern(name)
    except (OSError, ValueError) as problem:
        raise InputError(f"{name}: cannot be a file name ({brief(problem)})") from problem
    if folder:
        return Files(_inside(path), several=True, searched=True)
    if pattern and not link:
        return Files(_matching(path), several=True, searched=True)
    ending = path.suffix.lower()
    if ending == ".json":
        members = association_members(_read_json(path), path.parent, str(path))
        return Files(members, several=True)
    # A table of a product is no listing; the reader says so.
    if ending in _LISTS and not is_product_name(path):
        return Files(_listed(path), several=True)
    return Files([path])


def _inside(folder: Path) -> list[Path]:
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
        if path.stat().st_size > _LONGEST_LIST:
            raise InputError(f"{path}: {path.stat().st_size} bytes found, expected a text listing")
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise InputError(f"{path}: no text found, expected a listing of file names") from problem
    except OSError as problem:
        raise InputError(f"{path}: cannot be read ({brief(problem)})") from problem
    if "\0" in text:
        raise InputError(f"{path}: no text found, expected a listing of file names")
    return text


def _listed(path: Path) -> list[Path]:
    """Read a listing; names are relative to its folder, else to the working folder."""
    names = [line.strip() for line in _text(path).splitlines()]
    names = [name for name in names if name and not name.startswith("#")]
    files = [_beside(path, _entry(path, name)) for name in names]
    if path.suffix.lower() == ".csv" and files:
        # A table's heading is no file; everything else in the first line is.
        first = files[0]
        if not first.exists() and not is_image_name(first):
            files = files[1:]
    if not files:
        raise InputError(f"{path}: no file names found in this listing, expected one a line")
    return files


def _entry(path: Path, line: str) -> str:
    if path.suffix.lower() == ".csv" and not _beside(path, line).exists():
        line = line.split(",")[0]
    elif not _beside(path, line).exists() and " #" in line:
        line = line.split(" #")[0]
    return line.strip().strip("\"'")


def _beside(listing: Path, name: str) -> Path:
    entry = Path(name).expanduser()
    near = listing.parent / entry
    try:
        return near if entry.is_absolute() or near.exists() or not entry.exists() else entry
    except OSError:  # a line that is far too long for a name
        return near


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError) as problem:
        if isinstance(problem, InputError):
            raise
        raise InputError(f"{path}: no association found in it ({brief(problem)})") from problem


def association_members(association: Any, folder: Path, name: str) -> list[Any]:
    """List the science members of an association's first product.

    Parameters
    ----------
    association : mapping
        The association.
    folder : Path
        Where its files are.
    name : str
        What errors call it.

    Returns
    -------
    list
        Paths, or the open models that stand in their place.

    Raises
    ------
    InputError
        It is no association, or has no science members.
    """
    try:
        members = association["products"][0]["members"]
        found = [
            member["expname"]
            for member in members
            if str(member.get("exptype", "science")).lower() == "science"
        ]
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
