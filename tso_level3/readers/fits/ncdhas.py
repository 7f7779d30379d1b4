"""Open slope images and ramps of ``ncdhas``, the pipeline of NIRCam's tests on the ground."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from tso_level3.config.settings import Settings
from tso_level3.datatypes import Box, Pixels
from tso_level3.flags import Flag
from tso_level3.readers.concat import Workspace
from tso_level3.readers.errors import InputError
from tso_level3.readers.fits.cards import value
from tso_level3.readers.fits.hdus import Plane, cube_shape, frames_of
from tso_level3.readers.fits.scan import FitsFile, Hdu
from tso_level3.readers.header_times import as_mjd, parse_date
from tso_level3.readers.inputs import Part, PartTimes, describe_file, flags_of
from tso_level3.readers.metadata import optics_of, tree_of
from tso_level3.readers.times import unknown_times
from tso_level3.readers.units import normal_unit

__all__ = ["RampFrames", "is_ncdhas", "ncdhas_part"]

_DAY = 86400.0
_DETECTORS = {
    481 + k: f"NRC{module}{name}"
    for k, (module, name) in enumerate(
        (module, name) for module in "AB" for name in ("1", "2", "3", "4", "LONG")
    )
}
_NUMBER = re.compile(r"_I(\d+)(?=[._])")


class RampFrames:
    """The slope of a ramp: its last group minus its first, over the time between.

    Parameters
    ----------
    source : FrameSource
        The groups, as frames.
    groups : int
        Number of groups.
    seconds : float
        Time between the first and the last group [s].
    """

    def __init__(self, source: Any, groups: int, seconds: float) -> None:
        self.source, self.groups, self.seconds = source, groups, seconds

    def load(self, start: int, stop: int, box: Box, *, variances: bool = False) -> Pixels:
        """Read the box of the one frame; see `tso_level3.datatypes.FrameSource`."""
        first = self.source.load(0, 1, box).values.astype(np.float64)
        last = self.source.load(self.groups - 1, self.groups, box).values
        slope = (last - first) / self.seconds
        return Pixels(slope.astype(np.float32)[start:stop])


def is_ncdhas(file: FitsFile) -> bool:
    """Whether a file was made by ncdhas, by its name or the counters in its header."""
    name = file.path.name.lower()
    header = file.primary
    counters = value(header, "SCA_ID") is not None and value(header, "NGROUP") is not None
    named = ".slp.fits" in name or ".red.fits" in name
    return counters and (named or value(header, "ON_NINT") is not None)


def ncdhas_part(
    file: FitsFile, image: Hdu, settings: Settings, *, work: Workspace | None = None
) -> Part:
    """Open a slope image or a ramp.

    Parameters
    ----------
    file : FitsFile
        The file.
    image : Hdu
        The image: (2, ny, nx) slope and uncertainty, (ny, nx) slope, or (n, ny, nx) groups.
    settings : Settings
        ``plane`` and ``checksum`` are used.
    work : Workspace, optional
        Memory that files of a list share.

    Returns
    -------
    Part
        One frame in DN/s.

    Raises
    ------
    InputError
        It has another shape, or a ramp has no TGROUP or TFRAME.
    """
    n, ny, nx = cube_shape(file.path, image)
    header = file.primary
    ramp = settings.plane is None and _is_ramp(file, n)
    planes = {"values": Plane(image, settings.plane or 0)}
    if ramp:
        seconds = _span(file, n)
        whole = frames_of(file, {"values": Plane(image)}, n_frames=n, work=work)
        source: Any = RampFrames(whole, n, seconds)
    else:
        if n == 2 and settings.plane is None:
            planes["errors"] = Plane(image, 1)
        source = frames_of(file, planes, n_frames=1, zero_is_bad=True, work=work)
    tree = _tree(file, ramp_seconds=_span(file, n) if ramp else math.nan)
    unit = normal_unit(value(header, "BUNIT", "DN/s"))
    return Part(
        name=str(file.path),
        source=source,
        n_frames=1,
        shape=(ny, nx),
        times=_time(file),
        unit="DN/s" if unit in ("DN", "") or ramp else unit,
        has_errors="errors" in planes,
        has_dq="errors" in planes,
        optics=optics_of(tree),
        tree=tree,
        meta=lambda: tree,
        single=True,
        path=file.path,
        record=describe_file(
            file.path, date=str(value(header, "DATE", "")), checksum=settings.checksum
        ),
    )


def _is_ramp(file: FitsFile, n: int) -> bool:
    """Whether planes are groups: three or more are, and two where the name is that of a ramp."""
    return n > 2 or (n == 2 and ".red.fits" in file.path.name.lower())


def _number(file: FitsFile, *keys: str) -> float:
    for key in keys:
        found = value(file.primary, key)
        if isinstance(found, int | float) and not isinstance(found, bool) and 0 < found < 1e9:
            return float(found)
    return math.nan


def _span(file: FitsFile, groups: int) -> float:
    step = _number(file, "TGROUP")
    if not step > 0:
        step = _number(file, "TFRAME") * max(_number(file, "NFRAME"), 1.0)
    seconds = step * (groups - 1)
    if not seconds > 0:
        raise InputError(f"{file.path}: no TGROUP found, expected one in the header of a ramp")
    return seconds


def _tree(file: FitsFile, *, ramp_seconds: float) -> dict[str, Any]:
    """Return the metadata under the names of the JWST pipeline."""
    tree = tree_of(file.primary)
    instrument = tree.setdefault("instrument", {})
    instrument["name"] = "NIRCAM"
    detector = _DETECTORS.get(int(_number(file, "SCA_ID")) if _number(file, "SCA_ID") > 0 else 0)
    if detector:
        instrument["detector"] = detector
        instrument["module"] = detector[3]
        instrument["channel"] = "LONG" if detector.endswith("LONG") else "SHORT"
    exposure = tree.setdefault("exposure", {})
    length = _number(file, "EFFINTTM", "INTTIME")
    if not length > 0:
        length = ramp_seconds
    if length > 0:
        exposure["integration_time"] = length
    groups = _number(file, "NGROUP")
    if groups > 0:
        exposure["ngroups"] = int(groups)
    corner = tree.setdefault("subarray", {})
    for axis, key in (("x", "COLCORNR"), ("y", "ROWCORNR")):
        start = _number(file, key)
        if start > 0:
            corner[f"{axis}start"] = int(start)
    return tree


def _time(file: FitsFile) -> PartTimes:
    """Compute the mid-time from the start of the exposure, the integration number and cadence."""
    named = _NUMBER.search(file.path.name)
    count = _number(file, "ON_NINT")
    if not count >= 1:
        count = float(named.group(1)) if named and int(named.group(1)) > 0 else math.nan
    first = int(count) if math.isfinite(count) else None
    day, time = (str(value(file.primary, key, "")) for key in ("DATE-OBS", "TIME-OBS"))
    start = parse_date(f"{day}T{time}" if time and "T" not in day else day)
    frame = _number(file, "TFRAME")
    length = _number(file, "EFFINTTM", "INTTIME")
    if not length > 0:
        length = _number(file, "TGROUP") * _number(file, "NGROUP")
    if not (math.isfinite(start) and length > 0 and first is not None):
        return unknown_times(1, first=first)
    resets = _number(file, "NRESETS", "NRESET")
    cadence = length + (resets if resets > 0 else 1.0) * (frame if frame > 0 else 0.0)
    utc = as_mjd([start + ((first - 1) * cadence + length / 2) / _DAY])
    flags = flags_of(utc, np.full(1, np.nan)) | np.uint32(Flag.TIME_FROM_HEADER)
    notes = () if frame > 0 else ("No TFRAME is known; the cadence is without resets.",)
    return PartTimes(
        utc, np.full(1, np.nan), "DATE-OBS, TIME-OBS and ON_NINT", flags, first, notes, length
    )
