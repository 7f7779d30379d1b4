"""Which row of a grid of apertures is quoted, and how noisy what is chosen is."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from tso_level3.quality.noise import Scatter

__all__ = ["LEAST", "Picked", "Wish", "choose", "stated_scatter"]

log = logging.getLogger(__name__)

#: Below this many integrations noise cannot be told from chance: nothing is chosen.
LEAST = 20


@dataclass(frozen=True)
class Wish:
    """What is to be quoted, where it is not chosen by noise.

    Attributes
    ----------
    kind : str
        aperture or psf.
    radius : float
        Radius [pix].
    choose : bool
        Whether the noise may decide otherwise.
    reason : str
        Why, in a few words, for the product.
    fixed : bool
        Whether the radius was asked for: the noise may say something, and choose the annulus.
    listed : bool
        Whether the radii were asked for: the fit of the template is not one of them.
    """

    kind: str
    radius: float
    choose: bool
    reason: str
    fixed: bool = False
    listed: bool = False


@dataclass(frozen=True, eq=False)
class Picked:
    """What is quoted of the rows of the grid.

    Attributes
    ----------
    best : int
        The row.
    allowed : ndarray, (n_rows,), bool
        Those that it was chosen from.
    distance : ndarray, (n_rows,)
        How far each is from the wish.
    reason : str
        Why, in a few words.
    """

    best: int
    allowed: np.ndarray
    distance: np.ndarray
    reason: str


def choose(rows: list[dict], radii: np.ndarray, wish: Wish, n: int) -> Picked:
    """Choose one of the rows of the grid, the last of which is the fit of the template.

    Parameters
    ----------
    rows : list of dict
        With ``radius``, ``score``, ``score_err``, ``rejected``.
    radii : ndarray, (n_radii,)
        The radii [pix]; the first rows are theirs at the default annulus.
    wish : Wish
        What is quoted where it makes no difference.
    n : int
        Integrations that count.

    Returns
    -------
    Picked
        The row.
    """
    scores, errors = (np.array([row[key] for row in rows], float) for key in ("score", "score_err"))
    wished = _wished(rows, radii, wish)
    is_psf = np.arange(len(rows)) == len(rows) - 1
    radius = np.array([row["radius"] for row in rows], float)
    away = np.abs(np.log(np.where(is_psf, 1.0, radius) / wish.radius))
    away = (~is_psf).astype(float) if wish.kind == "psf" else np.where(is_psf, np.inf, away)
    if not wish.choose:
        return Picked(wished, is_psf == is_psf[wished], away, wish.reason)
    fine = np.array([row["rejected"] == "" for row in rows])
    fits = np.isfinite(scores) & ~(is_psf & wish.listed)
    free = fits
    if wish.fixed:
        fits = fits & ~is_psf & np.isclose(radius, radii[wished % len(radii)])
    # Where nothing is as it should be, what is asked for is quoted, and the verdict says so.
    possible = fits & fine if (fits & fine).any() else fits
    if not possible.any():
        return Picked(wished, possible, away, wish.reason)
    if n < LEAST:
        best = int(np.lexsort((scores, away, ~possible))[0])
        return Picked(best, possible, away, _reason(rows, best, wished, wish, n))
    best = _nearest(scores, errors, away, possible)
    if wish.fixed and (free & fine).any():
        other = rows[_nearest(scores, errors, away, free & fine)]
        if other["score"] + other["score_err"] < rows[best]["score"]:
            what = (
                "the fit of the template" if other["kind"] == "psf" else f"r = {other['radius']:g}"
            )
            log.info(
                "Quoted is r = %g as asked for; %s has less noise: score %.3g against %.3g.",
                wish.radius, what, other["score"], rows[best]["score"],
            )  # fmt: skip
    return Picked(best, possible, away, _reason(rows, best, wished, wish, n))


def _nearest(
    scores: np.ndarray, errors: np.ndarray, distance: np.ndarray, allowed: np.ndarray
) -> int:
    """Of those within one standard error of the least score take the nearest to the wish."""
    least = int(np.argmin(np.where(allowed, scores, np.inf)))
    near = allowed & (scores <= scores[least] + errors[least])
    order = np.lexsort((np.where(np.isinf(distance), scores, 0.0), distance, ~near))
    return int(order[0])


def stated_scatter(scatters: list[Scatter], rows: list[dict], picked: Picked) -> float:
    """Measure the scatter of what is chosen where the choice did not look.

    The least of many uncertain scatters is too small. The choice is made five times on four
    fifths of the time, and the fifth that is left out says how noisy it is.

    Parameters
    ----------
    scatters : list of Scatter
        Of each row.
    rows : list of dict
        The rows, with ``score`` and ``score_err``.
    picked : object
        The rows that may be chosen, and their distance to the wish.

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
            again = np.sqrt(np.maximum(scores**2 - white, 0.0) + others)
            doubt = errors / scores * again * np.sqrt(1.25)
        allowed = picked.allowed & np.isfinite(again)
        best = _nearest(again, doubt, picked.distance, allowed) if allowed.any() else picked.best
        total += scatters[best].own[k]
        number += scatters[best].number[k]
    # The root of an uncertain variance is too small on average.
    return float(np.sqrt(total / number) * (1.0 + 0.375 / number)) if number else float("nan")


def _reason(rows: list[dict], best: int, wished: int, wish: Wish, n: int) -> str:
    if rows[best]["rejected"]:
        return f"{wish.reason}, though nothing is as it should be: {rows[best]['rejected']}"
    if rows[wished]["rejected"] and best != wished:
        return f"not the {wish.reason}: {rows[wished]['rejected']}"
    if n < LEAST:
        return f"too few integrations ({n}) to choose by noise: {wish.reason}"
    if wish.fixed:
        return wish.reason
    if best == wished:
        return f"within one standard error of the least score: {wish.reason}"
    return "least score, or the nearest to the usual within one standard error"


def _wished(rows: list[dict], radii: np.ndarray, wish: Wish) -> int:
    if wish.kind == "psf":
        return len(rows) - 1
    return int(np.argmin(np.abs(radii - wish.radius)))
