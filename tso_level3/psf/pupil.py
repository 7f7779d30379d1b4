"""The telescope's pupil, its segments, and wavefront errors that belong to segments.

The pupil is drawn from its geometry: eighteen regular hexagons and the three struts of the
secondary mirror. The y axis of the array points along V3 (up), and its side is the diameter of the
circle on which Zernike radii are one.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

NPUP = 256
"""Samples along a side of the pupil array."""

SIDE = 6.603464
"""Side of the pupil array in metres."""

N_SEGMENTS = 18

_SUPERSAMPLE = 4
_CIRCUMRADIUS = 0.755
# Distance of the centres from the axis in m, and position angle of the first in degrees.
_RINGS = ((1.3220, 90.0), (2.6318, 90.0), (2.2834, 60.0))
_UPPER_STRUT = 0.0594
_UPPER_STRUT_WIDE = (0.0826, 2.146, 2.3645)
_LOWER_STRUTS = (0.0612, (240.0, 300.0))


class Pupil(NamedTuple):
    """The drawn pupil.

    Attributes
    ----------
    amplitude : ndarray
        (NPUP, NPUP) transmitted amplitude of each sample, 0 to 1.
    segments : ndarray
        (NPUP, NPUP) integers: 0 in gaps and outside, 1 to 18 on the segments.
    """

    amplitude: np.ndarray
    segments: np.ndarray


def segment_centers(rotation: float = 0.0) -> np.ndarray:
    """Compute the centres of the segments.

    Parameters
    ----------
    rotation : float, optional
        Rotation of the pupil in degrees, counter-clockwise.

    Returns
    -------
    ndarray
        (18, 2) positions x, y in metres. Segments 1 to 6 are the inner ring from 90
        degrees on counter-clockwise, 7 to 12 the outer ones in the same directions, 13 to
        18 the outer ones between them, from 60 degrees on.
    """
    centers = []
    for radius, first in _RINGS:
        angles = np.deg2rad(first + rotation + 60.0 * np.arange(6))
        centers.append(np.column_stack([radius * np.cos(angles), radius * np.sin(angles)]))
    return np.concatenate(centers)


def _axis(n: int) -> np.ndarray:
    """Positions in metres of n samples across the array, symmetric about the axis."""
    return (np.arange(n) - 0.5 * (n - 1)) * (SIDE / n)


def pupil_axis() -> np.ndarray:
    """Return the (NPUP,) positions in metres of the pupil's samples along x or y."""
    return _axis(NPUP)


@lru_cache(maxsize=4)
def draw(rotation: float = 0.0) -> Pupil:
    """Draw the pupil, rotated counter-clockwise by ``rotation`` degrees (cached, read-only)."""
    n = NPUP * _SUPERSAMPLE
    axis = _axis(n)
    angle = np.deg2rad(rotation)
    cos, sin = np.cos(angle), np.sin(angle)
    labels = np.zeros((n, n), dtype=np.int8)
    for number, (cx, cy) in enumerate(segment_centers(rotation), start=1):
        cols = slice(*np.searchsorted(axis, [cx - _CIRCUMRADIUS, cx + _CIRCUMRADIUS]))
        rows = slice(*np.searchsorted(axis, [cy - _CIRCUMRADIUS, cy + _CIRCUMRADIUS]))
        dx, dy = axis[cols][None, :] - cx, axis[rows][:, None] - cy
        x, y = np.abs(cos * dx + sin * dy), np.abs(cos * dy - sin * dx)
        inside = (y <= _CIRCUMRADIUS * np.sqrt(0.75)) & (
            x * np.sqrt(3.0) + y <= np.sqrt(3.0) * _CIRCUMRADIUS
        )
        labels[rows, cols][inside] = number
    labels_lit = np.where(_struts(axis, cos, sin), 0, labels)
    blocks = (NPUP, _SUPERSAMPLE, NPUP, _SUPERSAMPLE)
    amplitude = (labels_lit > 0).reshape(blocks).mean(axis=(1, 3))
    # A sample on a gap belongs to the segment that covers part of it; struts hide no segment.
    segments = labels.reshape(blocks).max(axis=(1, 3)).astype(np.int64)
    segments[amplitude == 0] = 0
    amplitude.flags.writeable = segments.flags.writeable = False
    return Pupil(amplitude, segments)


def _struts(axis: np.ndarray, cos: float, sin: float) -> np.ndarray:
    """(n, n) bool: in the shadow of a strut."""
    wide, start, stop = _UPPER_STRUT_WIDE
    # Half width, and between which distances from the axis, along which direction.
    bars = [(_UPPER_STRUT, 0.0, np.inf, np.pi / 2), (wide, start, stop, np.pi / 2)]
    half, directions = _LOWER_STRUTS
    bars += [(half, 0.0, np.inf, direction) for direction in np.deg2rad(directions)]
    rotation = np.arctan2(sin, cos)
    shadow = np.zeros((len(axis), len(axis)), dtype=bool)
    for half, start, stop, direction in bars:
        u, v = np.cos(direction + rotation), np.sin(direction + rotation)
        low, high = np.full(len(axis), -np.inf), np.full(len(axis), np.inf)
        # A bar lies between two pairs of lines, and so is one run of samples in each row.
        for a, b, least, most in ((u, v, start, stop), (v, -u, -half, half)):
            if abs(a) < 1e-12:
                out = (b * axis < least) | (b * axis > most)
                low[out] = np.inf
                continue
            ends = np.sort([(least - b * axis) / a, (most - b * axis) / a], axis=0)
            low, high = np.maximum(low, ends[0]), np.minimum(high, ends[1])
        first, last = np.searchsorted(axis, low), np.searchsorted(axis, high, side="right")
        for row in np.flatnonzero(last > first):
            shadow[row, first[row] : last[row]] = True
    return shadow


def segment_wavefront(
    *, seed: int, rms: float = 68e-9, figure: float = 0.3, rotation: float = 0.0
) -> np.ndarray:
    """Draw a random wavefront error of the segments' poses and figures.

    Each segment gets a piston, a tip and a tilt of about equal rms, and a curvature and two
    astigmatisms that are smaller by ``figure``. The mean over the pupil is subtracted and the sum
    is scaled.

    Parameters
    ----------
    seed : int
        Seed of the random generator.
    rms : float, optional
        Amplitude-weighted rms over the pupil in metres.
    figure : float, optional
        Size of the curvature and astigmatism terms relative to piston, tip and tilt.
    rotation : float, optional
        Rotation of the pupil in degrees, counter-clockwise.

    Returns
    -------
    ndarray
        (NPUP, NPUP) optical path difference in metres, 0 outside the pupil.
    """
    if not (np.isfinite(rms) and rms >= 0):
        raise ValueError(f"rms is {rms!r}; expected a length in metres of 0 or more")
    rng = np.random.default_rng(seed)
    pupil = draw(rotation)
    opd = np.zeros((NPUP, NPUP))
    size = np.array([1.0, 1.0, 1.0, figure, figure, figure])
    for number, center in enumerate(segment_centers(rotation), start=1):
        mine = pupil.segments == number
        x, y = _local(mine, center)
        # Each mode has an rms near one over a hexagon.
        modes = (np.ones_like(x), 2.2 * x, 2.2 * y, 3.2 * (x * x + y * y - 0.42),
                 2.9 * (x * x - y * y), 5.8 * x * y)  # fmt: skip
        draws = rng.standard_normal(len(modes)) * size
        opd[mine] = sum(a * m for a, m in zip(draws, modes, strict=True))
    weight = pupil.amplitude
    opd -= (opd * weight).sum() / weight.sum()
    opd[pupil.segments == 0] = 0.0
    drawn = float(np.sqrt((opd**2 * weight).sum() / weight.sum()))
    return opd * (rms / drawn)


def segment_tilt(
    segment: int, tip: float, tilt: float, piston: float = 0.0, *, rotation: float = 0.0
) -> np.ndarray:
    """Compute the wavefront error of one segment that moved, as in a tilt event.

    Parameters
    ----------
    segment : int
        Number of the segment, 1 to 18 (see `segment_centers`).
    tip, tilt : float
        Slope of the wavefront along y and along x in radians (twice the angle by which the
        mirror turns). A slope of 1e-6 moves this segment's light by 0.206 arcsec.
    piston : float, optional
        Path difference at the segment's centre in metres.
    rotation : float, optional
        Rotation of the pupil in degrees, counter-clockwise.

    Returns
    -------
    ndarray
        (NPUP, NPUP) optical path difference in metres, 0 off the segment.

    Raises
    ------
    ValueError
        Where there is no such segment.
    """
    if segment not in range(1, N_SEGMENTS + 1):
        raise ValueError(f"segment is {segment!r}; expected an integer from 1 to {N_SEGMENTS}")
    mine = draw(rotation).segments == segment
    x, y = _local(mine, segment_centers(rotation)[segment - 1])
    opd = np.zeros((NPUP, NPUP))
    opd[mine] = piston + _CIRCUMRADIUS * (tilt * x + tip * y)
    return opd


def _local(mine: np.ndarray, center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return positions x, y of a segment's samples from its centre, in circumradii."""
    rows, cols = np.nonzero(mine)
    axis = pupil_axis()
    return (axis[cols] - center[0]) / _CIRCUMRADIUS, (axis[rows] - center[1]) / _CIRCUMRADIUS
