"""Assessment of a whole measured exposure: smooth sky, events and their flags, quality checks."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tso_level3.columns import EVENTS
from tso_level3.config.settings import Settings
from tso_level3.core.aperture import overlap_pixels
from tso_level3.core.plan import Measurement, Plan
from tso_level3.datatypes import Exposure
from tso_level3.flags import Flag
from tso_level3.quality.apertures import Choice
from tso_level3.quality.events.find import LEAST_INTEGRATIONS, Event, find_events
from tso_level3.quality.events.tilt_modes import tilt_modes
from tso_level3.quality.noise import bins
from tso_level3.quality.sky import Sky, smooth_sky
from tso_level3.quality.verdict import Signs
from tso_level3.utils.stats import median

__all__ = [
    "EventTable",
    "cleaned_before",
    "events_in",
    "signs_of",
    "with_enclosed",
    "with_smooth_sky",
    "with_tilt_modes",
]

log = logging.getLogger(__name__)

# Least fraction of the star's light in an aperture that was asked for.
_HALF = 0.5
# Runs of integrations, at most, whose mean place says how the star moves.
_PLACES = 12
# Flags of integrations without a measurement.
_FAILED = Flag.UNREADABLE | Flag.ALL_BAD | Flag.PSF_FAILED


@dataclasses.dataclass(frozen=True, eq=False)
class EventTable:
    """Events in the columns of the product.

    Attributes
    ----------
    columns : dict of ndarray
        The table of `tso_level3.columns.EVENTS`.
    flags : ndarray, (n_int,), uint32
        Bits of `tso_level3.Flag` that the events set.
    """

    columns: dict[str, np.ndarray]
    flags: np.ndarray


def with_tilt_modes(
    plan: Plan, exposure: Exposure, settings: Settings
) -> tuple[Plan, tuple[np.ndarray, ...]]:
    """Add the modes along which events are searched to a plan.

    Parameters
    ----------
    plan : Plan
        The plan.
    exposure : Exposure
        Its optics identify the pupil.
    settings : Settings
        With `find_events`.

    Returns
    -------
    (Plan, tuple of ndarray)
        The plan, and the subspaces for `find_events`; the plan unchanged where events are not
        searched.
    """
    if not settings.find_events or exposure.n_int < LEAST_INTEGRATIONS:
        return plan, ()
    modes = tilt_modes(plan, exposure.optics)
    return dataclasses.replace(plan, directions=modes.functionals), modes.subspaces


def with_smooth_sky(
    found: Measurement, plan: Plan, time: np.ndarray, settings: Settings
) -> tuple[Measurement, tuple[Sky, ...]]:
    """Replace the background of each integration by the best estimate from the whole series.

    Parameters
    ----------
    found : Measurement
        All integrations.
    plan : Plan
        The plan of the measurement.
    time : ndarray, (n_int,)
        Times [d].
    settings : Settings
        With `background_smooth`.

    Returns
    -------
    (Measurement, tuple of Sky)
        The measurement with background and error as they are subtracted, and the result for each
        annulus; the measurement as it is, and none, without smoothing.
    """
    if settings.background_smooth == "none" or plan.background.mode == "none":
        return found, ()
    columns = zip(found.background.T, found.background_err.T, strict=True)
    star = found.psf[:, 2]
    skies = tuple(smooth_sky(level, error, time, star=star) for level, error in columns)
    if skies[0].smoothed:
        gain = np.nanmedian(skies[0].error) / np.nanmedian(found.background_err[:, 0])
        log.info("Background smoothed in time: its error is %.2f of each integration's own.", gain)
    else:
        log.info("Background not smoothed in time: %s.", skies[0].reason)
    found = dataclasses.replace(
        found,
        background=np.stack([sky.level for sky in skies], axis=1),
        background_err=np.stack([sky.error for sky in skies], axis=1),
    )
    return found, skies


def events_in(
    found: Measurement,
    plan: Plan,
    exposure: Exposure,
    flux: np.ndarray,
    subspaces: Sequence[np.ndarray],
    out_of_transit: np.ndarray | None = None,
) -> EventTable:
    """Find the events of a measured exposure.

    Parameters
    ----------
    found : Measurement
        All integrations.
    plan : Plan
        The plan of the measurement; without tilt modes there are no events.
    exposure : Exposure
        With the numbers and times of the integrations.
    flux : ndarray, (n_int,)
        The primary light curve.
    subspaces : sequence of ndarray
        From `with_tilt_modes`.
    out_of_transit : ndarray, (n_int,), bool, optional
        Integrations from which the sizes of events are measured; None for all.

    Returns
    -------
    EventTable
        The table, and the flags of the integrations.
    """
    events: tuple[Event, ...] = ()
    if plan.directions is not None:
        events = find_events(
            components=found.directions,
            x=found.psf[:, 0],
            y=found.psf[:, 1],
            width_x=found.gauss[:, 3],
            width_y=found.gauss[:, 4],
            chi2=found.psf_chi2,
            flux=flux,
            out_of_transit=out_of_transit,
            subspaces=subspaces,
        )
    flags = np.zeros(len(found.flags), np.uint32)
    for event in events:
        if event.kind == "settling":
            flags[event.row : event.row + event.length] |= np.uint32(Flag.SETTLING)
        else:
            flags[event.row] |= np.uint32(Flag.EVENT)
        log.info(
            "Event: %s at integration %d, significance %.1f, flux step %s.",
            event.kind,
            exposure.integration[event.row],
            event.significance,
            f"{1e6 * event.size:+.0f} +- {1e6 * event.size_err:.0f} ppm"
            if np.isfinite(event.size)
            else "not known",
        )
    rows = [event.row for event in events]
    values = {
        "integration": exposure.integration[rows],
        "kind": [event.kind for event in events],
        "significance": [event.significance for event in events],
        "size": [event.size for event in events],
        "size_err": [event.size_err for event in events],
        "time": exposure.times.time[rows],
    }
    table = {item.name: np.array(values[item.name], dtype=item.dtype) for item in EVENTS}
    return EventTable(table, flags)


def cleaned_before(meta: Mapping[str, Any]) -> list[str]:
    """Note that the pipeline has removed row noise already.

    Parameters
    ----------
    meta : mapping
        The input's metadata tree.

    Returns
    -------
    list of str
        The note; empty where it has not.
    """
    steps = (meta.get("meta") or meta).get("cal_step") or {}
    if steps.get("clean_flicker_noise") != "COMPLETE":
        return []
    return ["row noise was removed from the groups before (clean_flicker_noise)"]


def with_enclosed(plan: Plan, settings: Settings) -> Plan:
    """Warn of apertures that were asked for and hold less than half of the star's light.

    Parameters
    ----------
    plan : Plan
        The plan of the measurement; its template gives the growth curve.
    settings : Settings
        With the radii that were asked for.

    Returns
    -------
    Plan
        The plan, with a note where there are such apertures.
    """
    asked = [*(settings.radii or ()), *((settings.radius,) if settings.radius else ())]
    star = plan.template.node((0, 0)).terms[0, : plan.layout.n_near]
    held = plan.overlap @ star / plan.template.flux
    small = [
        f"r = {radius:g}: {max(part, 0.0):.0%}"
        for radius, part in zip(plan.radii, held, strict=True)
        if part < _HALF and np.isclose(radius, asked).any()
    ]
    if not small:
        return plan
    note = f"radii: less than half of the star's light is inside ({', '.join(small)})"
    log.warning("%s.", note)
    return dataclasses.replace(
        plan, info={**plan.info, "notes": [*plan.info.get("notes", []), note]}
    )


def signs_of(
    light_curve: dict[str, np.ndarray], plan: Plan, choice: Choice, settings: Settings
) -> Signs:
    """Compute the indicators of whether the primary light curve can be used.

    Parameters
    ----------
    light_curve : dict of ndarray
        The columns of the product.
    plan : Plan
        The plan of the measurement.
    choice : Choice
        The primary aperture.
    settings : Settings
        With the expected `position` of the star.

    Returns
    -------
    Signs
        The indicators.
    """
    at, table = choice.radius, choice.grid
    if choice.kind == "psf":
        flux, error = light_curve["psf_flux"], light_curve["psf_flux_err"]
    else:
        flux, error = (light_curve[name][:, at] for name in ("aperture_flux", "aperture_flux_err"))
    failed = ~np.isfinite(flux) | ((light_curve["flags"] & np.uint32(_FAILED)) != 0)
    outside, cut = np.zeros(len(flux), bool), 0.0
    if choice.kind != "psf":
        away = [light_curve[f"psf_{axis}"] - light_curve[f"aperture_{axis}"] for axis in "xy"]
        with np.errstate(invalid="ignore"):
            outside = np.hypot(*away) > plan.radii[at]
        cut = float(plan.beyond_frame[at])
    chosen = int(np.flatnonzero(table["chosen"])[0])
    with np.errstate(invalid="ignore", divide="ignore"):
        signal = median(np.abs(flux) / error)
    star = np.maximum(plan.template.node((0, 0)).terms[0, : plan.layout.n_near], 0.0)
    held, dead = plan.overlap[at] * star, plan.dead[: plan.layout.n_near]
    far = np.nan
    if settings.position is not None and settings.centroid_source:
        asked = settings.position
        far = float(np.hypot(plan.template.x - asked[0], plan.template.y - asked[1]))
    return Signs(
        n=len(flux),
        failed=float(failed.mean()),
        outside=float((outside & ~failed).mean()),
        changed=float(((light_curve["flags"] & np.uint32(Flag.IMAGE_CHANGED)) != 0).mean()),
        scatter=float(table["scatter"][chosen]),
        expected=float(table["expected"][chosen]),
        signal=signal,
        filled=median(light_curve["aperture_replaced"][:, at]),
        missing=float(held[dead].sum() / held.sum()) if held.sum() > 0 else 0.0,
        faint=bool(plan.flags & Flag.FAINT),
        far=far,
        rejected=choice.rejected,
        diluted=float(table["dilution"][chosen]),
        neighbour=next(((it.x, it.y) for it in choice.surroundings.neighbours), None),
        uneven=float(choice.surroundings.uneven[at]) if choice.kind != "psf" else 0.0,
        no_sky=(
            settings.background != "none"
            and plan.background.mode == "none"
            and settings.background_level is None
            and choice.kind != "psf"
        ),
        cut=cut,
        swing=0.0 if choice.kind == "psf" else _swing(light_curve, plan, at),
    )


def _swing(light_curve: Mapping[str, np.ndarray], plan: Plan, radius: int) -> float:
    """Compute how much the star's slow motion changes the flux in a fixed aperture."""
    if plan.moving and plan.source != "position":
        return 0.0
    n_near, size = plan.layout.n_near, max(len(light_curve["psf_x"]) // _PLACES, 1)
    x, y = (bins(light_curve[f"psf_{axis}"], size) for axis in "xy")
    star = plan.template.node((0, 0)).terms[0, :n_near]
    known = np.isfinite(x) & np.isfinite(y)
    columns, rows = plan.layout.columns[:n_near], plan.layout.rows[:n_near]
    # The aperture moves across the mean image as the star moves across the aperture.
    places = plan.center - np.stack([x, y], axis=1)[known]
    places += (plan.template.x, plan.template.y)
    own = plan.radii[[radius]]
    held = [float((overlap_pixels(u, v, own, columns, rows) @ star)[0]) for u, v in places]
    middle = float(np.median(held)) if held else 0.0
    return float(np.ptp(held)) / middle if middle > 0 else 0.0
