"""Events in an exposure: tilts of mirror segments, jumps and disturbances of the pointing.

A tilt is a step of the image's shape, within one integration, that stays. It is looked for in
the residuals of the template, which hold neither flux nor shift nor second-order motion, so that
no transit and no jitter can look like one; widths and chi-square are looked at beside. A slow
change is told from a step by what a parabola leaves of it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tso_level3.quality.events.change_points import (
    LEAST,
    Families,
    Scan,
    located,
    response_at,
    scan,
)
from tso_level3.quality.events.drift import is_slow, steepness
from tso_level3.quality.events.motion import Disturbance, Motion, motion
from tso_level3.quality.events.settling import Ramp, settling, take_out
from tso_level3.quality.events.shape_series import ShapeSeries
from tso_level3.quality.events.sizes import dip_size, ramp_size, step_size
from tso_level3.quality.events.whitening import whiten
from tso_level3.utils.stats import mad_std

__all__ = ["LEAST_INTEGRATIONS", "Event", "find_events"]

log = logging.getLogger(__name__)

#: Exposures with fewer integrations have no events.
LEAST_INTEGRATIONS = 60
# Chance of so large a step at one place, minus its logarithm: 2,000 integrations hold some tens
# of independent places, and some twenty families are looked at.
_SURPRISE = 15.0
_RAMP_SURPRISE = 18.0
# Standard deviations; jitter is not quite normal, and not white.
_MOTION = 8.0
# A step keeps half of its significance beside a parabola; a drift keeps nothing.
_STEEP = 0.25
_NEAR = 12
_STRETCH = 400


@dataclass(frozen=True)
class Event:
    """Something that happened to telescope or pointing.

    Attributes
    ----------
    row : int
        Row of the first integration affected, from 0.
    kind : str
        ``tilt``: the image changed its shape and stayed so; ``jump``: the star moved and stayed;
        ``antenna``: it moved for a short time; ``settling``: a ramp at the start.
    significance : float
        Signal-to-noise of the change.
    size, size_err : float
        Relative change of the flux and its standard error; NaN where it is not known.
    length : int
        Integrations that are affected; 0 where it stays.
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
    counts: np.ndarray | None = None,
    groups: Sequence[np.ndarray] = (),
) -> tuple[Event, ...]:
    """Find tilts, jumps, disturbances and settling.

    Parameters
    ----------
    components : ndarray, (n_int, n_components)
        Projections of the residuals on shapes, the likeliest first, in standard errors. They
        should have unit variance; they are scaled to it.
    x, y : ndarray, (n_int,)
        Centres [pix].
    width_x, width_y : ndarray, (n_int,)
        Widths of the image [pix].
    chi2 : ndarray, (n_int,)
        Reduced chi-square of the fit of the template.
    flux : ndarray, (n_int,)
        Flux in the quoted aperture; gives the size of an event, and a transit's part in chi-square.
    counts : ndarray, (n_int,), bool, optional
        Integrations whose flux says how large an event is: those out of transit. By default all
        do, and what the star itself does is part of the sizes.
    groups : sequence of ndarray, (n_components, k)
        Subspaces of the projections in which a single cause moves the image.

    Returns
    -------
    tuple of Event
        In the order of time; none in fewer than `LEAST_INTEGRATIONS` integrations.

    Notes
    -----
    NaN is allowed everywhere: integrations without projections or centre are passed over.
    """
    components = np.asarray(components)
    place = np.stack([x, y], axis=1).astype(float)
    rows = np.flatnonzero(np.isfinite(components).all(axis=1) & np.isfinite(place).all(axis=1))
    if len(rows) < LEAST_INTEGRATIONS:
        return ()
    flux = np.asarray(flux, float)[rows]
    shape = ShapeSeries.of(
        components,
        rows,
        widths=np.stack([width_x, width_y], axis=1).astype(float)[rows],
        chi2=np.asarray(chi2, float)[rows],
        place=place[rows],
        flux=flux,
        groups=groups,
    )
    pointing = whiten(place[rows]).values

    n_ramp, ramp = _ramp(shape, pointing)
    if ramp is not None:
        take_out(shape.projections, ramp)
        take_out(pointing, ramp)
    tilts = _steps(shape, n_ramp)
    moved = motion(pointing[n_ramp:], threshold=_MOTION)
    kept = [(_Step(s.index + n_ramp, s.significance), k) for s, k in _sorted_out(tilts, moved)]
    if counts is not None:
        # The image's shape is searched with all of the flux, its size is known from these alone.
        flux = np.where(np.asarray(counts, bool)[rows], flux, np.nan)
    events = _described(kept, moved.disturbances, rows, flux, n_ramp)
    if ramp is not None:
        length = int(rows[n_ramp - 1] - rows[0] + 1)
        significance = float(np.sqrt(ramp.chi2))
        size, error = ramp_size(flux, ramp.length)
        events.append(Event(int(rows[0]), "settling", significance, size, error, length))
    return tuple(sorted(events, key=lambda event: (event.row, event.kind)))


def _described(
    steps: Sequence[tuple[_Step, str]],
    short: Sequence[Disturbance],
    rows: np.ndarray,
    flux: np.ndarray,
    n_ramp: int,
) -> list[Event]:
    """Give steps and disturbances their rows and their sizes."""
    edges = [n_ramp, *[step.index for step, _ in steps]]
    events = [
        Event(int(rows[s.index]), kind, s.significance, *step_size(flux, s.index, edges))
        for s, kind in steps
    ]
    for item in short:
        start, stop = item.start + n_ramp, item.stop + n_ramp
        length = int(rows[stop - 1] - rows[start] + 1)
        size, error = dip_size(flux, start, stop)
        # Nothing was before it: the star comes to its place.
        kind = "settling" if start <= 1 else "antenna"
        events.append(Event(int(rows[start]), kind, item.significance, size, error, length))
    return events


def _ramp(shape: ShapeSeries, pointing: np.ndarray) -> tuple[int, Ramp | None]:
    """Find the ramp at the start, in shape or pointing."""
    looks = [*shape.looks(0, shape.n), (pointing, Families((np.eye(2),)))]
    found = [settling(values, families) for values, families in looks]
    found = [ramp for ramp in found if ramp is not None and ramp.surprise >= _RAMP_SURPRISE]
    if not found:
        return 0, None
    ramp = max(found, key=lambda item: item.surprise)
    return min(ramp.n_rows, shape.n // 2), ramp


def _steps(shape: ShapeSeries, first: int) -> list[_Step]:
    """Find the steps of the shape: the best of a stretch, then the best on each side of it.

    Places are counted from ``first``, where the search begins.
    """
    out: list[_Step] = []
    todo = [(first, shape.n)]
    while todo:
        a, b = todo.pop()
        steps = [_best(values, families) for values, families in shape.looks(a, b)]
        steps = [step for step in steps if step is not None]
        if steps:
            step = max(steps, key=lambda item: item.significance)
            out.append(_Step(a - first + step.index, step.significance))
            todo += [(a, a + step.index), (a + step.index, b)]
    return sorted(out, key=lambda step: step.index)


def _best(values: np.ndarray, families: Families) -> _Step | None:
    """Find the best step of a stretch, beside nothing and else beside a cubic."""
    for degree in (0, 3):
        best = scan(values, families, degree=degree)
        if best is None or best.surprise < _SURPRISE:
            return None
        step = _judged(values, best, families, degree)
        if step is not None:
            return step
    return None


def _judged(values: np.ndarray, best: Scan, families: Families, degree: int) -> _Step | None:
    """Settle where a step is, and whether it is one."""
    n, index = len(values), best.index
    basis = _telling_basis(values, index, families, best.family)
    index = located(values, index, basis)
    if not LEAST // 2 <= index <= n - LEAST // 2:
        return None
    first, last = max(index - _STRETCH, 0), min(index + _STRETCH, n)
    series = _projected(values, basis, (first, index, last))
    red = _red_noise(series, index, min(index - first, last - index))
    if steepness(series, index, reach=_STRETCH) < _STEEP:
        return None
    if is_slow(series, index, reach=_STRETCH, degree=min(degree, 1)):
        return None
    # Over the whole stretch too, unless a drift is known to be there.
    if degree == 0 and steepness(series, index, reach=_STRETCH, enough=np.inf) < _STEEP:
        return None
    squares = families.squares(response_at(values, index))
    net = squares[best.family] - families.dimensions[best.family]
    significance = float(np.sqrt(max(net, 0.0))) / red
    return _Step(index, significance) if significance**2 / 2 >= _SURPRISE else None


def _projected(values: np.ndarray, basis: np.ndarray, edges: tuple[int, int, int]) -> np.ndarray:
    """Project the series on the change across the middle edge, (n,), of unit noise.

    Even integrations are projected on the change of the odd ones, and the other way round: a
    direction from the same integrations would make a step of their own noise.
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


def _telling_basis(values: np.ndarray, index: int, families: Families, family: int) -> np.ndarray:
    """Choose the family that gives the best direction: much of the step, little of the noise."""
    least = LEAST // 2
    response = response_at(values, int(np.clip(index, least, len(values) - least)))
    squares, dimensions = families.squares(response), families.dimensions
    net = np.maximum(squares - dimensions, 0.0)
    worth = net**2 / np.maximum(squares, 1e-300)
    best = int(worth.argmax())
    return families.bases[best if worth[best] > worth[family] else family]


def _red_noise(series: np.ndarray, index: int, reach: int) -> float:
    """Scatter of differences of neighbouring means away from a step, over that of white noise."""
    width = max(min(reach, len(series) // 12), 1)
    total = np.concatenate([[0.0], np.cumsum(series)])
    means = (total[width:] - total[:-width]) / np.sqrt(2.0 * width)
    steps = means[width:] - means[:-width]
    place = np.arange(width, width + len(steps))
    steps = steps[np.abs(place - index) > width]
    if len(steps) < 6 * width:
        return 1.0
    return float(max(mad_std(steps, center=0.0), 1.0))


def _sorted_out(tilts: list[_Step], moved: Motion) -> list[tuple[_Step, str]]:
    """Say which steps of shape and pointing are one event."""
    left = [_Step(jump.index, jump.significance) for jump in moved.jumps]
    kept = []
    for tilt in tilts:
        near = [jump for jump in left if abs(jump.index - tilt.index) <= _NEAR]
        left = [jump for jump in left if jump not in near]
        # A large jump leaves residuals; a tilt's own shift is no more telling than its shape.
        jumped = [jump for jump in near if jump.significance > 3.0 * tilt.significance]
        passing = any(s.start - _NEAR <= tilt.index <= s.stop + _NEAR for s in moved.disturbances)
        if jumped:
            kept.append((jumped[0], "jump"))
        elif not passing:
            kept.append((tilt, "tilt"))
    kept += [(jump, "jump") for jump in left]
    return sorted(kept, key=lambda item: item[0].index)
