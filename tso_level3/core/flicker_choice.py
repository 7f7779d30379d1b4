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
from tso_level3.quality.noise import Scatter, scatter_of, shared

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
    best = min(after, key=lambda kind: np.nan_to_num(after[kind].clean, nan=np.inf))
    # Both light curves have the photon noise: what they do not share decides.
    own = np.sqrt(1.0 - shared(before.steps, after[best].steps) ** 2)
    doubt = np.hypot(before.score_err, after[best].score_err) * own
    log.info(
        "Scatter of the sample %.3g, %s.",
        before.clean,
        ", ".join(f"{value.clean:.3g} with flicker={kind}" for kind, value in after.items()),
    )
    falls = after[best].clean < (1 - _WORTH) * before.clean - doubt
    if falls:
        log.info("Row noise is removed: flicker=%s.", best)
        return choices[best]
    log.info("Row noise is left as it is: its removal does not lower the scatter.")
    return plan


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


def _scatter(plan: Plan, sample: Any) -> Scatter:
    """Measure the scatter of the sample in the mode's aperture, or the fit where it has none."""
    found = measure(sample.pixels, plan, sample.scale)
    use = np.ones(len(found.flags), bool)
    x, y = found.psf[:, 0], found.psf[:, 1]
    curve = found.psf[:, 2]
    if not sample.mode.fills_frame:
        radius = int(np.argmin(np.abs(plan.radii - sample.geometry.radius)))
        curve = found.sums[:, radius] - found.background[:, 0] * found.areas[:, radius]
    return scatter_of(curve, x, y, use, len(curve))
