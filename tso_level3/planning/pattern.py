"""The pattern that detector and sky leave in every frame, told apart from the star.

A pixel of response R holds ``R (f F K + S)``: of its departure from its neighbours one part follows
the star's flux f and one stays, with the sky S. A hot pixel's departure stays altogether. What
stays belongs to the background: scaled with the star it would hold the fitted flux where it is.

Light that comes through the telescope is as wide as its image, while the pattern differs from
pixel to pixel: what a pixel departs by from the surface through its neighbours is pattern, noise,
or an error of the kernel, and each has a size that the image itself shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from tso_level3.core.shift import without_noise
from tso_level3.utils.stats import column_median, mad_std

__all__ = ["Pattern", "find_pattern", "suspect"]

# A pixel that departs by this many standard deviations is a defect: dead, or hot.
_DEFECT = 6.0
# And by this factor more than all but two of the pixels in a square of this side around it, which
# may be defects too: light that came through the telescope is not in one pixel alone.
_ALONE, _NEAR = 1.6, 7
# Where the smooth rest is large, its finest structure is this part of it.
_FINE = 0.25
# Rounds of finding defects, each without those found before.
_ROUNDS = 6
# The kernel's error is judged where the star exceeds the pattern by this factor, on this many
# pixels; its relative error [1] elsewhere, and the least that is believed.
_BRIGHT, _ENOUGH, _KERNEL_ERROR, _LEAST_ERROR = 5.0, 9, 0.1, 0.01
# A pattern below this part of the noise of the mean image's pixels is none.
_VISIBLE = 0.5
# One that would hold the fitted flux by less than this part is left where it is.
_HOLDS = 2e-4
# Response of pixels differs by less than this [1] where it is no defect.
_UNEVEN = 0.1
# More defects than this part of the star's core are no defects.
_ISOLATED = 0.1
# Width of the rings round the star in which the smooth rest is judged [pix].
_WIDTH = 2.0
# Part of the peak above which a smooth rest is the star's.
_LIT = 0.01
# Part of the peak above which a defect would move the kernel's place.
_CORE = 0.05
# The error of the kernel rests on the pixels of the core: with as few as these it may be twice
# what is found.
_DOUBT = 20.0
# Scale [pix] on which the pattern has no mean.
_ALIKE = 4.0
# Defects whose light is between these shares the star's say nothing certain of it.
_MINE, _THEIRS = 0.98, 0.01
# The surface through the 5 x 5 pixels around one: a cubic, by least squares.
_SIDE = 5


def _surface() -> np.ndarray:
    """Weights of the 5 x 5 pixels in the value of their least-squares cubic at the centre."""
    v, u = np.mgrid[-2.0:3.0, -2.0:3.0].reshape(2, -1)
    design = np.stack([u**a * v**b for a in range(4) for b in range(4 - a)], axis=1)
    return np.linalg.pinv(design)[0].reshape(_SIDE, _SIDE)


_SURFACE = _surface()


@dataclass(frozen=True, eq=False)
class Pattern:
    """What stays in every frame.

    Attributes
    ----------
    static : ndarray, (ny, nx)
        What is to be taken off every frame.
    defect : ndarray, (ny, nx), bool
        Dead and hot pixels.
    response : ndarray, (ny, nx)
        Response of the defects to the star, over that of their neighbours; 1 elsewhere.
    doubtful : ndarray, (ny, nx), bool
        Defects of which it is not known how much follows the star.
    """

    static: np.ndarray
    defect: np.ndarray
    response: np.ndarray
    doubtful: np.ndarray


def find_pattern(
    rest: np.ndarray, star: np.ndarray, sky: float, variance: np.ndarray, *, reach: int = 3
) -> Pattern:
    """Find the pattern in a mean image.

    Parameters
    ----------
    rest : ndarray, (ny, nx)
        Mean image less sky and kernel; NaN where nothing is known.
    star : ndarray, (ny, nx)
        The kernel, at the star's flux.
    sky : float
        Sky a pixel, whether it was taken off here or before.
    variance : ndarray, (ny, nx)
        Variance of `rest` by noise.
    reach : int
        Side of the square over which the kernel's error in a bright pixel spreads [pix].

    Returns
    -------
    Pattern
        The pattern; zero where it does not stand out of the noise.

    Notes
    -----
    With responses of variance ``s^2``, and an error of the kernel and noise of variance ``v``, the
    expected static part of a departure d is ``d s^2 S (F K + S) / (s^2 (F K + S)^2 + v)``. A flat
    is wrong by a few per cent at the most: departures beyond what the sky allows are structure in
    the star's wings.
    """
    known = np.isfinite(rest)
    star, sky = np.maximum(star, 0.0), max(float(sky), 0.0)
    static, response = np.zeros(rest.shape), np.ones(rest.shape)
    defect, doubtful = np.zeros((2, *rest.shape), bool)
    if known.sum() < 4 * _ENOUGH:
        return Pattern(static, defect, response, doubtful)
    bright = ndimage.maximum_filter(star, reach)
    defect, away = _defects(rest, bright, known)
    if defect.any():
        d, k = away[defect], star[defect]
        # A dead pixel holds less than nothing where a sky was taken off that is not known here.
        under = np.maximum(sky, -d - k)
        of_star = np.where(d < 0, k / np.maximum(k + under, 1e-300), 0.0)
        static[defect] = d * (1.0 - of_star)
        light = np.maximum(k + (rest[defect] - d), 1e-300)
        response[defect] = np.clip(1.0 + d * of_star / light, 0.0, 1.0)
        doubtful[defect] = (k > _THEIRS * np.abs(d)) & (of_star < _MINE)
    good = known & ~defect
    static[good] = _uneven_sky(rest, star, sky, variance, good, bright)[good]
    return Pattern(static, defect, response, doubtful)


def _uneven_sky(
    rest: np.ndarray,
    star: np.ndarray,
    sky: float,
    variance: np.ndarray,
    good: np.ndarray,
    bright: np.ndarray,
) -> np.ndarray:
    """Find what pixels of uneven response make of the sky."""
    filled = np.where(good, rest, _around(np.where(good, rest, np.nan)))
    noise = float(np.median(variance[good]))
    smooth = without_noise(filled, noise)
    away = filled - smooth
    total, error = _sizes(away, bright, good)
    size = np.sqrt(max(total**2 - noise, 0.0))
    if not _VISIBLE * np.sqrt(noise) < size < _UNEVEN * sky:
        return np.zeros(rest.shape)
    if (size**2 / variance[good]).sum() < _HOLDS * (star[good] ** 2 / variance[good]).sum():
        return np.zeros(rest.shape)
    light, uneven = star + sky, size / sky
    own = (uneven * light) ** 2
    # What the kernel is wrong by was measured with the pattern in it.
    inside = good & _core(bright, total)
    if inside.any():
        theirs = float(np.median(own[inside] / bright[inside] ** 2))
        error = np.sqrt(max(error**2 - theirs, 0.0)) * (1.0 + np.sqrt(_DOUBT / inside.sum()))
    other = (max(error, _LEAST_ERROR) * bright) ** 2 + variance
    other += (_FINE * ndimage.maximum_filter(np.abs(smooth), 3)) ** 2
    share = uneven**2 * sky * light / (own + other)
    mine = np.maximum(_star_like(smooth, bright), star / (star + _LIT * star.max() + 1e-300))
    found = np.where(good, smooth * (1.0 - mine) + away * share, 0.0)
    # What is alike in many pixels is sky, or the star's wings.
    alike = ndimage.gaussian_filter(found, _ALIKE)
    return found - alike / np.maximum(ndimage.gaussian_filter(good.astype(float), _ALIKE), 1e-300)


def suspect(rest: np.ndarray, star: np.ndarray) -> tuple[int, int]:
    """Find the pixel of a star that departs most from its neighbours: a defect would be there.

    Parameters
    ----------
    rest, star : ndarray, (ny, nx)
        As for `find_pattern`.

    Returns
    -------
    (int, int)
        Row and column.
    """
    away = np.abs(_departures(rest, np.isfinite(rest)))
    place = np.where(star > _CORE * star.max(), away, -1.0).argmax()
    row, column = np.unravel_index(place, rest.shape)
    return int(row), int(column)


def _defects(
    rest: np.ndarray, bright: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mark the pixels that are dead or hot, and give all departures from the neighbours."""
    defect, usual = np.zeros(rest.shape, bool), np.abs(np.nan_to_num(rest))
    for _ in range(_ROUNDS):
        use = known & ~defect
        # The worst pixel of the core would pass for an error of the kernel in its neighbours too.
        use[suspect(np.where(use, rest, np.nan), bright)] = False
        away = _departures(rest, use)
        total, error = _sizes(away, bright, use)
        limit = np.sqrt(total**2 + (error * bright) ** 2)
        # Of a defect itself and the largest others around it, the fourth is the third beside it.
        beside = ndimage.rank_filter(np.where(defect, 0.0, usual), -4, _NEAR)
        new = known & (np.abs(away) > np.maximum(_DEFECT * limit, _ALONE * beside))
        if (new == defect).all():
            break
        defect = new
    core = _core(bright, total)
    if defect[core].sum() > max(_ISOLATED * core.sum(), 2):
        # So many at once are a saturated star, or one that is unlike its kernel.
        defect &= ~core
    return defect, away


def _core(bright: np.ndarray, total: float) -> np.ndarray:
    """Mark the pixels in which the star is much."""
    return bright > max(_BRIGHT * total, _CORE * bright.max(), 1e-300)


def _star_like(smooth: np.ndarray, bright: np.ndarray) -> np.ndarray:
    """How much of a smooth rest is light of the star, by its distance from it."""
    y, x = np.unravel_index(bright.argmax(), bright.shape)
    v, u = np.mgrid[: smooth.shape[0], : smooth.shape[1]]
    ring = (np.hypot(u - x, v - y) / _WIDTH).astype(int)
    power = np.bincount(ring.ravel(), (smooth**2).ravel()) / np.bincount(ring.ravel())
    # What is found far away is what the pattern leaves when it is smoothed.
    far = float(np.median(power[len(power) // 2 :]))
    share = np.clip(1.0 - far / np.maximum(power, 1e-300), 0.0, 1.0)
    return share[ring]


def _departures(rest: np.ndarray, use: np.ndarray) -> np.ndarray:
    """Departures from the surface through the neighbours.

    A pixel that is not used is replaced by the median of its neighbours, and departs from that.
    """
    filled = np.where(use, rest, _around(np.where(use, rest, np.nan)))
    smooth = ndimage.convolve(filled, _SURFACE, mode="nearest")
    return np.where(np.isfinite(rest), rest - smooth, 0.0)


def _around(values: np.ndarray) -> np.ndarray:
    """Median of the eight neighbours that are known; of the whole image where none is."""
    padded = np.pad(values, 1, constant_values=np.nan)
    ny, nx = values.shape
    near = np.stack(
        [padded[b : b + ny, a : a + nx] for b in range(3) for a in range(3) if (a, b) != (1, 1)]
    ).reshape(8, -1)
    middle = column_median(near)
    usual = np.median(values[np.isfinite(values)]) if np.isfinite(values).any() else 0.0
    return np.where(np.isfinite(middle), middle, usual).reshape(values.shape)


def _sizes(away: np.ndarray, bright: np.ndarray, use: np.ndarray) -> tuple[float, float]:
    """Standard deviation of departures outside the star, and relative error of the kernel in it."""
    light = bright[use]
    faint = use & (bright <= np.median(light))
    total = mad_std(away[faint], center=0.0)
    inside = use & _core(bright, total)
    if inside.sum() < _ENOUGH:
        return total, _KERNEL_ERROR
    # A defect in the star is no error of the kernel.
    error = mad_std(away[inside] / bright[inside], center=0.0)
    return total, max(error, _LEAST_ERROR)
