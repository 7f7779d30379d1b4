"""Which aperture and annulus, or the fit of the template, gives the quietest light curve."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tso_level3.columns import APERTURES, GRID
from tso_level3.core.plan import Measurement, Plan
from tso_level3.quality.choice import LEAST, Wish, choose, stated_scatter
from tso_level3.quality.compare import (
    box_difference,
    hour_of,
    jump_variance,
    jumps_in,
    red_excess,
    response_of,
)
from tso_level3.quality.noise import Centres, Scatter, bin_size, bins, counted, scatter_about
from tso_level3.quality.pixel_phase import pointing_noise
from tso_level3.quality.surroundings import Surroundings, surroundings_of
from tso_level3.utils.stats import median

__all__ = ["Choice", "judge", "net_flux"]

# No light curve is quieter than this part of its photon and read noise; relative error of a
# scatter, times the root of the number of integrations, by which a short one may be.
_QUIETEST, _SCATTER_ERROR = 0.9, 0.87
# Part of the flux that other sources may have.
_DILUTED = 0.01
# Part of an aperture that may lie beyond the frame.
_CUT = 0.01
_OVERLAPS = "overlaps the annulus: the star's light would be background"
# Integrations that are worked on together.
_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Choice:
    """What is quoted.

    Attributes
    ----------
    kind : str
        aperture or psf.
    radius : int
        Place of the radius in the plan's list.
    annulus : int
        Place of the annulus in the plan's list.
    grid, apertures : dict of ndarray
        The tables, by column name.
    reason : str
        Why, in a few words.
    surroundings : Surroundings
        Other sources, and an uneven sky.
    rejected : str
        What stands against it, where nothing else was left; else empty.
    """

    kind: str
    radius: int
    annulus: int
    grid: dict[str, np.ndarray]
    apertures: dict[str, np.ndarray]
    reason: str
    surroundings: Surroundings
    rejected: str = ""


def net_flux(
    found: Measurement, annulus: int, *, in_place: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Take the background of one annulus off the aperture sums.

    Parameters
    ----------
    found : Measurement
        The exposure.
    annulus : int
        Place of the annulus.
    in_place : bool
        Whether the sums and variances themselves become the answer: of a long exposure they are
        the largest arrays there are.

    Returns
    -------
    (ndarray, ndarray)
        Flux and its standard error, each (n, n_radii).
    """
    flux, square = found.sums, found.variance
    if not in_place:
        flux, square = flux.copy(), square.copy()
    level = found.background[:, annulus, None]
    error = np.nan_to_num(found.background_err[:, annulus, None])
    for first in range(0, len(flux), _ROWS):
        part = slice(first, first + _ROWS)
        flux[part] -= level[part] * found.areas[part]
        square[part] += (error[part] * found.areas[part]) ** 2
    return flux, np.sqrt(square, out=square)


def _curve(found: Measurement, plan: Plan, row: int) -> np.ndarray:
    """Give the light curve of a row of the grid, (n,): annuli by radii, then the fit."""
    annulus, radius = divmod(row, len(plan.radii))
    if annulus == max(len(plan.annuli), 1):
        return found.psf[:, 2]
    return found.sums[:, radius] - found.background[:, annulus] * found.areas[:, radius]


def judge(
    found: Measurement,
    plan: Plan,
    time: np.ndarray,
    wish: Wish,
    windows: tuple[float, ...] | None = None,
) -> Choice:
    """Measure the noise of every aperture and choose one.

    Parameters
    ----------
    found : Measurement
        The exposure.
    plan : Plan
        The plan it was measured with.
    time : ndarray, (n,)
        Times [d].
    wish : Wish
        What is quoted where it makes no difference.
    windows : tuple of float, optional
        Times that count for noise.

    Returns
    -------
    Choice
        The tables, and what is quoted.

    Notes
    -----
    The score is the relative scatter of the flux as it is quoted: of single integrations, of bins
    of ten minutes to an hour, and by steps that stay. Of all within one standard error of the
    least score the nearest to the wish wins. What cannot be is not quoted: a light curve that is
    quieter than its photons, or the fit of the template where it does not follow the flux.
    """
    use = counted(time, windows)
    n, hour = int(use.sum()), hour_of(time, int(use.sum()))
    centres = Centres(found.psf[:, 0], found.psf[:, 1])
    size = bin_size(time, n)
    pointing = pointing_noise(found, plan)
    around = surroundings_of(plan, n)
    rows: list[dict] = []
    scatters: list[Scatter] = []
    means: list[np.ndarray] = []

    def judged(flux: np.ndarray, parts: dict[str, float]) -> dict:
        # The steps of every row would fill the memory, and nothing asks for them here.
        measured = scatter_about(flux, centres, use, size)
        scatters.append(replace(measured, steps=np.zeros(0)))
        row = _noise_row(flux, scatters[-1], parts, use)
        means.append(bins(np.where(use, flux, np.nan), max(size // 2, 1)) / row["flux"])
        return row | {"rejected": _too_quiet(row, plan, n)}

    for a in range(max(len(plan.annuli), 1)):
        inner, outer = (
            (plan.annuli[a].inner, plan.annuli[a].outer) if plan.annuli else (np.nan, np.nan)
        )
        for r, radius in enumerate(plan.radii):
            row = judged(_curve(found, plan, len(rows)), _expected(found, a, r))
            place = {"kind": "aperture", "radius": radius, "radius_inner": inner}
            row |= {**place, "radius_outer": outer, "pointing_noise": pointing[r]}
            row["dilution"] = around.dilution[r]
            if radius > inner:
                row["rejected"] = _OVERLAPS
            rows.append(row)
    nothing = {"radius": np.nan, "radius_inner": np.nan, "radius_outer": np.nan}
    variance = median(found.psf_err[:, 2] ** 2)
    row = judged(found.psf[:, 2], {"total": variance, **_psf_parts(plan)})
    rows.append({"kind": "psf", **nothing, **row, "dilution": around.dilution[-1]})
    curves = (np.where(use, _curve(found, plan, k), np.nan) for k in range(len(rows)))
    scatter = np.array([own.plain for own in scatters])
    jumped = jump_variance(curves, scatter, _jumps(found, plan, wish, use), hour)
    _score(rows, scatter, jumped, np.stack(means), max(size // 2, 1))
    _check_response(rows, found, plan, use)
    _check_light(rows, plan)
    picked = choose(rows, plan.radii, wish, n)
    best, chosen = picked.best, rows[picked.best]
    if wish.choose and n >= LEAST:
        # The slopes of a transit are in the differences of which it is made.
        slopes = chosen["scatter_raw"] / scatters[best].plain if scatters[best].plain > 0 else 1.0
        chosen["scatter"] = stated_scatter(scatters, rows, picked) * slopes
        with np.errstate(invalid="ignore", divide="ignore"):
            chosen["ratio"] = np.divide(chosen["scatter"], chosen["expected"])
    quoted_flux = _curve(found, plan, best)
    for k, row in enumerate(rows):
        difference = box_difference(_curve(found, plan, k), quoted_flux, use, hour)
        row["depth_difference"], row["depth_difference_err"] = difference
    scores = np.where(picked.allowed, [row["score"] for row in rows], np.inf)
    order = np.argsort(np.where(np.isfinite(scores), scores, np.inf), kind="stable")
    order = np.concatenate([[best], order[order != best]])
    for place, k in enumerate(order):
        rows[k]["rank"] = place + 1
        rows[k]["chosen"] = bool(k == best)
    n_radii = len(plan.radii)
    is_psf = best == len(rows) - 1
    annulus = 0 if is_psf else best // n_radii
    radius = int(np.argmin(np.abs(plan.radii - wish.radius))) if is_psf else best % n_radii
    area = [median(column) for column in found.areas.T]
    quoted = [{**rows[annulus * n_radii + r], "area": area[r]} for r in range(n_radii)] + [
        {**rows[-1], "area": np.nan}
    ]
    return Choice(
        kind="psf" if is_psf else "aperture",
        radius=radius,
        annulus=annulus,
        grid=_table(rows, GRID),
        apertures=_table(quoted, APERTURES),
        reason=picked.reason,
        surroundings=around,
        rejected=chosen["rejected"],
    )


def _too_quiet(row: dict, plan: Plan, n: int) -> str:
    """Say whether a light curve is quieter than its photons and the reading allow."""
    if not plan.noise.known:
        return ""
    least = _QUIETEST - 2.0 * _SCATTER_ERROR / np.sqrt(max(n, 1))
    if not row["scatter"] < least * row["expected"]:
        return ""
    return f"scatter of {row['ratio']:.2f} of the photon and read noise"


def _jumps(found: Measurement, plan: Plan, wish: Wish, use: np.ndarray) -> list[int]:
    """Find where apertures of different size, or aperture and fit, step against each other."""
    near = int(np.argmin(np.abs(plan.radii - wish.radius)))
    own, ratios = _curve(found, plan, near), []
    for row in (len(plan.radii) - 1, 0, None):
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = (found.psf[:, 2] if row is None else _curve(found, plan, row)) / own
        # Apertures that hold the whole frame are the same.
        if np.isfinite(ratio).any() and np.nanstd(ratio) > 1e-12:
            ratios.append(ratio)
    if not ratios:
        return []
    # Of a long exposure each series counts.
    del own, ratio
    series = np.stack(ratios, axis=1)
    ratios.clear()
    return jumps_in(series, use)


def _score(
    rows: list[dict], scatter: np.ndarray, jumped: np.ndarray, means: np.ndarray, size: int
) -> None:
    """Score every row: its scatter, and what red noise and steps add beyond the best's."""
    excess, doubt = red_excess(means, scatter, size)
    total = scatter**2 + 0.5 * excess + jumped
    fine = np.array([row["rejected"] != _OVERLAPS for row in rows]) & (scatter > 0)
    # What all have in common, as the side of a transit, is not noise.
    best = int(np.argmin(np.where(fine, total, np.inf)))
    total = np.maximum(total + scatter[best] ** 2 - total[best], 0.0)
    for k, row in enumerate(rows):
        error = scatter[k] * row["scatter_err"]
        # Light that does not vary with the star makes its noise look small, not the star's signal.
        row["score"] = float(np.sqrt(total[k]) / (1.0 - row["dilution"])) if fine[k] else np.nan
        # What a small excess adds is no more uncertain than it is large.
        with np.errstate(invalid="ignore", divide="ignore"):
            error = np.hypot(error, 0.5 * min(doubt[k], abs(excess[k])))
            row["score_err"] = float(error / np.float64(row["score"]))


def _check_response(rows: list[dict], found: Measurement, plan: Plan, use: np.ndarray) -> None:
    """Reject the fit of the template where it does not follow the flux as an aperture does.

    The sum of an aperture is linear by its nature; a template that holds what is not of the star
    is not. Motion across the pixels makes a response too: it must be wrong with and without it.
    """
    scores = np.array([np.inf if row["rejected"] else row["score"] for row in rows[:-1]], float)
    if not np.isfinite(scores).any():
        return
    flux, psf = _curve(found, plan, int(np.nanargmin(scores))), found.psf[:, 2]
    centres = Centres(found.psf[:, 0], found.psf[:, 1])
    plain = response_of(psf, flux, use)
    moved = response_of(centres.taken_out(psf, use), centres.taken_out(flux, use), use)
    if plain is not None and moved is not None and plain.wrong and moved.wrong:
        slope = 0.5 * (plain.low + plain.high)
        rows[-1]["rejected"] = f"follows {slope:.2f} of the changes of the flux in an aperture"


def _check_light(rows: list[dict], plan: Plan) -> None:
    """Reject the rows that hold light of other sources, or lie beyond the frame, if others do not.

    The motion of the star changes the flux in an aperture that the frame cuts.
    """
    least = min(row["dilution"] for row in rows)
    cut = 1.0 - plan.overlap.sum(axis=1) / (np.pi * plan.radii**2)
    for row, part in zip(rows, np.append(np.resize(cut, len(rows) - 1), 0.0), strict=True):
        if row["rejected"]:
            continue
        if row["dilution"] > max(_DILUTED, 2.0 * least):
            row["rejected"] = f"{row['dilution']:.0%} of the flux is of another source"
        elif part > _CUT and part > 2.0 * cut.min():
            row["rejected"] = f"{part:.0%} of the aperture is beyond the frame"


def _expected(found: Measurement, annulus: int, radius: int) -> dict[str, float]:
    """Median variances of the parts of the noise."""
    error = np.nan_to_num(found.background_err[:, annulus]) * found.areas[:, radius]
    total = found.variance[:, radius] + error**2
    read = found.read_variance[:, radius]
    return {
        "total": median(total),
        "photon": median(np.maximum(found.variance[:, radius] - read, 0.0)),
        "read": median(read),
        "background": median(error**2),
    }


def _noise_row(
    flux: np.ndarray, scatter: Scatter, parts: dict[str, float], use: np.ndarray
) -> dict:
    middle = median(flux[use])
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = {name: np.sqrt(value) / abs(middle) for name, value in parts.items()}
        ratio = scatter.raw / relative["total"]
        red = scatter.binned / scatter.white
    return {
        "flux": middle,
        "scatter": scatter.raw,
        "scatter_raw": scatter.raw,
        "scatter_regressed": scatter.clean,
        "scatter_binned": scatter.binned,
        "expected": relative["total"],
        "photon_noise": relative["photon"],
        "read_noise": relative["read"],
        "background_noise": relative["background"],
        "pointing_noise": scatter.pointing,
        "ratio": ratio,
        "red_noise": red,
        "scatter_err": scatter.error,
    }


def _psf_parts(plan: Plan) -> dict[str, float]:
    """Variances of the fitted flux: by photons, by read noise, and by the constant fitted too."""
    template, noise, n_fit = plan.template, plan.noise, plan.layout.n_fit
    node = template.node((0, 0))
    total, read = noise.total[:n_fit], noise.read[:n_fit]
    diagonal = np.sqrt(np.diag(node.normal)[:6])
    star = np.linalg.inv(node.normal[:6, :6] / np.outer(diagonal, diagonal))
    star = star / np.outer(diagonal, diagonal)
    alone = template.flux * (node.right[:, :6] @ star[0])
    with_constant = template.flux * (node.right @ node.covariance[0])
    all_noise, known = (float(weight**2 @ total) for weight in (with_constant, alone))
    by_read = float(alone**2 @ read)
    return {
        "photon": known - by_read,
        "read": by_read,
        "background": max(all_noise - known, 0.0),
    }


def _table(rows: list[dict], columns: tuple) -> dict[str, np.ndarray]:
    return {
        item.name: np.array([row[item.name] for row in rows], dtype=item.dtype) for item in columns
    }
