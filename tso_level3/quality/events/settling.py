"""Search for an exponential ramp at the start of an exposure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tso_level3.quality.events.change_points import Subspaces, neg_log_p, polynomials, scan
from tso_level3.utils.stats import mad_std

__all__ = ["Ramp", "ramp_shape", "settling", "subtract_ramp"]

# Places of the series at which the same ramp is fitted, for the red noise.
_ELSEWHERE = 80
# Chi-square by which a ramp must beat a parabola.
_MORE = 12.0
# Chi-square by which the best of many steps may beat a ramp by chance.
_PLACES = 8.0


@dataclass(frozen=True)
class Ramp:
    """An exponential ramp at the start.

    Attributes
    ----------
    length : float
        Integrations in which it falls by a factor of e.
    neg_log_p : float
        Minus the natural logarithm of the probability of so large a chi-square.
    chi2 : float
        Chi-square that it explains.
    """

    length: float
    neg_log_p: float
    chi2: float

    @property
    def n_rows(self) -> int:
        """Number of integrations until 5 % remain."""
        return int(np.ceil(3.0 * self.length))


def settling(values: np.ndarray, subspaces: Subspaces) -> Ramp | None:
    """Search for an exponential ramp at the start.

    It must explain more than a step at any place of the same stretch, and its significance is
    measured against the scatter of the same ramp fitted elsewhere in the series.

    Parameters
    ----------
    values : ndarray, (n, n_channels)
        Whitened series.
    subspaces : Subspaces
        Directions that the ramp may have.

    Returns
    -------
    Ramp or None
        The best ramp; None where the series is too short or a step or parabola is better.
    """
    n = len(values)
    if not subspaces.bases:
        return None
    best, together = None, np.concatenate(subspaces.bases, axis=1)
    first = np.concatenate([[0], np.cumsum(subspaces.dimensions)[:-1]])
    for length in np.geomspace(5.0, 100.0, 7):
        window = int(np.ceil(8 * length))
        # The series must have room for the same ramp elsewhere.
        if 2 * window > n:
            break
        shape = ramp_shape(window, length)
        # Red noise: the scatter of the same ramp elsewhere.
        count = min((n - window) // max(window // 4, 1) + 1, _ELSEWHERE)
        starts = np.unique(np.linspace(0, n - window, count).astype(int))
        sums = np.array([shape @ values[k : k + window] for k in starts]) @ together
        red = np.maximum(mad_std(sums[1:], center=0.0, axis=0), 1.0)
        squares = np.add.reduceat((sums[0] / red) ** 2, first)
        unlikely = neg_log_p(squares, subspaces.dimensions)
        k = int(unlikely.argmax())
        if best is None or unlikely[k] > best[0].neg_log_p:
            best = Ramp(float(length), float(unlikely[k]), float(squares[k])), window, k
    if best is None:
        return None
    ramp, window, k = best
    part = values[:window] @ subspaces.bases[k]
    step = scan(part, Subspaces((np.eye(part.shape[1]),)), degree=1, least=4)
    # A drift is a parabola to first order, and goes on where the ramp has ended.
    phase = np.linspace(-1, 1, window)
    bend = np.polynomial.legendre.Legendre.basis(2)(phase)
    bend -= bend.mean()
    drift = ((bend @ part) ** 2).sum() / (bend @ bend)
    explained = ((ramp_shape(window, ramp.length) @ part) ** 2).sum()
    if (step is not None and step.chi2 > explained + _PLACES) or drift > explained - _MORE:
        return None
    return _refined(values[: 16 * window], subspaces.bases[k], ramp)


def _refined(values: np.ndarray, basis: np.ndarray, ramp: Ramp) -> Ramp:
    """Refine the length, on a finer grid and on more integrations than in the search."""
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


def subtract_ramp(values: np.ndarray, ramp: Ramp) -> None:
    """Subtract a ramp from every channel of a series, in place: its end resembles a step.

    Parameters
    ----------
    values : ndarray, (n, n_channels)
        Series; it is changed.
    ramp : Ramp
        Its length; its size in each channel is fitted together with a straight line.
    """
    n = min(len(values), int(np.ceil(10 * ramp.length)))
    rows = np.arange(n)
    design = np.stack([np.ones(n), rows / n, np.exp(-rows / ramp.length)], axis=1)
    size = np.linalg.lstsq(design, values[:n], rcond=None)[0][2]
    values[:n] -= design[:, 2:] * size


def ramp_shape(window: int, length: float) -> np.ndarray:
    """Make an exponential ramp of unit length, orthogonal to a straight line.

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
    line = polynomials(window, 1)
    shape = np.exp(-np.arange(window) / length)
    shape -= line @ (line.T @ shape)
    return shape / np.sqrt((shape**2).sum())
