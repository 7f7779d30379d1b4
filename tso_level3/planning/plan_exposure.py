"""Planning of an exposure: find the star, choose kernel and apertures, settle the plan."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tso_level3.config.modes import OTHER, Mode, mode_of
from tso_level3.config.settings import Settings
from tso_level3.core.measure import marked
from tso_level3.core.plan import Plan, make_layout
from tso_level3.datatypes import Box, Exposure, Pixels
from tso_level3.flags import Flag, dq_mask
from tso_level3.planning.acquisition import (
    BY_CHANCE,
    Found,
    expected_position,
    find_star,
    search_radius,
)
from tso_level3.planning.geometry import Geometry, fit_box, geometry_of
from tso_level3.planning.primary_aperture import preference_of
from tso_level3.planning.row_noise_choice import rows_differ
from tso_level3.planning.sampling import draw, load_frames, spread
from tso_level3.planning.settle import Sample, settle
from tso_level3.quality.choice import AperturePreference
from tso_level3.utils.progress import showing
from tso_level3.utils.stats import column_median
from tso_level3.utils.threads import one_thread

__all__ = ["first_look"]

log = logging.getLogger(__name__)

_IMAGE_FRAMES = 11
_SAMPLE = 192
_SAMPLE_BYTES = 24_000_000
_IMAGE_BYTES = 40_000_000
_BAND = 300_000  # pixels
# Pixels beyond the largest aperture that are read [pix], where it does not move and where it does.
_MARGIN, _MARGIN_MOVING = 0.5, 1.5
# A star farther than this [pix] from the expected position is named.
_NEAR = 5.0
_JWST = ("NIRCAM", "MIRI", "NIRISS", "NIRSPEC", "FGS")


def first_look(
    exposure: Exposure,
    settings: Settings,
    *,
    lent_kind: str | None = None,
    progress: Callable[[str, int], Any] | None = None,
) -> tuple[Plan, AperturePreference]:
    """Find the star on the median of a few frames, and settle the plan on a sample of frames.

    Parameters
    ----------
    exposure : Exposure
        The frames.
    settings : Settings
        The parameters.
    lent_kind : str, optional
        Kind of the primary light curve, aperture or psf, of the product that lends its aperture.
    progress : callable, optional
        Makes a progress bar.

    Returns
    -------
    (Plan, AperturePreference)
        The plan for all chunks, and the primary aperture where noise does not decide.

    Raises
    ------
    ValueError
        There is no good pixel, or no star where one was expected.
    """
    expected = expected_position(exposure, settings)
    if expected is None and exposure.position is not None:
        log.warning("The reference point (%.1f, %.1f) lies outside the frame.", *exposure.position)
    image = _median_image(exposure, settings)
    found = find_star(image, exposure, settings)
    mode = mode_of(exposure.optics, found.fwhm, exposure.shape)
    geometry = geometry_of(settings, mode, found.x, found.y, exposure.shape, np.isfinite(image))
    ny, nx = exposure.shape
    position = expected or ((nx - 1) / 2, (ny - 1) / 2)
    sampling = _Sampling(exposure, settings, found, mode, geometry, position, progress)
    automatic = settings.flicker == "auto"
    with one_thread():
        flicker = "none" if automatic else settings.flicker
        margin = _MARGIN_MOVING if settings.moving_centroid else _MARGIN
        sample, plan = sampling.settled(flicker, margin)
        wider = sampling.margin_for(plan)
        if wider > margin and not plan.template.lost:
            log.info("The star moves: pixels are read to %.1f beyond the largest aperture.", wider)
            del sample
            margin = wider
            sample, plan = sampling.settled(flicker, margin)
        # MIRI's rows have no offsets of their own.
        if automatic and exposure.optics.instrument != "MIRI" and not plan.template.lost:
            if rows_differ(plan, sample.pixels, sample.scale):
                del sample
                _, plan = sampling.settled("auto", margin)
    notes = [
        *geometry.notes,
        *_foreign(settings, mode),
        *_cut(plan, settings),
        *_distant(plan, found, exposure, settings),
    ]
    preference = preference_of(settings, mode, geometry, lent_kind=lent_kind)
    return _described(plan, found, mode, notes), preference


@dataclass(frozen=True, eq=False)
class _Sampling:
    """Draws a sample of frames and settles a plan on it."""

    exposure: Exposure
    settings: Settings
    found: Found
    mode: Mode
    geometry: Geometry
    position: tuple[float, float]
    progress: Callable[[str, int], Any] | None

    @property
    def center(self) -> tuple[float, float]:
        """Centre of the pixels that are read."""
        return (self.found.x, self.found.y) if self.settings.centroid_source else self.position

    def settled(self, flicker: str, margin: float) -> tuple[Sample, Plan]:
        """Read the sample, to `margin` pixels beyond the largest aperture, and settle the plan."""
        exposure, settings, found = self.exposure, self.settings, self.found
        layout = make_layout(
            self.center,
            exposure.shape,
            fit=fit_box(settings, self.mode, found.x, found.y, exposure.shape),
            reach=float(self.geometry.radii[-1]) + margin,
            annuli=self.geometry.annuli,
            whole_frame=settings.background == "frame",
            full_rows=flicker != "none",
        )
        rows = spread(exposure.n_int, _sample_size(layout.box.nx * layout.box.ny))
        with showing(self.progress, "first look", len(rows)) as tick:
            mask = dq_mask(settings.dq_bits)
            drawn = draw(exposure, rows, layout.box, dq_mask=mask, tick=tick)
        sample = Sample(
            pixels=drawn.pixels,
            scale=drawn.scale,
            variance=drawn.variance,
            layout=layout,
            geometry=self.geometry,
            kernel=found.kernel,
            mode=self.mode,
            x=found.x,
            y=found.y,
            fwhm=found.fwhm,
            position=self.position,
            has_errors=exposure.has_errors and "errors" in drawn.variance,
            unit=exposure.unit,
            flat_in_errors=exposure.optics.instrument in _JWST,
        )
        # In focus the computed kernel has taken the wavefront from the image; it knows more
        # of the star than its own pixels.
        own = self.mode.weak_lens or found.kernel.kind != "jwst"
        empirical = settings.kernel == "empirical" and own
        return sample, settle(sample, settings.replace(flicker=flicker), empirical=empirical)

    def margin_for(self, plan: Plan) -> float:
        """Give the margin that holds the apertures wherever the sample shows them."""
        away = float(np.hypot(*np.subtract(plan.center, self.center)))
        if not plan.moving:
            return away if away > _MARGIN else _MARGIN
        # Frames that are not in the sample may be farther away.
        farthest = away + plan.motion
        return farthest + 1.0 if farthest > 1.0 else _MARGIN_MOVING


def _foreign(settings: Settings, mode: Mode) -> list[str]:
    """Warn of parameters for another observing mode."""
    if settings.for_mode in (None, mode.name):
        return []
    known = f"the exposure is of {mode.name}"
    if mode.name == OTHER:
        known = "the observing mode of the exposure is not known"
    words = f"for_mode: parameters for {settings.for_mode} found, {known}"
    log.warning("%s.", words)
    return [words]


def _cut(plan: Plan, settings: Settings) -> list[str]:
    """Warn of a subframe that does not fit into the frame."""
    box, asked = plan.layout.fit, np.broadcast_to(settings.subframe or 0, 2)
    if box.ny >= asked[0] and box.nx >= asked[1]:
        return []
    words = f"subframe: {asked[1]} x {asked[0]} found, {box.nx} x {box.ny} of it are in the frame"
    log.warning("%s.", words)
    return [words]


def _distant(plan: Plan, found: Found, exposure: Exposure, settings: Settings) -> list[str]:
    """Warn of a star far from its expected position.

    Raises
    ------
    ValueError
        It is outside the radius of the search.
    """
    expected = expected_position(exposure, settings)
    if expected is None or not settings.centroid_source or settings.center == "position":
        return []
    x, y = plan.template.x, plan.template.y
    if not np.isfinite([x, y]).all():
        x, y = found.x, found.y
    far = float(np.hypot(x - expected[0], y - expected[1]))
    given = settings.position is not None
    words = f"the star is at ({x:.1f}, {y:.1f}), {far:.1f} pixels from " + (
        "the position given" if given else "its reference point"
    )
    words += f", ({expected[0]:.1f}, {expected[1]:.1f})"
    radius = search_radius(exposure, settings)
    # Half a pixel of the peak itself, and that of a place on a grid of pixels.
    if given and far > radius + 1.0:
        raise ValueError(f"position: {words}, expected within {radius:g}")
    if far <= _NEAR:
        return []
    log.log(logging.WARNING if given else logging.INFO, "%s.", words.capitalize())
    return [words]


def _described(plan: Plan, found: Found, mode: Mode, notes: list[str]) -> Plan:
    """Add what was found, in plain values, and the flag of a faint star."""
    flags = plan.flags
    if not found.chance <= BY_CHANCE:
        flags |= int(Flag.FAINT)
        notes.append(
            f"the star at ({found.x:.1f}, {found.y:.1f}) is too faint, or none: noise makes as "
            f"good a peak with a probability of {found.chance:.2g}"
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
            "chance": float(found.chance),
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


def _sample_size(n_pixels: int) -> int:
    return int(np.clip(_SAMPLE_BYTES // (8 * n_pixels), 24, _SAMPLE))


def _median_image(exposure: Exposure, settings: Settings) -> np.ndarray:
    """Make the median of a few whole frames, NaN where a pixel is bad in most of them."""
    ny, nx = exposure.shape
    count = int(np.clip(_IMAGE_BYTES // (8 * ny * nx), 3, _IMAGE_FRAMES))
    pixels, scale = load_frames(exposure, spread(exposure.n_int, count), Box(0, 0, nx, ny))
    factor = np.broadcast_to(np.asarray(scale, float), (ny, nx))
    if not exposure.has_errors:
        pixels = dataclasses.replace(pixels, errors=None)
    middle = np.full((ny, nx), np.nan)
    # In bands: double precision for all at once would be several times the frames themselves.
    step = max(1, _BAND // (len(pixels.values) * nx))
    for band in (slice(first, first + step) for first in range(0, ny, step)):
        part = Pixels(
            pixels.values[:, band],
            None if pixels.errors is None else pixels.errors[:, band],
            None if pixels.dq is None else pixels.dq[:, band],
        )
        values = part.values * factor[band]
        values[~np.isfinite(values) | marked(part, dq_mask(settings.dq_bits))] = np.nan
        middle[band] = column_median(values.reshape(len(values), -1)).reshape(-1, nx)
    if not np.isfinite(middle).any():
        raise ValueError(
            f"{exposure.segments[0].name or 'array'}: no good pixel found in the "
            f"{len(pixels.values)} frames looked at (of {exposure.n_int}), expected a star's image"
        )
    return middle
