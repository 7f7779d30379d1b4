"""Telling a step from a slow change."""

from __future__ import annotations

import numpy as np

from tso_level3.quality.events.change_points import LEAST

__all__ = ["is_slow", "steepness"]

# By so much a slow change fits better than a true step by chance, rarely.
_CHANCE = 6.0
# A step of this significance leaves enough beside a parabola to be told from noise.
_SEEN = 11.0


def steepness(series: np.ndarray, index: int, *, reach: int, enough: float = _SEEN) -> float:
    """Compare a step with a smooth change: how much of it stays beside a parabola.

    A step keeps half of its significance when a slope is fitted with it, a slow drift keeps
    nothing. The comparison is made on the shortest stretch that shows the step at all.

    Parameters
    ----------
    series : ndarray, (n,)
        Projection on the step's direction, of unit noise.
    index : int
        First integration after the step.
    reach : int
        Integrations on each side at most.
    enough : float
        Significance that a stretch must have.

    Returns
    -------
    float
        Ratio of the significances with and without the parabola, about 0.5 for a step.
    """
    n = len(series)
    # Near an end a stretch that is the same on both sides may tell more, or may be too short.
    room = min(index, n - index)
    even = series[index - room : index + room]
    ratios = [_ratio(series, index, reach, enough), _ratio(even, room, reach, enough)]
    return max(ratios)


def _ratio(series: np.ndarray, index: int, reach: int, enough: float) -> float:
    n, width = len(series), LEAST
    while True:
        a, b = max(index - width, 0), min(index + width, n)
        part = series[a:b]
        plain = _significance(part, index - a, 0)
        if abs(plain) >= enough or width >= reach or (a == 0 and b == n):
            break
        width = int(np.ceil(1.3 * width))
    beside = _significance(part, index - a, 2) * np.sign(plain)
    # Of a faint one noise may keep half: what stays beside the parabola must be seen itself.
    return float(beside / max(abs(plain), _SEEN))


def is_slow(series: np.ndarray, index: int, *, reach: int, degree: int = 0) -> bool:
    """Tell whether a change that takes tens of integrations fits better than a step.

    Parameters
    ----------
    series : ndarray, (n,)
        Projection on the step's direction, of unit noise.
    index : int
        First integration after the step.
    reach : int
        Integrations on each side at most.
    degree : int
        Degree of the polynomial over the whole stretch that is left to both: 1 where a drift is
        known to be there.

    Returns
    -------
    bool
        Whether one of the transitions along a straight line, of 64 to 384 integrations, explains
        more than the step does.
    """
    a, b = max(index - reach, 0), min(index + reach, len(series))
    part, place = series[a:b], np.arange(a, b) - index
    phase = np.linspace(-1, 1, len(part))
    line, _ = np.linalg.qr(np.polynomial.legendre.legvander(phase, degree))

    def explained(shape: np.ndarray) -> float:
        shape = shape - line @ (line.T @ shape)
        return float((shape @ part) ** 2 / max(shape @ shape, 1e-12))

    step = explained((place >= 0).astype(float))
    slow = [
        explained(np.clip(0.5 + (place - 0.25 * k * length) / length, 0.0, 1.0))
        for length in (64, 128, 256, 384)
        if length < len(part)
        for k in (-2, -1, 0, 1, 2)
    ]
    # Where there is a drift already the doubt counts against the step.
    return max(slow, default=0.0) > step + (_CHANCE if degree == 0 else 0.0)


def _significance(part: np.ndarray, index: int, degree: int) -> float:
    n = len(part)
    smooth, _ = np.linalg.qr(np.polynomial.legendre.legvander(np.linspace(-1, 1, n), degree))
    step = (np.arange(n) >= index).astype(float)
    step -= smooth @ (smooth.T @ step)
    size = np.sqrt((step**2).sum())
    return float(step @ part / size) if size > 1e-9 else 0.0
