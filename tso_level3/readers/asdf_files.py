"""Open data models that were saved as ASDF files."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tso_level3.config.settings import Settings
from tso_level3.datatypes import Box, Pixels
from tso_level3.readers.arrays import NO_ERRORS, as_float, as_quality, known_errors
from tso_level3.readers.errors import InputError, ProductInput, brief, check_file, quiet
from tso_level3.readers.inputs import Part, describe_file
from tso_level3.readers.metadata import get, plain, refuse_spectra
from tso_level3.readers.models import ARRAYS, tree_part

__all__ = ["AsdfFrames", "asdf_part", "open_asdf"]


class AsdfFrames:
    """Frames of an ASDF file, which is memory-mapped at the first load.

    Parameters
    ----------
    path : str
        The file.
    keys : mapping
        Names of arrays in `Pixels`, to names in the file.
    """

    def __init__(self, path: str, keys: Mapping[str, str]) -> None:
        self.path, self.keys = path, dict(keys)
        self._file: Any = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple:
        return AsdfFrames, (self.path, self.keys)

    def load(self, start: int, stop: int, box: Box, *, variances: bool = False) -> Pixels:
        """Read the box of the frames ``[start, stop)``; see `tso_level3.datatypes.FrameSource`."""
        out: dict[str, np.ndarray] = {}
        try:
            with self._lock, quiet():
                if self._file is None:
                    stack = ExitStack()
                    weakref.finalize(self, stack.close)
                    self._file = stack.enter_context(open_asdf(Path(self.path)))
                for name, key in self.keys.items():
                    if name.startswith("var_") and not variances:
                        continue
                    array = np.asarray(self._file.tree[key])
                    array = array if array.ndim == 3 else array[np.newaxis]
                    cut = array[slice(0, 1) if len(array) == 1 else slice(start, stop)]
                    cut = np.array(cut[(slice(None), *box.slices)])
                    cut = np.broadcast_to(cut, (stop - start, *box.shape))
                    out[name] = as_quality(cut) if name == "dq" else as_float(cut)
        except Exception as problem:
            raise OSError(f"{self.path}: cannot be read ({brief(problem)})") from problem
        return Pixels(**out)


@contextmanager
def open_asdf(path: Path) -> Iterator[Any]:
    """Open an ASDF file, and close it also where it is damaged."""
    import asdf

    with path.open("rb") as stream, asdf.open(stream, lazy_tree=True, memmap=True) as file:
        yield file


def asdf_part(path: Path, settings: Settings) -> Part:
    """Open a data model that was saved as an ASDF file.

    Parameters
    ----------
    path : Path
        The file.
    settings : Settings
        ``checksum`` is used.

    Returns
    -------
    Part
        The input.

    Raises
    ------
    InputError
        The file cannot be read or holds no images.
    """
    check_file(path)
    record = describe_file(path, checksum=settings.checksum)
    try:
        with quiet(), open_asdf(path) as file:
            content = file.tree
            if "light_curve" in content:
                raise ProductInput(path)
            tree = plain(_without_wcs(content.get("meta", {})))
            shapes = {
                name: tuple(content[key].shape)
                for name, key in ARRAYS.items()
                if hasattr(content.get(key), "shape") and 0 not in content[key].shape
            }
            rows = content.get("int_times")
            rows = None if rows is None else np.array(rows)
    except ProductInput:
        raise
    except Exception as problem:
        raise InputError(f"{path}: cannot be read as ASDF ({brief(problem)})") from problem
    if "values" not in shapes:
        raise InputError(f"{path}: no array named data found, expected one in an ASDF file")
    shape = shapes["values"]
    if len(shape) not in (2, 3):
        raise InputError(f"{path}: {len(shape)} dimensions found, expected 2 or 3")
    refuse_spectra(str(path), tree)
    full = shape if len(shape) == 3 else (1, *shape)
    for name, other in shapes.items():
        if other[-2:] != full[1:] or (len(other) == 3 and other[0] not in (1, full[0])):
            raise InputError(f"{path}: shape {other} found for {ARRAYS[name]}, expected {shape}")
    return _asdf_part(path, shapes, full, tree, rows, {**record, "date": get(tree, "date", "")})


def _asdf_part(
    path: Path, shapes: dict, full: tuple[int, int, int], tree: dict, rows: Any, record: dict
) -> Part:
    keys = {name: ARRAYS[name] for name in shapes}
    source = AsdfFrames(str(path), keys)
    notes = []
    try:
        source.load(full[0] - 1, full[0], Box(0, 0, full[2], full[1]), variances=True)
        if "errors" in keys and not known_errors(source, full[0], full[1:]):
            keys.pop("errors")
            source = AsdfFrames(str(path), keys)
            notes.append(NO_ERRORS)
    except OSError as problem:
        raise InputError(str(problem)) from problem
    has = ("errors" in keys, "dq" in keys)
    image = len(shapes["values"]) == 2
    return tree_part(
        str(path), source, full, tree, rows, image, notes, record=record, path=path, has=has
    )


def _without_wcs(meta: Any) -> dict[str, Any]:
    return {key: meta[key] for key in meta if key != "wcs"}
