"""Light of other sources in the apertures, and an uneven sky, from the mean image.

Both are flux that does not vary with the star and change the depth of a transit, and neither shows
in the scatter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from tso_level3.core.plan import Plan, computed_star
from tso_level3.psf.kernel import FWHM
from tso_level3.utils.stats import mad_std

__all__ = ["Neighbour", "Surroundings", "surroundings_of"]

# A neighbour exceeds the star's image by this fraction, the noise by this many standard deviations,
# and this fraction of the star's peak, on this many pixels, at this distance in FWHM.
_EXCESS, _SIGMAS, _PEAK, _PIXELS, _APART = 0.75, 6.0, 3e-3, 5, 1.2
# Least flux of a neighbour over that of the star.
_BRIGHT = 3e-3
# Number of sectors of the annulus, of about the area of the aperture.
_FEWEST, _MOST = 8, 24
# Minimum number of pixels of an annulus.
_RING = 32


@dataclass(frozen=True)
class Neighbour:
    """Another source beside the star.

    Attributes
    ----------
    x, y : float
        Position [pix].
    flux : float
        Its flux over that of the star.
    """

    x: float
    y: float
    flux: float


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Other sources and an uneven sky.

    Attributes
    ----------
    neighbours : tuple of Neighbour
        Other sources, the brightest first.
    dilution : ndarray, (n_radii + 1,)
        Fraction of the flux of each aperture, and of the template fit, from other sources.
    uneven : ndarray, (n_radii,)
        Fraction of the flux of each aperture by which an uneven sky may change it.
    """

    neighbours: tuple[Neighbour, ...]
    dilution: np.ndarray
    uneven: np.ndarray


def surroundings_of(plan: Plan, frames: int) -> Surroundings:
    """Find other sources and an uneven sky on the mean image of an exposure.

    Parameters
    ----------
    plan : Plan
        The plan of the measurement; its template is the mean image.
    frames : int
        Number of integrations in the mean image.

    Returns
    -------
    Surroundings
        Sources are excesses over the image rotated by 180 degrees, and over the kernel where it
        is computed.
    """
    template, layout = plan.template, plan.layout
    box, near = layout.box, layout.n_near
    shown = template.node((0, 0)).terms[0].copy()
    shown[plan.dead] = np.nan
    image = np.full(box.shape, np.nan)
    image.reshape(-1)[layout.index] = shown
    at = (template.x - box.x, template.y - box.y)
    fwhm = FWHM * float(np.sqrt(np.prod(np.abs(plan.gauss_start[3:5]))))
    sigma = np.full(box.shape, np.inf)
    sigma.reshape(-1)[layout.index] = np.sqrt(plan.noise.total / max(frames, 1))
    image -= _plane(image, at, plan)
    extra, neighbours = _extra(image, _star(image, at, plan), sigma, at, fwhm)
    found = tuple(
        Neighbour(float(x + box.x), float(y + box.y), float(flux / template.flux))
        for x, y, flux in neighbours
        if flux > _BRIGHT * template.flux
    )
    light = extra.reshape(-1)[layout.index]
    total = np.nan_to_num(shown)
    fit = slice(0, layout.n_fit)
    power = float(plan.weights @ total[fit] ** 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        apertures = (plan.overlap @ light[:near]) / (plan.overlap @ total[:near])
    fitted = float(plan.weights @ (light[fit] * total[fit])) / power if power > 0 else 0.0
    dilution = (
        np.nan_to_num(np.append(apertures, fitted)) if found else np.zeros(len(plan.radii) + 1)
    )
    return Surroundings(found, np.clip(dilution, 0.0, 0.99), _uneven(plan, total, frames))


def _plane(image: np.ndarray, at: tuple[float, float], plan: Plan) -> np.ndarray:
    """Slope of the sky in the annulus, which is no source."""
    v, u = np.mgrid[: image.shape[0], : image.shape[1]]
    if not plan.background.rings or plan.background.rings[0].size < _RING:
        return np.zeros(image.shape)
    ring = plan.layout.index[plan.background.rings[0]]
    ring = ring[np.isfinite(image.reshape(-1)[ring])]
    design = np.stack([(u - at[0]).ravel(), (v - at[1]).ravel(), np.ones(image.size)], axis=1)
    slope = np.linalg.lstsq(design[ring], image.reshape(-1)[ring], rcond=None)[0]
    return (design[:, :2] @ slope[:2]).reshape(image.shape)


def _star(image: np.ndarray, at: tuple[float, float], plan: Plan) -> np.ndarray:
    """Largest brightness of the star per pixel: of its opposite side, or of its kernel."""
    v, u = np.mgrid[: image.shape[0], : image.shape[1]]
    known = np.isfinite(image)
    mirrored = ndimage.map_coordinates(
        np.where(known, image, 0.0), [2 * at[1] - v, 2 * at[0] - u], order=1, cval=np.nan
    )
    # Unknown where the opposite side is outside the frame.
    star = np.where(np.isfinite(mirrored), mirrored, np.inf)
    computed = computed_star(plan.correlator.kernel, plan.template, plan.layout)
    if computed is not None:
        place = plan.layout.index
        star.reshape(-1)[place] = np.maximum(star.reshape(-1)[place], computed)
    return star


def _extra(
    image: np.ndarray,
    star: np.ndarray,
    sigma: np.ndarray,
    at: tuple[float, float],
    fwhm: float,
) -> tuple[np.ndarray, list[tuple[float, float, float]]]:
    """Light of other sources in each pixel, and x, y and flux of each source."""
    away = np.nan_to_num(image - star, nan=0.0, neginf=0.0)
    v, u = np.mgrid[: image.shape[0], : image.shape[1]]
    far = np.hypot(u - at[0], v - at[1]) > _APART * fwhm
    least = np.maximum(_SIGMAS * sigma, _PEAK * np.nanmax(image))
    # The interpolated image is too faint at a peak between pixels.
    highest = np.maximum(ndimage.maximum_filter(star, 3), 0.0)
    bright = far & (image - highest > np.maximum(_EXCESS * highest, least))
    labels, count = ndimage.label(bright, np.ones((3, 3)))
    extra, found = np.zeros(image.shape), []
    for k in range(1, count + 1):
        if (labels == k).sum() < _PIXELS:
            continue
        # Includes the wings below the threshold.
        own = ndimage.binary_dilation(labels == k, iterations=max(int(1.5 * fwhm), 2))
        light = np.where(own, np.maximum(away, 0.0), 0.0)
        extra = np.maximum(extra, light)
        flux = light.sum()
        found.append(((u * light).sum() / flux, (v * light).sum() / flux, flux))
    return extra, sorted(found, key=lambda item: -item[2])


def _uneven(plan: Plan, image: np.ndarray, frames: int) -> np.ndarray:
    """Scatter between sectors of the annulus, over the flux of each aperture.

    A plane is subtracted first: it cancels in an annulus around the star.
    """
    none = np.zeros(len(plan.radii))
    if not plan.background.rings or plan.background.mode == "none":
        return none
    ring = plan.background.rings[0]
    areas = plan.overlap.sum(axis=1)
    if len(ring) < _RING:
        return none
    values = image[ring] + (
        0.0 if plan.background.pattern is None else plan.background.pattern[ring]
    )
    u = plan.layout.columns[ring] - plan.template.x
    v = plan.layout.rows[ring] - plan.template.y
    wings = computed_star(plan.correlator.kernel, plan.template, plan.layout)
    if wings is not None:
        values = values - wings[ring]
    radius = np.hypot(u, v)
    design = np.stack([np.ones_like(u), u, v, radius - radius.mean()], axis=1)
    values = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    angle = np.arctan2(v, u)
    # Scatter from pixel to pixel, corrected for the noise of the mean.
    noise = plan.noise.total[ring].mean() / max(frames, 1)
    white = np.sqrt(max(mad_std(values) ** 2 - noise, 0.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        flux = plan.overlap @ image[: plan.layout.n_near]
    out = none.copy()
    for k, area in enumerate(areas):
        count = int(np.clip(round(len(ring) / max(area, 1.0)), _FEWEST, _MOST))
        sector = np.minimum(((angle + np.pi) / (2 * np.pi) * count).astype(int), count - 1)
        size = np.bincount(sector, minlength=count)
        use = size > 0.5 * len(ring) / count
        if use.sum() < 4:
            continue
        means = np.bincount(sector, values, minlength=count)[use] / size[use]
        sigma = mad_std(means) if count >= 2 * _FEWEST else float(means.std(ddof=1))
        sigma *= np.sqrt(area * min(area, len(ring) / count))
        out[k] = max(sigma, white * np.sqrt(area)) / abs(flux[k])
    return out
