"""From an exposure to a result: first look, plan, chunks, ordered merge, judgement."""

from __future__ import annotations

import logging
import time as clock
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

import numpy as np

from tso_level3._version import __version__
from tso_level3.config.fields import refuse_unknown
from tso_level3.config.overrides import angles_in, explained, in_pixels
from tso_level3.config.settings import Settings, fields_of
from tso_level3.core.plan import Measurement, Plan
from tso_level3.datatypes import Exposure, Picture, Result
from tso_level3.planning.plan_exposure import first_look
from tso_level3.quality.apertures import Choice, judge, net_flux
from tso_level3.quality.components import slow_components
from tso_level3.quality.noise import bin_size, counted, time_averaging
from tso_level3.quality.verdict import verdict_of
from tso_level3.run.assess import (
    cleaned_before,
    events_in,
    signs_of,
    with_directions,
    with_enclosed,
    with_smooth_sky,
)
from tso_level3.run.batches import MODULES, Task, batches_of, chunk_of
from tso_level3.run.executors import Crew, crew, keep_memory, mapped
from tso_level3.utils.progress import showing
from tso_level3.utils.stats import mad_std, median
from tso_level3.utils.threads import one_thread

if TYPE_CHECKING:
    import pandas as pd

    from tso_level3.product.model import TSOLightCurveModel

__all__ = ["measure", "photometry", "run"]

log = logging.getLogger(__name__)

_FEW = 32
#: Keywords of `measure` that are no parameters of the measurement.
_ARGUMENTS = ("settings", "executor", "progress", "errors", "mask", "times")


@one_thread()
def run(
    exposure: Exposure,
    settings: Settings,
    *,
    executor: Executor | None = None,
    progress: Callable[[str, int], Any] | None = None,
) -> Result:
    """Measure an exposure.

    Parameters
    ----------
    exposure : Exposure
        The frames, as `tso_level3.readers.open.open_exposure` answers.
    settings : Settings
        The parameters.
    executor : concurrent.futures.Executor, optional
        Where batches are measured; by default here, or in ``settings.n_workers`` processes.
    progress : callable, optional
        Called with a title and a number of frames; answers with an object with ``update(n)``
        and ``close()``, such as a progress bar.

    Returns
    -------
    Result
        Tables, images and what was settled.

    Raises
    ------
    ValueError
        There is no star, no good pixel, or a parameter does not fit the exposure.
    """
    began = clock.perf_counter()
    if settings.out_of_transit is not None:
        if not np.isfinite(exposure.times.time).any():
            raise ValueError("out_of_transit: found for frames without times, expected none")
        # What cannot be is told before the work.
        counted(exposure.times.time, settings.out_of_transit)
    keep_memory()
    # A few frames are measured sooner than a process has started.
    own = settings.n_workers if executor is None and exposure.n_int > _FEW else 1
    # The processes start while the first look is taken.
    sources = [segment.source for segment in exposure.segments]
    with crew(own, modules=MODULES, payload=sources) as processes:
        plan, wish = first_look(exposure, settings, progress=progress)
        plan, groups = with_directions(with_enclosed(plan, settings), exposure, settings)
        looked = clock.perf_counter()
        found = _measure_all(exposure, plan, settings, executor or processes, progress)
        measured = clock.perf_counter()
    found, plan = with_smooth_sky(found, plan, exposure.times.time, settings)
    choice = judge(found, plan, exposure.times.time, wish, settings.out_of_transit)
    log.info(
        "First look %.2f s, %d integrations %.2f s.",
        looked - began,
        exposure.n_int,
        measured - looked,
    )
    light_curve = _light_curve(exposure, found, choice)
    # The search for events makes arrays of its own: what it does not need goes first.
    found = found.without_sums()
    return _result(exposure, settings, plan, found, choice, light_curve, groups)


def _measure_all(
    exposure: Exposure,
    plan: Plan,
    settings: Settings,
    executor: Executor | Crew | None,
    progress: Callable[[str, int], Any] | None,
) -> Measurement:
    chunk = chunk_of(plan, settings.chunk)
    # An executor need not say how many workers it has.
    workers = 1 if executor is None else getattr(executor, "_max_workers", 8)
    batches = batches_of(exposure, chunk, workers)
    whole: Measurement | None = None
    with showing(progress, "measuring", exposure.n_int) as tick:
        for place, part in mapped(executor, Task(plan, chunk), batches):
            if whole is None:
                whole = Measurement.room(part, exposure.n_int)
            whole.put(batches[place].first, part)
            tick(len(part.flags))
    return whole


def _result(
    exposure: Exposure,
    settings: Settings,
    plan: Plan,
    found: Measurement,
    choice: Choice,
    light_curve: dict[str, np.ndarray],
    groups: tuple[np.ndarray, ...],
) -> Result:
    use = counted(exposure.times.time, settings.out_of_transit)
    flux = light_curve["aperture_flux"]
    quoted = found.psf[:, 2] if choice.kind == "psf" else flux[:, choice.radius]
    averaging = time_averaging(quoted, use, bin_size(exposure.times.time, int(use.sum())))
    out = use if settings.out_of_transit is not None else None
    events = events_in(found, plan, exposure, quoted, groups, out)
    light_curve["flags"] = light_curve["flags"] | events.flags
    verdict = verdict_of(signs_of(light_curve, plan, choice, settings))
    if verdict.reasons:
        log.warning("Verdict on the light curve: %s.", verdict)
    # A functional times the variances is the change of the image that it measures.
    variance = np.where(plan.dead, 0.0, plan.noise.total)[: plan.layout.n_fit]
    images = plan.eigenimages * variance / plan.template.flux
    slow = slow_components(found.components, images, bin_size(exposure.times.time, len(quoted)))
    light_curve["components"] = slow.values
    box, template = plan.layout.box, plan.template
    fit = plan.layout.fit
    info = {
        "version": __version__,
        "settings": settings.as_dict(),
        "inputs": [dict(item) for item in exposure.inputs],
        "time_scale": exposure.times.scale,
        "time_source": exposure.times.source,
        "unit": exposure.unit,
        "aperture_corrected": False,
        "errors_known": bool(exposure.has_errors),
        "notes": list(
            dict.fromkeys(
                [
                    *exposure.notes,
                    *exposure.times.notes,
                    *plan.info.get("notes", []),
                    *cleaned_before(exposure.meta),
                ]
            )
        ),
        "mode": plan.info.get("mode", ""),
        "kernel": plan.info.get("kernel", {}),
        "acquisition": plan.info.get("acquisition", {}),
        "quoted": {
            "kind": choice.kind,
            "radius": float(plan.radii[choice.radius]) if choice.kind != "psf" else None,
            "radius_inner": float(plan.annuli[choice.annulus].inner) if plan.annuli else None,
            "radius_outer": float(plan.annuli[choice.annulus].outer) if plan.annuli else None,
            "reason": choice.reason,
        },
        "verdict": verdict.as_dict(),
        "aperture_center": {
            "source": plan.source,
            "moving": bool(plan.moving and plan.source != "position"),
        },
        "flicker": plan.flicker,
        "components": {
            "origin": [int(fit.x), int(fit.y)],
            "red": slow.red.tolist(),
            "significant": slow.significant,
        },
        "background_smooth": plan.info.get("background_smooth", {}).get(choice.annulus, {}),
        "bound": _over_bound(found, plan),
        "averaging": {
            "size": averaging.size.tolist(),
            "scatter": averaging.scatter.tolist(),
            "white": averaging.white.tolist(),
            "red_noise": averaging.red_noise,
        },
    }
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
        components=slow.images.reshape(-1, fit.ny, fit.nx),
        meta=exposure.meta,
        info=info,
        filenames=exposure.filenames,
    )


def _kernel_picture(plan: Plan) -> Picture:
    """Give the kernel as an image: its own samples, or the Gaussian on the detector's pixels."""
    kernel = plan.correlator.kernel
    if kernel.kind != "gaussian":
        return Picture(kernel.image, *kernel.center, kernel.oversample)
    half = int(np.ceil(5 * max(kernel.sigma_x, kernel.sigma_y)))
    side = 2 * half + 1
    return Picture(kernel.render(half, half, (side, side)), half, half, 1)


def _over_bound(found: Measurement, plan: Plan) -> dict[str, float]:
    """Measured scatter of the centres over the Cramer-Rao bound."""
    out = {}
    for k, axis in enumerate("xy"):
        steps = np.diff(found.psf[:, k])
        bound = median(found.psf_err[:, k])
        scatter = mad_std(steps) / np.sqrt(2) if np.isfinite(steps).sum() >= 10 else np.nan
        out[f"scatter_{axis}"] = float(scatter)
        out[f"bound_{axis}"] = float(bound)
        out[f"ratio_{axis}"] = float(scatter / bound) if bound > 0 else np.nan
    return out


def _light_curve(exposure: Exposure, found: Measurement, choice: Choice) -> dict[str, np.ndarray]:
    """Lay the measurement out in the columns of the product."""
    times, a = exposure.times, choice.annulus
    # Nothing else needs the sums.
    flux, error = net_flux(found, a, in_place=True)
    # In place: nothing else needs the filled flux, and it is as large as the light curves.
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


@explained
def measure(
    source: Any,
    settings: Settings | None = None,
    *,
    executor: Executor | None = None,
    progress: Callable[[str, int], Any] | None = None,
    errors: Any = None,
    mask: Any = None,
    times: Any = None,
    **overrides: Any,
) -> TSOLightCurveModel:
    """Measure the light curve of a star in a time series of images.

    Parameters
    ----------
    source : array, list, str, Path, model
        A 3-D or 2-D array, a list of arrays, a FITS file, a list of FITS files, a folder, a
        pattern, a listing, an association, an open data model or a container of them.
    settings : Settings, optional
        The parameters; the keywords below win over it. Lengths on the detector are pixels, or a
        ``Quantity``: of pixels, or of an angle where the pixel scale of the input is known.
    executor : concurrent.futures.Executor, optional
        Where batches of frames are measured.
    progress : callable, optional
        Called with a title and a number of frames; answers with an object with ``update(n)``
        and ``close()``.
    errors, mask : array, optional
        For arrays: standard errors, and True where a pixel is bad, in the shape of the array.
    times : array or astropy Time, optional
        Mid-times, MJD UTC where they are plain numbers.
    **overrides
        Fields of `Settings`, such as ``radii=[3, 4.5]``, ``position=(31.2, 30.8)``.

    Returns
    -------
    TSOLightCurveModel
        The product, with tables and ``to_dataframe()``.

    Raises
    ------
    ValueError
        An input or parameter cannot be used; the message names it, what was found and what was
        expected.
    OSError
        A file cannot be read.

    Examples
    --------
    >>> product = measure(cube, radii=[3, 4.5], position=(31.2, 30.8))  # doctest: +SKIP
    """
    from tso_level3.product.model import build
    from tso_level3.readers.open import open_exposure

    refuse_unknown(overrides, (*(item.name for item in fields_of()), *_ARGUMENTS))
    _check_arguments(settings, executor, progress)
    angles = angles_in(overrides)
    rest = {name: value for name, value in overrides.items() if name not in angles}
    settings = (settings or Settings()).replace(**rest)
    for name in ("save_catalog", "save_fits", "save_plots"):
        if rest.get(name):
            log.warning("%s is not used: it is for the step and the command.", name)
    if executor is not None and settings.n_workers > 1:
        log.warning("n_workers=%d is not used: an executor was given.", settings.n_workers)
    exposure = open_exposure(source, settings, errors=errors, mask=mask, times=times)
    settings = settings.replace(**in_pixels(angles, exposure.optics.pixel_scale))
    return build(run(exposure, settings, executor=executor, progress=progress), take=True)


def _check_arguments(settings: Any, executor: Any, progress: Any) -> None:
    words = "tso_level3.Settings, or parameters as keywords such as radii=[3, 4]"
    pool = "a concurrent.futures.Executor; n_workers=4 starts processes"
    for name, found, good, expected in (
        ("settings", settings, isinstance(settings, Settings), words),
        ("executor", executor, hasattr(executor, "map"), pool),
        ("progress", progress, callable(progress), "a function that makes a progress bar"),
    ):
        if found is not None and not good:
            raise ValueError(f"{name}: {type(found).__name__} found, expected {expected}")


@explained
def photometry(
    source: Any,
    settings: Settings | None = None,
    *,
    executor: Executor | None = None,
    progress: Callable[[str, int], Any] | None = None,
    errors: Any = None,
    mask: Any = None,
    times: Any = None,
    **overrides: Any,
) -> pd.DataFrame:
    """Measure a light curve and return it as a DataFrame.

    Parameters
    ----------
    source, settings, executor, progress, errors, mask, times
        As for `measure`.
    **overrides
        Fields of `Settings`, such as ``radii=[3, 4.5]``, ``position=(31.2, 30.8)``.

    Returns
    -------
    pandas.DataFrame
        A row per integration; ``df['aperture photometry'][3.0]`` is the light curve at radius 3.
    """
    return measure(
        source,
        settings,
        executor=executor,
        progress=progress,
        errors=errors,
        mask=mask,
        times=times,
        **overrides,
    ).to_dataframe()
