"""Aperture sums of repaired frames at every radius, with their variances.

A filled pixel is a linear function of the frame's good pixels, hence correlated with them: its
part in the variance is that of the fit, with the covariance between fit and sum, not an
independent error added in quadrature.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tso_level3.core.aperture import overlap_each
from tso_level3.core.plan import Plan
from tso_level3.core.repair import Repaired
from tso_level3.core.template import Bad

__all__ = ["Sums", "aperture_sums"]


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums in apertures.

    Attributes
    ----------
    sums, areas : ndarray, (n, n_radii)
        Sums, background included, and the pixels they are made of.
    variance, star_variance, read_variance : ndarray, (n, n_radii)
        Variance of the sums, and the shares of the star's photons and of the read noise.
    replaced : ndarray, (n, n_radii)
        The star's flux in filled pixels.
    touched : ndarray, (n,), bool
        Whether a missing pixel lies in the largest aperture.
    """

    sums: np.ndarray
    areas: np.ndarray
    variance: np.ndarray
    star_variance: np.ndarray
    read_variance: np.ndarray
    replaced: np.ndarray
    touched: np.ndarray


def aperture_sums(values: np.ndarray, repaired: Repaired, center: np.ndarray, plan: Plan) -> Sums:
    """Sum frames in circles.

    Parameters
    ----------
    values : ndarray, (n, n_pixels)
        Frames with missing pixels filled, or zero where they are to be left out.
    repaired : Repaired
        What is known of the missing pixels.
    center : ndarray, (n, 2)
        x, y of the apertures.
    plan : Plan
        The plan.

    Returns
    -------
    Sums
        The sums.
    """
    near = plan.layout.n_near
    alive = ~plan.dead[:near]
    n = len(values)
    if plan.moving:
        planes = [it[:near] * alive for it in (plan.noise.star, plan.noise.rest, plan.noise.read)]
        sums, areas, *noise = plan.apertures.sums(
            values[:, :near], center[:, 0], center[:, 1], *planes
        )
    else:
        sums = values[:, :near] @ plan.overlap.T
        areas, *noise = np.repeat(plan.summed[:, None], n, axis=1)
    # The star's share of the variance follows its flux, as far down as an eclipse takes it.
    scale = np.clip(np.nan_to_num(repaired.fit.flux, nan=1.0), 0.0, 10.0)[:, None]
    star, rest, read = noise[0] * scale, noise[1], noise[2]
    bad = _inside(repaired.bad, near)
    at = _weights_at(bad, center, plan)
    heavy = at[:, -1] > 0
    touched = np.zeros(n, bool)
    touched[bad.frame[heavy]] = True
    bad, at = Bad(bad.frame[heavy], bad.pixel[heavy]), at[heavy]
    for target, plane in (
        (star, plan.noise.star),
        (rest, plan.noise.rest),
        (read, plan.noise.read),
    ):
        share = at**2 * plane[bad.pixel][:, None]
        if target is star:
            share = share * scale[bad.frame]
        np.subtract.at(target, bad.frame, share)
    variance = star + rest
    if plan.rows is not None:
        variance += plan.rows.variance(plan.overlap)
    replaced = np.zeros_like(sums)
    if plan.fill:
        _add_filled(variance, replaced, bad, at, repaired, plan)
    else:
        np.subtract.at(areas, bad.frame, at)
        areas -= plan.overlap[:, ~alive].sum(axis=1)
    return Sums(sums, areas, variance, star, read, replaced, touched)


def _inside(bad: Bad, near: int) -> Bad:
    keep = bad.pixel < near
    return Bad(bad.frame[keep], bad.pixel[keep])


def _weights_at(bad: Bad, center: np.ndarray, plan: Plan) -> np.ndarray:
    """Give the overlap of listed pixels with their frame's circles: (n_bad, n_radii)."""
    if not plan.moving:
        return plan.overlap[:, bad.pixel].T
    layout = plan.layout
    x, y = center[bad.frame, 0], center[bad.frame, 1]
    return overlap_each(x, y, plan.radii, layout.columns[bad.pixel], layout.rows[bad.pixel])


def _add_filled(
    variance: np.ndarray,
    replaced: np.ndarray,
    bad: Bad,
    at: np.ndarray,
    repaired: Repaired,
    plan: Plan,
) -> None:
    """Add variance and flux of what was filled, in place."""
    fit, template, near = repaired.fit, plan.template, plan.layout.n_near
    dead = np.flatnonzero(plan.dead[:near] & (plan.overlap[-1] > 0))
    frames = np.arange(len(variance)) if dead.size else np.unique(bad.frame)
    if frames.size == 0:
        return
    row = np.full(len(variance), -1)
    row[frames] = np.arange(frames.size)
    n_star = 6
    terms = fit.terms_at(template, bad)
    g = np.zeros((frames.size, len(plan.radii), template.n_terms))
    np.add.at(g, row[bad.frame], at[:, :, None] * terms[:, None, :])
    base = template.node((0, 0)).terms
    if dead.size:
        g += plan.overlap[:, dead] @ base[:, dead].T
    # Covariance of the fit with what is summed: the good pixels of the subframe.
    n_fit = plan.layout.n_fit
    used = plan.weights * plan.noise.total[:n_fit]
    h = np.repeat((plan.overlap[:, :n_fit] * used) @ base[:, :n_fit].T[None], frames.size, axis=0)
    inside = bad.pixel < n_fit
    np.subtract.at(
        h,
        row[bad.frame[inside]],
        (at[inside] * used[bad.pixel[inside]][:, None])[:, :, None] * terms[inside][:, None, :],
    )
    covariance = fit.covariance[frames] * np.sqrt(
        template.variance_factor[:, None] * template.variance_factor[None, :]
    )
    solved = g @ covariance
    variance[frames] += np.einsum("nri,nri->nr", solved, g + 2.0 * h)
    np.maximum(variance, 0.0, out=variance)
    star = fit.coefficients[frames][:, :n_star]
    replaced[frames] = np.einsum("nri,ni->nr", g[:, :, :n_star], star)
