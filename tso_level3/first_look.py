"""The first look at an exposure: find the star, choose kernel and apertures, settle the plan."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tso_level3.core.correlate import acquire
from tso_level3.core.flicker_choice import rows_differ
from tso_level3.core.gaussian import fit_gaussians
from tso_level3.core.geometry import fit_box, geometry_of
from tso_level3.core.look import Sample, settle
from tso_level3.core.measure import marked
from tso_level3.core.noise import column_median
from tso_level3.core.plan import Plan, make_layout
from tso_level3.executors import one_thread
from tso_level3.flags import Flag, dq_mask
from tso_level3.frames import Box, Exposure, Optics, Pixels
from tso_level3.modes import Mode, is_weak_lens, mode_of
from tso_level3.progress import showing
from tso_level3.psf import kernel as kernels
from tso_level3.psf.empirical import refine_defocus, scan_range
from tso_level3.quality.choice import Wish
from tso_level3.sampling import draw, load_frames, spread
from tso_level3.settings import Settings
from tso_level3.wishes import wish_of, with_aperture_of

__all__ = ["first_look"]

log = logging.getLogger(__name__)

_GLANCE = 11
_SAMPLE = 192
_SAMPLE_BYTES = 24_000_000
_GLANCE_BYTES = 40_000_000
_BAND = 300_000  # pixels
#: Below this correlation with its kernel a star is too faint, or none.
FAINT = 0.3
# Nor is it one below this, whatever the noise.
_NOTHING = 0.05
# Farther than this [pix] from where it is expected no star is looked for.
_SEARCH = 32.0
# Widths [pix] of the Gaussians that are tried where the first is not convincing.
_WIDER = (5.0, 8.0, 12.0, 20.0)
_CONVINCING = 0.8


@dataclass(frozen=True, eq=False)
class Found:
    """The star on the median of a few frames.

    Attributes
    ----------
    x, y : float
        Where it is.
    value, overlap : float
        Normalised correlation, and fraction of the kernel inside the frame.
    kernel : Kernel or GaussianKernel
        What it was found with.
    fwhm : float
        Width of its image [pix].
    """

    x: float
    y: float
    value: float
    overlap: float
    kernel: Any
    fwhm: float


def first_look(
    exposure: Exposure,
    settings: Settings,
    *,
    progress: Callable[[str, int], Any] | None = None,
) -> tuple[Plan, Wish]:
    """Look at a few frames, find the star, and settle the plan on a sample.

    Parameters
    ----------
    exposure : Exposure
        The frames.
    settings : Settings
        The parameters.
    progress : callable, optional
        Makes a progress bar.

    Returns
    -------
    (Plan, Wish)
        What every chunk is measured with, and what is quoted where noise does not decide.

    Raises
    ------
    ValueError
        There is no good pixel or no star.
    """
    settings = with_aperture_of(settings)
    expected = _expected_position(exposure, settings)
    image = _glance(exposure, expected, settings)
    found = _find(image, exposure, settings, expected)
    mode = mode_of(exposure.optics, found.fwhm, exposure.shape)
    good = np.isfinite(image)
    geometry = geometry_of(settings, mode, found.x, found.y, exposure.shape, good)
    margin = 1.5 if settings.moving_centroid else 0.5
    center = (found.x, found.y) if settings.centroid_source else expected
    with one_thread():

        def settled(flicker: str) -> tuple[Sample, Plan]:
            layout = make_layout(
                center,
                exposure.shape,
                fit=fit_box(settings, mode, found.x, found.y, exposure.shape),
                reach=float(geometry.radii[-1]) + margin,
                annuli=geometry.annuli,
                whole_frame=settings.background == "frame",
                full_rows=flicker != "none",
            )
            rows = spread(exposure.n_int, _sample_size(layout.box.nx * layout.box.ny))
            with showing(progress, "first look", len(rows)) as tick:
                mask = dq_mask(settings.dq_bits)
                drawn = draw(exposure, rows, layout.box, dq_mask=mask, tick=tick)
            sample = Sample(
                pixels=drawn.pixels,
                scale=drawn.scale,
                variance=drawn.variance,
                layout=layout,
                geometry=geometry,
                kernel=found.kernel,
                mode=mode,
                x=found.x,
                y=found.y,
                fwhm=found.fwhm,
                position=expected,
                has_errors=exposure.has_errors and "errors" in drawn.variance,
                unit=exposure.unit,
            )
            own = settings.replace(flicker=flicker)
            return sample, settle(sample, own, empirical=settings.kernel == "empirical")

        auto = settings.flicker == "auto"
        sample, plan = settled("none" if auto else settings.flicker)
        # MIRI's rows have no offsets of their own.
        if auto and exposure.optics.instrument != "MIRI" and not plan.template.lost:
            if rows_differ(plan, sample.pixels, sample.scale):
                del sample
                _, plan = settled("auto")
    return _described(plan, found, mode, geometry.notes), wish_of(settings, mode, geometry)


def _described(plan: Plan, found: Found, mode: Mode, notes: tuple[str, ...]) -> Plan:
    """Add what was found, in plain values, and the flag of a faint star."""
    notes = list(notes)
    flags = plan.flags
    if not found.value >= FAINT:
        flags |= int(Flag.FAINT)
        notes.append(
            f"the star is faint: correlation {found.value:.2f} with the kernel at "
            f"({found.x:.1f}, {found.y:.1f}), expected {FAINT} or more"
        )
        log.warning("%s.", notes[-1].capitalize())
    kernel = plan.correlator.kernel
    info = {
        "mode": mode.name,
        "kernel": {"kind": kernel.kind, **kernel.description},
        "acquisition": {
            "x": float(found.x),
            "y": float(found.y),
            "correlation": float(found.value),
            "overlap": float(found.overlap),
            "fwhm": float(found.fwhm),
        },
        "notes": notes,
    }
    log.info(
        "Star at (%.2f, %.2f), correlation %.3f with the %s kernel; subframe %d x %d, mode %s.",
        plan.template.x,
        plan.template.y,
        found.value,
        kernel.kind,
        plan.layout.fit.nx,
        plan.layout.fit.ny,
        mode.name,
    )
    return dataclasses.replace(plan, info=info, flags=flags)


def _expected_position(exposure: Exposure, settings: Settings) -> tuple[float, float]:
    ny, nx = exposure.shape
    if settings.position is not None:
        x, y = settings.position
        if not (-0.5 <= x <= nx - 0.5 and -0.5 <= y <= ny - 0.5):
            raise ValueError(
                f"position: ({x:g}, {y:g}) found, expected a place inside the frame of {nx} x {ny}"
            )
        return float(x), float(y)
    if exposure.position is not None:
        x, y = exposure.position
        if -0.5 <= x <= nx - 0.5 and -0.5 <= y <= ny - 0.5:
            return float(x), float(y)
        log.warning("The reference point (%.1f, %.1f) lies outside the frame.", x, y)
    return (nx - 1) / 2, (ny - 1) / 2


def _sample_size(n_pixels: int) -> int:
    return int(np.clip(_SAMPLE_BYTES // (8 * n_pixels), 24, _SAMPLE))


def _glance(exposure: Exposure, expected: tuple[float, float], settings: Settings) -> np.ndarray:
    """Make the median of a few whole frames, NaN where a pixel is bad in most of them."""
    ny, nx = exposure.shape
    count = int(np.clip(_GLANCE_BYTES // (8 * ny * nx), 3, _GLANCE))
    pixels, scale = load_frames(exposure, spread(exposure.n_int, count), Box(0, 0, nx, ny))
    factor = np.broadcast_to(np.asarray(scale, float), (ny, nx))
    if not exposure.has_errors:
        pixels = dataclasses.replace(pixels, errors=None)
    middle = np.full((ny, nx), np.nan)
    # In bands: double precision for all at once would be several times the frames themselves.
    step = max(1, _BAND // (len(pixels.values) * nx))
    for band in (slice(first, first + step) for first in range(0, ny, step)):
        part = {name: getattr(pixels, name) for name in ("values", "errors", "dq")}
        part = Pixels(**{name: None if it is None else it[:, band] for name, it in part.items()})
        values = part.values * factor[band]
        values[~np.isfinite(values) | marked(part, dq_mask(settings.dq_bits))] = np.nan
        middle[band] = column_median(values.reshape(len(values), -1)).reshape(-1, nx)
    if not np.isfinite(middle).any():
        raise ValueError(
            f"{exposure.segments[0].name or 'array'}: no good pixel found in {len(pixels.values)} "
            f"of {exposure.n_int} frames, expected an image of a star"
        )
    return middle


def _find(
    image: np.ndarray, exposure: Exposure, settings: Settings, expected: tuple[float, float]
) -> Found:
    """Find the star on the median image, with the kernel that fits it."""
    optics = exposure.optics
    radius = _search_radius(exposure, settings)
    mask = ~np.isfinite(image)
    if is_weak_lens(optics) and settings.kernel in ("auto", "jwst", "empirical"):
        return _find_defocused(image, mask, optics, expected, radius)
    kernel = _kernel(settings, optics)
    peak = acquire(image, mask, kernel, near=expected, radius=radius)
    if not np.isfinite(peak.value):
        peak = acquire(image, mask, kernel, near=expected, radius=radius, min_overlap=0.2)
    if not np.isfinite(peak.value):
        raise _no_star(expected, radius)
    fwhm = kernels.fwhm(kernel)
    if not peak.value > _NOTHING:
        raise _no_star(expected, radius)
    if kernel.kind == "gaussian":
        kernel, peak = _best_gaussian(image, mask, kernel, peak, expected, radius)
        kernel, fwhm = _own_gaussian(image, peak.x, peak.y, kernel, kernels.fwhm(kernel))
        better = acquire(image, mask, kernel, near=(peak.x, peak.y), radius=max(fwhm, 3.0))
        peak = better if np.isfinite(better.value) else peak
    return Found(peak.x, peak.y, peak.value, peak.overlap, kernel, fwhm)


def _search_radius(exposure: Exposure, settings: Settings) -> float:
    """Say how far from the expected position the star may be."""
    if settings.search_box_width is not None:
        return max(settings.search_box_width / 2, 2.0)
    if settings.position is None and exposure.position is None:
        # The centre of the frame is no more than a guess.
        return float(max(exposure.shape))
    return _SEARCH


def _no_star(expected: tuple[float, float], radius: float) -> ValueError:
    return ValueError(
        f"position: no star found within {radius:g} pixels of ({expected[0]:.1f}, "
        f"{expected[1]:.1f}), expected one"
    )


def _best_gaussian(
    image: np.ndarray,
    mask: np.ndarray,
    kernel: Any,
    peak: Any,
    expected: tuple[float, float],
    radius: float,
) -> tuple[Any, Any]:
    """Try wider Gaussians where the first resembles the star little: blurred or saturated ones."""
    for fwhm in _WIDER:
        if peak.value > _CONVINCING:
            break
        other = kernels.choose_kernel("gaussian", fwhm=fwhm)
        found = acquire(image, mask, other, near=expected, radius=radius)
        if found.value > peak.value:
            kernel, peak = other, found
    return kernel, peak


def _find_defocused(
    image: np.ndarray,
    mask: np.ndarray,
    optics: Optics,
    expected: tuple[float, float],
    radius: float,
) -> Found:
    """Find a weak-lens image and refine the defocus of its kernel on it."""

    def make(waves: float) -> Any:
        return kernels.jwst_kernel(
            instrument=optics.instrument,
            filter=optics.filter,
            pupil=optics.pupil,
            detector=optics.detector,
            waves=waves,
        )

    nominal = {"WLP8": 8.0, "WLM8": -8.0, "WLP4": 4.0}[is_weak_lens(optics)]
    refined = refine_defocus(image, mask, make, expected, scan=scan_range(nominal), radius=radius)
    if not np.isfinite(refined.correlation):
        raise _no_star(expected, radius)
    peak = acquire(image, mask, refined.kernel, near=(refined.x, refined.y), radius=3.0)
    return Found(
        refined.x,
        refined.y,
        refined.correlation,
        peak.overlap,
        refined.kernel,
        kernels.fwhm(refined.kernel),
    )


def _kernel(settings: Settings, optics: Optics) -> Any:
    """Make or load the kernel that the settings ask for."""
    setup = {
        "instrument": optics.instrument,
        "filter": optics.filter,
        "pupil": optics.pupil,
        "detector": optics.detector,
    }
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
    level = np.median(cut[good])
    start = [cut[good].max() - level, x, y, fwhm / 2.355, fwhm / 2.355, level]
    found = fit_gaussians(
        np.where(good, cut, 0.0)[None], good.astype(float), np.array([start]), origin=(box.x, box.y)
    )
    if not found.ok[0]:
        return kernel, fwhm
    widths = np.clip(found.parameters[0, 3:5], 0.4, 0.25 * min(image.shape))
    sigma = float(np.sqrt(widths[0] * widths[1]))
    return kernels.GaussianKernel(sigma, sigma), 2.3548 * float(np.hypot(sigma, 0.29))
