"""Default apertures, annuli and boxes of each observing mode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tso_level3.config.instruments import WEAK_LENSES
from tso_level3.datatypes import Optics

__all__ = ["OTHER", "Mode", "is_weak_lens", "mode_of"]

_LADDER = 12
#: Name of the mode for all other instruments and set-ups.
OTHER = "other"


@dataclass(frozen=True)
class Mode:
    """Defaults of an observing mode.

    Attributes
    ----------
    name : str
        Name of the mode.
    radius, inner, outer : float
        Aperture radius and annulus [pix].
    radii : tuple of float
        Ladder of radii [pix].
    box : int
        Side of the box for centring [pix], odd.
    weak_lens : bool
        Whether the image is a defocused one.
    fills_frame : bool
        Whether the image is larger than the frame, so that no annulus exists.
    """

    name: str
    radius: float
    inner: float
    outer: float
    radii: tuple[float, ...]
    box: int
    weak_lens: bool = False
    fills_frame: bool = False


_FOCUS = (2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 12.0)
_WLP8 = (50.0, 52.5, 55.0, 57.5, 60.0, 62.5, 65.0, 67.0, 69.0, 71.0, 73.0)
_WLP4 = (25.0, 27.0, 29.0, 31.0, 33.0, 35.0, 37.0, 39.0, 41.0, 43.0, 45.0, 48.0)


def is_weak_lens(optics: Optics) -> str:
    """Find the weak lens in the light path.

    Parameters
    ----------
    optics : Optics
        The instrument set-up.

    Returns
    -------
    str
        Its name; '' without one.
    """
    for wheel in (optics.pupil, optics.filter):
        if wheel in WEAK_LENSES:
            return wheel
    return ""


def mode_of(optics: Optics, fwhm: float, shape: tuple[int, int]) -> Mode:
    """Return the defaults for an exposure.

    Parameters
    ----------
    optics : Optics
        The instrument set-up.
    fwhm : float
        FWHM of the star's image [pix], with which all sizes but NIRCam's scale.
    shape : (int, int)
        (ny, nx) of a frame.

    Returns
    -------
    Mode
        The defaults.
    """
    lens = is_weak_lens(optics)
    if lens in ("WLP8", "WLM8"):
        fills = min(shape) < 100
        name = "nircam-wlp8-sub64p" if fills else "nircam-wlp8"
        return Mode(name, 65.0, 75.0, 95.0, _WLP8, 131, weak_lens=True, fills_frame=fills)
    if lens == "WLP4":
        return Mode("nircam-wlp4", 37.0, 51.0, 65.0, _WLP4, 91, weak_lens=True)
    if optics.instrument == "NIRCAM":
        return Mode("nircam-focused", 5.0, 16.0, 26.0, _FOCUS, 21)
    if optics.instrument == "MIRI":
        # r 5 and an annulus of 16 to 46 at F1500W, whose width is 4.4 pixels.
        size = fwhm / 4.4
        return _scaled("miri", size, 5.0, 16.0, 46.0, 21)
    size = fwhm / 2.5
    return _scaled(OTHER, size, 5.0, 12.0, 20.0, 21)


def _scaled(name: str, size: float, radius: float, inner: float, outer: float, box: int) -> Mode:
    size = float(np.clip(size, 0.5, 20.0))
    # Rounded: the last digits of a measured width would be noise in the names of columns.
    radius, inner, outer = (round(float(value) * size, 1) for value in (radius, inner, outer))
    side = 2 * int(np.ceil(box * max(size, 0.7) / 2)) + 1
    return Mode(name, radius, inner, outer, ladder_around(radius, inner), side)


def ladder_around(radius: float, limit: float) -> tuple[float, ...]:
    """Return a ladder of radii around one of them.

    Parameters
    ----------
    radius : float
        The radius that must be in it [pix].
    limit : float
        Largest of the other radii [pix]: where the annulus begins.

    Returns
    -------
    tuple of float
        About 12 radii from 0.4 to 2.4 times the radius, rounded to 0.1.
    """
    steps = np.maximum(radius * np.geomspace(0.4, 2.4, _LADDER), 1.0).round(1)
    return tuple(sorted({float(step) for step in steps if step <= limit} | {float(radius)}))
