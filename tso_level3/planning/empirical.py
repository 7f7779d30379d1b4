"""Kernels from the data: an image of the star itself, a refined defocus."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from tso_level3.planning.star_search import Peak, acquire
from tso_level3.psf.kernel import Kernel

log = logging.getLogger(__name__)

_MAX_ROUNDS = 64
_SCANNED = 0.6
# Pixels by which a weak-lens pattern moves at most while its defocus is scanned.
_PATTERN = 12.0
_SURFACE = np.array([[-0.25, 0.5, -0.25], [0.5, 0.0, 0.5], [-0.25, 0.5, -0.25]])


@dataclass(frozen=True)
class RefinedDefocus:
    """A weak lens's defocus as the image shows it.

    Attributes
    ----------
    kernel : Kernel
        Computed at ``waves``.
    waves : float
        Defocus in waves of 2.12 um; NaN where no step of the scan found the star.
    x, y : float
        Position of the star, 0-based pixels.
    correlation : float
        Normalised correlation there, -1 to 1.
    at_edge : bool
        Whether the best step was the first or last of the scan.
    """

    kernel: Kernel
    waves: float
    x: float
    y: float
    correlation: float
    at_edge: bool


def fill_missing(image: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Fill bad pixels from their neighbours.

    A bad pixel among eight good ones gets the value of the surface through them that keeps
    slope and curvature; others get a weighted mean of what is near.

    Parameters
    ----------
    image : ndarray
        (ny, nx) pixels.
    good : ndarray
        (ny, nx) bool, True where a pixel counts.

    Returns
    -------
    ndarray
        (ny, nx) float64, finite.

    Raises
    ------
    ValueError
        Where there is no good pixel.
    """
    good = np.asarray(good, dtype=bool)
    if not good.any():
        raise ValueError("image has no good pixel; expected some to fill the others from")
    filled = np.where(good, image, 0.0).astype(np.float64)
    known = good.copy()
    # twice the mean of the four next less that of the four diagonal: the curvature cancels
    alone = ~good & (
        ndimage.correlate(good.astype(int), np.ones((3, 3), int), mode="constant") == 8
    )
    surface = ndimage.correlate(filled, _SURFACE, mode="constant")
    filled[alone] = surface[alone]
    known |= alone
    for _ in range(_MAX_ROUNDS):
        if known.all():
            break
        weight = ndimage.gaussian_filter(known.astype(np.float64), 0.8, mode="constant")
        total = ndimage.gaussian_filter(np.where(known, filled, 0.0), 0.8, mode="constant")
        reach = ~known & (weight > 1e-3)
        if not reach.any():
            break
        filled[reach] = total[reach] / weight[reach]
        known |= reach
    filled[~known] = 0.0
    return filled


def empirical_kernel(
    image: np.ndarray,
    center: tuple[float, float],
    *,
    mask: np.ndarray | None = None,
    background: float = 0.0,
) -> Kernel:
    """Make a kernel of an image of the star, such as the median of an exposure.

    Parameters
    ----------
    image : ndarray
        (ny, nx) star alone in a box.
    center : tuple of float
        x, y of the star in it, 0-based pixels.
    mask : ndarray, optional
        (ny, nx) bool, True where a pixel is bad; such pixels, and those not finite, are
        filled from their neighbours.
    background : float, optional
        Level to be taken off, in the image's unit.

    Returns
    -------
    Kernel
        Of kind ``empirical``, one sample to the pixel, scaled so that its sum is one: the
        flux outside the box is not known.

    Raises
    ------
    ValueError
        Where the box holds no good pixel or no flux, or the centre lies outside it.
    """
    image = np.asarray(image, dtype=np.float64)
    good = np.isfinite(image)
    if mask is not None:
        if np.shape(mask) != image.shape:
            raise ValueError(
                f"mask has shape {np.shape(mask)}; expected the image's, {image.shape}"
            )
        good &= ~np.asarray(mask, dtype=bool)
    filled = fill_missing(image, good) - background
    total = filled.sum()
    if not total > 0:
        raise ValueError(f"image sums to {total:g} above its background; expected a star's flux")
    description = {"filled_pixels": int(np.count_nonzero(~good)), "background": float(background)}
    return Kernel(filled / total, 1, (center[0], center[1]), "empirical", description)


def refine_defocus(
    image: np.ndarray,
    mask: np.ndarray | None,
    make_kernel: Callable[[float], Kernel],
    position: tuple[float, float] | None = None,
    *,
    scan: tuple[float, float],
    steps: int = 7,
    radius: float = 12.0,
) -> RefinedDefocus:
    """Find the defocus at which the computed kernel resembles the image most.

    The star is acquired again at each step, since its best position moves with the
    defocus; a parabola through the best three correlations gives the maximum, where the
    kernel is computed once more.

    Parameters
    ----------
    image : ndarray
        (ny, nx) pixels, such as the median of an exposure.
    mask : ndarray or None
        (ny, nx) bool, True where a pixel is bad.
    make_kernel : callable
        Returns the kernel for a number of waves, such as
        ``lambda waves: jwst_kernel(instrument=..., filter=..., pupil=..., waves=waves)``.
    position : tuple of float, optional
        Expected x, y; None: anywhere in the image.
    scan : tuple of float, optional
        First and last defocus in waves, about the lens's nominal one (see `scan_range`).
    steps : int, optional
        Number of values between which the best is looked for, 3 or more. From the middle one on
        only those are tried on whose side the correlation rises.
    radius : float, optional
        Pixels around ``position`` in which the star may be.

    Returns
    -------
    RefinedDefocus

    Raises
    ------
    ValueError
        Where fewer than three steps are asked for or the range is empty.
    """
    if steps < 3 or not scan[1] > scan[0]:
        raise ValueError(
            f"scan is {scan!r} in {steps} steps; expected a rising range in 3 steps or more"
        )
    waves = np.linspace(scan[0], scan[1], steps)
    near, reach = position, None if position is None else float(radius)
    peaks: dict[int, Peak] = {}

    def value_at(k: int) -> float:
        nonlocal near, reach
        if k not in peaks:
            peaks[k] = acquire(image, mask, make_kernel(float(waves[k])), near=near, radius=reach)
            if len(peaks) == 1 and np.isfinite(peaks[k].value):
                # the pattern moves by a pixel over the scan, not by tens
                near, reach = (peaks[k].x, peaks[k].y), min(float(radius), _PATTERN)
        return peaks[k].value if np.isfinite(peaks[k].value) else -np.inf

    best = steps // 2
    if not np.isfinite(value_at(best)):
        return RefinedDefocus(
            make_kernel(float(waves[best])), np.nan, np.nan, np.nan, np.nan, at_edge=True
        )
    for side in (-1, 1):
        while 0 <= best + side < steps and value_at(best + side) > value_at(best):
            best += side
    at_edge = best in (0, steps - 1)
    found = float(waves[best])
    middle = min(max(best, 1), steps - 2)
    below, top, above = (value_at(middle + side) for side in (-1, 0, 1))
    bend = below - 2.0 * top + above
    if np.isfinite(bend) and bend < 0:
        step = float(waves[1] - waves[0])
        found = float(waves[middle]) + 0.5 * (below - above) / bend * step
        found = min(max(found, float(scan[0])), float(scan[1]))
    kernel = make_kernel(found)
    peak = acquire(image, mask, kernel, near=near, radius=reach)
    if not peak.value >= value_at(best):
        found, peak = float(waves[best]), peaks[best]
        kernel = make_kernel(found)
    log.debug("defocus %.3f waves, correlation %.4f", found, peak.value)
    return RefinedDefocus(kernel, found, peak.x, peak.y, peak.value, at_edge)


def scan_range(waves: float) -> tuple[float, float]:
    """First and last defocus of the scan around a weak lens's nominal one, in waves.

    The power changes over the field and from lens to lens by up to 0.45 waves.
    """
    return waves - _SCANNED, waves + _SCANNED
