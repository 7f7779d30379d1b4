"""Search for permanent jumps and short disturbances of the pointing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tso_level3.quality.events.change_points import locate, step_response
from tso_level3.quality.events.drift import steepness
from tso_level3.utils.stats import mad_std

__all__ = ["Disturbance", "Jump", "Motion", "motion"]

# Lengths of the stretches that are searched for jumps, and the median over stretches of white noise
# of the best chi-square (two degrees of freedom).
_TYPICAL = {60: 7.0, 160: 8.2, 400: 8.9}
_ENDS = 5
# Integrations on each side in which jump and disturbance are compared.
_LOCAL = 160
# Chi-square by which a disturbance, with one parameter more, must beat a jump.
_BETTER = 12.0
_MOST = 30
# Stretches per block.
_TOGETHER = 256
_STEEP = 0.28
_LENGTHS = (3, 4, 6, 8, 12, 16, 24, 32)
_BASELINE = 128
# Limit per integration: a single bad centre is no disturbance.
_CLIP = 40.0


@dataclass(frozen=True)
class Jump:
    """A permanent move of the star.

    Attributes
    ----------
    index : int
        First integration affected.
    significance : float
        Signal-to-noise.
    """

    index: int
    significance: float


@dataclass(frozen=True)
class Disturbance:
    """A run of integrations in which the star is displaced.

    Attributes
    ----------
    start, stop : int
        Integrations [start, stop).
    significance : float
        In standard deviations of a normal distribution.
    """

    start: int
    stop: int
    significance: float


@dataclass(frozen=True)
class Motion:
    """Events of the pointing.

    Attributes
    ----------
    jumps : tuple of Jump
        In the order of time.
    disturbances : tuple of Disturbance
        In the order of time.
    """

    jumps: tuple[Jump, ...]
    disturbances: tuple[Disturbance, ...]


def motion(position: np.ndarray, *, threshold: float) -> Motion:
    """Find jumps and disturbances of the pointing.

    The most significant step beside a parabola is compared with an excursion that returns; the
    better of the two is subtracted, and the search is repeated.

    Parameters
    ----------
    position : ndarray, (n, 2)
        Whitened centres.
    threshold : float
        Least significance, in standard deviations.

    Returns
    -------
    Motion
        Jumps and disturbances.
    """
    # Bad centres must not dominate.
    rest = np.clip(position, -1e3, 1e3)
    n = len(rest)
    jumps, short = [], []
    closed = np.zeros(n, bool)
    for _ in range(_MOST):
        value, index = _best_step(rest, closed)
        if value < threshold**2:
            break
        a, b = max(index - _LOCAL, 0), min(index + _LOCAL, n)
        part = rest[a:b]
        step = step_response(part, 1, _ENDS)
        best = (step**2).sum(axis=1).max()
        start, stop, passing = _excursion(part)
        closed[max(index - 3, 0) : index + 4] = True
        if passing > best + _BETTER:
            around = np.r_[max(start - 30, 0) : start, stop : min(stop + 30, len(part))]
            away = np.median(part[start:stop], axis=0) - np.median(part[around], axis=0)
            rest[a + start : a + stop] -= away
            short.append(Disturbance(a + start, a + stop, float(np.sqrt(passing))))
            continue
        index = locate(rest, index, np.eye(2), window=10, long=30)
        jump = rest[index : index + 30].mean(axis=0) - rest[max(index - 30, 0) : index].mean(axis=0)
        along = rest @ (jump / max(np.hypot(*jump), 1e-300))
        if steepness(along, index, reach=400) >= _STEEP:
            rest[index:] -= jump
            jumps.append(Jump(index, float(np.sqrt(value))))
    for item in disturbances(rest, threshold=threshold):
        apart = all(item.stop < s.start or item.start > s.stop for s in short)
        if apart and all(abs(item.start - jump.index) > 2 * _ENDS for jump in jumps):
            short.append(item)
    return Motion(
        tuple(sorted(jumps, key=lambda item: item.index)),
        tuple(sorted(short, key=lambda item: item.start)),
    )


def _best_step(position: np.ndarray, closed: np.ndarray) -> tuple[float, int]:
    """Find the most significant step beside a parabola: chi-square over red noise, and place."""
    n, found = len(position), [(0.0, 0)]
    for size, typical in _TYPICAL.items():
        if size > n:
            break
        starts = np.unique(np.append(np.arange(0, n - size + 1, size // 4), n - size))
        most, tops = (0.0, 0), []
        # Stretches of one block share the parabola.
        for group in np.array_split(starts, -(-len(starts) // _TOGETHER)):
            stretches = np.stack([position[k : k + size] for k in group], axis=1)
            response = step_response(stretches.reshape(len(stretches), -1), 2, _ENDS)
            square = (response.reshape(len(response), -1, 2) ** 2).sum(axis=2)
            places = group + np.arange(_ENDS, size - _ENDS + 1)[:, None]
            tops.append(square.max(axis=0))
            square = np.where(closed[np.minimum(places, n - 1)], 0.0, square)
            k = int(square.argmax())
            most = max(most, (float(square.flat[k]), int(places.flat[k])))
        # Red noise raises the chi-square of every stretch.
        top = np.median(np.concatenate(tops)) if len(starts) >= 8 else 0.0
        found.append((most[0] / max(top / typical, 1.0), most[1]))
    return max(found)


def _excursion(part: np.ndarray) -> tuple[int, int, float]:
    """Find the run of integrations that best fits an excursion beside a line; its chi-square."""
    n = len(part)
    line, _ = np.linalg.qr(np.stack([np.ones(n), np.linspace(-1, 1, n)], axis=1))
    sums = np.zeros((n + 1, 4))
    np.cumsum(np.concatenate([part - line @ (line.T @ part), line], axis=1), axis=0, out=sums[1:])
    between = sums[None] - sums[:, None]
    length = np.arange(n + 1)[None] - np.arange(n + 1)[:, None]
    left = length - (between[..., 2:] ** 2).sum(axis=2)
    allowed = (length >= 1) & (length <= n // 2)
    allowed[:2] = False
    allowed[:, -2:] = False
    gain = np.where(
        allowed, (between[..., :2] ** 2).sum(axis=2) / np.where(allowed, left, 1.0), 0.0
    )
    start, stop = np.unravel_index(int(gain.argmax()), gain.shape)
    return int(start), int(stop), float(gain[start, stop])


def disturbances(position: np.ndarray, *, threshold: float) -> list[Disturbance]:
    """Find runs of integrations that depart from the local median of the position.

    Parameters
    ----------
    position : ndarray, (n, 2)
        Centres, less the jumps that were found.
    threshold : float
        Least significance, in standard deviations.

    Returns
    -------
    list of Disturbance
        In the order of time, without overlap.
    """
    n = len(position)
    if n < 2 * _LENGTHS[-1]:
        return []
    rest = position - _baseline(position)
    scale = mad_std(rest, center=0.0, axis=0)
    if not (scale > 0).all():
        return []
    square = np.minimum(((rest / scale) ** 2).sum(axis=1), _CLIP)
    total = np.concatenate([[0.0], np.cumsum(square)])
    found = []
    for length in _LENGTHS:
        sums = total[length:] - total[:-length]
        # Wilson and Hilferty: the cube root of a chi-square is nearly normal.
        dof = 2 * length
        z = ((sums / dof) ** (1 / 3) - (1 - 2 / (9 * dof))) / np.sqrt(2 / (9 * dof))
        # Jitter that is not white or not normal raises all of them.
        z = (z - max(np.median(z), 0.0)) / max(mad_std(z), 1.0)
        found += [(z[k], int(k), int(k) + length) for k in np.flatnonzero(z >= threshold)]
    out: list[Disturbance] = []
    for z, start, stop in sorted(found, reverse=True):
        if all(stop < other.start - 4 or start > other.stop + 4 for other in out):
            high = np.flatnonzero(square[start:stop] > 9.0)
            first = start + (int(high[0]) if high.size else 0)
            out.append(Disturbance(first, stop, float(z)))
    return sorted(out, key=lambda item: item.start)


def _baseline(position: np.ndarray) -> np.ndarray:
    """Linear interpolation between medians of stretches four times as long as any disturbance."""
    n = len(position)
    edges = np.linspace(0, n, max(n // _BASELINE, 1) + 1).round().astype(int)
    pairs = list(zip(edges[:-1], edges[1:], strict=True))
    middle = np.array([0.5 * (a + b - 1) for a, b in pairs])
    level = np.array([np.median(position[a:b], axis=0) for a, b in pairs])
    rows = np.arange(n)
    return np.stack([np.interp(rows, middle, level[:, k]) for k in range(2)], axis=1)
