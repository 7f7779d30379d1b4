"""Scatter of light curves, its dependence on the centres, and how it falls with binning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tso_level3.utils.stats import CLIP, KEPT, deviation, mad_std, median, without_slope

__all__ = [
    "DIFFERENCE_ERROR",
    "Averaging",
    "Centres",
    "Scatter",
    "bin_size",
    "bins",
    "counted",
    "integrations_in",
    "scatter_about",
    "shared",
    "time_averaging",
]

_BIN_MINUTES = 10.0
_BINS = 48
# Minimum number of bins for the quoted red noise.
_QUOTED_BINS = 32
#: Relative standard error of a scatter from first differences, times the root of their number.
DIFFERENCE_ERROR = 0.87
# Folds of the cross-validation, in time.
_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Scatter:
    """Relative scatter of a light curve.

    Attributes
    ----------
    raw : float
        Scatter of the light curve, by first differences less the local slope, over sqrt 2.
    clean : float
        The same after regression on the centres.
    pointing : float
        Scatter of the part that depends linearly on the centres, corrected for chance.
    binned : float
        Robust scatter of neighbouring bins of about ten minutes.
    white : float
        Value of `binned` for white noise of the scatter `raw`.
    error : float
        Standard error of `raw`.
    steps : ndarray, (n - 1,)
        First differences after the regression.
    others, own, number : ndarray, (5,)
        For each fifth of the time: the variance of the other fifths, the sum of squares of its own
        differences, and their number.
    plain : float
        Scatter by plain first differences. Light curves of one star, which share the slope of a
        transit, are compared by it, since it is less uncertain than `raw`.
    """

    raw: float
    clean: float
    pointing: float
    binned: float
    white: float
    error: float
    steps: np.ndarray
    others: np.ndarray
    own: np.ndarray
    number: np.ndarray
    plain: float = np.nan


@dataclass(frozen=True, eq=False)
class Averaging:
    """Scatter against bin size.

    Attributes
    ----------
    size : ndarray, (k,), int
        Integrations per bin.
    scatter : ndarray, (k,)
        Measured relative scatter of the bins.
    white : ndarray, (k,)
        Scatter of white noise.
    quoted : int
        Index of the bin size of `red_noise`.
    """

    size: np.ndarray
    scatter: np.ndarray
    white: np.ndarray
    quoted: int = 0

    @property
    def red_noise(self) -> float:
        """Measured over white scatter at one bin size, 1 or more; NaN where unknown.

        The largest of several uncertain ratios would be biased high.
        """
        if not len(self.size):
            return np.nan
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = self.scatter[self.quoted] / self.white[self.quoted]
        return float(max(ratio, 1.0)) if np.isfinite(ratio) else np.nan


def counted(time: np.ndarray, windows: tuple[float, ...] | None) -> np.ndarray:
    """Mark the integrations from which noise is measured.

    Parameters
    ----------
    time : ndarray, (n,)
        Times [d].
    windows : tuple of float or None
        Start and end of each window; None for all times.

    Returns
    -------
    ndarray, (n,), bool
        True inside the windows.

    Raises
    ------
    ValueError
        The windows have fewer than three integrations.
    """
    if windows is None:
        return np.ones(len(time), bool)
    keep = np.zeros(len(time), bool)
    for start, end in zip(windows[::2], windows[1::2], strict=True):
        keep |= (time >= start) & (time <= end)
    if keep.sum() < 3:
        first, last = np.nanmin(time), np.nanmax(time)
        raise ValueError(
            f"out_of_transit: {list(windows)} holds {keep.sum()} integrations, expected 3 or more "
            f"of those from {first:.6f} to {last:.6f}"
        )
    return keep


def bin_size(time: np.ndarray, n: int) -> int:
    """Compute the number of integrations per bin of about ten minutes.

    Parameters
    ----------
    time : ndarray, (n,)
        Times [d]; NaN where unknown.
    n : int
        Number of integrations.

    Returns
    -------
    int
        At least 2, and otherwise at most a 48th of the exposure, so that there are enough bins
        without the steep sides of a transit.
    """
    most = max(n // _BINS, 2)
    per_bin = integrations_in(time, _BIN_MINUTES)
    return most if per_bin is None else int(np.clip(per_bin, 2, most))


def integrations_in(time: np.ndarray, minutes: float) -> int | None:
    """Compute the number of integrations in an interval.

    Parameters
    ----------
    time : ndarray, (n,)
        Times [d]; NaN where unknown.
    minutes : float
        Length of the interval.

    Returns
    -------
    int or None
        The number; None where fewer than three times are known.
    """
    good = time[np.isfinite(time)]
    if good.size <= 2 or not (cadence := np.median(np.diff(good)) * 24 * 60) > 0:
        return None
    return round(minutes / cadence)


def bins(values: np.ndarray, size: int) -> np.ndarray:
    """Average values in bins.

    Parameters
    ----------
    values : ndarray, (n,)
        Values; those that are not finite are left out.
    size : int
        Values per bin; the remainder at the end is dropped.

    Returns
    -------
    ndarray, (n // size,)
        Means; NaN for bins with less than half of their values.
    """
    count = len(values) // size
    part = values[: count * size].reshape(count, size)
    good = np.isfinite(part)
    number = good.sum(axis=1)
    total = np.where(good, part, 0.0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(number >= max(size / 2, 1), total / number, np.nan)


class Centres:
    """Centres and their steps, for the regression of several light curves on them.

    Parameters
    ----------
    x, y : ndarray, (n,)
        Centres [pix].
    """

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.places = np.stack([x, y], axis=1)
        self.known = np.isfinite(self.places).all(axis=1)
        #: Steps from one integration to the next, (n - 1, 2), and which of them are known.
        self.motion = np.diff(self.places, axis=0)
        self.stepped = self.known[1:] & self.known[:-1]
        self._good: np.ndarray | None = None
        self._about: tuple[np.ndarray, float] = (self.places, 0.0)

    def about(self, good: np.ndarray) -> tuple[np.ndarray, float]:
        """Subtract the median of the places, and compare their variance with that of their steps.

        Parameters
        ----------
        good : ndarray, (n,), bool
            Integrations to use.

        Returns
        -------
        (ndarray, float)
            Places (n, 2), and twice the ratio of their variance to that of their steps, which is 1
            for white motion.
        """
        if self._good is None or not np.array_equal(good, self._good):
            known = np.isfinite(self.places).all(axis=1) & good
            middle = np.median(self.places[known], axis=0) if known.any() else 0.0
            moved = self.places - middle
            self._good, self._about = good, (moved, _spread(moved[good], self.motion))
        return self._about

    def decorrelated(self, flux: np.ndarray, use: np.ndarray) -> np.ndarray:
        """Subtract the dependence of a light curve on the centres, fitted to first differences.

        Parameters
        ----------
        flux : ndarray, (n,)
            Flux.
        use : ndarray, (n,), bool
            Integrations to use.

        Returns
        -------
        ndarray, (n,)
            The decorrelated light curve, over its median.
        """
        good = use & np.isfinite(flux)
        relative = np.where(good, flux / median(flux[good]), np.nan)
        return relative - self.dependence(relative, good)[0]

    def dependence(self, relative: np.ndarray, good: np.ndarray) -> tuple[np.ndarray, float, int]:
        """Fit the dependence of a relative light curve on the centres.

        Parameters
        ----------
        relative : ndarray, (n,)
            Relative flux, NaN where it is not used.
        good : ndarray, (n,), bool
            Integrations to use.

        Returns
        -------
        (ndarray, float, int)
            The dependent part (n,), the variance ratio of `about`, and the number of steps used.
        """
        step = np.diff(relative)
        known = np.isfinite(step) & self.stepped
        slope = _regression(step, self.motion, known)
        moved, spread = self.about(good)
        return np.where(self.known, moved @ slope, 0.0), spread, int(known.sum())


def scatter_about(flux: np.ndarray, centres: Centres, use: np.ndarray, size: int) -> Scatter:
    """Measure the scatter of a light curve, insensitive to slow changes such as a transit.

    Parameters
    ----------
    flux : ndarray, (n,)
        Flux.
    centres : Centres
        Centres.
    use : ndarray, (n,), bool
        Integrations to use.
    size : int
        Integrations per bin.

    Returns
    -------
    Scatter
        Relative scatter; NaN where there are too few integrations.

    Notes
    -----
    All is measured on differences of neighbours, so that neither a transit nor a trend contributes,
    and the regression on the centres does not take a transit for motion.
    """
    good = use & np.isfinite(flux)
    middle = median(flux[good])
    if good.sum() < 6 or not middle > 0:
        unknown = np.full(_FOLDS, np.nan)
        steps = np.full(max(len(flux) - 1, 0), np.nan)
        return Scatter(
            raw=np.nan,
            clean=np.nan,
            pointing=np.nan,
            binned=np.nan,
            white=np.nan,
            error=np.nan,
            steps=steps,
            others=unknown,
            own=np.zeros(_FOLDS),
            number=np.zeros(_FOLDS),
        )
    if not centres.known[good].any():
        # Without centres there is no dependence on them.
        centres = Centres(*np.zeros((2, len(flux))))
    relative = np.where(good, flux / middle, np.nan)
    step = np.diff(relative)
    follows, spread, known = centres.dependence(relative, good)
    clean = relative - follows
    # The ingress of a transit is a slope.
    raw, plain = (deviation(part) / np.sqrt(2) for part in (without_slope(step), step))
    fine = deviation(without_slope(np.diff(clean))) / np.sqrt(2)
    coarse = bins(relative, size)
    # Second differences are free of trends and hardly include the sides of a transit.
    binned = mad_std(np.diff(coarse, n=2)) / np.sqrt(6)
    n = int(good.sum())
    white = raw / np.sqrt(size)
    error = plain * DIFFERENCE_ERROR / np.sqrt(n)
    # By chance, the regression on two axes follows the noise.
    chance = 2.0 * fine**2 / max(known, 1)
    pointing = np.sqrt(max(np.var(follows[good]) - chance * spread, 0.0))
    numbers = (raw, fine, pointing, binned, white, float(error))
    return Scatter(*numbers, np.diff(clean), *_folded(step, np.sqrt(2) * plain), plain)


def _folded(steps: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums of squares of first differences in folds of time, for cross-validation.

    The variance of the other folds excludes differences that share an integration with the fold.
    """
    good = np.isfinite(steps) & (np.abs(steps) <= CLIP * scale)
    square = np.where(good, steps, 0.0) ** 2 / (2.0 * KEPT)
    edges = np.linspace(0, len(steps), _FOLDS + 1).round().astype(int)
    total, count = square.sum(), good.sum()
    others, own, number = np.full(_FOLDS, np.nan), np.zeros(_FOLDS), np.zeros(_FOLDS)
    for k, (first, last) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        own[k], number[k] = square[first:last].sum(), good[first:last].sum()
        wider = slice(max(first - 1, 0), last + 1)
        left = count - good[wider].sum()
        if left > 0:
            others[k] = (total - square[wider].sum()) / left
    return others, own, number


def _spread(moved: np.ndarray, motion: np.ndarray) -> float:
    """Twice the variance of the centres over that of their steps: 1 for white motion."""
    steps = motion[np.isfinite(motion).all(axis=1)]
    moved = moved[np.isfinite(moved).all(axis=1)]
    if min(len(steps), len(moved)) < 2:
        return 0.0
    size = steps.var(axis=0)
    ratio = 2.0 * moved.var(axis=0)[size > 0] / size[size > 0]
    return float(ratio.mean()) if ratio.size else 0.0


def shared(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the correlation of the first differences of two light curves.

    Parameters
    ----------
    first, second : ndarray, (n,)
        First differences.

    Returns
    -------
    float
        0 to 1, without outliers; 0 where there are too few.
    """
    good = np.isfinite(first) & np.isfinite(second)
    for values in (first, second):
        with np.errstate(invalid="ignore"):
            good &= np.abs(values) < 5.0 * mad_std(values)
    if good.sum() < 6:
        return 0.0
    return float(np.clip(np.corrcoef(first[good], second[good])[0, 1], 0.0, 1.0))


def _regression(step: np.ndarray, motion: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Regress steps of the flux on steps of the centre, clipping outliers once."""
    slope = np.zeros(2)
    if known.sum() < 20:
        return slope
    for _ in range(2):
        # A slice avoids a copy.
        used = slice(None) if known.all() else known
        moved = motion[used]
        # The normal equations take a tenth of the time; pinv allows an axis without motion.
        slope = np.linalg.pinv(moved.T @ moved, hermitian=True) @ (moved.T @ step[used])
        rest = step - motion @ slope
        known = known & (np.abs(rest) < 5 * max(mad_std(rest[used]), 1e-300))
        if known.sum() < 20:
            break
    return slope


def time_averaging(flux: np.ndarray, use: np.ndarray, size: int | None = None) -> Averaging:
    """Compute how the scatter of a light curve falls with binning.

    Parameters
    ----------
    flux : ndarray, (n,)
        Flux, preferably without trends.
    use : ndarray, (n,), bool
        Integrations to use.
    size : int, optional
        Integrations per bin of about ten minutes: red noise is quoted at the largest bin size up
        to this one with 32 bins or more; by default at the largest with 32 bins.

    Returns
    -------
    Averaging
        For bins of 1, 2, 4, ... integrations, down to 16 bins.

    References
    ----------
    Pont, Zucker & Queloz 2006, doi:10.1111/j.1365-2966.2006.11012.x.
    """
    values = flux[use & np.isfinite(flux)]
    middle = np.median(values) if values.size else np.nan
    if values.size < 16 or not middle > 0:
        empty = np.zeros(0)
        return Averaging(empty.astype(int), empty, empty)
    values = values / middle
    sizes = 2 ** np.arange(int(np.log2(len(values) // 16)) + 1)
    measured = np.array([mad_std(np.diff(bins(values, int(s)), n=2)) / np.sqrt(6) for s in sizes])
    white = measured[0] / np.sqrt(sizes)
    right = len(values) // sizes >= _QUOTED_BINS
    if size is not None:
        right &= sizes <= max(size, 1)
    quoted = int(np.flatnonzero(right)[-1]) if right.any() else 0
    return Averaging(sizes, measured, white, quoted)
