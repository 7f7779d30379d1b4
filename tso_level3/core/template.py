"""The exposure's own model of the star, and its fit to many frames by one linear step.

A frame is ``f T(p - s) + b``. Expanded to second order about a node near the shift s, it is a
linear combination of T, its first and second derivatives and a constant, so that flux, shift and
background of all frames follow from one matrix product; the third order is taken back out
analytically. Missing pixels have no weight: a frame's normal matrix is the shared one less the
outer products of its bad pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np

from tso_level3.core.bad import Bad
from tso_level3.core.nodes import STEP, by_node, node_of
from tso_level3.core.shift import ShiftedImage
from tso_level3.utils.cache import SizedCache

__all__ = ["TURNS", "Bad", "Fit", "Node", "Template", "fit_frames"]

# Beyond this from a node a frame is fitted again about a nearer one [pix].
_REACH = 0.1
# A frame goes from node to node this often at the most, and is asked for a star from then on.
TURNS, _DOUBT = 15, 1
# A flux of fewer standard errors than this has no position.
_FAINTEST = 3.0
_THIRD = ((3, 0), (2, 1), (1, 2), (0, 3))


@dataclass(frozen=True, eq=False)
class Node:
    """The template and what belongs to it at one shift.

    Attributes
    ----------
    terms : ndarray, (n_terms, n_pixels)
        T, -Tx, -Ty, Txx / 2, Txy, Tyy / 2 and, where it is fitted, 1.
    right : ndarray, (n_fit, n_terms)
        Weighted terms: frames times this are the right-hand sides.
    normal, covariance : ndarray, (n_terms, n_terms)
        The normal matrix and its inverse.
    third : ndarray, (n_terms, 4)
        What the four third-order terms add to the solution.
    """

    terms: np.ndarray
    right: np.ndarray
    normal: np.ndarray
    covariance: np.ndarray
    third: np.ndarray


@dataclass(frozen=True, eq=False)
class Template:
    """The mean image of the star, at a flux of one, and how it moves.

    Attributes
    ----------
    image : ShiftedImage
        The image and its derivatives at any shift.
    x, y : float
        Where the star is when the shift is zero.
    flux : float
        Flux of the star in it.
    columns, rows : ndarray, (n_pixels,), int
        The used pixels.
    weights : ndarray, (n_fit,)
        Weights of the fit.
    variance : ndarray, (n_fit,)
        Variance of a pixel in the fit.
    constant : bool
        Whether a constant is fitted.
    response : ndarray, (n_pixels,), or None
        Response of the pixels to the star, which does not move with it; None where all are alike.
    lost : bool
        Whether most frames have no such star: they are not followed then, wherever they point.
    """

    image: ShiftedImage
    x: float
    y: float
    flux: float
    columns: np.ndarray
    rows: np.ndarray
    weights: np.ndarray
    variance: np.ndarray
    constant: bool = True
    response: np.ndarray | None = None
    lost: bool = False
    _cache: SizedCache = field(default_factory=SizedCache, init=False)

    @property
    def n_terms(self) -> int:
        """Number of terms of the linear model."""
        return 7 if self.constant else 6

    @property
    def variance_factor(self) -> np.ndarray:
        """Variance of each coefficient over what inverse-variance weights would say, (n_terms,)."""
        return self._cache.get("factor", self._variance_factor)

    def _variance_factor(self) -> np.ndarray:
        node = self.node((0, 0))
        spread = (node.right * self.variance[:, None]).T @ node.right
        full = node.covariance @ spread @ node.covariance
        return np.diagonal(full) / np.diagonal(node.covariance)

    def node(self, key: tuple[int, int]) -> Node:
        """Make the linear model about a node.

        Parameters
        ----------
        key : (int, int)
            Steps of 0.1 pixels in x and y.

        Returns
        -------
        Node
            The model; kept for the next call.
        """
        size = 8 * self.n_terms * (len(self.columns) + len(self.weights))
        return self._cache.get(key, lambda: self._make(key), size)

    def _make(self, key: tuple[int, int]) -> Node:
        sx, sy = STEP * key[0], STEP * key[1]
        at = self.image.at
        pixels = (self.columns, self.rows)
        terms = [
            at(sx, sy, 0, 0, pixels),
            -at(sx, sy, 1, 0, pixels),
            -at(sx, sy, 0, 1, pixels),
            0.5 * at(sx, sy, 2, 0, pixels),
            at(sx, sy, 1, 1, pixels),
            0.5 * at(sx, sy, 0, 2, pixels),
        ]
        if self.response is not None:
            terms = [self.response * term for term in terms]
        if self.constant:
            terms.append(np.ones(len(self.columns)))
        terms = np.stack(terms)
        n_fit = len(self.weights)
        right = (terms[:, :n_fit] * self.weights).T.copy()
        normal = terms[:, :n_fit] @ right
        covariance = _inverse(normal)
        pixels = (self.columns[:n_fit], self.rows[:n_fit])
        factor = {(3, 0): -1 / 6, (2, 1): -1 / 2, (1, 2): -1 / 2, (0, 3): -1 / 6}
        third = np.stack([factor[o] * at(sx, sy, *o, pixels) for o in _THIRD])
        if self.response is not None:
            third *= self.response[:n_fit]
        return Node(terms, right, normal, covariance, covariance @ (right.T @ third.T))


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Invert positive matrices (..., k, k) whose terms have very different sizes."""
    diagonal = np.sqrt(np.maximum(np.einsum("...ii->...i", matrix), 1e-300))
    outer = diagonal[..., :, None] * diagonal[..., None, :]
    scaled = matrix / outer
    # A frame with next to no pixels has a singular matrix; the ridge gives it a bounded answer.
    scaled = scaled + 1e-13 * np.eye(matrix.shape[-1])
    try:
        inverse = np.linalg.inv(scaled)
    except np.linalg.LinAlgError:
        inverse = np.linalg.pinv(scaled, hermitian=True)
    return inverse / outer


@dataclass(frozen=True, eq=False)
class Fit:
    """The template fitted to frames.

    Attributes
    ----------
    nodes : ndarray, (n, 2), int
        The node each frame was fitted about.
    coefficients : ndarray, (n, n_terms)
        Of the terms of that node.
    flux : ndarray, (n,)
        Scale of the template.
    x, y : ndarray, (n,)
        Shift from the template's place, third order taken out [pix].
    covariance : ndarray, (n, n_terms, n_terms)
        Inverse normal matrices.
    ok : ndarray, (n,), bool
        Whether the fit settled on a node, on a star inside the subframe and not lost in noise.
    """

    nodes: np.ndarray
    coefficients: np.ndarray
    flux: np.ndarray
    x: np.ndarray
    y: np.ndarray
    covariance: np.ndarray
    ok: np.ndarray

    def select(self, rows: np.ndarray) -> Fit:
        """Take the fits of some frames.

        Parameters
        ----------
        rows : ndarray, (m,), int
            The frames.

        Returns
        -------
        Fit
            Their fits.
        """
        return Fit(*(getattr(self, item.name)[rows] for item in fields(self)))

    def updated(self, rows: np.ndarray, other: Fit) -> Fit:
        """Replace the fits of some frames.

        Parameters
        ----------
        rows : ndarray, (m,), int
            The frames.
        other : Fit
            Their new fits.

        Returns
        -------
        Fit
            All fits.
        """
        columns = [getattr(self, item.name).copy() for item in fields(self)]
        for column, item in zip(columns, fields(self), strict=True):
            column[rows] = getattr(other, item.name)
        return Fit(*columns)

    def model(self, template: Template, n_pixels: int | None = None) -> np.ndarray:
        """Evaluate the fitted model.

        Parameters
        ----------
        template : Template
            The template that was fitted.
        n_pixels : int, optional
            How many pixels of the layout's order; all by default.

        Returns
        -------
        ndarray, (n, n_pixels)
            The model of each frame.
        """
        groups = by_node(self.nodes)
        if len(groups) == 1:
            return self.coefficients @ template.node(groups[0][0]).terms[:, :n_pixels]
        width = len(template.columns) if n_pixels is None else n_pixels
        out = np.empty((len(self.flux), width))
        for key, rows in groups:
            out[rows] = self.coefficients[rows] @ template.node(key).terms[:, :n_pixels]
        return out

    def terms_at(self, template: Template, bad: Bad) -> np.ndarray:
        """Give the terms at listed pixels.

        Parameters
        ----------
        template : Template
            The template that was fitted.
        bad : Bad
            The pixels.

        Returns
        -------
        ndarray, (n_bad, n_terms)
            The terms of each frame's node there.
        """
        out = np.empty((bad.frame.size, template.n_terms))
        for key, rows in by_node(self.nodes[bad.frame]):
            out[rows] = template.node(key).terms[:, bad.pixel[rows]].T
        return out


def fit_frames(
    template: Template,
    images: np.ndarray,
    bad: Bad,
    *,
    start: np.ndarray | None = None,
    turns: int = TURNS,
) -> Fit:
    """Fit the template to frames.

    Parameters
    ----------
    template : Template
        The template.
    images : ndarray, (n, n_fit)
        The subframes in the layout's order; zero where bad.
    bad : Bad
        Missing pixels; those outside the subframe do not matter.
    start : ndarray, (n, 2), optional
        Shifts to begin with [pix]; zero by default.
    turns : int
        Nodes, half a pixel apart at the most, on a frame's way.

    Returns
    -------
    Fit
        The fits; every frame moves to the node nearest to its own shift.
    """
    n, n_terms = len(images), template.n_terms
    nodes = np.zeros((n, 2), np.int64)
    if start is not None:
        nodes[:] = np.stack(node_of(start[:, 0], start[:, 1]), axis=1)
    out = np.full((n, n_terms), np.nan)
    covariance = np.empty((n, n_terms, n_terms))
    shift = np.full((n, 2), np.nan)
    inside = bad.pixel < len(template.weights)
    bad = Bad(bad.frame[inside], bad.pixel[inside])
    todo, ok = np.arange(n), np.ones(n, bool)
    # A node costs more than all frames about it: what points out of the subframe is not followed.
    fit = slice(0, len(template.weights))
    farthest = 0.5 * max(np.ptp(template.columns[fit]), np.ptp(template.rows[fit]))
    for turn in range(1 if template.lost else turns):
        for key, rows in by_node(nodes[todo]):
            rows = todo[rows]
            node = template.node(key)
            part = images if len(rows) == n else images[rows]
            solved = _solve(node, template, part, bad.select(rows, n))
            out[rows], covariance[rows], shift[rows] = solved
            shift[rows] += STEP * np.array(key)
        with np.errstate(invalid="ignore"):
            away = np.abs(shift[todo] - STEP * nodes[todo]).max(axis=1) > _REACH
            bounded = np.abs(shift[todo] - STEP * nodes[todo]).max(axis=1) < farthest
        if turn >= _DOUBT:
            # What does not stand out of the noise by now is wandering, not moving.
            away &= _stands_out(template, out[todo, 0], covariance[todo, 0, 0])
        moving = todo[away & bounded]
        ok[todo[~(np.isfinite(shift[todo]).all(axis=1) & (bounded | ~away))]] = False
        if moving.size == 0:
            todo = moving
            break
        # A linear step overshoots when it is long: no more than half a pixel at a time.
        step = np.clip(shift[moving] - STEP * nodes[moving], -0.5, 0.5)
        target = STEP * nodes[moving] + step
        nodes[moving] = np.stack(node_of(target[:, 0], target[:, 1]), axis=1)
        todo = moving
    ok[todo] = False
    ok &= _is_star(template, out[:, 0], covariance[:, 0, 0], shift)
    # Where no star was found the way there is forgotten: nobody has to make its nodes again.
    left = np.flatnonzero(~ok & nodes.any(axis=1))
    if left.size:
        nodes[left] = 0
        solved = _solve(template.node((0, 0)), template, images[left], bad.select(left, n))
        out[left], covariance[left], shift[left] = solved
    return Fit(nodes, out, out[:, 0], shift[:, 0], shift[:, 1], covariance, ok)


def _is_star(
    template: Template, flux: np.ndarray, variance: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    """Tell which fits found a star that stands out of the noise and lies in the subframe."""
    n_fit = len(template.weights)
    with np.errstate(invalid="ignore"):
        ok = _stands_out(template, flux, variance)
        for middle, pixels, s in (
            (template.x, template.columns[:n_fit], shift[:, 0]),
            (template.y, template.rows[:n_fit], shift[:, 1]),
        ):
            ok &= (middle + s >= pixels.min() - 0.5) & (middle + s <= pixels.max() + 0.5)
    return ok


def _stands_out(template: Template, flux: np.ndarray, variance: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return flux > _FAINTEST * np.sqrt(variance * template.variance_factor[0])


def _solve(
    node: Node, template: Template, images: np.ndarray, bad: Bad
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Solve for coefficients, covariances and shifts from the node of frames that share it."""
    right = images @ node.right
    covariance = np.repeat(node.covariance[None], len(images), axis=0)
    third = np.repeat(node.third[None], len(images), axis=0)
    if bad.frame.size:
        frames, first = np.unique(bad.frame, return_index=True)
        a = node.terms[:, bad.pixel].T
        w = template.weights[bad.pixel]
        outer = np.einsum("k,ki,kj->kij", w, a, a)
        normal = node.normal - np.add.reduceat(outer, first, axis=0)
        covariance[frames] = _inverse(normal)
        third[frames] = node.third
    c = np.einsum("nij,nj->ni", covariance, right) if bad.frame.size else right @ node.covariance
    with np.errstate(invalid="ignore", divide="ignore"):
        sx, sy = c[:, 1] / c[:, 0], c[:, 2] / c[:, 0]
        lx, ly = sx, sy
        for _ in range(2):
            cubes = np.stack([lx**3, lx**2 * ly, lx * ly**2, ly**3], axis=1)
            taken = np.einsum("nij,nj->ni", third, cubes)
            scale = 1.0 - taken[:, 0]
            lx = (sx - taken[:, 1]) / scale
            ly = (sy - taken[:, 2]) / scale
            # Far from the node the series says nothing.
            far = np.maximum(np.abs(sx), np.abs(sy)) > 3 * _REACH
            lx, ly = np.where(far, sx, lx), np.where(far, sy, ly)
    return c, covariance, np.stack([lx, ly], axis=1)
