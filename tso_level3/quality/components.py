"""Principal components of the star's image, ordered by their slow variance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tso_level3.quality.noise import bins

__all__ = ["Components", "slow_components"]

# Number of components, and the factor above the edge of white noise that is significant.
_KEPT, _BEYOND = 10, 1.5
# Minimum number of bins.
_FEWEST = 12


@dataclass(frozen=True, eq=False)
class Components:
    """Changes of the star's image.

    Attributes
    ----------
    values : ndarray, (n, k)
        Amplitude of each component per integration, over its white noise.
    images : ndarray, (k, n_fit)
        Change of the image per unit, relative to the star's flux.
    red : ndarray, (k,)
        Variance of bins over that of white noise, 1 for white noise; descending.
    significant : int
        Number of components that are slow beyond chance.
    """

    values: np.ndarray
    images: np.ndarray
    red: np.ndarray
    significant: int


def slow_components(projections: np.ndarray, eigenimages: np.ndarray, size: int) -> Components:
    """Rotate projections on eigenimages so that the slowest component comes first.

    Parameters
    ----------
    projections : ndarray, (n, m)
        Projections of the normalised images of all integrations; NaN where unknown.
    eigenimages : ndarray, (m, n_fit)
        Change of the image per unit of each, relative to the star's flux.
    size : int
        Integrations per bin; slower changes are slow.

    Returns
    -------
    Components
        At most ten.

    References
    ----------
    Switzer & Green 1984, Min/max autocorrelation factors for multivariate spatial imagery;
    Marchenko & Pastur 1967, doi:10.1070/SM1967v001n04ABEH001994.
    """
    m = projections.shape[1]
    known = np.isfinite(projections).all(axis=1)
    size = max(min(size, known.sum() // max(_FEWEST, 2 * m)), 1) if m else 1
    if m == 0 or known.sum() < _FEWEST:
        return Components(projections[:, :0], eigenimages[:0], np.zeros(0), 0)
    centred = projections - np.median(projections[known], axis=0)
    steps = np.diff(centred, axis=0)
    steps = steps[np.isfinite(steps).all(axis=1)]
    # Without outliers, such as integrations with a cosmic ray.
    spread = np.median(np.abs(steps), axis=0) + 1e-300
    steps = steps[(np.abs(steps) < 8.0 * spread).all(axis=1)]
    if len(steps) <= m:
        return Components(projections[:, :0], eigenimages[:0], np.zeros(0), 0)
    white = steps.T @ steps / (2.0 * len(steps))
    value, vector = np.linalg.eigh(white)
    value = np.maximum(value, 1e-12 * value[-1])
    whitening = vector / np.sqrt(value)
    binned = np.stack([bins(column, size) for column in (centred @ whitening).T], axis=1)
    binned = binned[np.isfinite(binned).all(axis=1)]
    red, turn = np.linalg.eigh(np.cov(binned.T).reshape(m, m) * size)
    turn, red = turn[:, ::-1], red[::-1]
    mixing = whitening @ turn
    images = np.linalg.solve(mixing, eigenimages)
    # The sign is fixed by the largest pixel.
    sign = np.sign(images[np.arange(m), np.abs(images).argmax(axis=1)])
    values, images = (centred @ mixing * sign)[:, :_KEPT], (images * sign[:, None])[:_KEPT]
    edge = (1.0 + np.sqrt(m / len(binned))) ** 2
    significant = int((red[:_KEPT] > _BEYOND * edge).sum())
    return Components(values, images, red[:_KEPT], significant)
