"""Correction of 1/f row noise: offsets of rows from residuals of the template outside the star.

The mean of a row's residuals is the row's offset and the noise of that mean. How large the offsets
are, and how they correlate between neighbouring rows, is estimated from the sample of frames; the
offset is then the best linear estimate (Wiener). Without row noise it is close to zero, and a row
that the star fills follows its neighbours. Correction of the groups before the slopes are fitted
is better; this is for data of slopes only.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from tso_level3.core.template import Bad, Template, fit_frames

__all__ = [
    "AMPLIFIER_WIDTH",
    "RowNoise",
    "excess",
    "offsets_of",
    "remove_flicker",
    "row_groups",
    "trained",
]

#: Columns that one output amplifier reads in a frame of the detector's full width.
AMPLIFIER_WIDTH = 512
_LEAST = 6
_CLIP = 5.0
_CHANCE = 4.0


@dataclass(frozen=True, eq=False)
class RowNoise:
    """The rows, or parts of rows, that share an offset, and how it is estimated.

    Attributes
    ----------
    group : ndarray, (n_pixels,), int
        The group of every used pixel; groups are the rows of one amplifier after the other.
    index : ndarray, (n_groups, k), int
        Places of the pixels outside the star in each group; the last repeats to fill the row.
    valid : ndarray, (n_groups, k), bool
        False for repeated places.
    row, amplifier : ndarray, (n_groups,), int
        Detector row and amplifier of each group.
    noise : ndarray, (n_groups,)
        Variance of the mean of a group's pixels; infinite where there are too few.
    gain : ndarray, (n_groups, n_groups)
        From the means to the offsets.
    left : ndarray, (n_groups, n_groups)
        Covariance of the offsets after the correction.
    """

    group: np.ndarray
    index: np.ndarray
    valid: np.ndarray
    row: np.ndarray
    amplifier: np.ndarray
    noise: np.ndarray
    gain: np.ndarray
    left: np.ndarray

    def variance(self, weights: np.ndarray) -> np.ndarray:
        """Compute the variance that is left in weighted sums.

        Parameters
        ----------
        weights : ndarray, (n_sums, n)
            Weights of the first n used pixels.

        Returns
        -------
        ndarray, (n_sums,)
            The variances.
        """
        n_groups = len(self.noise)
        member = self.group[: weights.shape[1]]
        total = np.stack([np.bincount(member, row, n_groups) for row in weights])
        result: np.ndarray = np.maximum(np.einsum("ri,ij,rj->r", total, self.left, total), 0.0)
        return result


def row_groups(
    columns: np.ndarray, rows: np.ndarray, outside: np.ndarray, variance: np.ndarray, *, amps: bool
) -> RowNoise:
    """Sort pixels by row, or by amplifier and row.

    Parameters
    ----------
    columns, rows : ndarray, (n_pixels,), int
        The used pixels.
    outside : ndarray, (n_pixels,), bool
        Good pixels that the star does not disturb.
    variance : ndarray, (n_pixels,)
        Variance of a pixel.
    amps : bool
        Whether the amplifiers of a frame of full width are separate.

    Returns
    -------
    RowNoise
        The groups; the correction is the plain mean until it is trained.
    """
    amplifier = columns // AMPLIFIER_WIDTH if amps else np.zeros_like(columns)
    height = int(rows.max()) + 1
    keys, group = np.unique(amplifier * height + rows, return_inverse=True)
    group = group.ravel()
    members = [np.flatnonzero((group == g) & outside) for g in range(len(keys))]
    width = max(max(len(item) for item in members), 1)
    index = np.zeros((len(keys), width), np.intp)
    valid = np.zeros((len(keys), width), bool)
    noise = np.full(len(keys), np.inf)
    for g, item in enumerate(members):
        index[g, : len(item)] = item
        valid[g, : len(item)] = True
        if len(item) >= _LEAST:
            noise[g] = variance[item].mean() / len(item)
    gain = np.diag(np.isfinite(noise).astype(float))
    left = np.diag(np.where(np.isfinite(noise), noise, 0.0))
    return RowNoise(group, index, valid, keys % height, keys // height, noise, gain, left)


def offsets_of(residuals: np.ndarray, rows: RowNoise, limit: np.ndarray) -> np.ndarray:
    """Average the pixels outside the star in each group.

    Parameters
    ----------
    residuals : ndarray, (n, n_pixels)
        Frames less the model; NaN for missing pixels.
    rows : RowNoise
        The groups.
    limit : ndarray, (n_pixels,)
        Standard deviation that outliers are measured with.

    Returns
    -------
    ndarray, (n, n_groups)
        Means without outliers; NaN for a group with fewer than 6 pixels.
    """
    part = residuals[:, rows.index]
    part[:, ~rows.valid] = np.nan
    good = np.isfinite(part)
    count = good.sum(axis=2)
    # Missing values sort to the end, so that the median is found by counting.
    ordered = np.sort(part, axis=2)
    low = np.maximum((count - 1) // 2, 0)[:, :, None]
    high = np.minimum(count // 2, part.shape[2] - 1)[:, :, None]
    middle = np.take_along_axis(ordered, low, 2) + np.take_along_axis(ordered, high, 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        good &= np.abs(part - 0.5 * middle) <= _CLIP * limit[rows.index]
        count = good.sum(axis=2)
        mean = np.where(good, part, 0.0).sum(axis=2) / count
    return np.where(count >= _LEAST, mean, np.nan)


def excess(rows: RowNoise, offsets: np.ndarray) -> np.ndarray:
    """Compute how much more the offsets vary than their noise.

    Parameters
    ----------
    rows : RowNoise
        The groups.
    offsets : ndarray, (n, n_groups)
        Means of a sample of frames; NaN where unknown.

    Returns
    -------
    ndarray, (2,)
        Their variance, and half the mean square of the differences of neighbours, each beyond the
        noise, in the unit of the pixels squared; at least 0.
    """
    known = np.isfinite(offsets) & np.isfinite(rows.noise)
    both = known[:, 1:] & known[:, :-1]
    if not both.any():
        return np.zeros(2)
    noise, values = np.where(np.isfinite(rows.noise), rows.noise, 0.0), _changes(offsets, known)
    all_of_it = (values**2 - noise)[known].mean()
    rough = 0.5 * (np.diff(values, axis=1) ** 2 - (noise[1:] + noise[:-1]))[both].mean()
    return np.maximum([all_of_it, rough], 0.0)


def _changes(offsets: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Subtract the mean of each frame's groups, and the mean over the frames."""
    values = np.where(known, _centered(offsets), 0.0)
    # The mean over the frames is part of the template, not noise.
    usual = values.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(known, values - usual, 0.0)


def trained(rows: RowNoise, offsets: np.ndarray) -> RowNoise:
    """Estimate the covariance of the offsets and the best linear correction.

    Parameters
    ----------
    rows : RowNoise
        The groups.
    offsets : ndarray, (n, n_groups)
        Means of a sample of frames; NaN where unknown.

    Returns
    -------
    RowNoise
        With the best linear estimate and its residual covariance.

    References
    ----------
    Rybicki & Press 1992, doi:10.1086/171845.
    """
    known = np.isfinite(offsets) & np.isfinite(rows.noise)
    values = _changes(offsets, known)
    product, pairs = values.T @ values, known.astype(float).T @ known
    noise = np.where(np.isfinite(rows.noise), rows.noise, 0.0)
    product[np.diag_indices_from(product)] -= noise * np.diag(pairs)
    covariance, gain = np.zeros_like(product), np.zeros_like(product)
    # Amplifiers are not equally noisy: each learns from itself.
    for amplifier in np.unique(rows.amplifier):
        own = np.flatnonzero(rows.amplifier == amplifier)
        square = np.ix_(own, own)
        covariance[square] = _covariance(product[square], pairs[square], rows, own)
        use = own[np.isfinite(rows.noise[own])]
        if use.size and covariance[square].any():
            seen = covariance[np.ix_(use, use)] + np.diag(rows.noise[use])
            gain[np.ix_(own, use)] = np.linalg.solve(seen, covariance[np.ix_(use, own)]).T
    left = covariance - gain @ covariance
    return dataclasses.replace(rows, gain=gain, left=0.5 * (left + left.T))


def _covariance(
    product: np.ndarray, pairs: np.ndarray, rows: RowNoise, own: np.ndarray
) -> np.ndarray:
    """Compute the covariance of an amplifier's offsets by row distance; zero if insignificant."""
    lag = np.abs(rows.row[own, None] - rows.row[None, own]).ravel()
    total, count = (np.bincount(lag, values.ravel()) for values in (product, pairs))
    size = len(total)
    # Few pairs are far apart: they are trusted in proportion.
    correlation = total / np.maximum(count, 1) * (1 - np.arange(size) / size)
    use = own[np.isfinite(rows.noise[own])]
    # An excess within the noise of the estimate is no row noise.
    chance = _CHANCE * np.mean(rows.noise[use]) * np.sqrt(2.0 / max(count[0], 1)) if use.size else 0
    if use.size == 0 or correlation[0] <= chance:
        return np.zeros_like(product)
    value, vector = np.linalg.eigh(correlation[lag].reshape(product.shape))
    result: np.ndarray = (vector * np.maximum(value, 0.0)) @ vector.T
    return result


def _centered(offsets: np.ndarray) -> np.ndarray:
    """Subtract the mean of each frame's groups, which is background."""
    known = np.isfinite(offsets)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    result: np.ndarray = offsets - np.where(known, offsets, 0.0).sum(axis=1, keepdims=True) / count
    return result


def remove_flicker(
    values: np.ndarray, bad: Bad, template: Template, rows: RowNoise, limit: np.ndarray
) -> np.ndarray:
    """Subtract row noise from frames.

    Parameters
    ----------
    values : ndarray, (n, n_pixels)
        Frames, zero where bad.
    bad : Bad
        Missing pixels.
    template : Template
        The star.
    rows : RowNoise
        The groups and their estimate.
    limit : ndarray, (n_pixels,)
        Standard deviation that outliers are measured with.

    Returns
    -------
    ndarray, (n, n_pixels)
        Corrected frames, zero where bad.
    """
    residuals = residuals_of(values, bad, template)
    offsets = np.nan_to_num(_centered(offsets_of(residuals, rows, limit))) @ rows.gain.T
    out = values - offsets[:, rows.group]
    out[bad.frame, bad.pixel] = 0.0
    result: np.ndarray = out
    return result


def residuals_of(values: np.ndarray, bad: Bad, template: Template) -> np.ndarray:
    """Subtract the fitted template.

    Parameters
    ----------
    values : ndarray, (n, n_pixels)
        Frames, zero where bad.
    bad : Bad
        Missing pixels.
    template : Template
        The star.

    Returns
    -------
    ndarray, (n, n_pixels)
        Residuals, NaN where bad.
    """
    fit = fit_frames(template, values[:, : len(template.weights)], bad)
    residuals = values - fit.model(template)
    residuals[bad.frame, bad.pixel] = np.nan
    result: np.ndarray = residuals
    return result
