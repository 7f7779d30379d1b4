"""Noise-free images of a star at many positions.

Frames are not rendered one by one: over a small cell of positions, images are interpolated by
polynomials through renderings at Chebyshev nodes, whose number is raised until they agree with the
kernel to 1e-8 of the peak; a batch of frames is then one matrix product. Where that is not reached
(a kernel with an edge inside the frame) or takes longer (few frames in a cell), frames are rendered
one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from tso_level3.datatypes import KernelLike

__all__ = ["Renderer"]

log = logging.getLogger(__name__)

# Largest side of a cell of positions [px].
_CELL = 0.25
# Numbers of nodes per axis that are tried, and the largest error as a fraction of the peak.
_NODES, _TOLERANCE = range(3, 11), 1e-8


class Renderer:
    """Images of a star of unit flux, and of its companions, at each integration's position.

    Parameters
    ----------
    kernels : sequence of KernelLike
        Kernels.
    x, y : ndarray
        (n,) positions of the star [px].
    state : ndarray
        (n,) index of the kernel.
    shape : tuple of int
        (ny, nx) of an image.
    companions : sequence of (dx, dy, ratio)
        Offsets [px] from the star, and fluxes.
    """

    def __init__(
        self,
        *,
        kernels: Sequence[KernelLike],
        x: np.ndarray,
        y: np.ndarray,
        state: np.ndarray,
        shape: tuple[int, int],
        companions: Sequence[tuple[float, float, float]] = (),
    ) -> None:
        self.kernels = tuple(kernels)
        self.x, self.y, self.state = np.asarray(x, float), np.asarray(y, float), np.asarray(state)
        self.shape = shape
        self.companions = tuple(companions)
        self._cells: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray] | None] = {}
        self._split()

    def _split(self) -> None:
        """Tile the positions with cells, and count the frames in each cell."""
        places, sides = [], []
        for values in (self.x, self.y):
            low, high = values.min(), values.max()
            count = max(1, int(np.ceil((high - low) / _CELL)))
            side = max((high - low) / count, 1e-6)
            places.append(np.clip(((values - low) / side).astype(int), 0, count - 1))
            sides.append((low, side, count))
        self._sides = sides
        (_, _, nx), (_, _, ny) = sides
        labels = (self.state * ny + places[1]) * nx + places[0]
        names, self._label, self._population = np.unique(
            labels, return_inverse=True, return_counts=True
        )
        self._names = names

    def image(self, i: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Render integration ``i`` from its kernel: star, and companions or None, (ny, nx)."""
        kernel = self.kernels[int(self.state[i])]
        return self._render(kernel, self.x[i], self.y[i])

    def _render(
        self, kernel: KernelLike, x: float, y: float
    ) -> tuple[np.ndarray, np.ndarray | None]:
        star = kernel.render(x, y, self.shape)
        if not self.companions:
            return star, None
        others = np.zeros(self.shape)
        for dx, dy, ratio in self.companions:
            others += kernel.render(x + dx, y + dy, self.shape, flux=ratio)
        return star, others

    def frames(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Compute the images of integrations [start, stop).

        Parameters
        ----------
        start, stop : int
            0-based, ``stop`` not included.

        Returns
        -------
        star : ndarray
            (n, ny, nx) float64, for a total flux of 1.
        companions : ndarray or None
            The same for the companions, if there are any.
        """
        n = stop - start
        layers = np.empty((1 + bool(self.companions), n, self.shape[0] * self.shape[1]))
        labels = self._label[start:stop]
        for cell in np.unique(labels):
            rows = np.flatnonzero(labels == cell)
            basis = self._basis(int(cell))
            if basis is None:
                for row in rows:
                    for layer, image in zip(layers, _present(self.image(int(start + row)))):
                        layer[row] = image.reshape(-1)
                continue
            nodes_x, nodes_y, images = basis
            wx = _lagrange(nodes_x, self.x[start + rows])
            wy = _lagrange(nodes_y, self.y[start + rows])
            weights = (wy[:, :, None] * wx[:, None, :]).reshape(len(rows), -1)
            for layer, stack in zip(layers, images):
                if len(rows) == n:
                    np.matmul(weights, stack, out=layer)
                else:
                    layer[rows] = weights @ stack
        star, *companions = layers.reshape(len(layers), n, *self.shape)
        return star, companions[0] if companions else None

    def _basis(self, cell: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Return nodes and images of a cell; None where frames are rendered one by one."""
        if cell not in self._cells:
            self._cells[cell] = self._make_basis(cell)
        return self._cells[cell]

    def _make_basis(self, cell: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        (low_x, side_x, nx), (low_y, side_y, ny) = self._sides
        rest, column = divmod(int(self._names[cell]), nx)
        state, row = divmod(rest, ny)
        kernel = self.kernels[state]
        box = (low_x + column * side_x, side_x, low_y + row * side_y, side_y)
        probes = [self._probe(kernel, box, at) for at in ((0.03, 0.96), (0.55, 0.07), (0.98, 0.41))]
        for count in _NODES:
            if count**2 >= self._population[cell]:
                return None
            nodes = (1 - np.cos(np.pi * (np.arange(count) + 0.5) / count)) / 2
            nodes_x, nodes_y = box[0] + nodes * box[1], box[2] + nodes * box[3]
            stack = [self._render(kernel, x, y) for y in nodes_y for x in nodes_x]
            layers = zip(*(_present(images) for images in stack))
            images = np.array([[image.reshape(-1) for image in layer] for layer in layers])
            if all(_agrees(nodes_x, nodes_y, images[0], probe) for probe in probes):
                log.debug("cell %d: %d x %d nodes", cell, count, count)
                return nodes_x, nodes_y, images
        log.debug("cell %d: the kernel is not smooth here; frames are rendered one by one", cell)
        return None

    def _probe(
        self, kernel: KernelLike, box: tuple[float, ...], at: tuple[float, float]
    ) -> tuple[float, float, np.ndarray]:
        x, y = box[0] + at[0] * box[1], box[2] + at[1] * box[3]
        return x, y, kernel.render(x, y, self.shape).reshape(-1)


def _present(images: tuple[np.ndarray, np.ndarray | None]) -> list[np.ndarray]:
    """Return the images of the star, and of the companions where there are any."""
    return [image for image in images if image is not None]


def _agrees(
    nodes_x: np.ndarray,
    nodes_y: np.ndarray,
    images: np.ndarray,
    probe: tuple[float, float, np.ndarray],
) -> bool:
    x, y, truth = probe
    weights = np.outer(
        _lagrange(nodes_y, np.array([y]))[0], _lagrange(nodes_x, np.array([x]))[0]
    ).reshape(-1)
    return bool(np.abs(weights @ images - truth).max() <= _TOLERANCE * truth.max())


def _lagrange(nodes: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Compute the weights (n, k) of the polynomials through k nodes at n places."""
    differences = at[:, None] - nodes
    weights = np.empty_like(differences)
    for j, node in enumerate(nodes):
        others = np.delete(np.arange(len(nodes)), j)
        weights[:, j] = np.prod(differences[:, others] / (node - nodes[others]), axis=1)
    return weights
