"""Measures an exposure: plan, measurement of all integrations, judgement, result."""

from __future__ import annotations

import logging
import time as clock
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

import numpy as np

from tso_level3.config.fields import refuse_unknown
from tso_level3.config.overrides import angles_in, explained, in_pixels
from tso_level3.config.settings import Settings, fields_of
from tso_level3.core.plan import Measurement, Plan
from tso_level3.datatypes import Exposure
from tso_level3.planning.plan_exposure import first_look
from tso_level3.quality.apertures import judge
from tso_level3.quality.noise import counted
from tso_level3.run.assess import with_enclosed, with_smooth_sky, with_tilt_modes
from tso_level3.run.batches import MODULES, Task, batches_of, chunk_of
from tso_level3.run.executors import WorkerPool, keep_memory, mapped, worker_pool
from tso_level3.run.lent_aperture import with_lent_aperture
from tso_level3.run.result import light_curve_of, result_of
from tso_level3.utils.progress import showing
from tso_level3.utils.threads import one_thread

if TYPE_CHECKING:
    import pandas as pd

    from tso_level3.product.model import TSOLightCurveModel
    from tso_level3.product.record import Result

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
        The frames, as `tso_level3.readers.open.open_exposure` returns them.
    settings : Settings
        The parameters.
    executor : concurrent.futures.Executor, optional
        Where batches are measured; by default in ``settings.n_workers`` processes.
    progress : callable, optional
        Called with a title and a number of frames; returns an object with ``update(n)`` and
        ``close()``, such as a progress bar.

    Returns
    -------
    Result
        Tables, images and the record of the run.

    Raises
    ------
    ValueError
        There is no star, no good pixel, or a parameter does not fit the exposure.
    """
    began = clock.perf_counter()
    if settings.out_of_transit is not None:
        if not np.isfinite(exposure.times.time).any():
            raise ValueError("out_of_transit: found for frames without times, expected none")
        # An error in the windows is raised before the measurement.
        counted(exposure.times.time, settings.out_of_transit)
    settings, lent_kind = with_lent_aperture(settings)
    keep_memory()
    # A few frames are measured before a process has started.
    own = settings.n_workers if executor is None and exposure.n_int > _FEW else 1
    # The workers start while the plan is made.
    with worker_pool(own, modules=MODULES) as pool:
        plan, preference = first_look(exposure, settings, lent_kind=lent_kind, progress=progress)
        plan, subspaces = with_tilt_modes(with_enclosed(plan, settings), exposure, settings)
        looked = clock.perf_counter()
        found = _measure_all(exposure, plan, settings, executor or pool, progress)
        measured = clock.perf_counter()
    found, plan = with_smooth_sky(found, plan, exposure.times.time, settings)
    choice = judge(found, plan, exposure.times.time, preference, settings.out_of_transit)
    log.info(
        "First look %.2f s, %d integrations %.2f s.",
        looked - began,
        exposure.n_int,
        measured - looked,
    )
    light_curve = light_curve_of(exposure, found, choice)
    # The search for events makes arrays of its own: what it does not need goes first.
    found = found.without_sums()
    return result_of(exposure, settings, plan, found, choice, light_curve, subspaces)


def _measure_all(
    exposure: Exposure,
    plan: Plan,
    settings: Settings,
    executor: Executor | None,
    progress: Callable[[str, int], Any] | None,
) -> Measurement:
    chunk = chunk_of(plan, settings.chunk)
    if isinstance(executor, WorkerPool):
        workers = executor.n_workers
    else:
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
    assert whole is not None, "an exposure has frames"
    return whole


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
        Called with a title and a number of frames; returns an object with ``update(n)`` and
        ``close()``.
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
        ("executor", executor, hasattr(executor, "submit"), pool),
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
