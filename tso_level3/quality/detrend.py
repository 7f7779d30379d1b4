"""Decorrelation of a light curve against the star's motion and a trend in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tso_level3.core.robust import robust

__all__ = ["Detrended", "detrend"]

_CLIP = 5.0
_MAX_CLIPS = 10


@dataclass(frozen=True, eq=False)
class Detrended:
    """A light curve without what followed the vectors, and the fit that took it out.

    Attributes
    ----------
    time : ndarray, (n_int,)
        The times that were given [d].
    flux, flux_err : ndarray, (n_int,)
        Relative flux and its standard error: the light curve over `baseline`; NaN where the light
        curve or a vector is not finite. The error is that of the measurement; the uncertainty
        of the fit is in `errors`.
    baseline : ndarray, (n_int,)
        The fitted model, in the unit of the light curve, inside the window too.
    names : tuple of str
        The terms: ``constant``, ``time``, ``time^2`` ..., and the vectors.
    coefficients, errors : ndarray, (n_terms,)
        Relative to the constant term, so that its own is 1: a vector's coefficient is the
        relative change of flux for one of its units about its mean, that of ``time`` for the
        whole length of the exposure. Where chi-square a degree of freedom is more than one, or
        no errors are known, the errors are scaled so that it is one. NaN for a vector that does
        not vary.
    scale : float
        The constant term, in the unit of the light curve.
    used : ndarray, (n_int,), bool
        The integrations in the fit: finite, outside the window, no outlier.
    scatter_before, scatter_after : float
        Robust relative scatter of the integrations outside the window, about their median
        before and about the model after.
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


def detrend(
    time: np.ndarray,
    flux: np.ndarray,
    flux_err: np.ndarray | None,
    vectors: Mapping[str, np.ndarray],
    *,
    order: int = 1,
    window: Sequence[float] | None = None,
) -> Detrended:
    """Fit a polynomial in time and vectors to a light curve, and divide by them.

    The fit is linear least squares, weighted with the errors where they are known; integrations
    more than 5 robust sigma off the fit are left out, and it is made again until none is.

    Parameters
    ----------
    time : ndarray, (n_int,)
        Times [d], on any scale.
    flux, flux_err : ndarray, (n_int,), or None
        The light curve and its standard errors; without errors all weights are equal.
    vectors : mapping of str to ndarray, (n_int,)
        What the flux may follow linearly: centres, widths, background, projections.
    order : int
        Order of the polynomial in time, 0 or more.
    window : sequence of float, optional
        Start and end of a time that is left out of the fit, such as the transit; more pairs may
        follow. Without one, a transit is fitted away in part.

    Returns
    -------
    Detrended
        The corrected light curve and the fit.

    Raises
    ------
    ValueError
        The order or the window cannot be understood, or too few integrations are left.

    References
    ----------
    Holland, P. W., Welsch, R. E. (1977), doi:10.1080/03610927708827533, for the robust scatter
    that decides what an outlier is.
    """
    time, flux = np.array(time, dtype=float), np.array(flux, dtype=float)
    known = flux_err is not None and np.isfinite(flux_err).any()
    flux_err = np.array(flux_err, dtype=float) if known else np.full(flux.shape, np.nan)
    finite, start = _usable(time, flux, flux_err if known else None, vectors, order, window)
    design, names = _design(time, vectors, int(order), start)
    weights = 1.0 / flux_err if known else np.ones(len(flux))
    used = _without_outliers(design, flux, weights, start)
    solution, covariance, chi2 = _solve(design[used], flux[used], weights[used])
    covariance = covariance * (max(chi2, 1.0) if known else chi2)
    scale = float(solution[0])
    if scale == 0.0 or not np.isfinite(scale):
        raise ValueError(f"detrending: a mean flux of {scale:g} found, expected another than 0")
    baseline = np.where(finite, design @ solution, np.nan)
    relative = flux / baseline
    varies = np.ptp(design[start], axis=0) > 0
    varies[0] = True
    return Detrended(
        time=time,
        flux=relative,
        flux_err=flux_err / np.abs(baseline),
        baseline=baseline,
        names=names,
        coefficients=np.where(varies, solution / scale, np.nan),
        errors=np.where(varies, np.sqrt(np.diag(covariance)) / abs(scale), np.nan),
        scale=scale,
        used=used,
        scatter_before=robust(flux[start] / np.median(flux[start])),
        scatter_after=robust(relative[start]),
    )


def _usable(
    time: np.ndarray,
    flux: np.ndarray,
    flux_err: np.ndarray | None,
    vectors: Mapping[str, np.ndarray],
    order: int,
    window: Sequence[float] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Mark the rows with all their values, and of them those that may be in the fit."""
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
    """Mark the times that are in no window."""
    edges = np.ravel(np.asarray(() if window is None else window, dtype=float))
    pairs = edges.reshape(-1, 2) if len(edges) % 2 == 0 else None
    if pairs is None or not (pairs[:, 0] < pairs[:, 1]).all():
        raise ValueError(
            f"window: {edges.tolist()} found, expected a start and a later end, or several such"
        )
    outside = np.ones(len(time), dtype=bool)
    for first, last in pairs:
        outside &= ~((time >= first) & (time <= last))
    return outside


def _design(
    time: np.ndarray, vectors: Mapping[str, np.ndarray], order: int, used: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Write the terms as columns, zero in the mean, and name them."""
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
    design: np.ndarray, flux: np.ndarray, weights: np.ndarray, used: np.ndarray
) -> np.ndarray:
    """Solve, leave out outliers, and solve again; answers with what was used, (n_int,)."""
    for _ in range(_MAX_CLIPS):
        solution = _solve(design[used], flux[used], weights[used])[0]
        residual = (flux - design @ solution) * weights
        sigma = robust(residual[used])
        keep = used & (np.abs(residual) <= _CLIP * sigma)
        # A noiseless fit has a scatter of rounding errors, which are no outliers.
        noiseless = sigma <= 1e-12 * np.max(np.abs((flux * weights)[used]))
        if noiseless or keep.sum() == used.sum() or keep.sum() <= design.shape[1]:
            break
        used = keep
    return used


def _solve(
    design: np.ndarray, flux: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Weighted least squares: solution, covariance, chi-square a degree of freedom."""
    weighted = design * weights[:, None]
    # Scaled to unit length: terms differ by orders of magnitude.
    length = np.linalg.norm(weighted, axis=0)
    length[length == 0] = 1.0
    left, singular, right = np.linalg.svd(weighted / length, full_matrices=False)
    # Terms that do not vary, or repeat others, have singular values of rounding errors.
    real = singular > 1e-10 * singular[0]
    inverse = np.where(real, 1.0 / np.where(real, singular, 1.0), 0.0)
    solution = (right.T * inverse) @ (left.T @ (flux * weights)) / length
    residual = (flux - design @ solution) * weights
    chi2 = float(np.sum(residual**2) / max(len(flux) - int(real.sum()), 1))
    covariance = (right.T * inverse**2) @ right / np.outer(length, length)
    return solution, covariance, chi2
