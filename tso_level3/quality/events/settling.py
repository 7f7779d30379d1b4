"""Ramps at the start of an exposure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tso_level3.quality.events.change_points import Families, scan, surprise
from tso_level3.utils.stats import mad_std

__all__ = ["Ramp", "ramp_shape", "settling", "take_out"]

# Places in the series where the same ramp is looked for.
_ELSEWHERE = 80
# A ramp must explain so much more than a parabola does.
_MORE = 12.0
# By so much the best of many places for a step explains more of a ramp than the ramp, by chance.
_PLACES = 8.0


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
    if not families.bases:
        return None
    best, together = None, np.concatenate(families.bases, axis=1)
    first = np.concatenate([[0], np.cumsum(families.dimensions)[:-1]])
    for length in np.geomspace(5.0, 100.0, 7):
        window = int(np.ceil(8 * length))
        # The same ramp must be looked for elsewhere, to know what red noise makes of it.
        if 2 * window > n:
            break
        shape = ramp_shape(window, length)
        # Red noise: the same ramp elsewhere in the series.
        count = min((n - window) // max(window // 4, 1) + 1, _ELSEWHERE)
        starts = np.unique(np.linspace(0, n - window, count).astype(int))
        sums = np.array([shape @ values[k : k + window] for k in starts]) @ together
        red = np.maximum(mad_std(sums[1:], center=0.0, axis=0), 1.0)
        squares = np.add.reduceat((sums[0] / red) ** 2, first)
        chance = surprise(squares, families.dimensions)
        k = int(chance.argmax())
        if best is None or chance[k] > best[0].surprise:
            best = Ramp(float(length), float(chance[k]), float(squares[k])), window, k
    if best is None:
        return None
    ramp, window, k = best
    part = values[:window] @ families.bases[k]
    step = scan(part, Families((np.eye(part.shape[1]),)), degree=1, least=4)
    # A slow change is a parabola to first order, and that it stays where the ramp has ended.
    phase = np.linspace(-1, 1, window)
    bend = np.polynomial.legendre.Legendre.basis(2)(phase)
    bend -= bend.mean()
    slow = ((bend @ part) ** 2).sum() / (bend @ bend)
    explained = ((ramp_shape(window, ramp.length) @ part) ** 2).sum()
    if (step is not None and step.chi2 > explained + _PLACES) or slow > explained - _MORE:
        return None
    return _refined(values[: 16 * window], families.bases[k], ramp)


def _refined(values: np.ndarray, basis: np.ndarray, ramp: Ramp) -> Ramp:
    """Settle the length, on a finer grid and on more integrations than it was looked for on."""
    lengths = [
        length
        for length in ramp.length * np.geomspace(0.5, 6.0, 26)
        if 3.0 <= length and 4 * length <= len(values)
    ]
    if not lengths:
        return ramp

    def explained(length: float) -> float:
        part = values[: int(8 * max(lengths))] @ basis
        return float(((ramp_shape(len(part), length) @ part) ** 2).sum())

    return replace(ramp, length=float(max(lengths, key=explained)))


def take_out(values: np.ndarray, ramp: Ramp) -> None:
    """Take a ramp out of every channel of a series, in place: its end must not look like a step.

    Parameters
    ----------
    values : ndarray, (n, n_channels)
        Series.
    ramp : Ramp
        Its length; how large it is in each channel is fitted beside a straight line.
    """
    n = min(len(values), int(np.ceil(10 * ramp.length)))
    rows = np.arange(n)
    design = np.stack([np.ones(n), rows / n, np.exp(-rows / ramp.length)], axis=1)
    size = np.linalg.lstsq(design, values[:n], rcond=None)[0][2]
    values[:n] -= design[:, 2:] * size


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
