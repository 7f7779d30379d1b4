"""Decorrelation of a light curve against the star's motion and a trend in time."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tso_level3.utils.stats import mad_std, point_to_point
from tso_level3.utils.threads import catch_warnings

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["Detrended", "detrend"]

log = logging.getLogger(__name__)

_CLIP = 5.0
_MAX_CLIPS = 10
# Neighbours on each side with which an integration is compared.
_NEIGHBOURS = 3
# Largest fraction of outliers; more are a feature that the fit does not include.
_MOST_OUTLIERS = 0.05
# Increase of the scatter by irrelevant vectors, times the root of the number of integrations.
_NOISIER = 1.0


@dataclass(frozen=True, eq=False, repr=False)
class Detrended:
    """A decorrelated light curve and the fit.

    Attributes
    ----------
    time : ndarray, (n_int,)
        The times [d].
    flux, flux_err : ndarray, (n_int,)
        Relative flux and its standard error: the light curve over `baseline`; NaN where the light
        curve or a vector is not finite. The error is that of the measurement only; for that of the
        fit see `errors`.
    baseline : ndarray, (n_int,)
        The fitted model, in the unit of the light curve, also inside the window.
    names : tuple of str
        The terms: ``constant``, ``time``, ``time^2`` ..., and the vectors.
    coefficients, errors : ndarray, (n_terms,)
        Over the constant term: the coefficient of a vector is the relative change of the flux per
        unit of the vector about its mean, that of ``time`` per length of the exposure. The errors
        are scaled to a reduced chi-square of one where it is larger or no errors are known. NaN for
        a vector that does not vary.
    scale : float
        The constant term, in the unit of the light curve.
    used : ndarray, (n_int,), bool
        The integrations in the fit: finite, outside the window, without outliers.
    scatter_before, scatter_after : float
        Weighted relative rms of the integrations in the fit, about their mean before and about
        the model after; includes a transit that no window leaves out.
    noise_before, noise_after : float
        Relative scatter from one integration to the next, outside the window, without trends,
        ingress and egress. NaN for fewer than five integrations.
    """

    time: np.ndarray
    flux: np.ndarray
    flux_err: np.ndarray
    baseline: np.ndarray
    names: tuple[str, ...]
    coefficients: np.ndarray
    errors: np.ndarray
    scale: float
    used: np.ndarray
    scatter_before: float
    scatter_after: float
    noise_before: float
    noise_after: float

    def __repr__(self) -> str:
        scatter, noise = (
            f"{1e6 * before:.0f} -> {1e6 * after:.0f} ppm"
            for before, after in (
                (self.scatter_before, self.scatter_after),
                (self.noise_before, self.noise_after),
            )
        )
        return (
            f"<Detrended: {self.used.sum()} of {len(self.time)} integrations in the fit of "
            f"{', '.join(self.names)}; rms {scatter}, point to point {noise}>"
        )

    def to_table(self) -> Table:
        """Return the corrected light curve as a table.

        Returns
        -------
        astropy.table.Table
            ``time, flux, flux_err, baseline, used``, a row per integration. Its ``meta`` has
            ``terms`` (name, coefficient and error of each), ``scale`` and the scatters.
        """
        from astropy.table import Table

        names = ("time", "flux", "flux_err", "baseline", "used")
        table = Table({name: getattr(self, name) for name in names})
        fitted = zip(self.names, self.coefficients, self.errors, strict=True)
        table.meta["terms"] = {name: [float(c), float(e)] for name, c, e in fitted}
        scalars = ("scale", "scatter_before", "scatter_after", "noise_before", "noise_after")
        table.meta |= {name: float(getattr(self, name)) for name in scalars}
        return table


@dataclass(frozen=True, eq=False)
class _Fit:
    """A fit of terms to a light curve, and the scatter of the residuals."""

    names: tuple[str, ...]
    design: np.ndarray
    used: np.ndarray
    solution: np.ndarray
    covariance: np.ndarray
    chi2: float
    noise: float


def detrend(
    time: np.ndarray,
    flux: np.ndarray,
    flux_err: np.ndarray | None,
    vectors: Mapping[str, np.ndarray],
    *,
    order: int = 1,
    window: Sequence[float] | None = None,
) -> Detrended:
    """Fit a polynomial in time and vectors to a light curve, and divide by the fit.

    The fit is linear least squares, weighted with the errors where they are known. Outliers are
    left out, and it is made again until there are none: integrations more than 5 sigma off the
    fit and, in the same direction, off their neighbours on both sides, in terms of the scatter
    from one integration to the next. What the fit does not know, such as a transit, has neighbours
    like itself. Where more than 5 % are outliers all are kept, with a warning.

    Without a window, where the vectors add noise from one integration to the next, as they do when
    the fit takes a transit for motion, they are not taken out, with a warning.

    Parameters
    ----------
    time : ndarray, (n_int,)
        Times [d], on any scale.
    flux, flux_err : ndarray, (n_int,), or None
        The light curve and its standard errors; without errors the weights are equal.
    vectors : mapping of str to ndarray, (n_int,)
        Vectors on which the flux may depend linearly: centres, widths, background, components.
    order : int
        Order of the polynomial in time, 0 or more.
    window : sequence of float, optional
        Start and end of an interval that is left out of the fit, such as the transit, on the scale
        of ``time``; more pairs may follow. Without one, a transit is fitted in part.

    Returns
    -------
    Detrended
        The corrected light curve and the fit.

    Raises
    ------
    ValueError
        The order or the window is wrong, no integration is in the window, or too few are left.

    References
    ----------
    Holland, P. W., Welsch, R. E. (1977), doi:10.1080/03610927708827533, for the robust scatter.
    """
    time, flux = np.array(time, dtype=float), np.array(flux, dtype=float)
    known = flux_err is not None and np.isfinite(flux_err).any()
    flux_err = np.array(flux_err, dtype=float) if known else np.full(flux.shape, np.nan)
    finite, start = _usable(time, flux, flux_err if known else None, vectors, order, window)
    weights = 1.0 / flux_err if known else np.ones(len(flux))
    plain = _fit(time, flux, weights, {}, int(order), start)
    fit = _fit(time, flux, weights, vectors, int(order), start) if vectors else plain
    # Where the transit is left out, what adds white noise and takes slow changes away is a gain.
    if window is None and fit.noise > (1.0 + _NOISIER / np.sqrt(start.sum())) * plain.noise:
        log.warning(
            "detrending: %s not taken out: their fit raises the scatter from one integration to "
            "the next from %.0f to %.0f ppm, as it does where a transit or eclipse is taken for "
            "motion; give its times as window",
            ", ".join(vectors),
            1e6 * plain.noise,
            1e6 * fit.noise,
        )
        fit = plain
    scale, used = float(fit.solution[0]), fit.used
    if scale == 0.0 or not np.isfinite(scale):
        raise ValueError(f"detrending: a mean flux of {scale:g} found, expected another than 0")
    baseline = np.where(finite, fit.design @ fit.solution, np.nan)
    covariance = fit.covariance * (max(fit.chi2, 1.0) if known else fit.chi2)
    varies = np.ptp(fit.design[start], axis=0) > 0
    varies[0] = True
    square = weights[used] ** 2
    mean = np.average(flux[used], weights=square)
    before, after = (
        float(np.sqrt(np.average((flux[used] - about) ** 2, weights=square)) / abs(scale))
        for about in (mean, baseline[used])
    )
    return Detrended(
        time=time,
        flux=flux / baseline,
        flux_err=flux_err / np.abs(baseline),
        baseline=baseline,
        names=fit.names,
        coefficients=np.where(varies, fit.solution / scale, np.nan),
        errors=np.where(varies, np.sqrt(np.diag(covariance)) / abs(scale), np.nan),
        scale=scale,
        used=used,
        scatter_before=before,
        scatter_after=after,
        noise_before=_noise(flux[start], time[start]),
        noise_after=fit.noise,
    )


def _fit(
    time: np.ndarray,
    flux: np.ndarray,
    weights: np.ndarray,
    vectors: Mapping[str, np.ndarray],
    order: int,
    start: np.ndarray,
) -> _Fit:
    """Fit a polynomial in time and vectors, with outliers clipped."""
    design, names = _design(time, vectors, order, start)
    used = _without_outliers(design, flux, weights, time, start)
    solution, covariance, chi2 = _solve(design[used], flux[used], weights[used])
    left = flux[start] - design[start] @ solution + solution[0]
    return _Fit(names, design, used, solution, covariance, chi2, _noise(left, time[start]))


def _noise(values: np.ndarray, time: np.ndarray) -> float:
    """Relative scatter from one integration to the next."""
    return point_to_point(values[np.argsort(time, kind="stable")]) / abs(np.median(values))


def _usable(
    time: np.ndarray,
    flux: np.ndarray,
    flux_err: np.ndarray | None,
    vectors: Mapping[str, np.ndarray],
    order: int,
    window: Sequence[float] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Mark the rows with finite values, and those of them that may be used in the fit."""
    if isinstance(order, bool) or int(order) != order or order < 0:
        raise ValueError(f"order: {order!r} found, expected a whole number of 0 or more")
    finite = np.isfinite(time) & np.isfinite(flux)
    for name, values in vectors.items():
        if not np.isfinite(values).any():
            raise ValueError(f"vectors: {name} without a finite value found, expected numbers")
        finite &= np.isfinite(values)
    usable = finite & _outside(time, window)
    if flux_err is not None:
        usable &= np.isfinite(flux_err) & (flux_err > 0)
    n_terms = 1 + int(order) + len(vectors)
    if usable.sum() <= n_terms:
        raise ValueError(
            f"detrending: {int(usable.sum())} usable integrations outside the window found, "
            f"expected more than the {n_terms} terms of the fit"
        )
    return finite, usable


def _outside(time: np.ndarray, window: Sequence[float] | None) -> np.ndarray:
    """Mark the times outside all windows."""
    edges = np.ravel(np.asarray(() if window is None else window, dtype=float))
    known = time[np.isfinite(time)]
    span = f"times from {known.min():.10g} to {known.max():.10g}" if len(known) else "no times"
    outside = np.ones(len(time), dtype=bool)
    for k in range(0, len(edges), 2):
        first, last = pair if len(pair := edges[k : k + 2]) == 2 else (np.nan, np.nan)
        if not first < last:
            raise ValueError(
                f"window: {edges.tolist()} found, expected a start and a later end, or several "
                f"such pairs, of the {span}"
            )
        within = (time >= first) & (time <= last)
        if not within.any():
            raise ValueError(
                f"window: no integration from {first:.10g} to {last:.10g} found, expected {span}"
            )
        outside &= ~within
    return outside


def _design(
    time: np.ndarray, vectors: Mapping[str, np.ndarray], order: int, used: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Make the design matrix, with columns of zero mean, and the names of the terms."""
    span = np.ptp(time[np.isfinite(time)]) or 1.0
    phase = (time - np.mean(time[used])) / span
    columns, names = [np.ones(len(time))], ["constant"]
    for power in range(1, order + 1):
        columns.append(phase**power)
        names.append("time" if power == 1 else f"time^{power}")
    for name, values in vectors.items():
        values = np.asarray(values, dtype=float)
        columns.append(values - np.mean(values[used]))
        names.append(name)
    return np.stack(columns, axis=1), tuple(names)


def _without_outliers(
    design: np.ndarray, flux: np.ndarray, weights: np.ndarray, time: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """Clip outliers iteratively; returns the integrations to use, (n_int,)."""
    rows = np.flatnonzero(start)
    rows = rows[np.argsort(time[rows], kind="stable")]
    used = start
    for _ in range(_MAX_CLIPS):
        solution = _solve(design[used], flux[used], weights[used])[0]
        residual = ((flux - design @ solution) * weights)[rows]
        step = mad_std(np.diff(residual, n=2)) / np.sqrt(6.0)
        # A scatter of rounding errors has no outliers.
        if not step > 1e-12 * np.max(np.abs((flux * weights)[used])):
            break
        off = np.abs(residual) > _CLIP * max(step, mad_std(residual[used[rows]]))
        off &= np.abs(_beside_neighbours(residual)) > _CLIP * step
        keep = start.copy()
        keep[rows[off]] = False
        if np.array_equal(keep, used) or keep.sum() <= design.shape[1]:
            break
        used = keep
    rejected = int(start.sum() - used.sum())
    if rejected > _MOST_OUTLIERS * start.sum():
        log.warning(
            "detrending: %d of %d integrations are more than %g sigma off the fit, more than "
            "outliers can be: none is left out",
            rejected,
            start.sum(),
            _CLIP,
        )
        return start
    return used


def _beside_neighbours(values: np.ndarray) -> np.ndarray:
    """Departure from both the values before and those after; 0 where the signs differ."""
    n, k = len(values), _NEIGHBOURS
    padded = np.concatenate([np.full(k, np.nan), values, np.full(k, np.nan)])
    runs = np.lib.stride_tricks.sliding_window_view(padded, k)
    with catch_warnings():
        # The first and the last have neighbours on one side only.
        warnings.simplefilter("ignore", RuntimeWarning)
        middles = np.nanmedian(runs, axis=1)
    before, after = values - middles[:n], values - middles[k + 1 :]
    before, after = (
        np.where(np.isnan(before), after, before),
        np.where(np.isnan(after), before, after),
    )
    least = np.minimum(np.abs(before), np.abs(after))
    return np.where(before * after > 0, least, 0.0)


def _solve(
    design: np.ndarray, flux: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Weighted least squares: solution, covariance, reduced chi-square."""
    weighted = design * weights[:, None]
    # Scaled to unit length, as terms differ by orders of magnitude.
    length = np.linalg.norm(weighted, axis=0)
    length[length == 0] = 1.0
    left, singular, right = np.linalg.svd(weighted / length, full_matrices=False)
    # Constant or repeated terms have singular values of the size of rounding errors.
    real = singular > 1e-10 * singular[0]
    inverse = np.where(real, 1.0 / np.where(real, singular, 1.0), 0.0)
    solution = (right.T * inverse) @ (left.T @ (flux * weights)) / length
    residual = (flux - design @ solution) * weights
    chi2 = float(np.sum(residual**2) / max(len(flux) - int(real.sum()), 1))
    covariance = (right.T * inverse**2) @ right / np.outer(length, length)
    return solution, covariance, chi2
