"""Choice of a row of the grid of apertures, and an unbiased estimate of its scatter."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from tso_level3.quality.noise import Scatter

__all__ = ["LEAST", "AperturePreference", "Picked", "Row", "choose", "stated_scatter"]

log = logging.getLogger(__name__)

#: A row of the table of apertures or of the grid, by column name.
Row = dict[str, Any]

#: Minimum number of integrations for a choice by noise.
LEAST = 20


@dataclass(frozen=True)
class AperturePreference:
    """The primary aperture to use where noise does not decide.

    Attributes
    ----------
    kind : str
        aperture or psf.
    radius : float
        Radius [pix].
    choose : bool
        Whether noise may decide otherwise.
    reason : str
        Why, in a few words.
    fixed : bool
        Whether the radius was asked for; noise then chooses the annulus only.
    listed : bool
        Whether the radii were asked for; the fit of the template is then not a candidate.
    """

    kind: str
    radius: float
    choose: bool
    reason: str
    fixed: bool = False
    listed: bool = False


@dataclass(frozen=True, eq=False)
class Picked:
    """The chosen row of the grid.

    Attributes
    ----------
    best : int
        The row.
    allowed : ndarray, (n_rows,), bool
        The candidates.
    distance : ndarray, (n_rows,)
        Distance of each from the preference.
    reason : str
        Why, in a few words.
    """

    best: int
    allowed: np.ndarray
    distance: np.ndarray
    reason: str


def choose(rows: list[Row], radii: np.ndarray, preference: AperturePreference, n: int) -> Picked:
    """Choose a row of the grid, the last of which is the fit of the template.

    Parameters
    ----------
    rows : list of dict
        With ``radius``, ``score``, ``score_err``, ``rejected``.
    radii : ndarray, (n_radii,)
        The radii [pix]; the first rows are those of the default annulus.
    preference : AperturePreference
        The aperture to use where noise does not decide.
    n : int
        Number of integrations from which noise is measured.

    Returns
    -------
    Picked
        The row.
    """
    scores, errors = (np.array([row[key] for row in rows], float) for key in ("score", "score_err"))
    preferred = _preferred_row(rows, radii, preference)
    is_psf = np.arange(len(rows)) == len(rows) - 1
    radius = np.array([row["radius"] for row in rows], float)
    away = np.abs(np.log(np.where(is_psf, 1.0, radius) / preference.radius))
    away = (~is_psf).astype(float) if preference.kind == "psf" else np.where(is_psf, np.inf, away)
    if not preference.choose:
        return Picked(preferred, is_psf == is_psf[preferred], away, preference.reason)
    fine = np.array([row["rejected"] == "" for row in rows])
    fits = np.isfinite(scores) & ~(is_psf & preference.listed)
    free = fits
    if preference.fixed:
        fits = fits & ~is_psf & np.isclose(radius, radii[preferred % len(radii)])
    # Where all are rejected, the preference is used, and the verdict is doubtful.
    possible = fits & fine if (fits & fine).any() else fits
    if not possible.any():
        return Picked(preferred, possible, away, preference.reason)
    if n < LEAST:
        best = int(np.lexsort((scores, away, ~possible))[0])
        return Picked(best, possible, away, _reason(rows, best, preferred, preference, n))
    best = _nearest(scores, errors, away, possible)
    if preference.fixed and (free & fine).any():
        other = rows[_nearest(scores, errors, away, free & fine)]
        if other["score"] + other["score_err"] < rows[best]["score"]:
            what = (
                "the fit of the template" if other["kind"] == "psf" else f"r = {other['radius']:g}"
            )
            log.info(
                "Quoted is r = %g as asked for; %s has less noise: score %.3g against %.3g.",
                preference.radius, what, other["score"], rows[best]["score"],
            )  # fmt: skip
    return Picked(best, possible, away, _reason(rows, best, preferred, preference, n))


def _nearest(
    scores: np.ndarray, errors: np.ndarray, distance: np.ndarray, allowed: np.ndarray
) -> int:
    """Row nearest to the preference, of those within one standard error of the least score."""
    least = int(np.argmin(np.where(allowed, scores, np.inf)))
    near = allowed & (scores <= scores[least] + errors[least])
    order = np.lexsort((np.where(np.isinf(distance), scores, 0.0), distance, ~near))
    return int(order[0])


def stated_scatter(scatters: list[Scatter], rows: list[Row], picked: Picked) -> float:
    """Measure the scatter of the chosen row by cross-validation.

    The least of many uncertain scatters is too small. The choice is made five times on four
    fifths of the time, and the scatter is measured on the fifth that is left out.

    Parameters
    ----------
    scatters : list of Scatter
        Of each row.
    rows : list of dict
        The rows, with ``score`` and ``score_err``.
    picked : Picked
        The rows that may be chosen, and their distance to the preference.

    Returns
    -------
    float
        The relative scatter.
    """
    scores, errors = (np.array([row[key] for row in rows], float) for key in ("score", "score_err"))
    white = np.array([item.plain for item in scatters]) ** 2
    total = number = 0.0
    for k in range(len(scatters[0].own)):
        others = np.array([item.others[k] for item in scatters])
        with np.errstate(invalid="ignore", divide="ignore"):
            score = np.sqrt(np.maximum(scores**2 - white, 0.0) + others)
            score_err = errors / scores * score * np.sqrt(1.25)
        allowed = picked.allowed & np.isfinite(score)
        best = (
            _nearest(score, score_err, picked.distance, allowed) if allowed.any() else picked.best
        )
        total += scatters[best].own[k]
        number += scatters[best].number[k]
    # The root of an uncertain variance is biased low.
    return float(np.sqrt(total / number) * (1.0 + 0.375 / number)) if number else float("nan")


def _reason(
    rows: list[Row], best: int, preferred: int, preference: AperturePreference, n: int
) -> str:
    if rows[best]["rejected"]:
        return f"{preference.reason}, though all are rejected: {rows[best]['rejected']}"
    if rows[preferred]["rejected"] and best != preferred:
        return f"not the {preference.reason}: {rows[preferred]['rejected']}"
    if n < LEAST:
        return f"too few integrations ({n}) to choose by noise: {preference.reason}"
    if preference.fixed:
        return preference.reason
    if best == preferred:
        return f"within one standard error of the least score: {preference.reason}"
    return "least score, or the nearest to the usual within one standard error"


def _preferred_row(rows: list[Row], radii: np.ndarray, preference: AperturePreference) -> int:
    """Row of the preference."""
    if preference.kind == "psf":
        return len(rows) - 1
    return int(np.argmin(np.abs(radii - preference.radius)))
