"""The noise of light curves: measured, expected, and how it falls with binning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tso_level3.utils.stats import CLIP, KEPT, deviation, mad_std, median, without_slope

__all__ = [
    "Averaging",
    "Centres",
    "Scatter",
    "bin_size",
    "bins",
    "counted",
    "scatter_about",
    "shared",
    "time_averaging",
]

_BIN_MINUTES = 10.0
_BINS = 48
# Red noise is quoted on this many bins or more.
_QUOTED_BINS = 32
# Relative standard error of a scatter from first differences, times the root of their number.
_DIFFERENCE_ERROR = 0.87
# Runs of time, each of which tests a choice made on the others.
_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Scatter:
    """Relative scatter of a light curve.

    Attributes
    ----------
    raw : float
        Scatter of the light curve as it is, by first differences less the local slope, over sqrt 2.
    clean : float
        The same after regression on the centres.
    pointing : float
        Scatter of the part that follows the centres linearly, the part by chance taken off.
    binned : float
        Robust scatter of neighbouring bins of about ten minutes.
    white : float
        What `binned` would be for white noise of the scatter `raw`.
    error : float
        Standard error of `raw`.
    steps : ndarray, (n - 1,)
        First differences after the regression, by which two light curves are compared.
    others, own, number : ndarray, (5,)
        For each fifth of the time the variance that the other fifths say, the sum of its own,
        and of how many differences.
    plain : float
        Scatter by first differences as they are: light curves of one star, which share the slope
        of a transit, are compared by it, since it is less uncertain than `raw`.
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
    """How scatter falls with binning.

    Attributes
    ----------
    size : ndarray, (k,), int
        Integrations in a bin.
    scatter : ndarray, (k,)
        Measured relative scatter of the bins.
    white : ndarray, (k,)
        That of white noise.
    quoted : int
        Place of the bin size at which red noise is quoted.
    """

    size: np.ndarray
    scatter: np.ndarray
    white: np.ndarray
    quoted: int = 0

    @property
    def red_noise(self) -> float:
        """Measured over white scatter at the quoted bin size, 1 or more; NaN where not known.

        It is that of one size: the largest of several uncertain ratios would be biased high.
        """
        if not len(self.size):
            return np.nan
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = self.scatter[self.quoted] / self.white[self.quoted]
        return float(max(ratio, 1.0)) if np.isfinite(ratio) else np.nan


def counted(time: np.ndarray, windows: tuple[float, ...] | None) -> np.ndarray:
    """Mark the integrations that count for noise.

    Parameters
    ----------
    time : ndarray, (n,)
        Times [d].
    windows : tuple of float or None
        Start and end, again and again, of the times that count; all where None.

    Returns
    -------
    ndarray, (n,), bool
        True for those that count.

    Raises
    ------
    ValueError
        Fewer than three integrations count.
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
    """Find how many integrations make about ten minutes.

    Parameters
    ----------
    time : ndarray, (n,)
        Times [d]; NaN where unknown.
    n : int
        Number of integrations.

    Returns
    -------
    int
        At least 2, at most a 48th of the exposure where that is more than 2: fewer bins say
        little, and the steep sides of a transit would be in too many of them.
    """
    good = time[np.isfinite(time)]
    size = max(n // _BINS, 2)
    if good.size > 2:
        cadence = np.median(np.diff(good)) * 24 * 60
        if cadence > 0:
            size = int(np.clip(round(_BIN_MINUTES / cadence), 2, max(n // _BINS, 2)))
    return size


def bins(values: np.ndarray, size: int) -> np.ndarray:
    """Average runs of values.

    Parameters
    ----------
    values : ndarray, (n,)
        Values; those that are not finite are left out of their bin.
    size : int
        Values in a bin; what is left over at the end is dropped.

    Returns
    -------
    ndarray, (n // size,)
        Means; NaN for a bin with less than half of its values.
    """
    count = len(values) // size
    part = values[: count * size].reshape(count, size)
    good = np.isfinite(part)
    number = good.sum(axis=1)
    total = np.where(good, part, 0.0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(number >= max(size / 2, 1), total / number, np.nan)


class Centres:
    """What the scatter of every light curve needs of the centres, worked out once.

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
        """Give the places about their median, and how they vary against their steps.

        Parameters
        ----------
        good : ndarray, (n,), bool
            Integrations that count.

        Returns
        -------
        (ndarray, float)
            Places (n, 2), and their variance over that of their steps, twice: 1 for motion
            without memory.
        """
        if self._good is None or not np.array_equal(good, self._good):
            known = np.isfinite(self.places).all(axis=1) & good
            middle = np.median(self.places[known], axis=0) if known.any() else 0.0
            moved = self.places - middle
            self._good, self._about = good, (moved, _spread(moved[good], self.motion))
        return self._about

    def taken_out(self, flux: np.ndarray, use: np.ndarray) -> np.ndarray:
        """Take out of a light curve what follows the centres, by its first differences.

        Parameters
        ----------
        flux : ndarray, (n,)
            Flux.
        use : ndarray, (n,), bool
            Integrations that count.

        Returns
        -------
        ndarray, (n,)
            The light curve without it, relative to its median.
        """
        good = use & np.isfinite(flux)
        relative = np.where(good, flux / median(flux[good]), np.nan)
        return relative - self.followed(relative, good)[0]

    def followed(self, relative: np.ndarray, good: np.ndarray) -> tuple[np.ndarray, float, int]:
        """Give the part of a relative light curve that follows the centres.

        Parameters
        ----------
        relative : ndarray, (n,)
            Relative flux, NaN where it does not count.
        good : ndarray, (n,), bool
            Integrations that count.

        Returns
        -------
        (ndarray, float, int)
            That part (n,), how the centres vary against their steps, and the steps it is from.
        """
        step = np.diff(relative)
        known = np.isfinite(step) & self.stepped
        slope = _regression(step, self.motion, known)
        moved, spread = self.about(good)
        return np.where(self.known, moved @ slope, 0.0), spread, int(known.sum())


def scatter_about(flux: np.ndarray, centres: Centres, use: np.ndarray, size: int) -> Scatter:
    """Measure the scatter of a light curve, blind to slow changes such as a transit.

    Parameters
    ----------
    flux : ndarray, (n,)
        Flux.
    centres : Centres
        Centres.
    use : ndarray, (n,), bool
        Integrations that count.
    size : int
        Integrations in a bin.

    Returns
    -------
    Scatter
        Relative scatter; NaN where there are too few integrations.

    Notes
    -----
    Everything is measured on differences of neighbours, so that neither the depth of a transit
    nor a trend enters, and the regression on the centres cannot take a transit for motion.
    """
    good = use & np.isfinite(flux)
    middle = median(flux[good])
    if good.sum() < 6 or not middle > 0:
        unknown = np.full(_FOLDS, np.nan)
        steps = np.full(max(len(flux) - 1, 0), np.nan)
        return Scatter(*[np.nan] * 6, steps, unknown, np.zeros(_FOLDS), np.zeros(_FOLDS))
    if not centres.known[good].any():
        # Without centres nothing can follow them.
        centres = Centres(*np.zeros((2, len(flux))))
    relative = np.where(good, flux / middle, np.nan)
    step = np.diff(relative)
    follows, spread, known = centres.followed(relative, good)
    clean = relative - follows
    # The ingress of a transit is a slope.
    raw, plain = (deviation(part) / np.sqrt(2) for part in (without_slope(step), step))
    fine = deviation(without_slope(np.diff(clean))) / np.sqrt(2)
    coarse = bins(relative, size)
    # Second differences: neither a trend nor the steep sides of a transit count.
    binned = mad_std(np.diff(coarse, n=2)) / np.sqrt(6)
    n = int(good.sum())
    white = raw / np.sqrt(size)
    error = plain * _DIFFERENCE_ERROR / np.sqrt(n)
    # Regression on two axes follows the noise by chance.
    chance = 2.0 * fine**2 / max(known, 1)
    pointing = np.sqrt(max(np.var(follows[good]) - chance * spread, 0.0))
    numbers = (raw, fine, pointing, binned, white, float(error))
    return Scatter(*numbers, np.diff(clean), *_folded(step, np.sqrt(2) * plain), plain)


def _folded(steps: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort the squares of first differences by fifths of the time.

    Differences on both sides of a border share an integration: the others do without them.
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
    """Variance of the centres over that of their steps, twice: 1 for motion without memory."""
    steps = motion[np.isfinite(motion).all(axis=1)]
    moved = moved[np.isfinite(moved).all(axis=1)]
    if min(len(steps), len(moved)) < 2:
        return 0.0
    size = steps.var(axis=0)
    ratio = 2.0 * moved.var(axis=0)[size > 0] / size[size > 0]
    return float(ratio.mean()) if ratio.size else 0.0


def shared(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the correlation of two light curves' steps.

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
    """Fit steps of the flux by steps of the centre, twice, without outliers the second time."""
    slope = np.zeros(2)
    if known.sum() < 20:
        return slope
    for _ in range(2):
        # Where all are known nothing has to be gathered.
        used = slice(None) if known.all() else known
        moved = motion[used]
        # By the normal equations, a tenth of the work; without motion along an axis, none follows.
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
        Flux, best without trends.
    use : ndarray, (n,), bool
        Integrations that count.
    size : int, optional
        Integrations that make about ten minutes: red noise is quoted at the nearest size of the
        curve that is no larger and has 32 bins or more; by default at the largest that has.

    Returns
    -------
    Averaging
        The curve over bins of 1, 2, 4, ... integrations, as long as there are 16 bins.

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
    sizes = [1]
    while len(values) // (sizes[-1] * 2) >= 16:
        sizes.append(sizes[-1] * 2)
    measured = np.array([mad_std(np.diff(bins(values, s), n=2)) / np.sqrt(6) for s in sizes])
    white = measured[0] / np.sqrt(sizes)
    sizes = np.array(sizes)
    right = len(values) // sizes >= _QUOTED_BINS
    if size is not None:
        right &= sizes <= max(size, 1)
    quoted = int(np.flatnonzero(right)[-1]) if right.any() else 0
    return Averaging(sizes, measured, white, quoted)
