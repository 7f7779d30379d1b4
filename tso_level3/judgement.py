"""What is looked for in the whole of a measured exposure: events, and the flags they set."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np

from tso_level3.columns import EVENTS
from tso_level3.core.plan import Measurement, Plan
from tso_level3.flags import Flag
from tso_level3.frames import Exposure
from tso_level3.quality.directions import directions_of
from tso_level3.quality.events import LEAST_INTEGRATIONS, Event, find_events
from tso_level3.settings import Settings

__all__ = ["EventTable", "events_in", "with_directions"]

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class EventTable:
    """Events as the product holds them.

    Attributes
    ----------
    columns : dict of ndarray
        The table of `tso_level3.columns.EVENTS`.
    flags : ndarray, (n_int,), uint32
        Bits of `tso_level3.Flag` that the events set.
    """

    columns: dict[str, np.ndarray]
    flags: np.ndarray


def with_directions(
    plan: Plan, exposure: Exposure, settings: Settings
) -> tuple[Plan, tuple[np.ndarray, ...]]:
    """Add the shapes along which events are looked for to a plan.

    Parameters
    ----------
    plan : Plan
        What the first look settled.
    exposure : Exposure
        Its optics say which pupil there is.
    settings : Settings
        Its `find_events` says whether anything is looked for.

    Returns
    -------
    (Plan, tuple of ndarray)
        The plan, and the subspaces for `find_events`; the plan as it was where nothing is looked
        for.
    """
    if not settings.find_events or exposure.n_int < LEAST_INTEGRATIONS:
        return plan, ()
    optics = exposure.optics
    setup = {name: getattr(optics, name) for name in ("instrument", "filter", "pupil", "detector")}
    found = directions_of(plan, setup)
    return dataclasses.replace(plan, directions=found.functionals), found.groups


def events_in(
    found: Measurement,
    plan: Plan,
    time: np.ndarray,
    flux: np.ndarray,
    groups: Sequence[np.ndarray],
) -> EventTable:
    """Find the events of a measured exposure.

    Parameters
    ----------
    found : Measurement
        All frames.
    plan : Plan
        What they were measured with; without directions there are no events.
    time : ndarray, (n_int,)
        Times that are quoted [d].
    flux : ndarray, (n_int,)
        The quoted light curve.
    groups : sequence of ndarray
        From `with_directions`.

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
            groups=groups,
        )
    flags = np.zeros(len(found.flags), np.uint32)
    for event in events:
        if event.kind == "settling":
            flags[event.integration : event.integration + event.length] |= np.uint32(Flag.SETTLING)
        else:
            flags[event.integration] |= np.uint32(Flag.EVENT)
        log.info(
            "Event: %s at row %d, significance %.1f, flux step %.2g.",
            event.kind,
            event.integration,
            event.significance,
            event.size,
        )
    values = {
        "integration": [event.integration for event in events],
        "kind": [event.kind for event in events],
        "significance": [event.significance for event in events],
        "size": [event.size for event in events],
        "time": [time[event.integration] for event in events],
    }
    table = {item.name: np.array(values[item.name], dtype=item.dtype) for item in EVENTS}
    return EventTable(table, flags)
