"""Files and open data models of the JWST pipeline.

Data models and their containers are recognised by what they offer: this floor does not import
the pipeline. A file is never opened as a data model, which would read all of it.
"""

from __future__ import annotations

import io
import logging
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tso_level3.frames import Box, Exposure, Pixels
from tso_level3.readers.arrays import ArrayFrames, as_float, as_quality, cube, known_errors
from tso_level3.readers.errors import InputError, brief, check_file, quiet
from tso_level3.readers.facts import get, optics_of, plain, position_of, refuse_spectra
from tso_level3.readers.headers import FitsFile, value
from tso_level3.readers.part import Part, describe_file
from tso_level3.readers.times import integration_times
from tso_level3.readers.units import normal_unit
from tso_level3.settings import Settings

__all__ = [
    "AsdfFrames",
    "asdf_part",
    "file_metadata",
    "is_jwst",
    "is_library",
    "is_model",
    "library_models",
    "model_part",
    "sky_position",
]

log = logging.getLogger(__name__)

_ARRAYS = {
    "values": "data",
    "errors": "err",
    "dq": "dq",
    "var_poisson": "var_poisson",
    "var_rnoise": "var_rnoise",
    "var_flat": "var_flat",
}


def is_jwst(file: FitsFile) -> bool:
    """Whether a FITS file is one of the pipeline's: a science extension and its metadata."""
    science = file.find("SCI")
    if science is None or not science.is_image:
        return False
    said = str(value(file.primary, "TELESCOP", "")).upper() == "JWST"
    return said or file.find("ASDF") is not None


def is_model(item: Any) -> bool:
    """Whether an object is an open data model with images."""
    return all(hasattr(item, name) for name in ("meta", "data", "instance", "hasattr"))


def is_library(item: Any) -> bool:
    """Whether an object lends data models."""
    return all(hasattr(item, name) for name in ("borrow", "shelve", "__len__"))


def file_metadata(path: Path, tree: Mapping[str, Any]) -> dict[str, Any]:
    """Read the metadata of a file, without its arrays.

    Parameters
    ----------
    path : Path
        A file of the pipeline.
    tree : mapping
        Facts of its headers, for a file whose ASDF extension is damaged or missing.

    Returns
    -------
    dict
        The tree below ``meta``.
    """
    try:
        from stdatamodels.jwst.datamodels.util import read_metadata

        with quiet():
            found = read_metadata(str(path), flatten=False)["meta"]
        return plain(found)
    except Exception as problem:
        log.warning(
            "%s: its metadata cannot be read as those of a data model (%s); the main keywords"
            " were taken",
            path,
            brief(problem),
        )
        return plain(tree)


def model_part(model: Any, number: int) -> Part:
    """Take the frames of an open data model; it is neither changed nor copied.

    Parameters
    ----------
    model : CubeModel, ImageModel or their kin
        The model.
    number : int
        Which of several, from 1, for errors.

    Returns
    -------
    Part
        References to its arrays.

    Raises
    ------
    InputError
        It holds no images.
    """
    with quiet():
        tree = plain(model.meta.instance)
        arrays = {name: _array(model, key) for name, key in _ARRAYS.items()}
        rows = _array(model, "int_times")
    name = str(get(tree, "filename", f"model {number}"))
    refuse_spectra(name, tree)
    if arrays["values"] is None:
        raise InputError(f"{name}: {type(model).__name__} without data found, expected images")
    source, shape, notes = _from_arrays(name, arrays, model.meta.instance.get("wcs"))
    image = arrays["values"].ndim == 2
    return _part(name, source, shape, tree, rows, image, notes, record={"name": name})


def _array(model: Any, key: str) -> np.ndarray | None:
    """Take an array that is there; asking for one that is not would make it."""
    if not model.hasattr(key):
        return None
    found = getattr(model, key)
    return None if found is None else np.asanyarray(found)


def _from_arrays(
    name: str, arrays: Mapping[str, Any], wcs: Any
) -> tuple[ArrayFrames, tuple[int, int, int], list[str]]:
    values = cube(arrays["values"], name)
    cubes: dict[str, np.ndarray] = {}
    for key, array in arrays.items():
        if key == "values" or array is None or array.size == 0:
            continue
        if array.shape[-2:] != values.shape[1:] or array.ndim > 3:
            raise InputError(
                f"{name}: shape {array.shape} found for {_ARRAYS[key]}, expected {values.shape}"
            )
        cubes[key] = np.broadcast_to(array, values.shape)
    source = ArrayFrames(values, **cubes, wcs=wcs)
    notes = []
    if source.errors is not None and not known_errors(source, len(values), values.shape[1:]):
        source = source.without_errors()
        notes.append("The standard errors are zero and were taken as unknown.")
    return source, values.shape, notes


def _part(
    name: str,
    source: Any,
    shape: tuple[int, int, int],
    tree: dict[str, Any],
    rows: Any,
    image: bool,
    notes: list[str],
    *,
    record: Mapping[str, Any],
    path: Path | None = None,
    has: tuple[bool, bool] | None = None,
) -> Part:
    has_errors, has_dq = has or (source.errors is not None, source.dq is not None)
    return Part(
        name=name,
        source=source,
        n_frames=shape[0],
        shape=shape[1:],
        times=integration_times(rows, tree, shape[0], image=image),
        unit=normal_unit(get(tree, "bunit_data", "")),
        has_errors=has_errors,
        has_dq=has_dq,
        optics=optics_of(tree),
        tree=tree,
        meta=lambda: tree,
        position=position_of(tree),
        single=image,
        path=path,
        record=record,
        notes=tuple(notes),
    )


def library_models(library: Any) -> list[Any]:
    """Borrow all science models of a library and give them back unchanged.

    Parameters
    ----------
    library : ModelLibrary
        The library, open or not.

    Returns
    -------
    list
        Its models; their arrays stay valid as long as they are referred to.
    """
    try:
        return _borrowed(library)
    except Exception as problem:
        if "closed" not in f"{type(problem).__name__} {problem}".lower():
            raise InputError(f"library: a model cannot be borrowed ({brief(problem)})") from problem
    try:
        with library:
            return _borrowed(library)
    except Exception as problem:
        raise InputError(f"library: a model cannot be borrowed ({brief(problem)})") from problem


def _borrowed(library: Any) -> list[Any]:
    models = []
    for index in range(len(library)):
        model = library.borrow(index)
        kind = get(plain(model.meta.instance), "asn.exptype", "science")
        if str(kind).lower() == "science":
            models.append(model)
        library.shelve(model, index, modify=False)
    return models


class AsdfFrames:
    """Hands out frames of an ASDF file, mapped when they are first wanted.

    Parameters
    ----------
    path : str
        The file.
    keys : dict
        What is there: names as in `Pixels` to names in the file.
    """

    def __init__(self, path: str, keys: Mapping[str, str]) -> None:
        self.path, self.keys = path, dict(keys)
        self._file: Any = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple:
        return AsdfFrames, (self.path, self.keys)

    def load(self, start: int, stop: int, box: Box, *, variances: bool = False) -> Pixels:
        """Read the box of the frames ``[start, stop)``; see `tso_level3.frames.FrameSource`."""
        out: dict[str, np.ndarray] = {}
        try:
            with self._lock, quiet():
                if self._file is None:
                    stack = ExitStack()
                    weakref.finalize(self, stack.close)
                    self._file = stack.enter_context(_open_asdf(Path(self.path)))
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
def _open_asdf(path: Path) -> Iterator[Any]:
    """Open an ASDF file, and close it whatever is wrong with it."""
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
        ``checksum`` counts.

    Returns
    -------
    Part
        What it holds.

    Raises
    ------
    InputError
        It cannot be read or holds no images.
    """
    check_file(path)
    record = describe_file(path, checksum=settings.checksum)
    try:
        with quiet(), _open_asdf(path) as file:
            content = file.tree
            tree = plain(_without_wcs(content.get("meta", {})))
            shapes = {
                name: tuple(content[key].shape)
                for name, key in _ARRAYS.items()
                if hasattr(content.get(key), "shape") and 0 not in content[key].shape
            }
            rows = content.get("int_times")
            rows = None if rows is None else np.array(rows)
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
            raise InputError(f"{path}: shape {other} found for {_ARRAYS[name]}, expected {shape}")
    return _asdf_part(path, shapes, full, tree, rows, {**record, "date": get(tree, "date", "")})


def _asdf_part(
    path: Path, shapes: dict, full: tuple[int, int, int], tree: dict, rows: Any, record: dict
) -> Part:
    keys = {name: _ARRAYS[name] for name in shapes}
    source = AsdfFrames(str(path), keys)
    notes = []
    try:
        source.load(full[0] - 1, full[0], Box(0, 0, full[2], full[1]), variances=True)
        if "errors" in keys and not known_errors(source, full[0], full[1:]):
            keys.pop("errors")
            source = AsdfFrames(str(path), keys)
            notes.append("The standard errors are zero and were taken as unknown.")
    except OSError as problem:
        raise InputError(str(problem)) from problem
    has = ("errors" in keys, "dq" in keys)
    image = len(shapes["values"]) == 2
    return _part(
        str(path), source, full, tree, rows, image, notes, record=record, path=path, has=has
    )


def _without_wcs(meta: Any) -> dict[str, Any]:
    return {key: meta[key] for key in meta if key != "wcs"}


def sky_position(exposure: Exposure, x: float, y: float) -> tuple[float, float] | None:
    """Turn a place in the frame into sky coordinates.

    Parameters
    ----------
    exposure : Exposure
        From a file or model of the pipeline.
    x, y : float
        The place, 0-based.

    Returns
    -------
    (float, float) or None
        Right ascension and declination [deg], by the world coordinate system that the pipeline
        assigned; None where there is none.
    """
    try:
        with quiet():
            wcs = _world(exposure)
            if wcs is None:
                return None
            sky = wcs(x, y, with_bounding_box=False)
    except Exception as problem:  # a gwcs object runs code of many packages
        log.debug("no sky position: %s", brief(problem))
        return None
    ra, dec = (float(np.asarray(angle)) for angle in sky[:2])
    return (ra, dec) if np.isfinite(ra) and np.isfinite(dec) else None


def _world(exposure: Exposure) -> Any:
    segment = exposure.segments[0]
    source = segment.source
    source = source.sources[0] if hasattr(source, "sources") else source
    found = getattr(source, "wcs", None)
    if found is not None:
        return found
    path = getattr(getattr(source, "file", None), "label", None) or getattr(source, "path", None)
    if path is None:
        return None
    if str(path).endswith(".asdf"):
        with _open_asdf(Path(path)) as file:
            return file.tree["meta"]["wcs"]
    import asdf
    from astropy.io import fits

    with fits.open(path) as hdus:
        buffer = io.BytesIO(hdus["ASDF"].data.tobytes())
    with asdf.open(buffer, lazy_tree=True) as file:
        return file.tree["meta"]["wcs"]
