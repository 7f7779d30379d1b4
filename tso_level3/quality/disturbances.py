"""Short disturbances of the pointing, and ramps at the start of an exposure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter
from scipy.stats import chi2

from tso_level3.quality.steps import Families, scan

__all__ = ["Disturbance", "Ramp", "disturbances", "settling"]

_MAD = 1.4826022185056018
_LENGTHS = (3, 4, 6, 8, 12, 16, 24, 32)
_BASELINE = 129
# One integration alone may be a bad centre; it must not make a disturbance.
_CLIP = 40.0


@dataclass(frozen=True)
class Disturbance:
    """A run of integrations in which the star was elsewhere.

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
class Ramp:
    """An exponential ramp at the start.

    Attributes
    ----------
    length : float
        Integrations in which it falls by a factor of e.
    surprise : float
        Minus the natural logarithm of the chance of so large a chi-square.
    chi2 : float
        What it explains.
    """

    length: float
    surprise: float
    chi2: float

    @property
    def n_rows(self) -> int:
        """Integrations until 5 % of it are left."""
        return int(np.ceil(3.0 * self.length))


def disturbances(position: np.ndarray, *, threshold: float) -> list[Disturbance]:
    """Find runs of integrations that depart from the running median of the position.

    Parameters
    ----------
    position : ndarray, (n, 2)
        Centres without the steps that were found.
    threshold : float
        Least significance, in standard deviations.

    Returns
    -------
    list of Disturbance
        In the order of time, apart from each other.
    """
    n = len(position)
    if n < 2 * _LENGTHS[-1]:
        return []
    size = min(_BASELINE, n // 2 * 2 - 1)
    rest = position - median_filter(position, size=(size, 1), mode="nearest")
    scale = _MAD * np.median(np.abs(rest), axis=0)
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
        # Jitter that is not white, or not normal, makes all of them larger.
        z = (z - max(np.median(z), 0.0)) / max(_MAD * np.median(np.abs(z - np.median(z))), 1.0)
        found += [(z[k], k, k + length) for k in np.flatnonzero(z >= threshold)]
    out: list[Disturbance] = []
    for z, start, stop in sorted(found, reverse=True):
        if all(stop < other.start - 4 or start > other.stop + 4 for other in out):
            high = np.flatnonzero(square[start:stop] > 9.0)
            first = start + (int(high[0]) if high.size else 0)
            out.append(Disturbance(first, stop, float(z)))
    return sorted(out, key=lambda item: item.start)


def settling(values: np.ndarray, families: Families) -> Ramp | None:
    """Look for an exponential ramp at the start.

    It must explain more than a step at any place of the same stretch, and more than the same
    ramp anywhere else in the series by the scatter that it has there.

    Parameters
    ----------
    values : ndarray, (n, n_channels)
        White series.
    families : Families
        Where the ramp may point.

    Returns
    -------
    Ramp or None
        The best; None where the series is too short or a step explains it better.
    """
    n = len(values)
    best, together = None, np.concatenate(families.bases, axis=1)
    first = np.concatenate([[0], np.cumsum(families.dimensions)[:-1]])
    for length in np.geomspace(5.0, 100.0, 7):
        window = int(np.ceil(8 * length))
        if window > n:
            break
        shape = ramp_shape(window, length)
        starts = np.arange(0, n - window + 1, max(window // 4, 1))
        sums = np.array([shape @ (values[k : k + window] @ together) for k in starts])
        # Red noise: the same ramp elsewhere in the series, of which a quarter is independent.
        later = np.abs(sums[1:])
        red = np.maximum(_MAD * np.median(later, axis=0), 1.0) if len(later) >= 12 else 1.0
        squares = np.add.reduceat((sums[0] / red) ** 2, first)
        surprise = -chi2.logsf(squares, families.dimensions)
        k = int(surprise.argmax())
        if best is None or surprise[k] > best[0].surprise:
            best = Ramp(float(length), float(surprise[k]), float(squares[k])), window, k
    if best is None:
        return None
    ramp, window, k = best
    one = Families((families.bases[k],))
    step = scan(values[:window], one, degree=1, least=3)
    return None if step is not None and step.chi2 > ramp.chi2 else ramp


def ramp_shape(window: int, length: float) -> np.ndarray:
    """Exponential ramp without the part that a straight line explains, of unit length.

    Parameters
    ----------
    window : int
        Number of integrations.
    length : float
        Integrations in which it falls by a factor of e.

    Returns
    -------
    ndarray, (window,)
        The shape.
    """
    line, _ = np.linalg.qr(np.polynomial.legendre.legvander(np.linspace(-1, 1, window), 1))
    shape = np.exp(-np.arange(window) / length)
    shape -= line @ (line.T @ shape)
    return shape / np.sqrt((shape**2).sum())
