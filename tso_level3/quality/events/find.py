"""Search for events in an exposure: mirror-segment tilts, pointing jumps, disturbances, settling.

A tilt is a permanent step of the image's shape within one integration. It is searched in the
residuals of the template fit, from which flux, shift and second-order motion are removed, so that
neither a transit nor jitter resembles one; widths and chi-square are searched as well. A drift is
told from a step by the significance that remains when a parabola is fitted with it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tso_level3.quality.events.change_points import (
    LEAST,
    Scan,
    Subspaces,
    locate,
    response_at,
    scan,
)
from tso_level3.quality.events.drift import is_drift, steepness
from tso_level3.quality.events.motion import Disturbance, Motion, motion
from tso_level3.quality.events.settling import Ramp, settling, subtract_ramp
from tso_level3.quality.events.shape_series import ShapeSeries
from tso_level3.quality.events.sizes import dip_size, ramp_size, step_size
from tso_level3.quality.events.whitening import whiten
from tso_level3.utils.stats import mad_std

__all__ = ["LEAST_INTEGRATIONS", "Event", "find_events"]

log = logging.getLogger(__name__)

#: Exposures with fewer integrations are not searched.
LEAST_INTEGRATIONS = 60
# Thresholds on minus the logarithm of the probability at one place. 2,000 integrations hold some
# tens of independent places, and about twenty subspaces are searched.
_NEG_LOG_P = 15.0
_RAMP_NEG_LOG_P = 18.0
# Standard deviations; jitter is neither quite normal nor white.
_MOTION = 8.0
# Of its significance a step keeps half with a parabola, a drift nothing.
_STEEP = 0.25
_NEAR = 12
_STRETCH = 400


@dataclass(frozen=True)
class Event:
    """A sudden change of the telescope or its pointing.

    Attributes
    ----------
    row : int
        Row of the first integration affected, from 0.
    kind : str
        ``tilt``: a permanent change of the image's shape; ``jump``: a permanent move of the star;
        ``antenna``: a short move of the star; ``settling``: a ramp at the start.
    significance : float
        Signal-to-noise of the change.
    size, size_err : float
        Relative change of the flux and its standard error; NaN where unknown.
    length : int
        Number of integrations affected; 0 for a permanent change.
    """

    row: int
    kind: str
    significance: float
    size: float
    size_err: float
    length: int = 0


@dataclass(frozen=True, eq=False)
class _Step:
    index: int
    significance: float


def find_events(
    *,
    components: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    width_x: np.ndarray,
    width_y: np.ndarray,
    chi2: np.ndarray,
    flux: np.ndarray,
    out_of_transit: np.ndarray | None = None,
    subspaces: Sequence[np.ndarray] = (),
) -> tuple[Event, ...]:
    """Find tilts, jumps, disturbances and settling in a measured exposure.

    Parameters
    ----------
    components : ndarray, (n_int, n_components)
        Projections of the residuals on the tilt modes, the most likely first, in standard errors;
        they are scaled to unit variance.
    x, y : ndarray, (n_int,)
        Centres [pix].
    width_x, width_y : ndarray, (n_int,)
        Widths of the image [pix].
    chi2 : ndarray, (n_int,)
        Reduced chi-square of the fit of the template.
    flux : ndarray, (n_int,)
        Flux in the primary aperture, for the sizes of events and the effect of a transit on
        chi-square.
    out_of_transit : ndarray, (n_int,), bool, optional
        Integrations from which the sizes are measured; by default all, and the sizes include
        changes of the star itself.
    subspaces : sequence of ndarray, (n_components, k)
        Subspaces of the projections, each of a single cause, such as one mirror segment.

    Returns
    -------
    tuple of Event
        In the order of time; empty for fewer than `LEAST_INTEGRATIONS` integrations.

    Notes
    -----
    Integrations with NaN in projections or centre are left out.
    """
    components = np.asarray(components)
    place = np.stack([x, y], axis=1).astype(float)
    rows = np.flatnonzero(np.isfinite(components).all(axis=1) & np.isfinite(place).all(axis=1))
    if len(rows) < LEAST_INTEGRATIONS:
        return ()
    flux = np.asarray(flux, float)[rows]
    shape = ShapeSeries.from_columns(
        components,
        rows,
        widths=np.stack([width_x, width_y], axis=1).astype(float)[rows],
        chi2=np.asarray(chi2, float)[rows],
        place=place[rows],
        flux=flux,
        subspaces=subspaces,
    )
    pointing = whiten(place[rows]).values

    n_ramp, ramp = _ramp(shape, pointing)
    if ramp is not None:
        subtract_ramp(shape.projections, ramp)
        subtract_ramp(pointing, ramp)
    tilts = _steps(shape, n_ramp)
    moved = motion(pointing[n_ramp:], threshold=_MOTION)
    steps = [(_Step(s.index + n_ramp, s.significance), k) for s, k in _classify(tilts, moved)]
    if out_of_transit is not None:
        # All of the flux is needed for the search, but only this part for the sizes.
        flux = np.where(np.asarray(out_of_transit, bool)[rows], flux, np.nan)
    events = _measure(steps, moved.disturbances, rows, flux, n_ramp)
    if ramp is not None:
        length = int(rows[n_ramp - 1] - rows[0] + 1)
        significance = float(np.sqrt(ramp.chi2))
        size, error = ramp_size(flux, ramp.length)
        events.append(Event(int(rows[0]), "settling", significance, size, error, length))
    return tuple(sorted(events, key=lambda event: (event.row, event.kind)))


def _measure(
    steps: Sequence[tuple[_Step, str]],
    short: Sequence[Disturbance],
    rows: np.ndarray,
    flux: np.ndarray,
    n_ramp: int,
) -> list[Event]:
    """Make events of steps and disturbances: their rows and sizes."""
    edges = [n_ramp, *[step.index for step, _ in steps]]
    events = [
        Event(int(rows[s.index]), kind, s.significance, *step_size(flux, s.index, edges))
        for s, kind in steps
    ]
    for item in short:
        start, stop = item.start + n_ramp, item.stop + n_ramp
        length = int(rows[stop - 1] - rows[start] + 1)
        size, error = dip_size(flux, start, stop)
        # With nothing before it, the pointing settles.
        kind = "settling" if start <= 1 else "antenna"
        events.append(Event(int(rows[start]), kind, item.significance, size, error, length))
    return events


def _ramp(shape: ShapeSeries, pointing: np.ndarray) -> tuple[int, Ramp | None]:
    """Find the ramp at the start, in shape or pointing, and the number of its integrations."""
    series = [*shape.stretch(0, shape.n), (pointing, Subspaces((np.eye(2),)))]
    ramps = [settling(values, subspaces) for values, subspaces in series]
    found = [ramp for ramp in ramps if ramp is not None and ramp.neg_log_p >= _RAMP_NEG_LOG_P]
    if not found:
        return 0, None
    ramp = max(found, key=lambda item: item.neg_log_p)
    return min(ramp.n_rows, shape.n // 2), ramp


def _steps(shape: ShapeSeries, first: int) -> list[_Step]:
    """Find the steps of the shape by binary segmentation; places are counted from ``first``."""
    out: list[_Step] = []
    todo = [(first, shape.n)]
    while todo:
        a, b = todo.pop()
        best = [_best(values, subspaces) for values, subspaces in shape.stretch(a, b)]
        steps = [step for step in best if step is not None]
        if steps:
            step = max(steps, key=lambda item: item.significance)
            out.append(_Step(a - first + step.index, step.significance))
            todo += [(a, a + step.index), (a + step.index, b)]
    return sorted(out, key=lambda step: step.index)


def _best(values: np.ndarray, subspaces: Subspaces) -> _Step | None:
    """Find the best step of a stretch, without a drift and else together with a cubic."""
    for degree in (0, 3):
        best = scan(values, subspaces, degree=degree)
        if best is None or best.neg_log_p < _NEG_LOG_P:
            return None
        step = _confirm(values, best, subspaces, degree)
        if step is not None:
            return step
    return None


def _confirm(values: np.ndarray, best: Scan, subspaces: Subspaces, degree: int) -> _Step | None:
    """Locate a step, and test that it is no drift."""
    n, index = len(values), best.index
    basis = _best_basis(values, index, subspaces, best.subspace)
    index = locate(values, index, basis)
    if not LEAST // 2 <= index <= n - LEAST // 2:
        return None
    first, last = max(index - _STRETCH, 0), min(index + _STRETCH, n)
    series = _projected(values, basis, (first, index, last))
    red = _red_noise(series, index, min(index - first, last - index))
    if steepness(series, index, reach=_STRETCH) < _STEEP:
        return None
    if is_drift(series, index, reach=_STRETCH, degree=min(degree, 1)):
        return None
    # Over the whole stretch too, unless there is a drift.
    if degree == 0 and steepness(series, index, reach=_STRETCH, enough=np.inf) < _STEEP:
        return None
    squares = subspaces.squares(response_at(values, index))
    net = squares[best.subspace] - subspaces.dimensions[best.subspace]
    significance = float(np.sqrt(max(net, 0.0))) / red
    return _Step(index, significance) if significance**2 / 2 >= _NEG_LOG_P else None


def _projected(values: np.ndarray, basis: np.ndarray, edges: tuple[int, int, int]) -> np.ndarray:
    """Project the series on the change across the middle edge, (n,), of unit noise.

    Even integrations are projected on the change of the odd ones, and vice versa: on a direction
    from the same integrations their noise would look like a step.
    """
    first, index, last = edges
    out = np.empty(len(values))
    for parity in (0, 1):
        other = np.arange(len(values)) % 2 != parity
        after, before = other.copy(), other
        after[:index], after[last:] = False, False
        before[:first], before[index:] = False, False
        change = (values[after].mean(axis=0) - values[before].mean(axis=0)) @ basis
        size = max(np.sqrt(change @ change), 1e-300)
        out[parity::2] = values[parity::2] @ (basis @ (change / size)).astype(values.dtype)
    return out


def _best_basis(values: np.ndarray, index: int, subspaces: Subspaces, first: int) -> np.ndarray:
    """Choose the subspace that holds most of the step and least of the noise."""
    least = LEAST // 2
    response = response_at(values, int(np.clip(index, least, len(values) - least)))
    squares, dimensions = subspaces.squares(response), subspaces.dimensions
    net = np.maximum(squares - dimensions, 0.0)
    worth = net**2 / np.maximum(squares, 1e-300)
    best = int(worth.argmax())
    return subspaces.bases[best if worth[best] > worth[first] else first]


def _red_noise(series: np.ndarray, index: int, reach: int) -> float:
    """Scatter of differences of adjacent means away from a step, over that of white noise."""
    width = max(min(reach, len(series) // 12), 1)
    total = np.concatenate([[0.0], np.cumsum(series)])
    means = (total[width:] - total[:-width]) / np.sqrt(2.0 * width)
    steps = means[width:] - means[:-width]
    place = np.arange(width, width + len(steps))
    steps = steps[np.abs(place - index) > width]
    if len(steps) < 6 * width:
        return 1.0
    return float(max(mad_std(steps, center=0.0), 1.0))


def _classify(tilts: list[_Step], moved: Motion) -> list[tuple[_Step, str]]:
    """Merge steps of shape and pointing that are one event, and name the kind of each."""
    left = [_Step(jump.index, jump.significance) for jump in moved.jumps]
    kept = []
    for tilt in tilts:
        near = [jump for jump in left if abs(jump.index - tilt.index) <= _NEAR]
        left = [jump for jump in left if jump not in near]
        # A large jump leaves residuals; the shift by a tilt is no more significant than its shape.
        jumped = [jump for jump in near if jump.significance > 3.0 * tilt.significance]
        passing = any(s.start - _NEAR <= tilt.index <= s.stop + _NEAR for s in moved.disturbances)
        if jumped:
            kept.append((jumped[0], "jump"))
        elif not passing:
            kept.append((tilt, "tilt"))
    kept += [(jump, "jump") for jump in left]
    return sorted(kept, key=lambda item: item[0].index)
