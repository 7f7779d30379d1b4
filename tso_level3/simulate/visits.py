"""Simulated exposures of the length of a visit, with a transit in the middle."""

from __future__ import annotations

from typing import Any

import numpy as np

from tso_level3.simulate.settings import PRESETS, Simulation, simulation

__all__ = ["HOURS", "timeline", "visit"]

#: Length of a visit [h]; half of it is transit.
HOURS = 4.0
# Six planes of four bytes: 120 MB.
_PIXELS = 5_000_000
_FEWEST, _MOST = 60, 1200


def visit(preset: str = "F210M", *, hours: float = HOURS, **changes: Any) -> Simulation:
    """Make the settings of an exposure as long as a visit that takes little disk space.

    Parameters
    ----------
    preset : str
        A key of `tso_level3.simulate.PRESETS`.
    hours : float
        Length of the exposure [h].
    **changes
        Fields of `Simulation`. Without them, ``n_int`` is that of the preset, else 60 to 1200 for
        5 million pixels; ``ngroups`` fills the hours; ``transit_duration`` is half of the exposure.

    Returns
    -------
    Simulation
        The settings.

    Raises
    ------
    ValueError
        Unknown preset or field, or a value out of bounds.
    """
    if not 0.01 <= hours <= 1000:
        raise ValueError(f"hours is {hours!r}; expected 0.01 to 1000")
    # Presets and names are checked here.
    base = simulation(preset, **changes)
    if "n_int" not in {**PRESETS[preset], **changes}:
        ny, nx = base.shape
        changes["n_int"] = int(np.clip(_PIXELS // (ny * nx), _FEWEST, _MOST))
        changes["n_int"] = max(changes["n_int"], base.segments)
    n_int = changes.get("n_int", base.n_int)
    if "ngroups" not in changes:
        changes["ngroups"] = max(2, round(hours * 3600 / n_int / base.frame_time) - 1)
    if "transit_duration" not in changes:
        length = n_int * (changes["ngroups"] + 1) * base.frame_time / 3600
        changes["transit_duration"] = length / 2
    return simulation(preset, **changes)


def timeline(sim: Simulation) -> str:
    """Describe the length of an exposure and its transit.

    Parameters
    ----------
    sim : Simulation
        The settings.

    Returns
    -------
    str
        Number and cadence, length, transit and baseline.
    """
    hours = sim.n_int * sim.cadence / 3600
    cadence = f"{sim.cadence:.3g}" if sim.cadence < 100 else f"{sim.cadence:.0f}"
    text = f"{sim.n_int} integrations, one every {cadence} s: {_length(hours)}"
    if not sim.transit_depth:
        return f"{text}, no transit"
    duration = 0.4 * hours if sim.transit_duration is None else sim.transit_duration
    middle = hours / 2 if sim.transit_mid is None else sim.transit_mid
    before, after = middle - duration / 2, hours - middle - duration / 2
    return (
        f"{text}, a transit of {_length(duration)} and {100 * sim.transit_depth:.3g} % "
        f"(baseline {_length(max(before, 0.0))} before, {_length(max(after, 0.0))} after)"
    )


def _length(hours: float) -> str:
    factors = {"h": 1.0, "min": 60.0, "s": 3600.0}
    unit = next((unit for unit, factor in factors.items() if hours * factor > 0.95), "s")
    return f"{hours * factors[unit]:.2g} {unit}"
