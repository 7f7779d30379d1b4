"""A sky that varies slowly need not be measured anew in every integration.

Each integration's background is known to its formal error alone. How much the sky itself changes,
from one integration to the next and over many, is learned from the whole series; what it was in
each integration is then the best estimate from all of them. Where it truly changes at random from
one integration to the next nothing is gained, and nothing is changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tso_level3.quality.sky_model import WHITE, Model, Series
from tso_level3.utils.stats import mad_std

__all__ = ["LEAST", "Sky", "smooth_sky"]

#: Fewer integrations say too little of how the sky varies.
LEAST = 20
_STEPS = 10
# An integration this far [sigma] from its neighbours keeps what was measured in it.
_OUTLIER = 5.0
_NEIGHBOURS = 3
_MOST_OUTLIERS = 0.05
# The likelihood ratio of a step must exceed that of the best of n places by this; one that stands
# out by less than this part of what that takes is not looked at.
_DOUBT = 5.0
_TELLING = 0.9
# By so much the likelihood must rise for the sky to follow the star: four sigma.
_FOLLOWS = 8.0
# A model in which it gains less than this, or is less likely by more, is not looked at further.
_HOPE = 3.0
# Averaging over fewer integrations than this gains less than its error is uncertain.
_GAIN = 0.97


@dataclass(frozen=True, eq=False)
class Sky:
    """The background as it is subtracted.

    Attributes
    ----------
    level, error : ndarray, (n,)
        Background a pixel and its standard error; as measured where it was not smoothed.
    smoothed : bool
        Whether it was.
    white : float
        Standard deviation of the sky's changes from one integration to the next, in units of the
        measured error.
    length : float
        Integrations over which the sky stays what it is; infinite where it is constant.
    steps : tuple of int
        Rows at which the sky changes suddenly; nothing is averaged across them.
    reason : str
        Why it was not smoothed; empty where it was.
    """

    level: np.ndarray
    error: np.ndarray
    smoothed: bool
    white: float = np.nan
    length: float = np.nan
    steps: tuple[int, ...] = ()
    reason: str = ""

    def as_dict(self) -> dict:
        """Give what was settled as plain values."""
        out = {"smoothed": self.smoothed, "reason": self.reason}
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
    """Estimate the sky of each integration from all of them.

    Parameters
    ----------
    level, error : ndarray, (n,)
        Background a pixel and its standard error, in the order of time; NaN where unknown. They
        are left as they are.
    time : ndarray, (n,), optional
        Times, for gaps between the integrations.
    star : ndarray, (n,), optional
        The star's flux. Wings that no kernel knows make the background follow it.

    Returns
    -------
    Sky
        The best estimate and its error; what was measured where integrations are fewer than
        `LEAST`, where the sky changes from one to the next by as much as it is known, and where it
        has more steps than can be told.

    Notes
    -----
    A measured background is ``y = l + w + e``: a level l that wanders, changes w of single
    integrations, and the error of the measurement. The level follows a dynamic linear model with a
    discount factor (West & Harrison 1997, chapter 6): looking back, an integration d away counts
    as ``exp(-d / length)``, and the weights' sum is the inverse variance of the level. Length and
    the variance of w maximise the likelihood of the series, given its known errors. The estimate
    of ``l + w`` is the level, plus the share of w in the departure from it. Steps divide the
    series where that raises the likelihood by more than the best of all places would by chance.
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
    odd = _outliers(level[rows]) | ~np.isfinite(follows)
    if odd.mean() > _MOST_OUTLIERS:
        return Sky(*measured, reason="many integrations depart from their neighbours")
    kept = rows[~odd]
    place = _places(kept, time)
    series = Series(place, (level[kept] - usual) / scale, (error[kept] / scale) ** 2)
    slope, doubt, model = _slope(series, follows[~odd])
    part = slope * follows[~odd]
    series = Series(place, series.values - part, series.variance)
    model = _divided(series, model)
    if model is None:
        return Sky(*measured, reason=f"more than {_STEPS} steps")
    mean, variance = series.average(model)
    mean, variance = mean + part, variance + (doubt * follows[~odd]) ** 2
    if np.sqrt(np.median(variance / series.variance)) > _GAIN:
        return Sky(*measured, reason="the sky changes from one integration to the next")
    out_level, out_error, _ = measured
    out_level[kept], out_error[kept] = usual + scale * mean, scale * np.sqrt(variance)
    return Sky(
        out_level,
        out_error,
        True,
        white=float(WHITE[model.at[0]]),
        length=float(model.length) if model.length < 1e6 * place[-1] else np.inf,
        steps=tuple(int(kept[k]) for k in model.steps),
    )


def _relative(star: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    """Departure of the star's flux from its median, (n_rows,); zeros where nothing is known."""
    if star is None or np.isfinite(star[rows]).mean() < 1.0 - _MOST_OUTLIERS:
        return np.zeros(len(rows))
    flux = np.asarray(star, float)[rows]
    middle = np.nanmedian(flux)
    return flux / middle - 1.0 if middle > 0 else np.zeros(len(rows))


def _slope(series: Series, star: np.ndarray) -> tuple[float, float, Model]:
    """Find by how much the series follows the star, the error of that, and the model beside it."""
    plain = series.fitted(())
    best = (0.0, 0.0, plain)
    if not star.any():
        return best
    last, least = len(series.lengths) - 1, plain.likelihood + _FOLLOWS
    other = Series(series.place, star, series.variance)
    for start in sorted({plain.at, (plain.at[0], last), (0, last)}):
        white, length = float(WHITE[start[0]] ** 2), series.lengths[start[1]]
        for again in (False, True):
            own, along = series.foretold(white, length), other.foretold(white, length)
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
    """Divide a series that was fitted at steps, as long as that makes it likelier."""
    if model.at[0] == len(WHITE) - 1:
        return model
    wanted = np.log(series.n) + _DOUBT
    telling = _TELLING * np.sqrt(2.0 * wanted)
    for _ in range(_STEPS + 1):
        lengths = np.unique(np.clip([3.0, 10.0, 30.0, 100.0, 1e3, 1e9], None, model.length))
        found = [series.step_at(model, length) for length in lengths]
        places = sorted({place for place, away in found if away > telling})
        last = len(series.lengths) - 1
        # What wanders because it steps wanders less once it is divided.
        starts = {model.at, (model.at[0], last)}
        better = [
            series.fitted(sorted([*model.steps, place]), start)
            for place in places
            for start in sorted(starts)
        ]
        best = max(better, key=lambda item: item.likelihood, default=None)
        if best is None or best.likelihood < model.likelihood + wanted:
            return model
        model = best
    return None


def _outliers(values: np.ndarray) -> np.ndarray:
    """Mark single values far from the median of those around them, (n,)."""
    n, reach = len(values), _NEIGHBOURS
    index = np.arange(n)[:, None] + np.delete(np.arange(-reach, reach + 1), reach)
    # At the ends the other side has to do.
    index = np.where(index < 0, -index, np.where(index >= n, 2 * (n - 1) - index, index))
    away = values - np.median(values[index], axis=1)
    spread = mad_std(away)
    return np.abs(away) > _OUTLIER * max(spread, 1e-300)


def _places(rows: np.ndarray, time: np.ndarray | None) -> np.ndarray:
    """Give each row a whole place in time, so that gaps count."""
    place = rows - rows[0]
    if time is None:
        return place
    steps = np.diff(np.asarray(time, float)[rows])
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        return place
    cadence = np.median(steps / np.diff(rows))
    counted = np.concatenate([[0], np.cumsum(np.maximum(np.round(steps / cadence), 1))])
    return counted.astype(int) if counted[-1] < 4 * len(rows) + 100 else place
