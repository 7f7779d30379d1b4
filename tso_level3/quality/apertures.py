"""Choice of the primary light curve: aperture and annulus, or the fit of the template."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tso_level3.columns import APERTURES, GRID, Column
from tso_level3.core.plan import Measurement, Plan
from tso_level3.quality.choice import LEAST, AperturePreference, Picked, Row, choose, stated_scatter
from tso_level3.quality.compare import (
    box_difference,
    hour_of,
    jump_variance,
    jumps_in,
    red_excess,
    response_of,
)
from tso_level3.quality.noise import (
    DIFFERENCE_ERROR,
    Centres,
    Scatter,
    bin_size,
    bins,
    counted,
    scatter_about,
)
from tso_level3.quality.pixel_phase import pointing_noise
from tso_level3.quality.surroundings import Surroundings, surroundings_of
from tso_level3.utils.stats import median

__all__ = ["Choice", "judge", "net_flux"]

# Least ratio of the scatter to photon and read noise.
_QUIETEST = 0.9
# Largest fraction of the flux from other sources.
_DILUTED = 0.01
# Largest fraction of an aperture beyond the frame.
_CUT = 0.01
_OVERLAPS = "overlaps the annulus: the star's light would be background"
# Integrations per block.
_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Choice:
    """The primary light curve, and the tables of all.

    Attributes
    ----------
    kind : str
        aperture or psf.
    radius : int
        Index of the radius in the plan.
    annulus : int
        Index of the annulus in the plan.
    grid, apertures : dict of ndarray
        The tables, by column name.
    reason : str
        Why, in a few words.
    surroundings : Surroundings
        Other sources, and an uneven sky.
    rejected : str
        The objection to it, where there was nothing better; else empty.
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
    found: Measurement, annulus: int, *, out: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Subtract the background of one annulus from the aperture sums.

    Parameters
    ----------
    found : Measurement
        The exposure.
    annulus : int
        Index of the annulus.
    out : (ndarray, ndarray), optional
        Arrays for the result, such as the sums and their variance themselves, which are the
        largest arrays of a long exposure; by default new ones.

    Returns
    -------
    (ndarray, ndarray)
        Flux and its standard error, each (n, n_radii).
    """
    flux, error = out or (np.empty_like(found.sums), np.empty_like(found.variance))
    level = found.background[:, annulus, None]
    level_err = np.nan_to_num(found.background_err[:, annulus, None])
    for first in range(0, len(flux), _ROWS):
        part = slice(first, first + _ROWS)
        areas = found.areas[part]
        flux[part] = found.sums[part] - level[part] * areas
        error[part] = np.sqrt(found.variance[part] + (level_err[part] * areas) ** 2)
    return flux, error


def _curve(found: Measurement, plan: Plan, row: int) -> np.ndarray:
    """Light curve of a row of the grid, (n,)."""
    annulus, radius = divmod(row, len(plan.radii))
    if annulus == max(len(plan.annuli), 1):
        return found.psf[:, 2]
    return found.sums[:, radius] - found.background[:, annulus] * found.areas[:, radius]


def judge(
    found: Measurement,
    plan: Plan,
    time: np.ndarray,
    preference: AperturePreference,
    windows: tuple[float, ...] | None = None,
) -> Choice:
    """Measure the noise of every aperture and choose the primary one.

    Parameters
    ----------
    found : Measurement
        The exposure.
    plan : Plan
        The plan of the measurement.
    time : ndarray, (n,)
        Times [d].
    preference : AperturePreference
        The aperture to use where the noise does not decide.
    windows : tuple of float, optional
        Start and end of the times from which noise is measured.

    Returns
    -------
    Choice
        The tables and the primary aperture.

    Notes
    -----
    The score is the relative scatter of the flux: of single integrations, of bins of ten minutes to
    an hour, and by permanent steps. Of all within one standard error of the least score, the
    nearest to the preference is chosen. Rejected are light curves that are quieter than their
    photon noise, and the fit of the template where it does not follow the flux.
    """
    use = counted(time, windows)
    n, hour = int(use.sum()), hour_of(time, int(use.sum()))
    surroundings = surroundings_of(plan, n)
    candidates = _candidates(found, plan, use, bin_size(time, n), surroundings)
    rows = candidates.rows
    curves = (np.where(use, _curve(found, plan, k), np.nan) for k in range(len(rows)))
    jumps = _jumps(found, plan, preference, use)
    jumped = jump_variance(curves, candidates.plain, jumps, hour)
    _score(candidates, jumped)
    _check_response(rows, found, plan, use)
    _check_light(rows, plan, surroundings)
    picked = choose(rows, plan.radii, preference, n)
    if preference.choose and n >= LEAST:
        _state_scatter(candidates, picked)
    primary = _curve(found, plan, picked.best)
    for k, row in enumerate(rows):
        difference = box_difference(_curve(found, plan, k), primary, use, hour)
        row["depth_difference"], row["depth_difference_err"] = difference
    _rank(rows, picked)
    n_radii, best = len(plan.radii), picked.best
    is_psf = best == len(rows) - 1
    annulus = 0 if is_psf else best // n_radii
    radius = int(np.argmin(np.abs(plan.radii - preference.radius))) if is_psf else best % n_radii
    area = [median(column) for column in found.areas.T]
    apertures = [{**rows[annulus * n_radii + r], "area": area[r]} for r in range(n_radii)]
    return Choice(
        kind="psf" if is_psf else "aperture",
        radius=radius,
        annulus=annulus,
        grid=_table(rows, GRID),
        apertures=_table([*apertures, {**rows[-1], "area": np.nan}], APERTURES),
        reason=picked.reason,
        surroundings=surroundings,
        rejected=rows[best]["rejected"],
    )


@dataclass(frozen=True, eq=False)
class _Candidates:
    """The light curves of the grid, annuli by radii, then the fit of the template.

    Attributes
    ----------
    rows : list of dict
        The rows of the table.
    scatters : list of Scatter
        The scatter of each.
    means : ndarray, (n_rows, n_bins)
        Relative means of bins.
    size : int
        Integrations per bin.
    """

    rows: list[Row]
    scatters: list[Scatter]
    means: np.ndarray
    size: int

    @property
    def plain(self) -> np.ndarray:
        """Scatter of each by plain first differences."""
        return np.array([own.plain for own in self.scatters])


def _candidates(
    found: Measurement, plan: Plan, use: np.ndarray, size: int, surroundings: Surroundings
) -> _Candidates:
    """Measure the noise of every light curve of the grid."""
    centres = Centres(found.psf[:, 0], found.psf[:, 1])
    pointing = pointing_noise(found, plan)
    rows: list[Row] = []
    scatters: list[Scatter] = []
    means: list[np.ndarray] = []
    half = max(size // 2, 1)

    def add(flux: np.ndarray, parts: dict[str, float], **values: Any) -> None:
        # Without the steps, which are not used here and would take much memory.
        scatter = replace(scatter_about(flux, centres, use, size), steps=np.zeros(0))
        row = _noise_row(flux, scatter, parts, use)
        row["rejected"] = _too_quiet(row, plan, int(use.sum()))
        scatters.append(scatter)
        means.append(bins(np.where(use, flux, np.nan), half) / row["flux"])
        rows.append(row | {name: value for name, value in values.items() if value is not None})

    for a in range(max(len(plan.annuli), 1)):
        inner, outer = np.nan, np.nan
        if plan.annuli:
            inner, outer = plan.annuli[a].inner, plan.annuli[a].outer
        for r, radius in enumerate(plan.radii):
            add(
                _curve(found, plan, len(rows)),
                _expected(found, a, r),
                kind="aperture",
                radius=radius,
                radius_inner=inner,
                radius_outer=outer,
                pointing_noise=pointing[r],
                dilution=surroundings.dilution[r],
                rejected=_OVERLAPS if radius > inner else None,
            )
    variance = median(found.psf_err[:, 2] ** 2)
    add(
        found.psf[:, 2],
        {"total": variance, **_psf_parts(plan)},
        kind="psf",
        radius=np.nan,
        radius_inner=np.nan,
        radius_outer=np.nan,
        dilution=surroundings.dilution[-1],
    )
    return _Candidates(rows, scatters, np.stack(means), half)


def _state_scatter(candidates: _Candidates, picked: Picked) -> None:
    """Replace the scatter of the chosen row by one that is not biased by the choice."""
    row, scatter = candidates.rows[picked.best], candidates.scatters[picked.best]
    # The plain differences include the slopes of a transit.
    slopes = row["scatter_raw"] / scatter.plain if scatter.plain > 0 else 1.0
    row["scatter"] = stated_scatter(candidates.scatters, candidates.rows, picked) * slopes
    with np.errstate(invalid="ignore", divide="ignore"):
        row["ratio"] = np.divide(row["scatter"], row["expected"])


def _rank(rows: list[Row], picked: Picked) -> None:
    """Number the rows by their score, the chosen one first."""
    scores = np.where(picked.allowed, [row["score"] for row in rows], np.inf)
    order = np.argsort(np.where(np.isfinite(scores), scores, np.inf), kind="stable")
    order = np.concatenate([[picked.best], order[order != picked.best]])
    for rank, k in enumerate(order, 1):
        rows[k]["rank"] = rank
        rows[k]["chosen"] = bool(k == picked.best)


def _too_quiet(row: Row, plan: Plan, n: int) -> str:
    """Objection to a light curve that is quieter than its photon and read noise."""
    if not plan.noise.known:
        return ""
    least = _QUIETEST - 2.0 * DIFFERENCE_ERROR / np.sqrt(max(n, 1))
    if not row["scatter"] < least * row["expected"]:
        return ""
    return f"scatter of {row['ratio']:.2f} of the photon and read noise"


def _jumps(
    found: Measurement, plan: Plan, preference: AperturePreference, use: np.ndarray
) -> list[int]:
    """Find steps of apertures of different size, or aperture and fit, against each other."""
    near = int(np.argmin(np.abs(plan.radii - preference.radius)))
    own, ratios = _curve(found, plan, near), []
    for row in (len(plan.radii) - 1, 0, None):
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = (found.psf[:, 2] if row is None else _curve(found, plan, row)) / own
        # Apertures that include the whole frame are identical.
        if np.isfinite(ratio).any() and np.nanstd(ratio) > 1e-12:
            ratios.append(ratio)
    if not ratios:
        return []
    # To limit memory.
    del own, ratio
    series = np.stack(ratios, axis=1)
    ratios.clear()
    return jumps_in(series, use)


def _score(candidates: _Candidates, jumped: np.ndarray) -> None:
    """Score every row: its scatter, and the excess of red noise and steps over the best."""
    rows, scatter = candidates.rows, candidates.plain
    excess, excess_err = red_excess(candidates.means, scatter, candidates.size)
    total = scatter**2 + 0.5 * excess + jumped
    fine = np.array([row["rejected"] != _OVERLAPS for row in rows]) & (scatter > 0)
    # What all have in common, such as the side of a transit, is no noise.
    best = int(np.argmin(np.where(fine, total, np.inf)))
    total = np.maximum(total + scatter[best] ** 2 - total[best], 0.0)
    for k, row in enumerate(rows):
        error = scatter[k] * row["scatter_err"]
        # Light that does not vary with the star makes its noise look small, not the star's signal.
        row["score"] = float(np.sqrt(total[k]) / (1.0 - row["dilution"])) if fine[k] else np.nan
        # The error of a small excess is at most its size.
        with np.errstate(invalid="ignore", divide="ignore"):
            error = np.hypot(error, 0.5 * min(excess_err[k], abs(excess[k])))
            row["score_err"] = float(error / np.float64(row["score"]))


def _check_response(rows: list[Row], found: Measurement, plan: Plan, use: np.ndarray) -> None:
    """Reject the fit of the template where it does not follow the flux of an aperture.

    The sum of an aperture is linear in the flux; the fit of a template with light that is not of
    the star is not. Motion across the pixels has a response too: the test is made with and without.
    """
    scores = np.array([np.inf if row["rejected"] else row["score"] for row in rows[:-1]], float)
    if not np.isfinite(scores).any():
        return
    flux, psf = _curve(found, plan, int(np.nanargmin(scores))), found.psf[:, 2]
    centres = Centres(found.psf[:, 0], found.psf[:, 1])
    plain = response_of(psf, flux, use)
    moved = response_of(centres.decorrelated(psf, use), centres.decorrelated(flux, use), use)
    if plain is not None and moved is not None and plain.wrong and moved.wrong:
        slope = 0.5 * (plain.low + plain.high)
        rows[-1]["rejected"] = f"follows {slope:.2f} of the changes of the flux in an aperture"


def _check_light(rows: list[Row], plan: Plan, surroundings: Surroundings) -> None:
    """Reject rows with light of other sources or beyond the frame, where other rows are without.

    In an aperture that the frame cuts, the star's motion changes the flux.
    """
    least = min(row["dilution"] for row in rows)
    cut = plan.beyond_frame
    for row, part in zip(rows, np.append(np.resize(cut, len(rows) - 1), 0.0), strict=True):
        if row["rejected"]:
            continue
        if row["dilution"] > max(_DILUTED, 2.0 * least):
            source = surroundings.neighbours[0]
            row["rejected"] = (
                f"{row['dilution']:.0%} of the flux is of another source, the brightest at"
                f" ({source.x:.1f}, {source.y:.1f})"
            )
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


def _noise_row(flux: np.ndarray, scatter: Scatter, parts: dict[str, float], use: np.ndarray) -> Row:
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
    """Variances of the fitted flux: photon noise, read noise, and that of the fitted constant."""
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


def _table(rows: list[Row], columns: tuple[Column, ...]) -> dict[str, np.ndarray]:
    return {
        item.name: np.array([row[item.name] for row in rows], dtype=item.dtype) for item in columns
    }
