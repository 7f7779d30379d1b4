"""The variance of every used pixel, from the input's errors.

Weights and noise come from one model of the whole exposure, not from each frame's own errors,
which follow the frame's noise and so bias every weighted fit. The error of the flat field is part
of the input's errors but the same in every integration; it is taken out.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from tso_level3.core.plan import Noise

__all__ = [
    "from_errors",
    "from_parts",
    "with_changes",
]

_FEW = 5
# How far squared errors of pixels with the same signal differ, relatively: by their read noise,
# and by the error of the flat.
_ALIKE, _UNLIKE = 0.05, 0.5
_SMALL = 0.1
_ROUNDS = 4
# What departs by this many standard deviations, in this part of the frames and in this many, again
# and again and in more than a few pixels, is the star and not cosmic rays.
_DEPARTS = 4.0
_OFTEN = 0.015
_TIMES = 3
_ISOLATED = 10


def _noise(star: np.ndarray, rest: np.ndarray, read: np.ndarray, known: bool) -> Noise:
    floor = 1e-6 * np.nanmedian(star + rest) if star.size else 0.0
    rest = np.maximum(np.nan_to_num(rest), max(floor, 1e-300))
    star = np.maximum(np.nan_to_num(star), 0.0)
    return Noise(star, rest, np.minimum(np.maximum(read, 0.0), rest), np.sqrt(star + rest), known)


def from_parts(
    poisson: np.ndarray, read: np.ndarray, template: np.ndarray, level: float | np.ndarray
) -> Noise:
    """Make the noise from the photon and read parts of the variance.

    Parameters
    ----------
    poisson, read : ndarray, (n,)
        Mean variance parts of each pixel; NaN where unknown.
    template : ndarray, (n,)
        The star's mean image, net of background.
    level : float
        The background under it.

    Returns
    -------
    Noise
        The variances.
    """
    usual = np.nanmedian(read)
    read = np.where(np.isfinite(read) & (read > 0), read, usual if np.isfinite(usual) else 0.0)
    signal = template + level
    known = np.isfinite(poisson) & (poisson > 0) & (signal > 0)
    slope = np.nanmedian(poisson[known] / signal[known]) if known.any() else 0.0
    poisson = np.where(known, poisson, slope * np.maximum(signal, 0.0))
    share = np.clip(template / np.maximum(signal, 1e-300), 0.0, 1.0)
    star = np.where(signal > 0, share * poisson, 0.0)
    return _noise(star, poisson - star + read, read, True)


def from_errors(
    square: np.ndarray, template: np.ndarray, level: float | np.ndarray, *, flat: bool
) -> Noise:
    """Make the noise from total errors.

    Parameters
    ----------
    square : ndarray, (n,)
        Mean squared error of each pixel; NaN where unknown.
    template : ndarray, (n,)
        The star's mean image, net of background.
    level : float or ndarray, (n,)
        What lies under it: where its photons are in the errors, the rest is read noise.
    flat : bool
        Whether the error of the flat field is part of the errors: it is found and taken out.
        Otherwise they are taken as they are.

    Returns
    -------
    Noise
        The variances.

    Notes
    -----
    Photon noise goes with the star's signal T, the flat field's error with its square: they are
    told apart by a fit over all pixels, ``square = k T^2 + a T + c``. The constant stands for sky
    and reading: what lies under the star need not be a sky whose photons are in the errors. Where
    the flat's part is more than a tenth of the rest, the fit's ``a T + c`` stands for the pixel's
    own value.
    """
    signal = np.maximum(np.nan_to_num(template), 0.0)
    good = np.isfinite(square) & (square > 0)
    if good.sum() < 10:
        usual = float(np.median(square[good])) if good.any() else 1.0
        return _noise(np.zeros_like(signal), np.where(good, square, usual), square * 0.0, True)
    # Pixels below the level that was taken off have less noise than those at it.
    design = np.stack([np.nan_to_num(template), np.ones_like(signal), signal**2], axis=1)
    design = design[:, : 3 if flat else 2]
    found = np.zeros(3)
    for _ in range(_ROUNDS):
        # The flat's error differs from pixel to pixel: where it is much of the whole, the pixel
        # says little of the rest.
        doubt = np.hypot(_ALIKE, _UNLIKE * found[2] * signal[good] ** 2 / square[good])
        weight = 1.0 / (square[good] * doubt)
        part = design[good] * weight[:, None]
        scale = np.sqrt(np.mean(part**2, axis=0)) + 1e-300
        found[: len(scale)] = nnls(part / scale, square[good] * weight)[0] / scale
    fixed = found[2] * signal**2
    model = np.maximum(found[0] * np.nan_to_num(template) + found[1], 0.3 * found[1])
    if flat:
        total = np.where(good & (fixed < _SMALL * model), square - fixed, model)
        # No pixel's error is all the flat's.
        total = np.maximum(total, 0.3 * model)
    else:
        total = np.where(good, square, model)
    star = np.minimum(found[0] * signal, total)
    sky = found[0] * np.maximum(level, 0.0)
    return _noise(star, total - star, np.where(sky < found[1], found[1] - sky, found[1]), True)


def with_changes(limit: np.ndarray, departures: np.ndarray, sigma: float) -> np.ndarray:
    """Raise the limit of outliers where the star's image changes during the exposure.

    Parameters
    ----------
    limit : ndarray, (n,)
        Standard deviation that outliers are measured with.
    departures : ndarray, (n_frames, n)
        Frames of the sample less the fitted model, outliers not taken out; NaN for missing pixels.
    sigma : float
        How many of them make an outlier.

    Returns
    -------
    ndarray, (n,)
        The limit; in pixels that depart in the same sense again and again, as many pixels do
        after a mirror segment has tilted, as large that what they usually do is no outlier.
    """
    if len(departures) < _FEW or sigma <= 0:
        return limit
    often = max(_TIMES, int(np.ceil(_OFTEN * len(departures))))
    out = limit.copy()
    changes = np.zeros(limit.shape, bool)
    for beyond, bound in ((np.greater, _DEPARTS), (np.less, -_DEPARTS)):
        with np.errstate(invalid="ignore"):
            far = beyond(departures, bound * limit)
        places = np.flatnonzero(far.sum(axis=0) >= often)
        usual = np.where(far[:, places], np.abs(departures[:, places]), np.nan)
        if places.size:
            changes[places] = True
            raised = limit[places] + np.nanmedian(usual, axis=0) / sigma
            out[places] = np.fmax(out[places], raised)
    return out if changes.sum() > _ISOLATED else limit
