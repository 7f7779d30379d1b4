"""Smoothing in time of a background that varies slowly.

How much the sky changes from one integration to the next, and over many, is estimated from the
whole series; the background of each integration is then the best estimate from all of them. Where
the sky changes at random between integrations, the measured background is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tso_level3.quality.sky_model import WHITE, Model, Series
from tso_level3.utils.stats import mad_std

__all__ = ["LEAST", "Sky", "smooth_sky"]

#: Minimum number of integrations.
LEAST = 20
_STEPS = 10
# An integration this far [sigma] from its neighbours keeps its measured background.
_OUTLIER = 5.0
_NEIGHBOURS = 3
_MOST_OUTLIERS = 0.05
# The log-likelihood ratio of a step must exceed that of the best of n places of noise by this;
# steps of less than this fraction of the significance needed are not tried.
_DOUBT = 5.0
_TELLING = 0.9
# Gain in log-likelihood for a dependence on the star's flux: four sigma.
_FOLLOWS = 8.0
# A model that gains less than this, or is less likely by more, is not refined.
_HOPE = 3.0
# Ratio of the errors above which smoothing gains nothing significant.
_GAIN = 0.97


@dataclass(frozen=True, eq=False)
class Sky:
    """The background that is subtracted.

    Attributes
    ----------
    level, error : ndarray, (n,)
        Background per pixel and its standard error; as measured where it is not smoothed.
    smoothed : bool
        Whether it is smoothed.
    white : float
        Standard deviation of the sky's changes from one integration to the next, over the
        measured error.
    length : float
        Correlation length of the sky in integrations; infinite for a constant sky.
    steps : tuple of int
        Rows of sudden changes; nothing is averaged across them.
    reason : str
        Why it is not smoothed; empty where it is.
    """

    level: np.ndarray
    error: np.ndarray
    smoothed: bool
    white: float = np.nan
    length: float = np.nan
    steps: tuple[int, ...] = ()
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the parameters as plain values."""
        out: dict[str, Any] = {"smoothed": self.smoothed, "reason": self.reason}
        if self.smoothed:
            length = float(self.length) if np.isfinite(self.length) else "constant"
            out |= {"length": length, "white": float(self.white), "steps": list(self.steps)}
        return out


def smooth_sky(
    level: np.ndarray,
    error: np.ndarray,
    time: np.ndarray | None = None,
    *,
    star: np.ndarray | None = None,
) -> Sky:
    """Estimate the background of each integration from the whole series.

    Parameters
    ----------
    level, error : ndarray, (n,)
        Background per pixel and its standard error, in the order of time; NaN where unknown.
    time : ndarray, (n,), optional
        Times, for gaps between the integrations.
    star : ndarray, (n,), optional
        The star's flux, on which the background depends through the wings of the image.

    Returns
    -------
    Sky
        The best estimate and its error; the measured values for fewer than `LEAST` integrations,
        for a sky that changes at random, and for one of too many steps.

    Notes
    -----
    The measured background is ``y = l + w + e``: a level l that wanders, white changes w, and the
    error of the measurement. The level follows a dynamic linear model with a discount factor (West
    & Harrison 1997, chapter 6): an integration d away has the weight ``exp(-d / length)``, and the
    sum of the weights is the inverse variance of the level. Length and variance of w maximise the
    likelihood of the series for its known errors. The estimate of ``l + w`` is the level plus the
    share of w in the departure from it. Steps divide the series where that raises the likelihood
    by more than the best of all places would by chance.
    """
    level, error = np.asarray(level, float), np.asarray(error, float)
    measured = (level.copy(), error.copy(), False)
    with np.errstate(invalid="ignore"):
        good = np.isfinite(level) & np.isfinite(error) & (error > 0)
    if good.sum() < LEAST:
        return Sky(*measured, reason=f"fewer than {LEAST} integrations")
    rows = np.flatnonzero(good)
    usual, scale = np.median(level[rows]), np.median(error[rows])
    follows = _relative(star, rows)
    outlying = _outliers(level[rows]) | ~np.isfinite(follows)
    if outlying.mean() > _MOST_OUTLIERS:
        return Sky(*measured, reason="many integrations depart from their neighbours")
    used, follows = rows[~outlying], follows[~outlying]
    place = _places(used, time)
    series = Series(place, (level[used] - usual) / scale, (error[used] / scale) ** 2)
    slope, slope_err, start = _slope(series, follows)
    part = slope * follows
    series = Series(place, series.values - part, series.variance)
    model = _divided(series, start)
    if model is None:
        return Sky(*measured, reason=f"more than {_STEPS} steps")
    mean, variance = series.average(model)
    mean, variance = mean + part, variance + (slope_err * follows) ** 2
    if np.sqrt(np.median(variance / series.variance)) > _GAIN:
        return Sky(*measured, reason="the sky changes from one integration to the next")
    out_level, out_error, _ = measured
    out_level[used], out_error[used] = usual + scale * mean, scale * np.sqrt(variance)
    return Sky(
        out_level,
        out_error,
        True,
        white=float(WHITE[model.at[0]]),
        length=float(model.length) if model.length < 1e6 * place[-1] else np.inf,
        steps=tuple(int(used[k]) for k in model.steps),
    )


def _relative(star: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    """Departure of the star's flux from its median, (n_rows,); zeros where it is not known."""
    if star is None or np.isfinite(star[rows]).mean() < 1.0 - _MOST_OUTLIERS:
        return np.zeros(len(rows))
    flux = np.asarray(star, float)[rows]
    middle = np.nanmedian(flux)
    return flux / middle - 1.0 if middle > 0 else np.zeros(len(rows))


def _slope(series: Series, star: np.ndarray) -> tuple[float, float, Model]:
    """Fit the dependence on the star's flux: slope, its error, and the model of the rest."""
    plain = series.fitted(())
    best = (0.0, 0.0, plain)
    if not star.any():
        return best
    last, least = len(series.lengths) - 1, plain.likelihood + _FOLLOWS
    other = Series(series.place, star, series.variance)
    for start in sorted({plain.at, (plain.at[0], last), (0, last)}):
        white, length = float(WHITE[start[0]] ** 2), series.lengths[start[1]]
        for again in (False, True):
            own, along = series.innovations(white, length), other.innovations(white, length)
            square = max(float(along @ along), 1e-300)
            slope = float(own @ along) / square
            gain = 0.5 * slope**2 * square
            if not again and (
                gain < _HOPE
                or series.likelihood(white, length, ()) + gain < plain.likelihood - _HOPE
            ):
                break
            rest = Series(series.place, series.values - slope * star, series.variance)
            found = rest.fitted((), start)
            white, length = found.white, found.length
        else:
            if found.likelihood > least:
                best, least = (slope, square**-0.5, found), found.likelihood
    return best


def _divided(series: Series, model: Model) -> Model | None:
    """Add steps to a model as long as that raises the likelihood; None for too many steps."""
    if model.at[0] == len(WHITE) - 1:
        return model
    needed = np.log(series.n) + _DOUBT
    significant = _TELLING * np.sqrt(2.0 * needed)
    for _ in range(_STEPS + 1):
        lengths = np.unique(np.clip([3.0, 10.0, 30.0, 100.0, 1e3, 1e9], None, model.length))
        found = [series.step_at(model, length) for length in lengths]
        places = sorted({place for place, away in found if away > significant})
        last = len(series.lengths) - 1
        # A step that was taken for wandering makes the level wander less once it is divided.
        starts = {model.at, (model.at[0], last)}
        better = [
            series.fitted(sorted([*model.steps, place]), start)
            for place in places
            for start in sorted(starts)
        ]
        best = max(better, key=lambda item: item.likelihood, default=None)
        if best is None or best.likelihood < model.likelihood + needed:
            return model
        model = best
    return None


def _outliers(values: np.ndarray) -> np.ndarray:
    """Mark single values far from the median of their neighbours, (n,)."""
    n, reach = len(values), _NEIGHBOURS
    index = np.arange(n)[:, None] + np.delete(np.arange(-reach, reach + 1), reach)
    # Reflected at the ends.
    index = np.where(index < 0, -index, np.where(index >= n, 2 * (n - 1) - index, index))
    away = values - np.median(values[index], axis=1)
    spread = mad_std(away)
    return np.abs(away) > _OUTLIER * max(spread, 1e-300)


def _places(rows: np.ndarray, time: np.ndarray | None) -> np.ndarray:
    """Integer places of the rows in time, with gaps."""
    place = rows - rows[0]
    if time is None:
        return place
    steps = np.diff(np.asarray(time, float)[rows])
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        return place
    cadence = np.median(steps / np.diff(rows))
    counted = np.concatenate([[0], np.cumsum(np.maximum(np.round(steps / cadence), 1))])
    return counted.astype(int) if counted[-1] < 4 * len(rows) + 100 else place
