"""Detection of outlier pixels and fit of the template without them.

Pixels are missing where the input says so, and where a frame departs from the fitted model by
more than the noise allows (cosmic rays). Fit and detection alternate: a bright spike spoils the fit
and makes its neighbours look bad, so only hits above a part of the strongest are taken out before
the next fit, and those that no longer stand out are released.

A frame's image has changed (seeing, a tilted mirror segment), and no pixel is taken out, where very
many pixels depart, where those that are left do not fit either, or where pixels of the core depart
that no cosmic ray changes together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tso_level3.core.bad import Bad
from tso_level3.core.blocks import blocks
from tso_level3.core.nodes import by_node
from tso_level3.core.template import TURNS, Fit, Template, fit_frames

__all__ = ["Repaired", "find_and_fit"]

# Hits above this part of the strongest are taken out first.
_STRONGEST = 0.3
_MAX_ROUNDS = 8
# Pixels that are fitted again together.
_TOGETHER = 400_000
# More departures than this part of the subframe, and than this number, are a change of the image.
_CHANGED = 0.02
_CHANGED_PIXELS = 12
# The same before anything is taken out.
_HOPELESS = 0.2
# Pixels with more than this part of the template's peak are its core.
_CORE = 0.1
# A ray changes no more pixels of the core than this, makes all of them brighter, and where it
# changes several one of them by this part of the star's light there.
_COMPACT, _STRONG = 4, 0.3
# Other hits may replace no more than the first part of the star's flux, and more than two pixels
# of the core no more than the second.
_REPLACED, _MUCH = 0.02, 0.1
# What is left in the core is as large as its limit; this much more is no noise.
_UNLIKE = 1.5


@dataclass(frozen=True, eq=False)
class Repaired:
    """Fits, residuals and missing pixels of frames.

    Attributes
    ----------
    fit : Fit
        The template fitted to the good pixels.
    residuals : ndarray, (n, n_pixels)
        Frames less the model; zero at missing pixels.
    model_at_bad : ndarray, (n_bad,)
        The model at the missing pixels.
    bad : Bad
        Missing pixels, outliers included.
    outlier : ndarray, (n,), bool
        Whether the frame has an outlier in time.
    changed : ndarray, (n,), bool
        Whether the star's image differs from the template; no outlier was taken out then.
    """

    fit: Fit
    residuals: np.ndarray
    model_at_bad: np.ndarray
    bad: Bad
    outlier: np.ndarray
    changed: np.ndarray


def find_and_fit(
    template: Template,
    images: np.ndarray,
    given: Bad,
    limit: np.ndarray,
    *,
    sigma: float,
    start: np.ndarray | None = None,
    turns: int = TURNS,
) -> Repaired:
    """Fit the template to frames and find the pixels that depart from it.

    Parameters
    ----------
    template : Template
        The template.
    images : ndarray, (n, n_pixels)
        Frames in the layout's order; set to zero at the missing pixels, in place.
    given : Bad
        Pixels that the input says are missing.
    limit : ndarray, (n_pixels,)
        Standard deviation of a pixel's residual; infinite where it cannot be an outlier.
    sigma : float
        How many of them make an outlier; 0 for none.
    start : ndarray, (n, 2), optional
        Shifts to begin with [pix].
    turns : int
        As for `fit_frames`.

    Returns
    -------
    Repaired
        Fits, residuals and missing pixels.
    """
    n, n_fit = len(images), len(template.weights)
    images[given.frame, given.pixel] = 0.0
    fit = fit_frames(template, images[:, :n_fit], given, start=start, turns=turns)
    residuals, beyond = _less_model(images, fit, template, sigma * limit if sigma > 0 else None)
    residuals[given.frame, given.pixel] = 0.0
    beyond[given.frame, given.pixel] = False
    outlier, changed = np.zeros((2, n), bool)
    bad = given
    if sigma > 0:
        hits = Bad.of(beyond)
        del beyond
        outlier[hits.frame] = True
        rows, count = np.unique(hits.frame[hits.pixel < n_fit], return_counts=True)
        bad = given.join(_drop(hits, rows))
        outlier[rows] = False
        # No cosmic ray spoils so much.
        hopeless = (count > _HOPELESS * n_fit) | template.lost
        changed[rows[hopeless]] = True
        rows = rows[~hopeless]
        start = np.stack([fit.x, fit.y], axis=1)
        start = np.where(np.isfinite(start) & fit.ok[:, None], start, 0.0)
        # In parts, each of which is copied some times.
        step = max(1, _TOGETHER // images.shape[1])
        for some in (rows[first : first + step] for first in range(0, rows.size, step)):
            again = _fit_again(
                template, images[some], given.select(some, n), limit, sigma, residuals[some],
                start[some], turns,
            )  # fmt: skip
            kept = np.flatnonzero(~again.changed)
            fit = fit.updated(some[kept], again.fit.select(kept))
            residuals[some[kept]] = again.residuals[kept]
            changed[some] = again.changed
            bad = bad.join(Bad(some[again.found.frame], again.found.pixel))
            outlier[some[again.found.frame]] = True
    images[bad.frame, bad.pixel] = 0.0
    residuals[bad.frame, bad.pixel] = 0.0
    at_bad = np.einsum("kj,kj->k", fit.terms_at(template, bad), fit.coefficients[bad.frame])
    return Repaired(fit, residuals, at_bad, bad, outlier, changed)


def _hits(residuals: np.ndarray, limit: np.ndarray, sigma: float) -> Bad:
    """List the pixels beyond the limit."""
    reach = sigma * limit
    found = np.empty(residuals.shape, bool)
    for part in blocks(len(residuals), residuals.shape[1]):
        np.greater(np.abs(residuals[part]), reach, out=found[part])
    return Bad.of(found)


def _less_model(
    images: np.ndarray, fit: Fit, template: Template, reach: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Subtract the fitted model, and mark what is farther from it than `reach`, if anything is."""
    out, beyond = np.empty_like(images), np.zeros(images.shape, bool)
    for key, rows in by_node(fit.nodes):
        terms = template.node(key).terms
        whole = len(rows) == len(images)
        for part in blocks(len(rows), images.shape[1]):
            some = part if whole else rows[part]
            rest = np.matmul(fit.coefficients[some], terms, out=out[part] if whole else None)
            np.subtract(images[some], rest, out=rest)
            if not whole:
                out[some] = rest
            if reach is not None:
                beyond[some] = np.abs(rest) > reach
    return out, beyond


def _drop(bad: Bad, rows: np.ndarray) -> Bad:
    """Leave out the pixels of some frames."""
    keep = ~np.isin(bad.frame, rows)
    return Bad(bad.frame[keep], bad.pixel[keep])


@dataclass(frozen=True, eq=False)
class _FittedAgain:
    """Frames that were hit inside the subframe: new fits and residuals, hits, changed images."""

    fit: Fit
    residuals: np.ndarray
    found: Bad
    changed: np.ndarray


def _fit_again(
    template: Template,
    images: np.ndarray,
    known: Bad,
    limit: np.ndarray,
    sigma: float,
    residuals: np.ndarray,
    start: np.ndarray,
    turns: int,
) -> _FittedAgain:
    """Alternate fit and detection for frames that were hit inside the subframe."""
    n_fit = len(template.weights)
    fit, found = _alternate(
        template, images[:, :n_fit], known, limit, sigma, residuals[:, :n_fit], start, turns
    )
    full = fit.model(template)
    np.subtract(images, full, out=full)
    full[known.frame, known.pixel] = 0.0
    changed = _have_changed(template, full[:, :n_fit], found, limit[:n_fit])
    # Pixels outside the subframe do not matter to the fit: they are tested when it is settled.
    outside = _hits(full[:, n_fit:], limit[n_fit:], sigma)
    found = found.join(Bad(outside.frame, outside.pixel + n_fit))
    return _FittedAgain(fit, full, _drop(found, np.flatnonzero(changed)), changed)


def _have_changed(
    template: Template, residuals: np.ndarray, found: Bad, limit: np.ndarray
) -> np.ndarray:
    """Tell which frames hold a changed image rather than a cosmic ray."""
    n, n_fit = residuals.shape
    star = np.maximum(template.node((0, 0)).terms[0, :n_fit], 0.0)
    core = star > _CORE * star.max()
    hits = found.frame[core[found.pixel]]
    count = np.bincount(found.frame, minlength=n)
    changed = count > max(_CHANGED * n_fit, _CHANGED_PIXELS)
    # One ray makes no pixel dark, and does not change many at a time.
    away = residuals[found.frame, found.pixel]
    dark = np.bincount(found.frame[(away < 0) & core[found.pixel]], minlength=n) > 1
    several = np.bincount(hits, minlength=n)
    strong = away > _STRONG * star[found.pixel]
    weak = (several > 1) & (np.bincount(found.frame[strong], minlength=n) == 0)
    spread = dark | weak | (several > _COMPACT)
    replaced = np.bincount(found.frame, star[found.pixel], minlength=n) / max(star.sum(), 1e-300)
    changed |= (spread & (replaced > _REPLACED)) | ((several > 2) & (replaced > _MUCH))
    # Without what was found the core fits a frame that was hit.
    use = core & np.isfinite(limit)
    left = residuals[:, use] / limit[use]
    left[found.frame[use[found.pixel]], (np.cumsum(use) - 1)[found.pixel[use[found.pixel]]]] = 0.0
    many = np.maximum(use.sum() - several, 1)
    changed |= (count > 0) & ((left**2).sum(axis=1) > _UNLIKE**2 * many)
    return changed


def _alternate(
    template: Template,
    part: np.ndarray,
    known: Bad,
    limit: np.ndarray,
    sigma: float,
    residuals: np.ndarray,
    start: np.ndarray,
    turns: int,
) -> tuple[Fit, Bad]:
    """Alternate fit and detection in the subframe until the list of hits stays the same."""
    n_fit = part.shape[1]
    inside = known.pixel < n_fit
    known = Bad(known.frame[inside], known.pixel[inside])
    found = Bad.none()
    for _ in range(_MAX_ROUNDS):
        new = _strongest(residuals, limit[:n_fit], sigma, found)
        if new.frame.size == found.frame.size and (new.pixel == found.pixel).all():
            break
        found = new
        work = part.copy()
        work[found.frame, found.pixel] = 0.0
        fit = fit_frames(template, work, known.join(found), start=start, turns=turns)
        residuals = fit.model(template, n_fit)
        np.subtract(part, residuals, out=residuals)
        residuals[known.frame, known.pixel] = 0.0
    return fit, found


def _strongest(residuals: np.ndarray, limit: np.ndarray, sigma: float, before: Bad) -> Bad:
    """Keep what still stands out, and add what stands out most among the rest."""
    hits = _hits(residuals, limit, sigma)
    if hits.frame.size == 0:
        return hits
    size = np.abs(residuals[hits.frame, hits.pixel]) / limit[hits.pixel]
    n_pixels = residuals.shape[1]
    old = np.isin(hits.frame * n_pixels + hits.pixel, before.frame * n_pixels + before.pixel)
    top = np.zeros(len(residuals))
    np.maximum.at(top, hits.frame[~old], size[~old])
    keep = old | (size >= _STRONGEST * top[hits.frame])
    return Bad(hits.frame[keep], hits.pixel[keep])
