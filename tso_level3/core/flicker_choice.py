"""Whether, and how, row noise is removed: settled on the sample."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from tso_level3.core.flicker import (
    AMPLIFIER_WIDTH,
    offsets_of,
    remove_flicker,
    residuals_of,
    row_groups,
    trained,
)
from tso_level3.core.measure import measure
from tso_level3.core.plan import Plan
from tso_level3.core.template import Bad
from tso_level3.quality.noise import scatter_of

__all__ = ["with_flicker"]

log = logging.getLogger(__name__)

# A scatter that falls by less than this part is not worth a correction.
_WORTH = 0.01
# Correction and template are found in turn.
_ROUNDS = 2


def with_flicker(
    plan: Plan, sample: Any, values: np.ndarray, how: str, again: Callable[[np.ndarray], Plan]
) -> Plan:
    """Settle the correction of row noise.

    Parameters
    ----------
    plan : Plan
        The plan without it; its layout holds the rows to the edges of the frame.
    sample : Sample
        The frames.
    values : ndarray, (n, n_pixels)
        Their used pixels; NaN where missing.
    how : str
        rows, amps, or auto: what makes the scatter of the sample fall, if anything does.
    again : callable
        Makes the plan from corrected values.

    Returns
    -------
    Plan
        The plan that is used.
    """
    wide = int(plan.layout.columns.max()) >= 2 * AMPLIFIER_WIDTH - 1
    if how != "auto":
        return _corrected(plan, values, how, again)
    choices = {kind: _corrected(plan, values, kind, again) for kind in _kinds(wide)}
    before = _scatter(plan, sample)
    after = {kind: _scatter(choice, sample) for kind, choice in choices.items()}
    best = min(after, key=lambda kind: np.inf if np.isnan(after[kind]) else after[kind])
    log.info(
        "Scatter of the sample %.3g, %s.",
        before,
        ", ".join(f"{value:.3g} with flicker={kind}" for kind, value in after.items()),
    )
    return choices[best] if after[best] < (1 - _WORTH) * before else plan


def _kinds(wide: bool) -> tuple[str, ...]:
    return ("rows", "amps") if wide else ("rows",)


def _corrected(
    plan: Plan, values: np.ndarray, kind: str, again: Callable[[np.ndarray], Plan]
) -> Plan:
    """Train the correction and settle the plan on corrected frames."""
    missing = ~np.isfinite(values)
    missing[:, plan.dead] = False
    bad = Bad.of(missing)
    work = np.nan_to_num(values, nan=0.0)
    holes = ~np.isfinite(values)
    for _ in range(_ROUNDS):
        noise, layout = plan.noise, plan.layout
        outside = (noise.star <= noise.rest) & ~plan.dead
        rows = row_groups(layout.columns, layout.rows, outside, noise.total, amps=kind == "amps")
        residuals = residuals_of(work, bad, plan.template)
        rows = trained(rows, offsets_of(residuals, rows, noise.limit))
        fixed = remove_flicker(work, bad, plan.template, rows, noise.limit)
        fixed[holes] = np.nan
        plan = again(fixed)
    return dataclasses.replace(plan, flicker=kind, rows=rows)


def _scatter(plan: Plan, sample: Any) -> float:
    """Measure the relative scatter of the sample: the mean of fit and quoted aperture."""
    found = measure(sample.pixels, plan, sample.scale)
    use = np.ones(len(found.flags), bool)
    x, y = found.psf[:, 0], found.psf[:, 1]
    curves = [found.psf[:, 2]]
    if not sample.mode.fills_frame:
        radius = int(np.argmin(np.abs(plan.radii - sample.geometry.radius)))
        curves = [found.sums[:, radius] - found.background[:, 0] * found.areas[:, radius]]
    return float(np.mean([scatter_of(curve, x, y, use, 2).clean for curve in curves]))
