"""Frozen data types that are passed between the stages of the package; all can be pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

__all__ = [
    "Box",
    "Exposure",
    "FrameSource",
    "KernelLike",
    "Optics",
    "Picture",
    "Pixels",
    "Segment",
    "Times",
]


@dataclass(frozen=True)
class Box:
    """A rectangle of whole pixels inside a frame.

    Attributes
    ----------
    x, y : int
        First column and row in the frame, 0-based.
    nx, ny : int
        Size.
    """

    x: int
    y: int
    nx: int
    ny: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Slices of rows and columns."""
        return slice(self.y, self.y + self.ny), slice(self.x, self.x + self.nx)

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx) of the rectangle."""
        return self.ny, self.nx

    @classmethod
    def around(
        cls, x: float, y: float, half: float | tuple[float, float], shape: tuple[int, int]
    ) -> Box:
        """Make the rectangle around a position, cut at the edges of a frame.

        Parameters
        ----------
        x, y : float
            The position, 0-based.
        half : float or (float, float)
            Half of the side, or of the sides in (y, x).
        shape : (int, int)
            (ny, nx) of the frame.

        Returns
        -------
        Box
            The rectangle; of size 0 where it lies outside.
        """
        half_y, half_x = half if isinstance(half, tuple) else (half, half)
        x0, x1 = _span(x, half_x, shape[1])
        y0, y1 = _span(y, half_y, shape[0])
        return cls(x0, y0, x1 - x0, y1 - y0)


def _span(center: float, half: float, size: int) -> tuple[int, int]:
    middle, reach = int(np.floor(center + 0.5)), int(np.ceil(half))
    first = min(max(middle - reach, 0), size)
    return first, max(min(middle + reach + 1, size), first)


@dataclass(frozen=True)
class Pixels:
    """Pixels of consecutive frames as they were read, in the input's own unit.

    Attributes
    ----------
    values : ndarray, (n, ny, nx), float32 or float64, native byte order
        The images; a reader may reuse the memory at its next `load`.
    errors : ndarray, (n, ny, nx), or None
        Standard errors; None where none are known.
    dq : ndarray, (n, ny, nx), uint32, or None
        Data-quality bits; where a plain mask is true, all bits are set.
    var_poisson, var_rnoise, var_flat : ndarray, (n, ny, nx), or None
        Parts of the variance, where asked for and known.
    """

    values: np.ndarray
    errors: np.ndarray | None = None
    dq: np.ndarray | None = None
    var_poisson: np.ndarray | None = None
    var_rnoise: np.ndarray | None = None
    var_flat: np.ndarray | None = None


class FrameSource(Protocol):
    """Source of frames; picklable, so that a worker process can read them itself."""

    def load(self, start: int, stop: int, box: Box, *, variances: bool = False) -> Pixels:
        """Read the box of the frames ``[start, stop)``.

        Parameters
        ----------
        start, stop : int
            Frames of this source, from 0.
        box : Box
            The rectangle.
        variances : bool
            Whether the parts of the variance are read too.

        Returns
        -------
        Pixels
            The pixels of the box.
        """
        ...


class KernelLike(Protocol):
    """Image of a star of unit flux around its position, integrated over the pixels."""

    @property
    def kind(self) -> str:
        """``jwst``, ``gaussian``, ``empirical``, ``stpsf`` or ``file``."""
        ...

    @property
    def description(self) -> dict[str, Any]:
        """Where the kernel comes from, in plain values."""
        ...

    @property
    def half_width(self) -> float:
        """Distance from the star to the nearest edge of the support [pix]."""
        ...

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Edges of the support relative to the star [pix]: left, right, below, above."""
        ...

    @property
    def enclosed(self) -> float:
        """Fraction of the star's flux inside the support."""
        ...

    def evaluate(self, u: np.ndarray, v: np.ndarray, nu: int = 0, nv: int = 0) -> np.ndarray:
        """Compute the kernel, or a derivative of it, on a grid of offsets.

        Parameters
        ----------
        u, v : ndarray, (nx,) and (ny,)
            Offsets from the star along x and y [pix].
        nu, nv : int
            Order of the derivative along u and v, 0 to 4.

        Returns
        -------
        ndarray, (ny, nx)
            Flux per pixel; zero outside the support.
        """
        ...

    def render(
        self, x: float, y: float, shape: tuple[int, int], *, flux: float = 1.0
    ) -> np.ndarray:
        """Compute the image of a star.

        Parameters
        ----------
        x, y : float
            Position of the star, 0-based [pix].
        shape : (int, int)
            (ny, nx) of the image.
        flux : float
            Total flux of the star.

        Returns
        -------
        ndarray, (ny, nx)
            The image, float64; zero outside the support.
        """
        ...


@dataclass(frozen=True, eq=False)
class Segment:
    """Consecutive frames from one source.

    Attributes
    ----------
    source : FrameSource
        Source of the frames.
    n_frames : int
        Number of frames.
    name : str
        File name, or '' for an array.
    scale : float or ndarray, (ny, nx)
        Factor from the source's unit to the exposure's.
    first_integration : int
        Number of the first integration in the exposure, from 1.
    """

    source: FrameSource
    n_frames: int
    name: str = ""
    scale: float | np.ndarray = 1.0
    first_integration: int = 1


@dataclass(frozen=True, eq=False)
class Times:
    """The times of an exposure's integrations.

    Attributes
    ----------
    mjd_utc, bmjd_tdb : ndarray, (n_int,)
        Mid-times [d]; NaN where unknown.
    source : str
        Origin of the times: ``INT_TIMES``, a header keyword, ``given``, ``none``.
    flags : ndarray, (n_int,), uint32
        Bits of `tso_level3.Flag` for each integration.
    notes : tuple of str
        Assumptions that were made, in sentences.
    exposure_time : float
        Effective integration time of one integration [s]; NaN where unknown.
    """

    mjd_utc: np.ndarray
    bmjd_tdb: np.ndarray
    source: str
    flags: np.ndarray
    notes: tuple[str, ...] = ()
    exposure_time: float = np.nan

    @property
    def scale(self) -> str:
        """Scale of `time`: ``BMJD_TDB``, else ``MJD_UTC``, or ``none``."""
        if np.isfinite(self.bmjd_tdb).any():
            return "BMJD_TDB"
        return "MJD_UTC" if np.isfinite(self.mjd_utc).any() else "none"

    @property
    def time(self) -> np.ndarray:
        """Mid-times in `scale`, (n_int,) [d]."""
        return self.bmjd_tdb if self.scale == "BMJD_TDB" else self.mjd_utc


@dataclass(frozen=True)
class Optics:
    """Instrument set-up; empty texts for what is not known.

    Attributes
    ----------
    instrument, detector, filter, pupil, channel, subarray, exp_type : str
        As in the headers of the pipeline, upper case.
    pixel_scale : float
        Arcsec per pixel; NaN where unknown.
    """

    instrument: str = ""
    detector: str = ""
    filter: str = ""
    pupil: str = ""
    channel: str = ""
    subarray: str = ""
    exp_type: str = ""
    pixel_scale: float = np.nan


@dataclass(frozen=True, eq=False)
class Exposure:
    """Metadata of an exposure, and the sources of its frames.

    Attributes
    ----------
    segments : tuple of Segment
        In the order of time.
    shape : (int, int)
        (ny, nx) of a frame.
    times : Times
        Of all integrations, in the order of the segments.
    unit : str
        Unit of the scaled pixels: ``Jy``, ``electron``, or the input's; '' where unknown.
    optics : Optics
        The instrument set-up.
    position : (float, float) or None
        Expected x, y of the star, 0-based; None where the input does not state it.
    has_errors : bool
        Whether standard errors are known.
    integration, segment : ndarray, (n_int,), int
        Number of the integration in the exposure, and of its segment, from 1.
    filenames : tuple of str or None
        File of each integration; None where frames are not from files.
    inputs : tuple of dict
        One for each input: name, size, date, frames.
    meta : dict
        The input's metadata as a plain tree (``{'instrument': {...}, ...}``).
    notes : tuple of str
        Assumptions that were made, in sentences.
    """

    segments: tuple[Segment, ...]
    shape: tuple[int, int]
    times: Times
    unit: str
    optics: Optics
    position: tuple[float, float] | None
    has_errors: bool
    integration: np.ndarray
    segment: np.ndarray
    filenames: tuple[str, ...] | None = None
    inputs: tuple[dict[str, Any], ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def n_int(self) -> int:
        """Number of integrations."""
        return sum(segment.n_frames for segment in self.segments)


@dataclass(frozen=True, eq=False)
class Picture:
    """An image and the position of the star in it.

    Attributes
    ----------
    image : ndarray, (ny, nx)
        Its pixels.
    x, y : float
        Position of the star in the image, 0-based.
    oversample : int
        Pixels of the image per detector pixel.
    origin : (int, int)
        x, y of its first pixel in the frame, for an image cut out of frames.
    """

    image: np.ndarray
    x: float
    y: float
    oversample: int = 1
    origin: tuple[int, int] = (0, 0)
