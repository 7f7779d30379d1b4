"""Which aperture and annulus, or the fit of the template, gives the quietest light curve."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tso_level3.columns import APERTURES, GRID
from tso_level3.core.plan import Measurement, Plan
from tso_level3.core.robust import median
from tso_level3.quality.noise import Centres, Scatter, bin_size, counted, scatter_about, shared
from tso_level3.quality.pixel_phase import pointing_noise

__all__ = ["Choice", "Wish", "judge"]

# Below this many integrations noise cannot be told from chance: nothing is chosen.
_LEAST = 20
# Integrations that are worked on together.
_ROWS = 4096


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
    """

    kind: str
    radius: float
    choose: bool
    reason: str


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
    """

    kind: str
    radius: int
    annulus: int
    grid: dict[str, np.ndarray]
    apertures: dict[str, np.ndarray]
    reason: str


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
    The score is the relative scatter after regression on the centres, of single integrations and
    of bins of about ten minutes together. Within one standard error of the best the wish wins;
    it is the error of the difference, which is small where two light curves share their noise.
    """
    use = counted(time, windows)
    centres = Centres(found.psf[:, 0], found.psf[:, 1])
    size = bin_size(time, int(use.sum()))
    pointing = pointing_noise(found, plan)
    rows = []

    def scatter(row: int) -> Scatter:
        return scatter_about(_curve(found, plan, row), centres, use, size)

    for a in range(max(len(plan.annuli), 1)):
        inner, outer = (
            (plan.annuli[a].inner, plan.annuli[a].outer) if plan.annuli else (np.nan, np.nan)
        )
        for r, radius in enumerate(plan.radii):
            own = scatter(len(rows))
            if radius > inner:
                # Part of the star's own light would be taken for background.
                own = dataclasses.replace(own, score=np.nan, score_err=np.nan)
            flux = _curve(found, plan, len(rows))
            rows.append(
                {
                    "kind": "aperture",
                    "radius": radius,
                    "radius_inner": inner,
                    "radius_outer": outer,
                    **_noise_row(flux, own, _expected(found, a, r), use),
                    "pointing_noise": pointing[r],
                }
            )
    rows.append(_psf_row(found, plan, scatter(len(rows)), use))
    wished = _wished(rows, plan, wish)
    best = _choose(rows, scatter, wished, wish, int(use.sum()))
    scores = np.array([row["score"] for row in rows])
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
        reason=_reason(best == wished, wish, int(use.sum())),
    )


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
        ratio = scatter.clean / relative["total"]
        red = scatter.binned / scatter.white
    return {
        "flux": middle,
        "scatter": scatter.clean,
        "scatter_raw": scatter.raw,
        "scatter_binned": scatter.binned,
        "expected": relative["total"],
        "photon_noise": relative["photon"],
        "read_noise": relative["read"],
        "background_noise": relative["background"],
        "pointing_noise": scatter.pointing,
        "ratio": ratio,
        "red_noise": red,
        "score": scatter.score,
        "score_err": scatter.score_err,
    }


def _psf_row(found: Measurement, plan: Plan, scatter: Scatter, use: np.ndarray) -> dict:
    flux = found.psf[:, 2]
    variance = median(found.psf_err[:, 2] ** 2)
    parts = {"total": variance, **_psf_parts(plan)}
    row = _noise_row(flux, scatter, parts, use)
    nothing = {"radius": np.nan, "radius_inner": np.nan, "radius_outer": np.nan}
    return {"kind": "psf", **nothing, **row}


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


def _wished(rows: list[dict], plan: Plan, wish: Wish) -> int:
    if wish.kind == "psf":
        return len(rows) - 1
    return int(np.argmin(np.abs(plan.radii - wish.radius)))


def _choose(
    rows: list[dict], scatter: Callable[[int], Scatter], wished: int, wish: Wish, n: int
) -> int:
    if not wish.choose or n < _LEAST:
        return wished
    scores = np.array([row["score"] for row in rows], float)
    if not np.isfinite(scores).any():
        return wished
    best = int(np.nanargmin(scores))
    # Most of the noise is in both: the error of a difference is that of what they do not share.
    # The steps of every row would fill the memory: those of two are made again.
    common = shared(scatter(best).steps, scatter(wished).steps)
    error = np.hypot(rows[best]["score_err"], rows[wished]["score_err"])
    error *= np.sqrt(1.0 - common**2)
    if np.isfinite(scores[wished]) and scores[wished] <= scores[best] + error:
        return wished
    return best


def _reason(as_wished: bool, wish: Wish, n: int) -> str:
    if not wish.choose:
        return wish.reason
    if n < _LEAST:
        return f"too few integrations ({n}) to choose by noise: {wish.reason}"
    if as_wished:
        return f"within one standard error of the least score: {wish.reason}"
    return "least score"


def _table(rows: list[dict], columns: tuple) -> dict[str, np.ndarray]:
    return {
        item.name: np.array([row[item.name] for row in rows], dtype=item.dtype) for item in columns
    }
