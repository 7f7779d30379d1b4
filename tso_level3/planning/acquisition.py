"""Acquisition: which of the things on an image is the star that was meant."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tso_level3.config.modes import is_weak_lens
from tso_level3.config.settings import Settings
from tso_level3.core.gaussian import fit_gaussians
from tso_level3.datatypes import Box, Exposure, Optics
from tso_level3.planning.empirical import refine_defocus, scan_range
from tso_level3.planning.star_search import Peak, acquire, summits, weight
from tso_level3.psf import kernel as kernels
from tso_level3.psf.refine import refine_wavefront

__all__ = ["BY_CHANCE", "Found", "expected_position", "find_star", "search_radius"]

#: A star is one that noise makes by chance less often than this; otherwise it is faint, or none.
BY_CHANCE = 1e-4
# Farther than this [pix] from where it is expected no star is looked for.
_SEARCH = 32.0
# Distances [pix] that weigh little: from a position that is given, and from a reference point.
_GIVEN, _PLANNED = 5.0, 10.0
# On images binned by each of these factors a Gaussian of one width finds stars of all widths.
_BINNING = (1, 2, 4, 8)
_LEAST_SIDE = 12
_CANDIDATES = 12
# Light of other stars within so many widths stands against one that is not expected anywhere.
_CROWDED = 4.0
# What resembles the kernel less, noise set aside, is no star.
_LIKE_A_STAR = 0.3
# Of a star that is nearer than so many widths to the edge of the frame something is missing.
_WHOLE, _EDGE = 2.5, 0.05
# Where so large a part of the height is reached by more pixels than these, and than this part of
# the width squared, the top is flat: saturated, or no star.
_TOP, _FLAT, _FLAT_AREA = 0.97, 4.0, 0.15
_IF_FLAT = 0.01


@dataclass(frozen=True, eq=False)
class Found:
    """The star on the median of a few frames.

    Attributes
    ----------
    x, y : float
        Where it is.
    value, overlap : float
        Normalised correlation, and fraction of the kernel inside the frame.
    chance : float
        Probability that noise alone makes as good a peak.
    kernel : Kernel or GaussianKernel
        What it was found with.
    fwhm : float
        Width of its image [pix].
    """

    x: float
    y: float
    value: float
    overlap: float
    chance: float
    kernel: Any
    fwhm: float


@dataclass(frozen=True, eq=False)
class _Search:
    """The image, and where on it the star is looked for."""

    image: np.ndarray
    mask: np.ndarray
    expected: tuple[float, float]
    radius: float
    #: Distance that weighs little [pix]; None: the star is not expected anywhere.
    reach: float | None


def expected_position(exposure: Exposure, settings: Settings) -> tuple[float, float] | None:
    """Tell where the star is expected.

    Parameters
    ----------
    exposure : Exposure
        The frames.
    settings : Settings
        The parameters.

    Returns
    -------
    (float, float) or None
        The position that is given, or the exposure's reference point; None where there is none
        inside the frame.

    Raises
    ------
    ValueError
        The position that is given lies outside the frame.
    """
    ny, nx = exposure.shape
    for given, place in ((True, settings.position), (False, exposure.position)):
        if place is None:
            continue
        x, y = place
        if -0.5 <= x <= nx - 0.5 and -0.5 <= y <= ny - 0.5:
            return float(x), float(y)
        if given:
            raise ValueError(
                f"position: ({x:g}, {y:g}) found, expected a place inside the frame of {nx} x {ny}"
            )
    return None


def search_radius(exposure: Exposure, settings: Settings) -> float:
    """Say how far from the expected position the star may be.

    Parameters
    ----------
    exposure : Exposure
        The frames.
    settings : Settings
        The parameters.

    Returns
    -------
    float
        The distance [pix].
    """
    if settings.search_box_width is not None:
        return max(settings.search_box_width / 2, 2.0)
    if expected_position(exposure, settings) is None:
        return float(max(exposure.shape))
    return _SEARCH


def find_star(image: np.ndarray, exposure: Exposure, settings: Settings) -> Found:
    """Find the star on an image, with the kernel that fits it.

    Near an expected position it is the one that resembles the kernel, is bright and near;
    otherwise the brightest that stands alone and whole.

    Parameters
    ----------
    image : ndarray, (ny, nx)
        The image, such as the median of a few frames; NaN where a pixel is bad.
    exposure : Exposure
        Where it comes from.
    settings : Settings
        The parameters.

    Returns
    -------
    Found
        The star; by its ``chance`` it may be none.

    Raises
    ------
    ValueError
        There is none near a position that is given, or nothing at all.
    """
    ny, nx = image.shape
    expected = expected_position(exposure, settings)
    given = settings.position is not None
    search = _Search(
        image,
        ~np.isfinite(image),
        expected or ((nx - 1) / 2, (ny - 1) / 2),
        search_radius(exposure, settings),
        None if expected is None else (_GIVEN if given else _PLANNED),
    )
    optics = exposure.optics
    if is_weak_lens(optics) and settings.kernel in ("auto", "jwst", "empirical"):
        find = partial(_defocused, optics=optics)
        found = find(search)
    else:
        kernel = _kernel(settings, optics)
        find = partial(_gaussian if kernel.kind == "gaussian" else _sampled, kernel=kernel)
        found = find(search)
        if settings.kernel == "empirical" and kernel.kind == "jwst" and found is not None:
            found = _refined(search, found, optics)
    # With a fixed centre what is asked for is the light at a place, star or not.
    fixed = not settings.centroid_source or settings.center == "position"
    if found is not None and not found.chance <= BY_CHANCE and fixed:
        return dataclasses.replace(found, x=search.expected[0], y=search.expected[1])
    if found is None or (given and not found.chance <= BY_CHANCE):
        raise _no_star(search, find)
    return found


def _no_star(search: _Search, find: Callable[[_Search], Found | None]) -> ValueError:
    """Say that there is none, and where one is."""
    x, y = search.expected
    ny, nx = search.image.shape
    middle = ((nx - 1) / 2, (ny - 1) / 2)
    best = find(dataclasses.replace(search, expected=middle, radius=float(max(nx, ny)), reach=None))
    elsewhere = "expected one"
    if best is not None and best.chance <= BY_CHANCE:
        elsewhere = f"the brightest of the frame is at ({best.x:.1f}, {best.y:.1f})"
    return ValueError(
        f"position: no star found within {search.radius:g} pixels of ({x:.1f}, {y:.1f}); "
        f"{elsewhere}"
    )


def _sampled(search: _Search, kernel: Any) -> Found | None:
    """Find the star with a kernel whose width is known."""
    found_near = partial(
        summits, near=search.expected, radius=search.radius, reach=search.reach or np.inf
    )
    peaks = found_near(search.image, search.mask, kernel)
    if not peaks:
        peaks = found_near(search.image, search.mask, kernel, min_overlap=0.2)
    fwhm = kernels.fwhm(kernel)
    return _meant(search, [_found(peak, kernel, fwhm) for peak in peaks], peaks)


def _found(peak: Peak, kernel: Any, fwhm: float) -> Found:
    chance = peak.chance if peak.likeness > _LIKE_A_STAR else 1.0
    return Found(peak.x, peak.y, peak.value, peak.overlap, chance, kernel, fwhm)


def _gaussian(search: _Search, kernel: Any) -> Found | None:
    """Find the star with a Gaussian that takes the width of each candidate."""
    width = kernels.fwhm(kernel)
    rough: list[tuple[float, float, float, Peak]] = []
    scales = [n for n in _BINNING if n == 1 or min(search.image.shape) >= n * _LEAST_SIDE]
    for n in scales:
        image = _binned(search.image, n)
        middle = 0.5 * (n - 1)
        found_near = partial(
            summits,
            near=((search.expected[0] - middle) / n, (search.expected[1] - middle) / n),
            radius=max(search.radius / n, 2.0),
            reach=(search.reach or np.inf) / n,
        )
        peaks = found_near(image, None, kernel)
        if not peaks and n == 1:
            peaks = found_near(image, None, kernel, min_overlap=0.2)
        for peak in peaks:
            x, y = (n * place + middle for place in (peak.x, peak.y))
            chance = min(1.0, len(scales) * peak.chance)
            same = dataclasses.replace(peak, x=x, y=y, flux=peak.flux * n**2, chance=chance)
            rough.append((_score(search, same, n * width), n * width, chance, same))
    rough.sort(key=lambda item: -item[0])
    sure = [item for item in rough if item[2] <= BY_CHANCE][:_CANDIDATES] or rough[:1]
    found, peaks = [], []
    for _, fwhm, chance, peak in sure:
        own, fwhm = _own_gaussian(search.image, peak.x, peak.y, kernel, fwhm)
        near, radius = (peak.x, peak.y), max(fwhm, 3.0)
        better = acquire(search.image, search.mask, own, near=near, radius=radius)
        better = dataclasses.replace(better if np.isfinite(better.value) else peak, chance=chance)
        found.append(_found(better, own, fwhm))
        peaks.append(better)
    return _meant(search, found, peaks)


def _meant(search: _Search, found: list[Found], peaks: list[Peak]) -> Found | None:
    """Choose among candidates."""
    sure = [k for k, item in enumerate(found) if item.chance <= BY_CHANCE]
    if not sure:
        scores = [_score(search, peak, item.fwhm) for item, peak in zip(found, peaks, strict=True)]
        return found[int(np.argmax(scores))] if found else None

    def score(k: int) -> float:
        own = _score(search, peaks[k], found[k].fwhm)
        if search.reach is not None or own <= 0:
            return own
        flux = peaks[k].flux
        crowd = sum(peaks[j].flux for j in sure if _beside(found[j], found[k], peaks[j]))
        return own * flux / (flux + crowd)

    return found[max(sure, key=score)]


def _beside(other: Found, one: Found, peak: Peak) -> bool:
    """Tell whether another star is so near that it disturbs."""
    far = np.hypot(other.x - one.x, other.y - one.y)
    apart = far > 0.75 * max(other.fwhm, one.fwhm)
    return apart and far < _CROWDED * one.fwhm and peak.likeness > _LIKE_A_STAR


def _score(search: _Search, peak: Peak, fwhm: float) -> float:
    """Weigh a candidate by itself."""
    if search.reach is not None:
        return weight(peak, search.expected, search.reach)
    score = weight(peak)
    if score <= 0:
        return score
    ny, nx = search.image.shape
    edge = 0.5 + min(peak.x, peak.y, nx - 1 - peak.x, ny - 1 - peak.y)
    score *= np.clip(edge / (_WHOLE * fwhm), _EDGE, 1.0)
    cut = search.image[Box.around(peak.x, peak.y, max(fwhm, 2.0), search.image.shape).slices]
    level = np.nanmedian(search.image)
    top = np.count_nonzero(cut - level >= _TOP * (np.nanmax(cut, initial=level) - level))
    return score * (_IF_FLAT if top > _FLAT + _FLAT_AREA * fwhm**2 else 1.0)


def _binned(image: np.ndarray, n: int) -> np.ndarray:
    """Average blocks of n x n pixels; NaN where most of them are bad."""
    if n == 1:
        return image
    ny, nx = (side // n for side in image.shape)
    blocks = image[: ny * n, : nx * n].reshape(ny, n, nx, n)
    good = np.isfinite(blocks)
    count = good.sum(axis=(1, 3))
    total = np.where(good, blocks, 0.0).sum(axis=(1, 3))
    return np.where(count > n * n // 2, total / np.maximum(count, 1), np.nan)


def _defocused(search: _Search, optics: Optics) -> Found | None:
    """Find a weak-lens image and refine the defocus of its kernel on it."""

    def make(waves: float) -> Any:
        return kernels.jwst_kernel(**_setup(optics), waves=waves)

    nominal = kernels.nominal_waves(optics.instrument, optics.filter, optics.pupil)
    refined = refine_defocus(
        search.image,
        search.mask,
        make,
        None if search.reach is None else search.expected,
        scan=scan_range(nominal),
        radius=search.radius,
    )
    if not np.isfinite(refined.correlation):
        return None
    found = _sampled(search, refined.kernel)
    if found is None:
        return None
    return dataclasses.replace(found, x=refined.x, y=refined.y, value=refined.correlation)


def _refined(search: _Search, found: Found, optics: Optics) -> Found:
    """Fit the telescope's wavefront to a star in focus."""
    if not found.chance <= BY_CHANCE:
        return found
    make = partial(kernels.jwst_kernel, **_setup(optics))
    kernel = refine_wavefront(search.image, search.mask, make, (found.x, found.y)).kernel
    peak = acquire(search.image, search.mask, kernel, near=(found.x, found.y), radius=3.0)
    if not np.isfinite(peak.value):
        return found
    better = _found(peak, kernel, kernels.fwhm(kernel))
    return dataclasses.replace(better, chance=found.chance)


def _setup(optics: Optics) -> dict[str, Any]:
    names = ("instrument", "filter", "pupil", "detector")
    return {name: getattr(optics, name) for name in names}


def _kernel(settings: Settings, optics: Optics) -> Any:
    """Make or load the kernel that the settings ask for."""
    setup = _setup(optics)
    if settings.kernel in ("auto", "jwst", "gaussian"):
        return kernels.choose_kernel(settings.kernel, **setup)
    if settings.kernel == "empirical":
        return kernels.choose_kernel("auto", **setup)
    from tso_level3.readers.kernels import load_kernel, stpsf_kernel

    if settings.kernel == "stpsf":
        return stpsf_kernel(**setup)
    scale = optics.pixel_scale if np.isfinite(optics.pixel_scale) else None
    if scale is None and kernels.known(optics.instrument, optics.filter, optics.pupil):
        scale = kernels.pixel_scale(**setup)
    return load_kernel(settings.kernel, pixel_scale=scale, **setup)


def _own_gaussian(
    image: np.ndarray, x: float, y: float, kernel: Any, fwhm: float
) -> tuple[Any, float]:
    """Give the Gaussian kernel the width of the star itself."""
    box = Box.around(x, y, max(10, int(3 * fwhm)), image.shape)
    cut = image[box.slices]
    good = np.isfinite(cut)
    if good.any():
        level = np.median(cut[good])
        near = image[Box.around(x, y, max(2, int(fwhm)), image.shape).slices]
        height = max(np.nanmax(near, initial=level) - level, 1e-12)
        start = [height, x, y, fwhm / 2.355, fwhm / 2.355, level]
        found = fit_gaussians(
            np.where(good, cut, 0.0)[None],
            good.astype(float),
            np.array([start]),
            origin=(box.x, box.y),
        )
        if found.ok[0]:
            widths = np.clip(found.parameters[0, 3:5], 0.4, 0.25 * min(image.shape))
            sigma = float(np.sqrt(widths[0] * widths[1]))
            sigma = round(sigma, 4)
            return kernels.GaussianKernel(sigma, sigma), 2.3548 * float(np.hypot(sigma, 0.29))
    sigma = fwhm / 2.3548
    sigma = round(sigma, 4)
    return kernels.GaussianKernel(sigma, sigma), fwhm
