"""Tests that tell a step from a slow drift."""

from __future__ import annotations

import numpy as np

from tso_level3.quality.events.change_points import LEAST, polynomials

__all__ = ["is_drift", "steepness"]

# Chi-square by which a drift may fit better than a true step by chance.
_CHANCE = 6.0
# Significance at which what a parabola leaves of a step is distinct from noise.
_SEEN = 11.0


def steepness(series: np.ndarray, index: int, *, reach: int, enough: float = _SEEN) -> float:
    """Compute the part of a step's significance that remains when a parabola is fitted with it.

    A step keeps half of its significance, a slow drift keeps nothing. The comparison is made on
    the shortest stretch in which the step is significant.

    Parameters
    ----------
    series : ndarray, (n,)
        Projection on the step's direction, of unit noise.
    index : int
        First integration after the step.
    reach : int
        Maximum number of integrations on each side.
    enough : float
        Significance at which a stretch is long enough.

    Returns
    -------
    float
        Ratio of the significances with and without the parabola, about 0.5 for a step.
    """
    n = len(series)
    # Near an end, a symmetric stretch may be the better one, or too short.
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
    # Noise may keep half of a faint step: the remainder must itself be significant.
    return float(beside / max(abs(plain), _SEEN))


def is_drift(series: np.ndarray, index: int, *, reach: int, degree: int = 0) -> bool:
    """Test whether a linear transition over many integrations fits better than a step.

    Parameters
    ----------
    series : ndarray, (n,)
        Projection on the step's direction, of unit noise.
    index : int
        First integration after the step.
    reach : int
        Maximum number of integrations on each side.
    degree : int
        Degree of the polynomial that is fitted with either; 1 where there is a drift already.

    Returns
    -------
    bool
        Whether one of the linear transitions of 64 to 384 integrations explains more than the
        step does.
    """
    a, b = max(index - reach, 0), min(index + reach, len(series))
    part, place = series[a:b], np.arange(a, b) - index
    line = polynomials(len(part), degree)

    def explained(shape: np.ndarray) -> float:
        shape = shape - line @ (line.T @ shape)
        return float((shape @ part) ** 2 / max(shape @ shape, 1e-12))

    step = explained((place >= 0).astype(float))
    drifts = [
        explained(np.clip(0.5 + (place - 0.25 * k * length) / length, 0.0, 1.0))
        for length in (64, 128, 256, 384)
        if length < len(part)
        for k in (-2, -1, 0, 1, 2)
    ]
    # Where there is a drift already, the step must be the better one without a margin.
    return max(drifts, default=0.0) > step + (_CHANCE if degree == 0 else 0.0)


def _significance(part: np.ndarray, index: int, degree: int) -> float:
    n = len(part)
    smooth = polynomials(n, degree)
    step = (np.arange(n) >= index).astype(float)
    step -= smooth @ (smooth.T @ step)
    size = np.sqrt((step**2).sum())
    return float(step @ part / size) if size > 1e-9 else 0.0
