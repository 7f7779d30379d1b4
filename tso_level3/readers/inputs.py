"""The description of one input: a file, model or array, before all are combined."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tso_level3.datatypes import FrameSource, Optics
from tso_level3.flags import Flag
from tso_level3.readers.errors import InputError, brief

__all__ = [
    "FILE_SETTINGS",
    "FITS_SETTINGS",
    "Part",
    "PartTimes",
    "describe_file",
    "flags_of",
    "without",
]

#: Settings that apply to FITS files alone, and to files alone.
FITS_SETTINGS = ("extension", "plane", "error_extension", "mask_extension")
FILE_SETTINGS = (*FITS_SETTINGS, "checksum")


@dataclass(frozen=True, eq=False)
class PartTimes:
    """Times of the frames of one input.

    Attributes
    ----------
    mjd_utc, bmjd_tdb : ndarray, (n,)
        Mid-times [d]; NaN where unknown.
    source : str
        Their origin; see `tso_level3.datatypes.Times`.
    flags : ndarray, (n,), uint32
        Bits of `tso_level3.Flag`.
    first : int or None
        Number of the first integration in the exposure, from 1; None where unknown.
    notes : tuple of str
        What was assumed.
    exposure_time : float
        Effective integration time [s].
    """

    mjd_utc: np.ndarray
    bmjd_tdb: np.ndarray
    source: str
    flags: np.ndarray
    first: int | None = None
    notes: tuple[str, ...] = ()
    exposure_time: float = np.nan

    def of(self, plane: int) -> PartTimes:
        """Return the times of one frame.

        Parameters
        ----------
        plane : int
            Number of the frame, from 0.

        Returns
        -------
        PartTimes
            Times of that frame.
        """
        row = slice(plane, plane + 1)
        return replace(
            self,
            mjd_utc=self.mjd_utc[row],
            bmjd_tdb=self.bmjd_tdb[row],
            flags=self.flags[row],
            first=None if self.first is None else self.first + plane,
        )


def flags_of(utc: np.ndarray, tdb: np.ndarray, computed: np.ndarray | None = None) -> np.ndarray:
    """Flag times that are missing, and those that were computed rather than read, (n,) uint32."""
    flags = np.zeros(utc.size, np.uint32)
    no_tdb = ~np.isfinite(tdb)
    flags[no_tdb] |= int(Flag.NO_BARYCENTRIC_TIME)
    flags[no_tdb & ~np.isfinite(utc)] |= int(Flag.NO_TIME)
    if computed is not None:
        flags[computed] |= int(Flag.TIME_FROM_HEADER)
    return flags


@dataclass(frozen=True, eq=False)
class Part:
    """One input: a file, model or array.

    Attributes
    ----------
    name : str
        Its name in messages.
    source : FrameSource
        Its frames.
    n_frames : int
        Number of frames.
    shape : (int, int)
        (ny, nx) of a frame.
    times : PartTimes
        Times of the frames.
    unit : str
        Unit of the frames as they are stored; '' where unknown.
    has_errors, has_dq : bool
        Whether standard errors, and quality flags or a mask, are known.
    optics : Optics
        Instrument, filter and the like.
    tree : mapping
        The metadata that the readers use, as a tree.
    meta : callable
        Reads all metadata, for the product.
    position : (float, float) or None
        Expected x, y of the star, 0-based.
    single : bool
        Whether it is one frame of a list rather than a cube.
    path : Path or None
        Its file.
    record : dict
        Name, size and date, which the product records.
    notes : tuple of str
        What was assumed.
    labels : mapping
        Target and the like, which are the same in all inputs of a series: label to keyword and
        value.
    problem : str
        Why it cannot be read; '' where it can.
    """

    name: str
    source: FrameSource
    n_frames: int
    shape: tuple[int, int]
    times: PartTimes
    unit: str = ""
    has_errors: bool = False
    has_dq: bool = False
    optics: Optics = field(default_factory=Optics)
    tree: Mapping[str, Any] = field(default_factory=dict)
    meta: Callable[[], Mapping[str, Any]] = dict
    position: tuple[float, float] | None = None
    single: bool = False
    path: Path | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    labels: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    problem: str = ""


def without(part: Part, settings: Any, *names: str) -> Part:
    """Note which settings do not apply to an input.

    Parameters
    ----------
    part : Part
        The input.
    settings : Settings
        The parameters.
    *names : str
        Names of the settings that its reader does not use.

    Returns
    -------
    Part
        The input, with a note that lists those of them that are not the default.
    """
    given = [f"{name}={getattr(settings, name)}" for name in names if getattr(settings, name)]
    given += ["plane=0"] if "plane" in names and settings.plane == 0 else []
    if not given:
        return part
    kind = "this kind of file" if part.path is not None else "data in memory"
    note = f"Not used, since not for {kind}: {', '.join(given)}."
    return replace(part, notes=(*part.notes, note))


def describe_file(path: Path, *, date: str = "", checksum: bool = False) -> dict[str, Any]:
    """Record what identifies a file.

    Parameters
    ----------
    path : Path
        The file.
    date : str
        Date in its header.
    checksum : bool
        Whether to add its SHA-256.

    Returns
    -------
    dict
        ``name``, ``size`` [byte], ``modified`` (ISO, UTC), ``date``, ``sha256``.

    Raises
    ------
    InputError
        It cannot be read.
    """
    try:
        state = path.stat()
        modified = dt.datetime.fromtimestamp(state.st_mtime, dt.UTC).isoformat(timespec="seconds")
        record: dict[str, Any] = {
            "name": path.name,
            "size": state.st_size,
            "modified": modified,
            "date": date,
        }
        if checksum:
            with path.open("rb") as file:
                record["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise InputError(f"{path}: cannot be read ({brief(problem)})") from problem
    return record
