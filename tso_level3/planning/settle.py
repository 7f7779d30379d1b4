"""Plan of an exposure from a sample of its frames."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass

import numpy as np

from tso_level3.config.modes import Mode
from tso_level3.config.settings import Settings
from tso_level3.core.aperture import MovingApertures, overlap_pixels
from tso_level3.core.background import location
from tso_level3.core.gaussian import fit_gaussians, response
from tso_level3.core.measure import gather, measure, own_centers
from tso_level3.core.peak import Correlator
from tso_level3.core.plan import (
    BackgroundPlan,
    Layout,
    Measurement,
    Noise,
    Plan,
    computed_star,
)
from tso_level3.core.template import Template
from tso_level3.datatypes import KernelLike, Pixels
from tso_level3.flags import Flag, dq_mask
from tso_level3.planning.empirical import empirical_kernel
from tso_level3.planning.geometry import Geometry
from tso_level3.planning.row_noise_choice import with_flicker
from tso_level3.planning.template_builder import FEW, TemplateBuilder
from tso_level3.utils.stats import unclipped

__all__ = ["Sample", "settle"]

log = logging.getLogger(__name__)

# More pixels than this part are not constant by a defect.
_MANY_CONSTANT = 0.2
# Values in this part of the frames, all at the largest there is, are saturated.
_SATURATES = 0.05
# Terms of the linear model that are the star's.
_SHAPES = 6
# Pixels that are measured together.
_BLOCK = 1_000_000


@dataclass(frozen=True, eq=False)
class Sample:
    """Sample of frames, and properties of the star in them.

    Attributes
    ----------
    pixels : Pixels
        The box of the layout; NaN where a pixel is bad.
    scale : float or ndarray, (ny, nx)
        Factor to the exposure's unit, on the box.
    variance : dict of ndarray, (ny, nx)
        Means of the parts of the variance; see `tso_level3.planning.sampling.Drawn`.
    layout : Layout
        The used pixels.
    geometry : Geometry
        Radii and annuli.
    kernel : KernelLike
        The kernel.
    mode : Mode
        The observing mode.
    x, y : float
        Position of the star.
    fwhm : float
        Width of its image [pix].
    position : (float, float)
        Expected position.
    has_errors : bool
        Whether errors are known.
    unit : str
        Unit of the scaled pixels.
    flat_in_errors : bool
        Whether the errors hold that of the flat field, as those of the JWST pipeline do.
    """

    pixels: Pixels
    scale: float | np.ndarray
    variance: dict[str, np.ndarray]
    layout: Layout
    geometry: Geometry
    kernel: KernelLike
    mode: Mode
    x: float
    y: float
    fwhm: float
    position: tuple[float, float]
    has_errors: bool
    unit: str
    flat_in_errors: bool = False


def settle(sample: Sample, settings: Settings, *, empirical: bool = False) -> Plan:
    """Settle the plan on a sample of frames.

    Parameters
    ----------
    sample : Sample
        The frames.
    settings : Settings
        The parameters.
    empirical : bool
        Correlate with the exposure's own image instead of the kernel.

    Returns
    -------
    Plan
        The plan for all chunks.

    Raises
    ------
    ValueError
        The sample holds no good pixel, or no star.
    """
    layout = sample.layout
    mask = dq_mask(settings.dq_bits)
    known = settings.background_level or 0.0
    values, bad = gather(sample.pixels, layout.index, sample.scale, mask, known)
    n = len(values)
    holes = np.zeros(values.shape, bool)
    holes[bad.frame, bad.pixel] = True
    dead = (holes.sum(axis=0) > 0.5 * n) | _constant(values, holes)
    if dead[: layout.n_fit].mean() > 0.7:
        raise ValueError(
            f"no good pixels around the star at ({sample.x:.1f}, {sample.y:.1f}): "
            f"{dead[: layout.n_fit].mean():.0%} of the subframe are missing in most frames"
        )
    values[holes] = np.nan

    def settled(values: np.ndarray, taken: np.ndarray | None = None) -> Plan:
        builder = TemplateBuilder(sample, settings, values, bad, dead, taken)
        template, noise = builder.build()
        plan = _assemble(sample, settings, template, noise, dead, builder, empirical)
        plan = dataclasses.replace(
            plan,
            components=builder.components(template, noise),
            eigenimages=builder.eigenimages(template, noise),
        )
        return _centered(plan, sample)

    plan = settled(values)
    if settings.flicker == "none":
        return plan
    # The builder has subtracted the pattern from the values.
    taken = plan.background.pattern
    return with_flicker(plan, sample, values, settings.flicker, lambda fixed: settled(fixed, taken))


def _constant(values: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """Mark pixels with the same value in every frame: clipped, saturated, masked by a number."""
    n = len(values)
    if n < FEW:
        return np.zeros(values.shape[1], bool)
    first = values[np.argmin(holes, axis=0), np.arange(values.shape[1])]
    same = np.ones(values.shape[1], bool)
    for row, lost in zip(values, holes, strict=True):
        same &= (row == first) | lost
    if same.all():
        # Frames without noise, all alike: nothing in them is wrong.
        return np.zeros_like(same)
    if same.mean() > _MANY_CONSTANT:
        # Coarse digits make a quiet sky constant; frames are padded with zeros.
        same &= first == 0.0
    if not same.mean() < 0.5:
        same[:] = False
    # The largest value of all, again and again, is where something saturates or was clipped.
    full = (values == np.nanmax(values)).sum(axis=0)
    if full.sum() > max(_SATURATES * n, FEW):
        same |= full > _SATURATES / 2 * n
    return same


def _assemble(
    sample: Sample,
    settings: Settings,
    template: Template,
    noise: Noise,
    dead: np.ndarray,
    builder: TemplateBuilder,
    empirical: bool,
) -> Plan:
    """Put the plan together, with the apertures at the template's centre."""
    layout, geometry = sample.layout, sample.geometry
    fit, n_fit = layout.fit, layout.n_fit
    image = template.node((0, 0)).terms[0]
    rings = _rings(image, dead, layout, settings)
    levels = _levels(image, template, sample, rings, settings.background_stat)
    scatter = None
    if len(builder.values) < FEW:
        scatter = np.array([np.sqrt(noise.total[r].mean()) if r.size else np.nan for r in rings])
    mode = settings.background if rings else "none"
    good = (template.weights > 0).astype(float)
    grid = (np.arange(fit.x, fit.x + fit.nx), np.arange(fit.y, fit.y + fit.ny))
    kernel = sample.kernel
    if empirical:
        cut = image[:n_fit].reshape(fit.ny, fit.nx)
        kernel = empirical_kernel(cut, (template.x - fit.x, template.y - fit.y))
    near = slice(0, layout.n_near)
    gauss, slopes = _gauss_start(image, template, layout, sample.fwhm)
    return Plan(
        layout=layout,
        template=template,
        correlator=Correlator(kernel, template.x, template.y, *grid, good),
        noise=noise,
        weights=template.weights,
        dead=dead,
        dq_mask=dq_mask(settings.dq_bits),
        background=BackgroundPlan(
            mode,
            settings.background_stat,
            settings.background_sigma,
            rings,
            levels,
            scatter,
            settings.background_level or 0.0,
            builder.pattern,
        ),
        annuli=geometry.annuli,
        radii=geometry.radii,
        center=(template.x, template.y),
        source=(source := _source(settings, sample.mode)),
        moving=settings.moving_centroid and source != "position",
        overlap=_overlap((template.x, template.y), geometry.radii, layout),
        apertures=MovingApertures.of(layout.columns[near], layout.rows[near], geometry.radii),
        gauss_start=gauss,
        gauss_response=slopes,
        components=np.zeros((0, n_fit)),
        eigenimages=np.zeros((0, n_fit)),
        fill=settings.fill,
        outlier_sigma=settings.outlier_sigma if len(builder.values) >= FEW else 0.0,
        unit=sample.unit,
        flags=int(Flag.GAUSS_NO_POSITION if sample.mode.weak_lens else Flag(0)),
    )


def _rings(
    image: np.ndarray, dead: np.ndarray, layout: Layout, settings: Settings
) -> tuple[np.ndarray, ...]:
    """Choose the pixels of each annulus, once for all frames."""
    # The plain form clips each frame by itself: it gets the whole ring.
    if settings.background == "annulus_clipped":
        return tuple(ring[~dead[ring]] for ring in layout.rings)
    return tuple(
        ring[unclipped(np.where(dead[ring], np.nan, image[ring]), settings.background_sigma)]
        for ring in layout.rings
    )


def _levels(
    image: np.ndarray,
    template: Template,
    sample: Sample,
    rings: tuple[np.ndarray, ...],
    stat: str,
) -> np.ndarray:
    """Compute the level of the template and its derivatives in each ring, less the star's wings.

    The zero of the template is the annulus of the mean image, wings included. A computed kernel
    knows the wings; without one they count as background, as do the terms of motion and width.
    """
    levels = np.zeros((_SHAPES, len(rings)))
    wings = computed_star(sample.kernel, template, sample.layout)
    if wings is None:
        wings = np.zeros_like(image)
        shapes = template.node((0, 0)).terms[:_SHAPES]
        for k, r in enumerate(rings):
            levels[:, k] = shapes[:, r].sum(axis=1) / max(r.size, 1)
    # Pixel by pixel: the median of skewed wings on a sky with a gradient is not the sum of medians.
    levels[0] = [location((image[r] - wings[r])[None], stat)[0] if r.size else 0.0 for r in rings]
    return levels


def _complete(overlap: np.ndarray, radius: float) -> bool:
    """Tell whether an aperture has all its pixels."""
    return bool(abs(overlap.sum() / (np.pi * radius**2) - 1.0) < 1e-9)


def _overlap(center: tuple[float, float], radii: np.ndarray, layout: Layout) -> np.ndarray:
    near = slice(0, layout.n_near)
    return overlap_pixels(*center, radii, layout.columns[near], layout.rows[near])


def _source(settings: Settings, mode: Mode) -> str:
    """Choose the method of the aperture centre."""
    if not settings.centroid_source:
        return "position"
    if settings.center == "gauss" and mode.weak_lens:
        log.warning("center: gauss is no measure of the position with a weak lens; psf is used.")
        return "psf"
    return "psf" if settings.center == "auto" else settings.center


def _gauss_start(
    image: np.ndarray, template: Template, layout: Layout, fwhm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fit the Gaussian of the template: the start of every frame's fit.

    The second value is its response to small changes of the image.
    """
    fit, n_fit = layout.fit, layout.n_fit
    cut = image[:n_fit].reshape(1, fit.ny, fit.nx)
    weights = template.weights.reshape(fit.ny, fit.nx)
    sigma = float(np.clip(fwhm / 2.355, 0.5, max(fit.nx, fit.ny) / 4))
    start = np.array([[cut.max(), template.x, template.y, sigma, sigma, 0.0]])
    origin, constant = (fit.x, fit.y), template.constant
    found = fit_gaussians(cut, weights, start, origin=origin, constant=constant)
    if not found.ok[0]:
        return start[0], np.zeros((6, n_fit))
    slopes = response(cut[0], weights, found.parameters[0], origin=origin, constant=constant)
    return found.parameters[0], slopes.reshape(6, n_fit)


def _measured(sample: Sample, plan: Plan) -> Measurement:
    """Measure the sample, a few frames at a time."""
    values = sample.pixels.values
    step = max(1, _BLOCK // plan.layout.n_pixels)
    parts = (values[first : first + step] for first in range(0, len(values), step))
    return Measurement.merge([measure(Pixels(part), plan, sample.scale) for part in parts])


def _centered(plan: Plan, sample: Sample) -> Plan:
    """Move the fixed apertures to the median of the chosen centre over the sample."""
    center, motion = (plan.template.x, plan.template.y), 0.0
    if plan.source == "position":
        center = sample.position
    else:
        found = _measured(sample, dataclasses.replace(plan, moving=False))
        own = own_centers(plan.source, psf=found.psf, gauss=found.gauss, cc=found.cc)
        own = own[np.isfinite(own).all(axis=1)]
        if len(own):
            x, y = np.median(own, axis=0)
            center, motion = (float(x), float(y)), float(np.hypot(*(own - (x, y)).T).max())
        else:
            log.warning("No centre was found in the sample; the mean image's is used.")
    overlap = _overlap(center, plan.radii, plan.layout)
    flags = plan.flags
    # Moving apertures are judged frame by frame.
    if not plan.moving and not _complete(overlap[-1], plan.radii[-1]):
        flags |= int(Flag.APERTURE_CUT)
    return dataclasses.replace(plan, center=center, overlap=overlap, motion=motion, flags=flags)
