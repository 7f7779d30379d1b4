"""The result of a run, made from the measurement of an exposure: tables, images and record."""

from __future__ import annotations

import logging

import numpy as np

from tso_level3.config.settings import Settings
from tso_level3.core.plan import Measurement, Plan
from tso_level3.datatypes import Exposure, Picture
from tso_level3.product.record import (
    ApertureCenter,
    BackgroundSmoothing,
    CenterScatter,
    ImageComponents,
    NoiseAveraging,
    PrimaryAperture,
    Result,
    RunRecord,
)
from tso_level3.quality.apertures import Choice, net_flux
from tso_level3.quality.components import Components, slow_components
from tso_level3.quality.noise import bin_size, counted, time_averaging
from tso_level3.quality.verdict import Verdict, verdict_of
from tso_level3.run.assess import cleaned_before, events_in, signs_of
from tso_level3.utils.stats import mad_std, median

__all__ = ["light_curve_of", "result_of"]

log = logging.getLogger(__name__)


def result_of(
    exposure: Exposure,
    settings: Settings,
    plan: Plan,
    found: Measurement,
    choice: Choice,
    light_curve: dict[str, np.ndarray],
    subspaces: tuple[np.ndarray, ...],
) -> Result:
    """Search for events, judge the light curve, and put the result together.

    Parameters
    ----------
    exposure : Exposure
        The exposure.
    settings : Settings
        The settings in effect.
    plan : Plan
        The plan of the measurement.
    found : Measurement
        All integrations; its sums are not needed.
    choice : Choice
        The primary aperture.
    light_curve : dict of ndarray
        From `light_curve_of`; the flags of events are added.
    subspaces : tuple of ndarray
        From `tso_level3.run.assess.with_tilt_modes`.

    Returns
    -------
    Result
        Tables, images and record.
    """
    time, windows = exposure.times.time, settings.out_of_transit
    use = counted(time, windows)
    if choice.kind == "psf":
        flux = found.psf[:, 2]
    else:
        flux = light_curve["aperture_flux"][:, choice.radius]
    averaging = time_averaging(flux, use, bin_size(time, int(use.sum())))
    out_of_transit = use if windows is not None else None
    events = events_in(found, plan, exposure, flux, subspaces, out_of_transit)
    light_curve["flags"] = light_curve["flags"] | events.flags
    verdict = verdict_of(signs_of(light_curve, plan, choice, settings))
    if verdict.reasons:
        log.warning("Verdict on the light curve: %s.", verdict)
    components = _components(found, plan, time)
    light_curve["components"] = components.values
    box, fit, template = plan.layout.box, plan.layout.fit, plan.template
    return Result(
        light_curve=light_curve,
        apertures=choice.apertures,
        grid=choice.grid,
        events=events.columns,
        radii=plan.radii,
        unit=exposure.unit,
        template=Picture(
            template.image.image, template.x - box.x, template.y - box.y, 1, (box.x, box.y)
        ),
        kernel=_kernel_picture(plan),
        components=components.images.reshape(-1, fit.ny, fit.nx),
        meta=exposure.meta,
        record=_record(
            exposure,
            settings,
            plan,
            choice,
            verdict,
            _center_scatter(found, plan),
            NoiseAveraging.of(averaging),
            ImageComponents([fit.x, fit.y], components.red.tolist(), components.significant),
        ),
        filenames=exposure.filenames,
    )


def _record(
    exposure: Exposure,
    settings: Settings,
    plan: Plan,
    choice: Choice,
    verdict: Verdict,
    scatter: CenterScatter,
    averaging: NoiseAveraging,
    components: ImageComponents,
) -> RunRecord:
    """Write down how the light curve was made."""
    annulus = plan.annuli[choice.annulus] if plan.annuli else None
    notes = [*exposure.notes, *exposure.times.notes, *plan.info.get("notes", [])]
    smoothing = plan.info.get("background_smooth", {}).get(choice.annulus, {})
    return RunRecord(
        settings=settings.as_dict(),
        inputs=[dict(item) for item in exposure.inputs],
        time_scale=exposure.times.scale,
        time_source=exposure.times.source,
        aperture_corrected=False,
        errors_known=bool(exposure.has_errors),
        # The same note once, in the order of their making.
        notes=list(dict.fromkeys([*notes, *cleaned_before(exposure.meta)])),
        mode=plan.info.get("mode", ""),
        kernel=plan.info.get("kernel", {}),
        acquisition=plan.info.get("acquisition", {}),
        quoted=PrimaryAperture(
            kind=choice.kind,
            radius=float(plan.radii[choice.radius]) if choice.kind != "psf" else None,
            radius_inner=None if annulus is None else float(annulus.inner),
            radius_outer=None if annulus is None else float(annulus.outer),
            reason=choice.reason,
        ),
        verdict=verdict,
        aperture_center=ApertureCenter(
            plan.source, bool(plan.moving and plan.source != "position")
        ),
        flicker=plan.flicker,
        components=components,
        background_smooth=BackgroundSmoothing(**smoothing),
        bound=scatter,
        averaging=averaging,
    )


def _components(found: Measurement, plan: Plan, time: np.ndarray) -> Components:
    """Slow changes of the star's image, relative to its flux."""
    # A functional times the variances is the change of the image that it measures.
    variance = np.where(plan.dead, 0.0, plan.noise.total)[: plan.layout.n_fit]
    images = plan.eigenimages * variance / plan.template.flux
    return slow_components(found.components, images, bin_size(time, len(time)))


def _kernel_picture(plan: Plan) -> Picture:
    """Image of the kernel: its own samples, or the Gaussian on the detector's pixels."""
    kernel = plan.correlator.kernel
    if kernel.kind != "gaussian":
        x, y = kernel.center
        return Picture(kernel.image, x, y, kernel.oversample)
    half = int(np.ceil(5 * max(kernel.sigma_x, kernel.sigma_y)))
    side = 2 * half + 1
    return Picture(kernel.render(half, half, (side, side)), half, half, 1)


def _center_scatter(found: Measurement, plan: Plan) -> CenterScatter:
    """Measured scatter of the centres and its Cramér-Rao bound."""
    values: dict[str, float] = {}
    for k, axis in enumerate("xy"):
        steps = np.diff(found.psf[:, k])
        bound = median(found.psf_err[:, k])
        scatter = mad_std(steps) / np.sqrt(2) if np.isfinite(steps).sum() >= 10 else np.nan
        values[f"scatter_{axis}"] = float(scatter)
        values[f"bound_{axis}"] = float(bound)
        values[f"ratio_{axis}"] = float(scatter / bound) if bound > 0 else np.nan
    return CenterScatter(**values)


def light_curve_of(exposure: Exposure, found: Measurement, choice: Choice) -> dict[str, np.ndarray]:
    """Arrange the measurement in the columns of the product.

    Parameters
    ----------
    exposure : Exposure
        With numbers and times of the integrations.
    found : Measurement
        All integrations. To save memory, its sums, their variance and the replaced flux are
        overwritten with the columns; they are not to be used again.
    choice : Choice
        The primary annulus.

    Returns
    -------
    dict of ndarray
        The columns of `tso_level3.columns.LIGHT_CURVE`.
    """
    times, a = exposure.times, choice.annulus
    flux, error = net_flux(found, a, out=(found.sums, found.variance))
    replaced = found.replaced
    with np.errstate(invalid="ignore", divide="ignore"):
        np.divide(replaced, flux, out=replaced, where=replaced != 0)
    replaced[~np.isfinite(flux)] = np.nan
    out = {
        "integration": exposure.integration,
        "segment": exposure.segment,
        "time": times.time,
        "mjd_utc": times.mjd_utc,
        "bmjd_tdb": times.bmjd_tdb,
        "background": found.background[:, a],
        "background_err": found.background_err[:, a],
        "background_area": found.background_area[:, a],
        "cc_x": found.cc[:, 0],
        "cc_y": found.cc[:, 1],
        "cc_peak": found.cc[:, 2],
        "gauss_chi2": found.gauss_chi2,
        "psf_chi2": found.psf_chi2,
        "components": found.components,
        "aperture_x": found.center[:, 0],
        "aperture_y": found.center[:, 1],
        "aperture_flux": flux,
        "aperture_flux_err": error,
        "aperture_replaced": replaced,
        "flags": (found.flags | times.flags).astype(np.uint32),
    }
    names = ("amplitude", "x", "y", "sigma_x", "sigma_y", "offset")
    for k, name in enumerate(names):
        out[f"gauss_{name}"], out[f"gauss_{name}_err"] = found.gauss[:, k], found.gauss_err[:, k]
    for k, name in enumerate(("x", "y", "flux")):
        out[f"psf_{name}"], out[f"psf_{name}_err"] = found.psf[:, k], found.psf_err[:, k]
    return out
