"""Open FITS files of any origin: the image, its errors and mask, and the times in its headers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tso_level3.config.settings import Settings
from tso_level3.datatypes import FrameSource
from tso_level3.readers import jwst
from tso_level3.readers.arrays import NO_ERRORS, known_errors
from tso_level3.readers.concat import Workspace
from tso_level3.readers.errors import InputError, ProductInput, TablesOnly
from tso_level3.readers.fits import ncdhas
from tso_level3.readers.fits.cards import Cards, value
from tso_level3.readers.fits.hdus import Plane, cube_shape, frames_of
from tso_level3.readers.fits.scan import FitsFile, Hdu, scan, table
from tso_level3.readers.header_times import cadence_of, header_time
from tso_level3.readers.inputs import Part, PartTimes, describe_file, without
from tso_level3.readers.metadata import optics_of, position_of, refuse_spectra, tree_of
from tso_level3.readers.order import labels_of
from tso_level3.readers.times import integration_times, unknown_times
from tso_level3.readers.units import normal_unit

__all__ = ["fits_part"]

_PARTS = ("VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")
#: Extensions that belong to an image and are never taken for it.
_NOT_SCIENCE = {"ERR", "UNCERT", "DQ", "MASK", "AREA", "WMAP", "ZEROFRAME", *_PARTS}


def fits_part(path: Path, settings: Settings, *, work: Workspace | None = None) -> Part:
    """Open any FITS file that holds images.

    Parameters
    ----------
    path : Path
        The file.
    settings : Settings
        ``extension``, ``plane``, ``error_extension``, ``mask_extension`` and ``checksum`` are used.
    work : Workspace, optional
        Memory that files of a list share.

    Returns
    -------
    Part
        The input.

    Raises
    ------
    InputError
        The file holds no image that can be used.
    """
    file = scan(path)
    if file.find("LIGHT_CURVE") is not None:
        raise ProductInput(path)
    image = _science(file, settings)
    if ncdhas.is_ncdhas(file) and settings.extension is None:
        part = ncdhas.ncdhas_part(file, image, settings, work=work)
        return without(part, settings, "error_extension", "mask_extension")
    n, ny, nx = cube_shape(path, image)
    n_frames = n if settings.plane is None else 1
    # Only single frames share memory: they are copied out of it.
    planes, source, notes = _frames(file, image, settings, n_frames, work if n == 1 else None)
    headers = (image.header, file.primary) if image.index else (file.primary,)
    tree = tree_of(*headers[::-1])
    refuse_spectra(str(path), tree)
    is_jwst = jwst.is_jwst(file)
    single = n_frames == 1 and (len(image.shape) == 2 or not is_jwst)
    times = _times(
        file,
        headers,
        tree,
        n if is_jwst else n_frames,
        is_jwst=is_jwst,
        image=len(image.shape) == 2,
    )
    if is_jwst and settings.plane is not None:
        times = times.of(settings.plane)
    return Part(
        name=str(path),
        source=source,
        n_frames=n_frames,
        shape=(ny, nx),
        times=times,
        unit=normal_unit(value(image.header, "BUNIT", value(file.primary, "BUNIT", ""))),
        has_errors="errors" in planes,
        has_dq="dq" in planes,
        optics=optics_of(tree),
        tree=tree,
        meta=(lambda: jwst.file_metadata(file, tree)) if is_jwst else (lambda: _meta(tree)),
        position=position_of(tree),
        single=single,
        path=path,
        record=describe_file(
            path, date=str(value(file.primary, "DATE", "")), checksum=settings.checksum
        ),
        notes=tuple(notes),
        labels=labels_of(*headers),
    )


def _frames(
    file: FitsFile, image: Hdu, settings: Settings, n_frames: int, work: Workspace | None
) -> tuple[dict[str, Plane], FrameSource, list[str]]:
    """Make the source of frames, without errors that are zero everywhere."""
    planes, notes = _planes(file, image, settings)
    source = frames_of(file, planes, n_frames=n_frames, work=work)
    shape = cube_shape(file.path, image)[1:]
    if "errors" in planes and not known_errors(source, n_frames, shape):
        notes.append(NO_ERRORS)
        del planes["errors"]
        source = frames_of(file, planes, n_frames=n_frames, work=work)
    return planes, source, notes


def _meta(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata for the product; only those of JWST fit its schema."""
    return tree if str(tree.get("telescope", "")).upper() == "JWST" else {}


def _find_image(file: FitsFile, name: str, parameter: str) -> Hdu:
    hdu = file.find(name)
    if hdu is None or not hdu.is_image:
        there = ", ".join(h.name or str(h.index) for h in file.hdus if h.is_image) or "none"
        raise InputError(f"{parameter}: {name} is no image of {file.path}, expected one of {there}")
    return hdu


def _find_other(file: FitsFile, image: Hdu, name: str, parameter: str) -> Hdu:
    found = _find_image(file, name, parameter)
    if found is image:
        raise InputError(
            f"{parameter}: {name} is the image itself of {file.path}, expected another"
        )
    return found


def _science(file: FitsFile, settings: Settings) -> Hdu:
    if settings.extension is not None:
        return _find_image(file, settings.extension, "extension")
    science = file.find("SCI")
    if science is None:
        science = next((h for h in file.hdus if h.is_image and h.name not in _NOT_SCIENCE), None)
    if science is not None and science.is_image:
        return science
    names = [hdu.name or str(hdu.index) for hdu in file.hdus if hdu.is_image]
    if file.whole and not names and any(hdu.kind == "table" for hdu in file.hdus):
        raise TablesOnly(f"{file.path}: tables and no image found, expected an image")
    found = "no image" if science is None else f"SCI without an image ({science.kind})"
    beside = f" beside {', '.join(names)}" if names else ""
    damaged = "" if file.whole else f"; the file is damaged behind HDU {len(file.hdus) - 1}"
    raise InputError(
        f"{file.path}: {found} found{beside} in {len(file.hdus)} HDUs, expected one{damaged}"
    )


def _planes(file: FitsFile, image: Hdu, settings: Settings) -> tuple[dict, list[str]]:
    """Find the planes of the image, its errors, its quality flags and its variances."""
    notes: list[str] = []
    planes = {"values": Plane(image, settings.plane)}

    def add(name: str, hdu: Hdu, *, variance: bool = False) -> None:
        plane = settings.plane if cube_shape(file.path, hdu)[0] > 1 else None
        # An extension DQ holds quality flags; any other is a mask.
        planes[name] = Plane(hdu, plane, variance, mask=name == "dq" and hdu.name != "DQ")

    if settings.error_extension is not None:
        add("errors", _find_other(file, image, settings.error_extension, "error_extension"))
    else:
        error, kind = _default_errors(file)
        if error is not None and kind in ("std", "var"):
            add("errors", error, variance=kind == "var")
        elif error is not None:
            notes.append(f"The uncertainties are of type {kind} and were not used.")
    if settings.mask_extension is not None:
        add("dq", _find_other(file, image, settings.mask_extension, "mask_extension"))
    else:
        mask = next((h for n in ("DQ", "MASK") if (h := file.find(n)) and h.is_image), None)
        if mask is not None and mask is not image:
            add("dq", mask)
    for name in _PARTS:
        hdu = file.find(name)
        if hdu is not None and hdu.is_image and hdu.complete:
            add(name.lower(), hdu)
    return planes, notes


def _default_errors(file: FitsFile) -> tuple[Hdu | None, str]:
    hdu = file.find("ERR")
    if hdu is not None and hdu.is_image:
        return hdu, "std"
    hdu = file.find("UNCERT")
    if hdu is None or not hdu.is_image:
        return None, ""
    kind = str(value(hdu.header, "UTYPE", "StdDevUncertainty"))
    kinds = {"StdDevUncertainty": "std", "VarianceUncertainty": "var"}
    return hdu, kinds.get(kind, kind)


def _times(
    file: FitsFile,
    headers: Sequence[Cards],
    tree: dict[str, Any],
    n_frames: int,
    *,
    is_jwst: bool,
    image: bool,
) -> PartTimes:
    hdu = file.find("INT_TIMES")
    if is_jwst or hdu is not None:
        rows = table(file, hdu) if hdu is not None else None
        times = integration_times(rows, tree, n_frames, image=image)
        if is_jwst or np.isfinite(times.mjd_utc).any():
            return times
    if n_frames == 1:
        return header_time(headers)
    if math.isfinite(cadence_of(tree)):
        return integration_times(None, tree, n_frames)
    return unknown_times(n_frames)
