"""Exact sums in circular apertures: every radius at once, fixed or moving.

The overlap of a circle with a pixel is the double difference of a corner function P, whose mixed
second derivative is 1 inside the circle and 0 outside. With
``G(t) = t sqrt(r^2 - t^2) + r^2 asin(t / r)`` it is ``x y`` inside and
``sign(x y) (G(|x|) + G(|y|) - pi r^2 / 2) / 2`` outside, so that every square root and arcsine
depends on one coordinate alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np

from tso_level3.core.nodes import by_node
from tso_level3.utils.cache import SizedCache

__all__ = ["CircleSums", "MovingApertures", "overlap", "overlap_each", "overlap_pixels"]


def overlap(
    x: float, y: float, radii: np.ndarray, columns: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Compute the parts of pixels that lie inside circles, on a grid of pixels.

    Parameters
    ----------
    x, y : float
        Centre of the circles, 0-based; pixel centres are at integers.
    radii : ndarray, (n_radii,)
        Radii [pix].
    columns, rows : ndarray, (nx,) and (ny,)
        Consecutive pixel numbers.

    Returns
    -------
    ndarray, (n_radii, ny, nx)
        Fractions 0 to 1.
    """
    edge_x = np.append(columns - 0.5, columns[-1] + 0.5) - x
    edge_y = np.append(rows - 0.5, rows[-1] + 0.5) - y
    out = np.empty((len(radii), len(rows), len(columns)))
    for k, radius in enumerate(radii):
        gx, gy = _primitive(np.abs(edge_x), radius), _primitive(np.abs(edge_y), radius)
        corner = _corner(edge_x[None, :], edge_y[:, None], gx[None, :], gy[:, None], radius)
        out[k] = np.diff(np.diff(corner, axis=0), axis=1)
    # The double difference leaves rounding of 1e-16 r^2 where the answer is 0 or 1.
    return np.clip(out, 0.0, 1.0, out=out)


def overlap_pixels(
    x: float, y: float, radii: np.ndarray, columns: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Compute the same for a list of pixels.

    Parameters
    ----------
    x, y : float
        Centre of the circles, 0-based.
    radii : ndarray, (n_radii,)
        Radii [pix].
    columns, rows : ndarray, (n,), int
        The pixels.

    Returns
    -------
    ndarray, (n_radii, n)
        Fractions 0 to 1.
    """
    first_x, first_y = int(columns.min()), int(rows.min())
    grid_x = np.arange(first_x, int(columns.max()) + 1)
    grid_y = np.arange(first_y, int(rows.max()) + 1)
    full = overlap(x, y, radii, grid_x, grid_y)
    return full[:, rows - first_y, columns - first_x]


def overlap_each(
    x: np.ndarray, y: np.ndarray, radii: np.ndarray, columns: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Compute the same for pixels that each have their own centre.

    Parameters
    ----------
    x, y : ndarray, (n,)
        Centre of the circles for each pixel, 0-based.
    radii : ndarray, (n_radii,)
        Radii [pix].
    columns, rows : ndarray, (n,), int
        The pixels.

    Returns
    -------
    ndarray, (n, n_radii)
        Fractions 0 to 1.
    """
    out = np.zeros((len(x), len(radii)))
    half = np.array([-0.5, 0.5])
    dx = (columns - x)[:, None, None] + half[None, None, :]
    dy = (rows - y)[:, None, None] + half[None, :, None]
    for k, radius in enumerate(radii):
        gx, gy = _primitive(np.abs(dx), radius), _primitive(np.abs(dy), radius)
        corner = _corner(dx, dy, gx, gy, radius)
        out[:, k] = corner[:, 1, 1] - corner[:, 0, 1] - corner[:, 1, 0] + corner[:, 0, 0]
    return np.clip(out, 0.0, 1.0, out=out)


def _primitive(t: np.ndarray, radius: float) -> np.ndarray:
    """G of the distances t >= 0 from the centre; constant beyond the radius."""
    inside = np.minimum(t, radius)
    return inside * np.sqrt(radius**2 - inside**2) + radius**2 * np.arcsin(inside / radius)


def _corner(
    x: np.ndarray, y: np.ndarray, gx: np.ndarray, gy: np.ndarray, radius: float
) -> np.ndarray:
    """Evaluate the corner function at corners (x, y), which broadcast against each other."""
    outside = np.sign(x) * np.sign(y) * (0.5 * (gx + gy) - 0.25 * np.pi * radius**2)
    return np.where(x**2 + y**2 <= radius**2, x * y, outside)


class CircleSums(NamedTuple):
    """Sums of frames in circles.

    Attributes
    ----------
    total, area : ndarray, (n_frames, n_radii)
        ``sum(w d)`` of the pixels d with their overlaps w, and ``sum(w)``.
    squared : ndarray, (k, n_frames, n_radii)
        ``sum(w^2 p)`` for each plane p that all frames share.
    """

    total: np.ndarray
    area: np.ndarray
    squared: np.ndarray


@dataclass(frozen=True, eq=False)
class MovingApertures:
    """Apertures whose centre moves from frame to frame, on a fixed list of pixels.

    Pixels that stay inside a circle wherever its centre goes are summed by one matrix product;
    the overlap is computed only for those near its edge. Centres are taken in groups of the same
    nearest cell of a coarse grid, so that a frame's sums do not depend on its neighbours.

    Attributes
    ----------
    columns, rows : ndarray, (n,), int
        The pixels.
    radii : ndarray, (n_radii,)
        Radii [pix].
    """

    columns: np.ndarray
    rows: np.ndarray
    radii: np.ndarray
    _cache: SizedCache = field(default_factory=SizedCache, init=False)

    #: Side of a cell of the grid of centres [pix].
    CELL = 0.25

    @classmethod
    def of(cls, columns: np.ndarray, rows: np.ndarray, radii: np.ndarray) -> MovingApertures:
        """Make apertures on a list of pixels.

        Parameters
        ----------
        columns, rows : ndarray, (n,), int
            The pixels.
        radii : ndarray, (n_radii,)
            Radii [pix].

        Returns
        -------
        MovingApertures
            The apertures.
        """
        return cls(np.asarray(columns), np.asarray(rows), np.asarray(radii, float))

    def sums(
        self, images: np.ndarray, x: np.ndarray, y: np.ndarray, *, squared: np.ndarray | None = None
    ) -> CircleSums:
        """Sum frames in circles around their own centres.

        Parameters
        ----------
        images : ndarray, (n_frames, n)
            Pixels of each frame.
        x, y : ndarray, (n_frames,)
            Centres, 0-based; finite.
        squared : ndarray, (k, n), optional
            Planes that all frames share (variances), summed with squared weights.

        Returns
        -------
        CircleSums
            The sums.
        """
        planes = np.zeros((0, len(self.columns))) if squared is None else squared
        shape = (len(x), len(self.radii))
        total, area, noise = np.empty(shape), np.empty(shape), np.empty((len(planes), *shape))
        for rows, inner, edges in self._cells(x, y):
            part = images if len(rows) == len(x) else images[rows]
            total[rows] = part @ inner.T
            area[rows] = inner.sum(axis=1)
            noise[:, rows] = (planes @ inner.T)[:, None]
            for k, edge in enumerate(edges):
                weight = edge.overlap(x[rows], y[rows], self.radii[k])
                total[rows, k] += np.einsum("ij,ij->i", weight, part[:, edge.pixels])
                area[rows, k] += weight.sum(axis=1)
                if len(planes):
                    noise[:, rows, k] += planes[:, edge.pixels] @ np.square(weight, out=weight).T
        return CircleSums(total, area, noise)

    def over(self, planes: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Sum planes that all frames share in circles around each frame's centre.

        Parameters
        ----------
        planes : ndarray, (k, n)
            The planes.
        x, y : ndarray, (n_frames,)
            Centres, 0-based; finite.

        Returns
        -------
        ndarray, (n_frames, n_radii, k)
            ``sum(w p)`` of each plane p.
        """
        out = np.empty((len(x), len(self.radii), len(planes)))
        for rows, inner, edges in self._cells(x, y):
            out[rows] = inner @ planes.T
            for k, edge in enumerate(edges):
                out[rows, k] += (
                    edge.overlap(x[rows], y[rows], self.radii[k]) @ planes[:, edge.pixels].T
                )
        return out

    def _cells(
        self, x: np.ndarray, y: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, list[_Edge]]]:
        """Group frames by cell: their rows, the pixels inside each circle, those near its edge."""
        nodes = np.floor(np.stack([x, y], axis=1) / self.CELL).astype(np.int64)
        size = 8 * len(self.radii) * len(self.columns)
        for key, rows in by_node(nodes):
            inner, edges = self._cache.get(key, partial(self._sorted, key), size)
            yield rows, inner, edges

    def _sorted(self, key: tuple[int, int]) -> tuple[np.ndarray, list[_Edge]]:
        x0, y0 = (key[0] + 0.5) * self.CELL, (key[1] + 0.5) * self.CELL
        distance = np.hypot(self.columns - x0, self.rows - y0)
        # Half a pixel's diagonal, and half a cell's.
        reach = (0.5 + 0.5 * self.CELL) * np.sqrt(2.0)
        inner = (distance[None] < self.radii[:, None] - reach).astype(float)
        edges = [
            _Edge.of(self.columns, self.rows, np.flatnonzero(np.abs(distance - r) <= reach))
            for r in self.radii
        ]
        return inner, edges


@dataclass(frozen=True, eq=False)
class _Edge:
    """The pixels near a circle's edge, with the corners that they share."""

    pixels: np.ndarray
    columns: np.ndarray
    rows: np.ndarray
    corner_column: np.ndarray
    corner_row: np.ndarray
    corners: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, columns: np.ndarray, rows: np.ndarray, pixels: np.ndarray) -> _Edge:
        if pixels.size == 0:
            empty = np.zeros(0, int)
            return cls(pixels, empty, empty, empty, empty, (empty,) * 4)
        px, py = columns[pixels], rows[pixels]
        edge_x = np.arange(px.min(), px.max() + 2)
        edge_y = np.arange(py.min(), py.max() + 2)
        width = len(edge_x)
        flat = [
            (py + dy - edge_y[0]) * width + (px + dx - edge_x[0])
            for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1))
        ]
        used, inverse = np.unique(np.concatenate(flat), return_inverse=True)
        corners = tuple(inverse.reshape(4, -1))
        return cls(pixels, edge_x - 0.5, edge_y - 0.5, used % width, used // width, corners)

    def overlap(self, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
        """Compute the fractions for centres (m,): (m, n_pixels)."""
        dx, dy = self.columns - x[:, None], self.rows - y[:, None]
        gx, gy = _primitive(np.abs(dx), radius), _primitive(np.abs(dy), radius)
        half = 0.5 * gx - 0.125 * np.pi * radius**2
        other = 0.5 * gy - 0.125 * np.pi * radius**2
        ix, iy = self.corner_column, self.corner_row
        cx, cy = dx[:, ix], dy[:, iy]
        product = cx * cy
        outside = half[:, ix]
        outside += other[:, iy]
        outside *= np.sign(product)
        cx *= cx
        cy *= cy
        cx += cy
        value = np.where(cx <= radius**2, product, outside)
        a, b, c, d = self.corners
        out = value[:, d] - value[:, c]
        out -= value[:, b]
        out += value[:, a]
        return np.clip(out, 0.0, 1.0, out=out)
