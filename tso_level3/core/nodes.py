"""Grid of nodes in the space of shifts, about which star and kernel are expanded."""

from __future__ import annotations

import numpy as np

__all__ = ["STEP", "by_node", "node_of"]

#: Distance between the nodes [pix].
STEP = 0.1


def node_of(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest node of the grid.

    Parameters
    ----------
    x, y : ndarray, (n,)
        Shifts [pix].

    Returns
    -------
    (ndarray, ndarray)
        Whole numbers of steps in x and y.
    """
    return np.rint(x / STEP).astype(np.int64), np.rint(y / STEP).astype(np.int64)


def by_node(nodes: np.ndarray) -> list[tuple[tuple[int, int], np.ndarray]]:
    """Group rows by node.

    Parameters
    ----------
    nodes : ndarray, (n, 2), int
        Node of each row.

    Returns
    -------
    list of ((int, int), ndarray)
        Node and its rows, ascending.
    """
    if len(nodes) == 0:
        return []
    if (nodes == nodes[0]).all():
        return [((int(nodes[0, 0]), int(nodes[0, 1])), np.arange(len(nodes)))]
    keys, inverse = np.unique(nodes, axis=0, return_inverse=True)
    inverse = inverse.ravel()
    return [((int(k[0]), int(k[1])), np.flatnonzero(inverse == g)) for g, k in enumerate(keys)]
