"""Candidates for the star: summits of the correlation, and what speaks for each of them."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special

from tso_level3.planning.correlation import Surface, climb, correlation_surface, span
from tso_level3.utils.stats import mad_std, median

__all__ = ["NOWHERE", "Peak", "acquire", "summits", "weight"]

_CANDIDATES = 8
_POOR = 0.85
_CONVINCING = 0.9
# Candidates of less than this part of the greatest weight are not worth an exact place.
_HOPELESS = 0.02
# What resembles the kernel so much is no structure of the sky.
_SURELY = 0.8
# Pixels above this part of the kernel's peak are the star's core.
_CORE = 0.01
# Power of the likeness by which the flux is weighed: the side lobes of a pattern count little.
_SHARPNESS = 8
# Pixels from a peak within which one pixel may make it alone, and the part of the flux that must
# be left without the brightest of them.
_SPIKE, _LEFT = 1.6, 0.25


@dataclass(frozen=True)
class Peak:
    """Where an image resembles a kernel most.

    Attributes
    ----------
    x, y : float
        Position of the star, 0-based pixels; NaN where none was found.
    value : float
        Normalised correlation there, -1 to 1; NaN where none was found.
    overlap : float
        Fraction of the kernel's flux that falls on good pixels.
    flux : float
        Of the kernel fitted there, in the image's unit.
    likeness : float
        What the correlation would be without noise, 0 to 1; 0 for a single bright pixel.
    chance : float
        Probability that noise makes as good a peak, at any of the places searched that are no
        farther from where the star was expected.
    """

    x: float
    y: float
    value: float
    overlap: float
    flux: float = np.nan
    likeness: float = 0.0
    chance: float = 1.0


NOWHERE = Peak(np.nan, np.nan, np.nan, 0.0)


def acquire(
    image: np.ndarray,
    mask: np.ndarray | None,
    kernel: Any,
    *,
    near: tuple[float, float] | None = None,
    radius: float | None = None,
    reach: float = 10.0,
    min_overlap: float = 0.5,
) -> Peak:
    """Find a star.

    Parameters
    ----------
    image : ndarray
        (ny, nx) pixels; those that are not finite count as masked.
    mask : ndarray or None
        (ny, nx) bool, True where a pixel is bad.
    kernel : Kernel or GaussianKernel
        What the star looks like.
    near : tuple of float, optional
        Expected x, y: the farther a star is, the brighter must it be to be taken, see `weight`.
    radius : float, optional
        With ``near``: no peak farther from it than this, in pixels.
    reach : float, optional
        Pixels from ``near`` within which a distance counts little.
    min_overlap : float, optional
        Least fraction of the kernel's flux on good pixels, 0 to 1; where the kernel is
        larger than the frame, of the most that the frame can hold.

    Returns
    -------
    Peak
        NaN where no position has the overlap or the image is flat.  The caller judges by
        ``chance`` and ``value`` whether there was a star.

    Raises
    ------
    ValueError
        Where shapes do not match or a parameter is out of bounds.

    References
    ----------
    Padfield 2012, doi:10.1109/TIP.2011.2181402.
    """
    peaks = summits(
        image, mask, kernel, near=near, radius=radius, reach=reach, min_overlap=min_overlap
    )
    return max(peaks, key=lambda peak: weight(peak, near, reach), default=NOWHERE)


def weight(peak: Peak, near: tuple[float, float] | None = None, reach: float = 10.0) -> float:
    """Weigh a candidate: what resembles the star, is bright, and near where it is expected.

    Parameters
    ----------
    peak : Peak
        The candidate.
    near : tuple of float, optional
        Expected x, y.
    reach : float, optional
        Pixels within which the distance counts little; at three times as far a star must be a
        hundred times as bright.

    Returns
    -------
    float
        Greater for what is more likely meant; negative for what is no star.
    """
    if not (peak.value > 0 and peak.flux > 0 and peak.likeness > 0):
        return -1.0 + (peak.value if np.isfinite(peak.value) else -2.0) / 2
    far = 0.0 if near is None else _distance(peak, near) / reach
    return peak.flux * peak.likeness**_SHARPNESS / (1.0 + far**2) ** 2


def summits(
    image: np.ndarray,
    mask: np.ndarray | None,
    kernel: Any,
    *,
    near: tuple[float, float] | None = None,
    radius: float | None = None,
    reach: float = np.inf,
    min_overlap: float = 0.5,
) -> list[Peak]:
    """Find the places that may hold a star.

    Parameters
    ----------
    image, mask, kernel, near, radius, min_overlap
        As of `acquire`.
    reach : float, optional
        As of `acquire`; infinite: all distances are the same.

    Returns
    -------
    list of Peak
        Those that resemble the kernel most and those that are brightest, exact to the
        correlation's own summit; empty where there is none.

    Raises
    ------
    ValueError
        Where shapes do not match or a parameter is out of bounds.
    """
    image, good = _checked(image, mask)
    if not 0 < min_overlap <= 1:
        raise ValueError(f"min_overlap is {min_overlap!r}; expected a fraction in (0, 1]")
    if radius is not None and (near is None or not radius > 0):
        raise ValueError(
            f"radius is {radius!r} with near {near!r}; expected a positive radius and a position"
        )
    x0 = y0 = 0
    if radius is not None and near is not None:
        # pixels that no allowed position touches only cost time
        left, right, below, above = kernel.extent
        cols = span(near[0] - radius - 1 + left, near[0] + radius + 1 + right, image.shape[1])
        rows = span(near[1] - radius - 1 + below, near[1] + radius + 1 + above, image.shape[0])
        image, good, x0, y0 = image[rows, cols], good[rows, cols], cols.start, rows.start
        near = (near[0] - x0, near[1] - y0)
    if np.count_nonzero(good) < 9:
        return []
    surface = correlation_surface(image, good, kernel)
    found = _summits(image, good, kernel, surface, (near, radius, min_overlap), reach)
    if not any(peak.value > _POOR for peak in found):
        # a star at the edge of the frame has little of its flux inside, but what there is
        # fits; of a match by chance so much is asked that it does not get through
        edge = _summits(image, good, kernel, surface, (near, radius, 0.3 * min_overlap), reach)
        found += [peak for peak in edge if peak.value > _CONVINCING]
    return [replace(peak, x=peak.x + x0, y=peak.y + y0) for peak in found]


def _summits(
    image: np.ndarray,
    good: np.ndarray,
    kernel: Any,
    surface: Surface,
    limits: tuple,
    reach: float,
) -> list[Peak]:
    """Exact summits of the surface within the limits (near, radius, overlap)."""
    near, radius, _ = limits
    allowed = _allowed(surface, *limits)
    heights = surface.height[allowed & np.isfinite(surface.value)]
    if not heights.size:
        return []
    middle, spread = median(heights), mad_std(heights)
    noise = _pixel_noise(image, good)

    def fitted(x: float, y: float, value: float, over: float) -> Peak:
        far = np.inf if near is None else float(np.hypot(x - near[0], y - near[1]))
        # what is expected here need not be told from noise as far away as the search goes
        trials = float(np.minimum(np.count_nonzero(allowed), np.pi * (far + 1.5) ** 2))
        return _fitted(image, good, kernel, (x, y, value), noise, over, trials)

    rough, overs = [], []
    for row, column in _candidates(surface, allowed):
        over = (surface.height[row, column] - middle) / spread if spread > 0 else np.inf
        x, y = float(surface.x0 + column), float(surface.y0 + row)
        rough.append(fitted(x, y, surface.value[row, column], over))
        overs.append(over)
    # what noise does anywhere is not worth an exact place, unless there is nothing else
    weights = [
        weight(peak, near, reach) if peak.chance < 1.0 else peak.value - 2.0 for peak in rough
    ]
    best = max(weights, default=0.0)
    least = _HOPELESS * best if best > 0 else best
    found = []
    for peak, own, over in zip(rough, weights, overs, strict=True):
        if own < least:
            continue
        x, y, value = climb(image, good, kernel, peak.x, peak.y)
        far = 0.0
        if radius is not None and near is not None:
            far = float(np.hypot(x - near[0], y - near[1])) - radius
        if np.isfinite(value) and far <= 0.5:
            found.append(fitted(x, y, value, over))
    return found


def _distance(peak: Peak, near: tuple[float, float]) -> float:
    return float(np.hypot(peak.x - near[0], peak.y - near[1]))


def _pixel_noise(image: np.ndarray, good: np.ndarray) -> float:
    """Noise of a pixel, from the differences of neighbours."""
    pairs = good[:, 1:] & good[:, :-1]
    differences = (image[:, 1:] - image[:, :-1])[pairs]
    return mad_std(differences) / np.sqrt(2.0) if differences.size >= 3 else 0.0


def _allowed(
    surface: Surface,
    near: tuple[float, float] | None,
    radius: float | None,
    min_overlap: float,
) -> np.ndarray:
    """(my, mx) bool: places within the limits."""
    # a star larger than the frame never has all of its flux inside
    allowed = surface.overlap >= min_overlap * min(1.0, surface.overlap.max())
    if radius is not None and near is not None:
        my, mx = allowed.shape
        x, y = surface.x0 + np.arange(mx), surface.y0 + np.arange(my)
        allowed &= (x[None, :] - near[0]) ** 2 + (y[:, None] - near[1]) ** 2 <= radius**2
    return allowed


def _candidates(surface: Surface, allowed: np.ndarray) -> list[tuple[int, int]]:
    """Rows and columns of the local maxima that correlate best, and of those that are highest."""
    value = np.where(allowed, surface.value, -np.inf)
    my, mx = value.shape
    padded = np.pad(value, 1, constant_values=-np.inf)
    summit = value > -np.inf
    for dy in range(3):
        for dx in range(3):
            if (dy, dx) != (1, 1):
                summit &= value >= padded[dy : dy + my, dx : dx + mx]
    rows, cols = np.nonzero(summit)
    best: dict[int, None] = {}
    for score in (value[rows, cols], surface.height[rows, cols]):
        order = np.argsort(-score, kind="stable")[:_CANDIDATES]
        best.update(dict.fromkeys(order.tolist()))
    return [(int(rows[i]), int(cols[i])) for i in best]


def _fitted(
    image: np.ndarray,
    good: np.ndarray,
    kernel: Any,
    place: tuple[float, float, float],
    noise: float,
    over: float,
    trials: float,
) -> Peak:
    """Fit kernel and level at a place, and say whether a star is there.

    ``place`` is x, y and the correlation there; ``noise`` is that of a pixel; ``over`` are the
    sigmas above the other places of the surface: they know structure of the sky, but where a star
    fills the frame all of them hold it.
    """
    x, y, value = place
    left, right, below, above = kernel.extent
    u = np.arange(np.ceil(x + left), np.floor(x + right) + 1.0)
    v = np.arange(np.ceil(y + below), np.floor(y + above) + 1.0)
    values = kernel.evaluate(u - x, v - y)
    rows, cols = np.ix_(v.astype(int), u.astype(int))
    inside = (rows >= 0) & (rows < good.shape[0]) & (cols >= 0) & (cols < good.shape[1])
    rows, cols = np.clip(rows, 0, good.shape[0] - 1), np.clip(cols, 0, good.shape[1] - 1)
    lit = inside & good[rows, cols]
    overlap = float(values[lit].sum() / values.sum())
    data, model = image[rows, cols][lit], values[lit]
    data, model = data - data.mean(), model - model.mean()
    norm = float(np.sqrt(model @ model))
    height = float(data @ model) / norm
    n = len(data)
    # the light of a neighbour, away from the core, does not stand against a star
    core = values[lit] > _CORE * values[lit].max()
    likeness = _likeness(data[core], model[core], noise) if core.sum() >= 9 else 0.0
    likeness = max(likeness, _likeness(data, model, noise))
    # the light of a hot pixel, or of a cosmic ray, is gone with the pixel; that of a star is not
    near = (np.abs(u - x) < _SPIKE) & (np.abs(v - y) < _SPIKE)[:, None]
    rest_of = np.ones(n, bool)
    rest_of[np.argmax(np.where(near[lit], data, -np.inf))] = False
    others, shape = data[rest_of], model[rest_of] - model[rest_of].mean()
    if others @ shape < _LEFT * (height / norm) * (shape @ shape):
        likeness = 0.0
    sigmas = min(height / noise if noise > 0 else np.inf, over)
    if value > _SURELY:
        # of white noise alone, Fisher's transform of the correlation is normal
        alone = np.arctanh(min(value, 1.0 - 1e-12)) * np.sqrt(max(n - 3, 0))
        sigmas = max(sigmas, alone)
    chance = float(min(1.0, trials * special.ndtr(-sigmas)))
    return Peak(x, y, value, overlap, height / norm, float(likeness), chance)


def _likeness(data: np.ndarray, model: np.ndarray, noise: float) -> float:
    """Correlation of data and model, what noise of a pixel does to it set aside; 0 at the least."""
    data, model = data - data.mean(), model - model.mean()
    height, n = float(data @ model) / max(float(np.sqrt(model @ model)), 1e-300), len(data)
    if not height > 0:
        return 0.0
    rest = max(float(data @ data) - height**2, 0.0)
    # what noise leaves is no unlikeness, nor what it may leave now and then
    unlike = max(rest - noise**2 * (n + 3.0 * np.sqrt(2.0 * n)), 0.0)
    return height / float(np.sqrt(height**2 + unlike))


def _checked(image: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Image with zeros for what is not finite, and which pixels count."""
    image = np.asarray(image, dtype=np.float64)
    if image.ndim != 2:
        raise ValueError(f"image has shape {image.shape}; expected two dimensions")
    good = np.isfinite(image)
    if mask is not None:
        mask = np.asarray(mask, dtype=bool)
        if mask.shape != image.shape:
            raise ValueError(f"mask has shape {mask.shape}; expected the image's, {image.shape}")
        good &= ~mask
    return np.where(good, image, 0.0), good
