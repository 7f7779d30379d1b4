"""The variance of every used pixel where no errors are known: from the frames themselves.

Two frames or more show it by how they differ. One frame is its own template and shows nothing in
time: what its neighbouring background pixels differ by is its read noise and that of the sky, and
the star's photon noise is known where the unit counts electrons; otherwise it is not.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from tso_level3.core.plan import Noise
from tso_level3.utils.stats import column_median, mad_std

__all__ = ["from_frames"]

_ENOUGH_PIXELS = 10
_ROUNDS = 8
_OUTLIER = 5.0
# Changes of the image are looked for where the star is more than this part of its peak, in this
# many frames or more; they are no more than this many, each beyond the edge by this factor.
_NEAR_STAR, _FEWEST, _MOST_CHANGES, _EDGE = 1e-3, 24, 8, 1.5


def from_frames(
    residuals: np.ndarray,
    template: np.ndarray,
    ring: np.ndarray,
    columns: np.ndarray,
    rows: np.ndarray,
    *,
    electrons: bool,
) -> Noise:
    """Make the noise from what frames differ by.

    Parameters
    ----------
    residuals : ndarray, (n_frames, n)
        Frames less the fitted model; NaN for missing pixels.
    template : ndarray, (n,)
        The star's mean image, net of background.
    ring : ndarray, (k,), int
        Places of background pixels.
    columns, rows : ndarray, (n,), int
        Where the pixels are.
    electrons : bool
        Whether the unit counts electrons.

    Returns
    -------
    Noise
        A variance that rises linearly with the star. For a single frame whose unit counts no
        electrons the star's part is missing, and ``stated`` is False.
    """
    frames = np.flatnonzero(np.isfinite(residuals).any(axis=1))
    star = np.maximum(np.nan_to_num(template), 0.0)
    # Frames without any noise have that of their digits.
    least = max((1e-9 * star.max(initial=0.0)) ** 2, 1e-300)
    if len(frames) < 2:
        rest = _between_neighbours(template, ring, columns, rows) ** 2
        photons = star if electrons else np.zeros_like(star)
        return _law(photons, np.full_like(star, rest), electrons, least)
    square, count = _in_time(residuals, frames, star)
    good = np.isfinite(square) & (count > 1)
    if good.sum() < _ENOUGH_PIXELS or not square[good].max() > 0:
        return _law(np.zeros_like(star), np.ones_like(star), False)
    slope, constant = _fitted(square[good], star[good], count[good] - 1.0)
    law = slope * star + constant
    still = _without_changes(residuals[frames], law, star)
    if still is not None:
        square, count = _in_time(still, np.arange(len(frames)), star)
        good = np.isfinite(square) & (count > 1)
        slope, constant = _fitted(square[good], star[good], count[good] - 1.0)
    return _law(slope * star, np.full_like(star, constant), True, least)


def _law(star: np.ndarray, rest: np.ndarray, stated: bool, least: float = 1e-300) -> Noise:
    floor = 1e-6 * np.median(star + rest) if star.size else 0.0
    rest = np.maximum(rest, max(floor, least))
    zero = np.zeros_like(rest)
    return Noise(star, rest, zero, np.sqrt(star + rest), False, stated)


def _between_neighbours(
    image: np.ndarray, ring: np.ndarray, columns: np.ndarray, rows: np.ndarray
) -> float:
    """Scatter of background pixels about the mean of their neighbours in the row.

    Neighbours share the star's wings and the sky's gradient; the scatter of the whole ring holds
    them.
    """
    if len(ring) <= _ENOUGH_PIXELS:
        ring = np.arange(len(image))
    height, width = int(rows.max()) + 1, int(columns.max()) + 3
    place = np.full((height, width), -1)
    place[rows[ring], columns[ring] + 1] = ring
    middle = place[rows[ring], columns[ring] + 1]
    left, right = place[rows[ring], columns[ring]], place[rows[ring], columns[ring] + 2]
    known = (left >= 0) & (right >= 0)
    away = image[middle] - 0.5 * (image[left] + image[right])
    away = away[known & np.isfinite(away)]
    if away.size > _ENOUGH_PIXELS:
        return float(mad_std(away, center=0.0) / np.sqrt(1.5))
    values = image[ring][np.isfinite(image[ring])]
    return float(values.std()) if values.size > 1 else 1.0


def _without_changes(
    residuals: np.ndarray, variance: np.ndarray, star: np.ndarray
) -> np.ndarray | None:
    """Take out of residuals what many pixels share: motion, seeing. None where there is nothing.

    Noise is independent from pixel to pixel; the eigenvalues of its covariance end at a known
    edge (Marchenko & Pastur 1967, doi:10.1070/SM1967v001n04ABEH001994).
    """
    near = np.flatnonzero(star > _NEAR_STAR * star.max(initial=0.0))
    n = len(residuals)
    if near.size < _ENOUGH_PIXELS or n < _FEWEST:
        return None
    sigma = np.sqrt(variance[near])
    scaled = np.nan_to_num(residuals[:, near] / sigma)
    values, vectors = np.linalg.eigh(scaled @ scaled.T)
    rank = min(n, near.size) - 1
    values, vectors = values[::-1][:rank], vectors[:, ::-1][:, :rank]
    bulk = float(values[rank // 5 :].mean())
    if not bulk > 0:
        return None
    # The mean of the bulk is no more than that of all; the edge follows from the shape.
    edge = bulk * (1.0 + np.sqrt(n / near.size)) ** 2 / max(n / near.size, 1.0)
    many = int((values[:_MOST_CHANGES] > _EDGE * edge).sum())
    if many == 0:
        return None
    own = vectors[:, :many]
    still = residuals.copy()
    still[:, near] -= sigma * (own @ (own.T @ scaled))
    still[:, near] *= np.sqrt(n / (n - many))
    still[~np.isfinite(residuals)] = np.nan
    return still


def _in_time(
    residuals: np.ndarray, frames: np.ndarray, star: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Variance of each pixel about its own mean, and on how many frames it rests."""
    part = residuals[frames]
    # No median absolute deviation: where digits are coarse that is zero.
    square, count = _variance(part)
    good = np.isfinite(square) & (count > 1)
    if len(frames) > 2 and good.sum() >= _ENOUGH_PIXELS and square[good].max() > 0:
        # Cosmic rays: what departs from the median by far more than all pixels do.
        slope, constant = _fitted(square[good], star[good], count[good] - 1.0, robust=True)
        limit = _OUTLIER * np.sqrt(slope * star + constant)
        with np.errstate(invalid="ignore"):
            part[np.abs(part - column_median(part)) > limit] = np.nan
        square, count = _variance(part)
    return square, count


def _variance(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    good = np.isfinite(values)
    count = good.sum(axis=0).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(good, values, 0.0).sum(axis=0) / count
        away = np.where(good, values - mean, 0.0)
        return (away**2).sum(axis=0) / (count - 1.0), count


def _fitted(
    square: np.ndarray, star: np.ndarray, freedom: np.ndarray, *, robust: bool = False
) -> tuple[float, float]:
    """Fit ``square = a star + b``: each variance is as uncertain as it is large by the law."""
    order = np.argsort(star)
    faint, bright = order[: len(order) // 2 + 1], order[-(len(order) // 10 + 1) :]
    # From the mean of all as a start the rounds may end where the star has no part.
    constant = max(float(np.median(square[faint])), 1e-6 * float(square.mean()))
    slope = float(np.median(square[bright]) / max(np.median(star[bright]), 1e-300))
    least = 1e-3 * constant
    use = np.ones(len(square), bool)
    for _ in range(_ROUNDS):
        weight = np.sqrt(freedom) / np.maximum(slope * star + constant, 1e-300)
        design = np.stack([star, np.ones_like(star)], axis=1)[use] * weight[use, None]
        scale = np.sqrt(np.mean(design**2, axis=0)) + 1e-300
        found = nnls(design / scale, square[use] * weight[use])[0] / scale
        slope, constant = float(found[0]), float(found[1])
        if not slope * star.max() + constant > 0:
            return 0.0, float(np.mean(square))
        constant = max(constant, least)
        if robust:
            use = square < 4.0 * (1.0 + 3.0 / np.sqrt(freedom)) * (slope * star + constant)
            if use.sum() < _ENOUGH_PIXELS:
                break
    return slope, constant
