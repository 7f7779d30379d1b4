"""Aperture sums of repaired frames at every radius, with their variances.

A filled pixel is a linear function of the frame's good pixels and correlated with them. Its part
of the variance is that of the fit, with the covariance between fit and sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tso_level3.core.aperture import CircleSums, overlap_each
from tso_level3.core.bad import Bad
from tso_level3.core.nodes import by_node
from tso_level3.core.plan import Plan
from tso_level3.core.repair import Repaired

__all__ = ["Sums", "aperture_sums"]

# Terms of the linear model that are the star's.
_STAR_TERMS = 6
# Relative area that the largest aperture may lack by rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums in apertures.

    Attributes
    ----------
    sums, areas : ndarray, (n, n_radii)
        Sums, background included, and the number of pixels in them.
    variance, read_variance : ndarray, (n, n_radii)
        Variance of the sums, and the part of the read noise.
    replaced : ndarray, (n, n_radii)
        The star's flux in filled pixels.
    touched, cut : ndarray, (n,), bool
        Whether a missing pixel lies in the largest aperture; whether a moving one reaches beyond
        the pixels that are read.
    """

    sums: np.ndarray
    areas: np.ndarray
    variance: np.ndarray
    read_variance: np.ndarray
    replaced: np.ndarray
    touched: np.ndarray
    cut: np.ndarray


class _Circles:
    """The apertures of a chunk: at the plan's centre, or each frame's at its own.

    Parameters
    ----------
    plan : Plan
        The plan.
    center : ndarray, (n, 2)
        x, y of the apertures.
    """

    def __init__(self, plan: Plan, center: np.ndarray) -> None:
        self.plan, self.center, self.near = plan, center, plan.layout.n_near

    def of(self, images: np.ndarray) -> CircleSums:
        """Sum images (n, n_near), and the three parts of the variance of pixels that are alive."""
        plan, noise, near = self.plan, self.plan.noise, slice(0, self.near)
        if plan.moving:
            planes = np.stack([noise.star[near], noise.rest[near], noise.read[near]])
            return plan.apertures.sums(images, *self.center.T, squared=planes * ~plan.dead[near])
        area, *squared = np.repeat(plan.summed[:, None], len(images), axis=1)
        return CircleSums(images @ plan.overlap.T, area, np.stack(squared))

    def over(self, planes: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Sum planes (k, n_near) that frames share in the circles of some: (n, n_radii, k)."""
        if self.plan.moving:
            return self.plan.apertures.over(planes, *self.center[rows].T)
        return np.repeat((self.plan.overlap @ planes.T)[None], len(rows), axis=0)

    def at(self, bad: Bad) -> np.ndarray:
        """Compute the overlap of listed pixels with their frame's circles: (n_bad, n_radii)."""
        if not self.plan.moving:
            return self.plan.overlap[:, bad.pixel].T
        layout, (x, y) = self.plan.layout, self.center[bad.frame].T
        pixels = layout.columns[bad.pixel], layout.rows[bad.pixel]
        return overlap_each(x, y, self.plan.radii, *pixels)


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
    near, every = plan.layout.n_near, np.arange(len(values))
    circles = _Circles(plan, center)
    sums, areas, (star, rest, read) = circles.of(values[:, :near])
    # The star's share of the variance follows its flux, as far down as an eclipse takes it.
    scale = np.clip(np.nan_to_num(repaired.fit.flux, nan=1.0), 0.0, 10.0)[:, None]
    star = star * scale
    cut = np.zeros(len(values), bool)
    if plan.moving:
        cut = areas[:, -1] < (1.0 - _ROUNDING) * np.pi * plan.radii[-1] ** 2
    keep = repaired.bad.pixel < near
    bad = Bad(repaired.bad.frame[keep], repaired.bad.pixel[keep])
    at = circles.at(bad)
    heavy = at[:, -1] > 0
    bad, at = Bad(bad.frame[heavy], bad.pixel[heavy]), at[heavy]
    touched = np.zeros(len(values), bool)
    touched[bad.frame] = True
    squared = at**2
    noise, pixel = plan.noise, bad.pixel
    np.subtract.at(star, bad.frame, squared * noise.star[pixel][:, None] * scale[bad.frame])
    np.subtract.at(rest, bad.frame, squared * noise.rest[pixel][:, None])
    np.subtract.at(read, bad.frame, squared * noise.read[pixel][:, None])
    variance = star + rest
    if plan.rows is not None:
        variance += _row_noise(circles, every, plan)
    dead = plan.dead[:near].astype(float)
    lost = circles.over(dead[None], every)[:, :, 0] if dead.any() else np.zeros_like(areas)
    touched |= lost[:, -1] > 0
    replaced = np.zeros_like(sums)
    if plan.fill:
        rows = np.flatnonzero(touched)
        for some, extra, flux in _filled(circles, rows, bad, at, repaired, plan):
            variance[some] += extra
            replaced[some] = flux
        np.maximum(variance, 0.0, out=variance)
    else:
        np.subtract.at(areas, bad.frame, at)
        areas -= lost
    return Sums(sums, areas, variance, read, replaced, touched, cut)


def _row_noise(circles: _Circles, rows: np.ndarray, plan: Plan) -> np.ndarray:
    """Compute the variance that the correction of row noise leaves, (n or 1, n_radii)."""
    if not plan.moving:
        return plan.rows.variance(plan.overlap)
    groups, member = np.unique(plan.rows.group[: circles.near], return_inverse=True)
    planes = (member == np.arange(len(groups))[:, None]).astype(float)
    total = circles.over(planes, rows)
    left = plan.rows.left[np.ix_(groups, groups)]
    return np.maximum(np.einsum("nrg,nrg->nr", total @ left, total), 0.0)


def _filled(
    circles: _Circles, frames: np.ndarray, bad: Bad, at: np.ndarray, repaired: Repaired, plan: Plan
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Compute variance and flux of what was filled, for the frames of one node after the other."""
    fit, template, near, n_fit = repaired.fit, plan.template, circles.near, plan.layout.n_fit
    used = np.zeros(near)
    used[:n_fit] = plan.weights * plan.noise.total[:n_fit]
    factor = np.sqrt(np.outer(template.variance_factor, template.variance_factor))
    for key, some in by_node(fit.nodes[frames]):
        rows = frames[some]
        terms = template.node(key).terms[:, :near]
        n_terms = len(terms)
        # Of the dead pixels, and of the good ones of the subframe, whose fit fills the others.
        planes = np.concatenate([terms * plan.dead[:near], terms * used])
        g, h = np.split(circles.over(planes, rows), [n_terms], axis=2)
        place = np.full(len(fit.flux), -1)
        place[rows] = np.arange(rows.size)
        own = place[bad.frame] >= 0
        row, pixel = place[bad.frame[own]], bad.pixel[own]
        weighted = at[own][:, :, None] * terms[:, pixel].T[:, None, :]
        np.add.at(g, row, weighted)
        np.subtract.at(h, row, weighted * used[pixel][:, None, None])
        solved = g @ (fit.covariance[rows] * factor)
        extra = np.einsum("nri,nri->nr", solved, g + 2.0 * h)
        star = fit.coefficients[rows, :_STAR_TERMS]
        yield rows, extra, np.einsum("nri,ni->nr", g[:, :, :_STAR_TERMS], star)
