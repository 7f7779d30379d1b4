"""Whether, and how, row noise is removed: settled on the sample."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from tso_level3.core.measure import gather, measure
from tso_level3.core.plan import Plan
from tso_level3.core.row_noise import (
    AMPLIFIER_WIDTH,
    RowNoise,
    excess,
    offsets_of,
    remove_flicker,
    residuals_of,
    row_groups,
    trained,
)
from tso_level3.core.template import Bad
from tso_level3.datatypes import Pixels
from tso_level3.quality.noise import Centres, Scatter, scatter_about, shared

__all__ = ["rows_differ", "with_flicker"]

log = logging.getLogger(__name__)

# A scatter that falls by less than this part is not worth a correction.
_WORTH = 0.01
# Correction and template are found in turn.
_ROUNDS = 2
# Offsets of amplifiers are their own where their variance exceeds the noise by so many of its
# standard errors, on so many of them at least.
_CHANCE = 4.0
_FEW = 20
# How much more rows vary than columns, and neighbouring ones, where it is noise of the rows. In
# images that change neither stands out, and in elongated ones not both.
_ROWS_ALONE = np.array([1.5, 3.0])
# Frames, and pixels of all of them, by which rows are told to differ.
_FRAMES, _VALUES = 10, 500_000


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
    # Which of the two is settled by the offsets themselves: scatters of the sample are too alike.
    kind = "amps" if wide and _amplifiers_differ(plan, values) else "rows"
    choice = _corrected(plan, values, kind, again)
    before, after = _scatter(plan, sample), _scatter(choice, sample)
    # Both light curves have the photon noise: what they do not share decides.
    own = np.sqrt(1.0 - shared(before.steps, after.steps) ** 2)
    doubt = np.hypot(before.error, after.error) * own
    log.info("Scatter of the sample %.3g, %.3g with flicker=%s.", before.clean, after.clean, kind)
    if after.clean < (1 - _WORTH) * before.clean - doubt:
        log.info("Row noise is removed: flicker=%s.", kind)
        return choice
    log.info("Row noise is left as it is: its removal does not lower the scatter.")
    return plan


def rows_differ(plan: Plan, pixels: Any, scale: float | np.ndarray) -> bool:
    """Tell whether rows have offsets of their own, by the pixels that are read anyhow.

    To read whole rows costs time and memory, and most exposures need none of it.

    Parameters
    ----------
    plan : Plan
        A plan without the correction.
    pixels : Pixels
        The sample; NaN where a pixel is bad.
    scale : float or ndarray, (ny, nx)
        Factor to the exposure's unit.

    Returns
    -------
    bool
        Whether the offsets of rows are more than chance.
    """
    # Several copies are made of these: few frames of many rows say as much as many of few.
    count = max(_FRAMES, _VALUES // plan.layout.n_pixels)
    some = pixels.values[:: max(len(pixels.values) // count, 1)]
    values, holes = gather(
        Pixels(some), plan.layout.index, scale, plan.dq_mask, plan.background.known
    )
    values[holes.frame, holes.pixel] = np.nan
    bad, work = _gaps(plan, values)
    rows = _groups(plan, amps=False)
    if not np.isfinite(rows.noise).any():
        return False
    residuals = residuals_of(work, bad, plan.template)
    offsets = offsets_of(residuals, rows, plan.noise.limit)
    if not trained(rows, offsets).gain.any():
        return False
    columns = _groups(plan, amps=False, columns=True)
    across = offsets_of(residuals, columns, plan.noise.limit)
    # A changing image of the star gives columns offsets as well as rows.
    return bool(np.all(excess(rows, offsets) > _ROWS_ALONE * excess(columns, across)))


def _amplifiers_differ(plan: Plan, values: np.ndarray) -> bool:
    """Tell whether amplifiers that the star lies in have offsets of their own in a row."""
    bad, work = _gaps(plan, values)
    rows = _groups(plan, amps=True)
    offsets = offsets_of(residuals_of(work, bad, plan.template), rows, plan.noise.limit)
    known = np.isfinite(offsets) & np.isfinite(rows.noise)
    below = plan.layout.columns[: plan.layout.n_near] // AMPLIFIER_WIDTH
    away, noise = [], []
    for row in np.unique(rows.row):
        groups = np.flatnonzero(rows.row == row)
        use = known[:, groups]
        count = use.sum(axis=1)
        part, variance = (
            np.where(use, offsets[:, groups], 0.0),
            np.where(use, rows.noise[groups], 0),
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            rest = part - (part.sum(axis=1) / count)[:, None]
            # Of a value less the mean of all: its own noise is in that mean.
            expected = variance * (1 - 2 / count[:, None])
            expected += (variance.sum(axis=1) / count**2)[:, None]
        own = use & (count > 1)[:, None] & np.isin(rows.amplifier[groups], below)
        away.append(rest[own])
        noise.append(expected[own])
    square, expected = np.concatenate(away) ** 2, np.concatenate(noise)
    if square.size < _FEW:
        return False
    return bool(square.mean() > expected.mean() * (1.0 + _CHANCE * np.sqrt(2.0 / square.size)))


def _gaps(plan: Plan, values: np.ndarray) -> tuple[Bad, np.ndarray]:
    """List the missing pixels of the sample, and put zeros into them."""
    missing = ~np.isfinite(values)
    missing[:, plan.dead] = False
    return Bad.of(missing), np.nan_to_num(values, nan=0.0)


def _groups(plan: Plan, *, amps: bool, columns: bool = False) -> RowNoise:
    noise, layout = plan.noise, plan.layout
    outside = (noise.star <= noise.rest) & ~plan.dead
    places = (layout.rows, layout.columns) if columns else (layout.columns, layout.rows)
    return row_groups(*places, outside, noise.total, amps=amps)


def _corrected(
    plan: Plan, values: np.ndarray, kind: str, again: Callable[[np.ndarray], Plan]
) -> Plan:
    """Train the correction and settle the plan on corrected frames."""
    bad, work = _gaps(plan, values)
    holes = ~np.isfinite(values)
    for _ in range(_ROUNDS):
        limit, rows = plan.noise.limit, _groups(plan, amps=kind == "amps")
        residuals = residuals_of(work, bad, plan.template)
        rows = trained(rows, offsets_of(residuals, rows, limit))
        fixed = remove_flicker(work, bad, plan.template, rows, limit)
        fixed[holes] = np.nan
        plan = again(fixed)
    return dataclasses.replace(plan, flicker=kind, rows=rows)


def _scatter(plan: Plan, sample: Any) -> Scatter:
    """Measure the scatter of the sample in the mode's aperture, or the fit where it has none."""
    found = measure(sample.pixels, plan, sample.scale)
    use = np.ones(len(found.flags), bool)
    curve = found.psf[:, 2]
    if not sample.mode.fills_frame:
        radius = int(np.argmin(np.abs(plan.radii - sample.geometry.radius)))
        curve = found.sums[:, radius] - found.background[:, 0] * found.areas[:, radius]
    centres = Centres(found.psf[:, 0], found.psf[:, 1])
    return scatter_about(curve, centres, use, len(curve))
