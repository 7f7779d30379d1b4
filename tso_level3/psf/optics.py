"""Image formation from pupil to detector: Fourier transform, scattering and detector blur."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import fft

from tso_level3.psf import pupil as _pupil

WEAK_LENS_WAVELENGTH = 2.12e-6
"""Wavelength in metres of the waves in which a weak lens's defocus is given."""

# MIRI's scattered light, in pixels: scale length of the lines, radius beyond which lines and halo
# have their full brightness; width of a line, and brightness of the halo relative to a line's.
_LENGTH, _INNER = 25.0, 12.0
_LINE, _HALO = 0.25, 0.005


class Blur(NamedTuple):
    """Blur by the detector.

    Attributes
    ----------
    sigma : float
        Standard deviation in detector pixels of charge diffusion and jitter together.
    ipc_x, ipc_y : float
        Interpixel capacitance: fraction of a pixel's signal seen by each neighbour in the row, in
        the column.
    box : float
        Side of the pixel, 1 (or 0 where the image is integrated over pixels already).
    ipc_corner : float
        Fraction seen by each of the four neighbours across a corner.
    """

    sigma: float
    ipc_x: float = 0.0
    ipc_y: float = 0.0
    box: float = 1.0
    ipc_corner: float = 0.0


def defocus(waves: float) -> np.ndarray:
    """Compute the path difference of a weak lens.

    Parameters
    ----------
    waves : float
        Defocus, peak to valley over the pupil circle, in waves of 2.12 um.

    Returns
    -------
    ndarray
        (NPUP, NPUP) optical path difference in metres.
    """
    rho2 = (_pupil.pupil_axis() / (0.5 * _pupil.SIDE)) ** 2
    return waves * WEAK_LENS_WAVELENGTH * (rho2[:, None] + rho2[None, :] - 0.5)


def propagate(
    amplitude: np.ndarray,
    opd: np.ndarray | Sequence[np.ndarray] | None,
    wavelengths: np.ndarray,
    weights: np.ndarray,
    offsets_x: np.ndarray,
    offsets_y: np.ndarray,
) -> np.ndarray:
    """Compute the image of a point source by matrix Fourier transform.

    Parameters
    ----------
    amplitude : ndarray
        (n, n) transmitted amplitude of the pupil, over `pupil.SIDE` metres, n even.
    opd : ndarray, sequence of ndarray or None
        (n, n) optical path difference in metres, or one for each wavelength; None is a flat
        wavefront.
    wavelengths : ndarray
        (k,) in metres.
    weights : ndarray
        (k,) relative numbers of photons.
    offsets_x, offsets_y : ndarray
        (2 mx + 1,) and (2 my + 1,) regularly spaced angles in radians, zero in the middle.

    Returns
    -------
    ndarray
        (2 my + 1, 2 mx + 1) such that the sum over the whole image plane at this spacing is one.

    References
    ----------
    Soummer et al. 2007, doi:10.1364/OE.15.015935.
    """
    step = _pupil.SIDE / amplitude.shape[0]
    spacing = (offsets_x[1] - offsets_x[0]) * (offsets_y[1] - offsets_y[0])
    # A sample that is half open passes half the light, and the square of its amplitude a quarter.
    power = amplitude.sum()
    image = np.zeros((len(offsets_y), len(offsets_x)))
    for k, (wavelength, weight) in enumerate(zip(wavelengths, weights / np.sum(weights))):
        wavefront = opd if opd is None or isinstance(opd, np.ndarray) else opd[k]
        field = amplitude.astype(complex)
        if wavefront is not None:
            phase = (2 * np.pi / wavelength) * wavefront
            field.real, field.imag = amplitude * np.cos(phase), amplitude * np.sin(phase)
        share = weight * spacing * (step / wavelength) ** 2 / power
        _add_intensity(image, field, offsets_x / wavelength, offsets_y / wavelength, share)
    return image


def _add_intensity(
    image: np.ndarray, field: np.ndarray, u: np.ndarray, v: np.ndarray, share: float
) -> None:
    """Add ``share |transform of field|^2`` at the spatial frequencies u, v [1/m].

    Pupil and image are symmetric about their middles: four real transforms of the field's even
    and odd parts on a quarter of both suffice, in a quarter of the time.
    """
    half = field.shape[0] // 2
    axis = (np.arange(half) + 0.5) * (_pupil.SIDE / field.shape[0])
    upper, lower = field[half:], field[half - 1 :: -1]
    parts = []
    for rows in (upper + lower, upper - lower):
        right, left = rows[:, half:], rows[:, half - 1 :: -1]
        parts.append(np.ascontiguousarray(np.hstack([right + left, right - left])))
    phase_x = 2 * np.pi * np.outer(axis, u[len(u) // 2 :])
    phase_y = 2 * np.pi * np.outer(v[len(v) // 2 :], axis)
    cos_x, sin_x = np.cos(phase_x), np.sin(phase_x)
    # A complex matrix is a real one with twice the columns.
    even = (np.cos(phase_y) @ parts[0].view(float)).view(complex)
    odd = (np.sin(phase_y) @ parts[1].view(float)).view(complex)

    def across(columns: np.ndarray, matrix: np.ndarray) -> list[np.ndarray]:
        return [np.ascontiguousarray(part) @ matrix for part in (columns.real, columns.imag)]

    # exp(-i a) is cos a - i sin a along both axes. The names are the parities of rows and columns.
    (ee, ee_i), (eo, eo_i) = across(even[:, :half], cos_x), across(even[:, half:], sin_x)
    (oe, oe_i), (oo, oo_i) = across(odd[:, :half], cos_x), across(odd[:, half:], sin_x)
    for up in (1, -1):
        real, real_flips = ee + up * oe_i, eo_i - up * oo
        imaginary, imaginary_flips = ee_i - up * oe, -eo - up * oo_i
        rows = slice(len(v) // 2, None) if up > 0 else slice(len(v) // 2 - 1, None, -1)
        for right in (1, -1):
            intensity = (real + right * real_flips) ** 2
            intensity += (imaginary + right * imaginary_flips) ** 2
            columns = slice(len(u) // 2, None) if right > 0 else slice(len(u) // 2 - 1, None, -1)
            image[rows, columns] += share * intensity[int(up < 0) :, int(right < 0) :]


def scatter(image: np.ndarray, oversample: int, brightness: float) -> np.ndarray:
    """Scatter light inside MIRI's detector into a cross along rows and columns, and a halo.

    At short wavelengths, light that passes the thin absorbing layer is diffracted by the grid of
    contacts and is detected farther out. Each sample is spread into two lines that fall by a
    factor of e in 25 pixels, with half of their brightness within 12 pixels, and a halo beyond 12
    pixels that falls by e in 24. The real cross is displaced towards the middle of the detector by
    up to 1.6 pixels at the detector's edges; here it is centred.

    Parameters
    ----------
    image : ndarray
        (my, mx) samples of the light, ``oversample`` to the pixel.
    oversample : int
        Samples per detector pixel along an axis.
    brightness : float
        Of a line beside its origin, as a fraction of the light in each quarter of a pixel.

    Returns
    -------
    ndarray
        (my, mx); the sum over an unlimited plane would stay the same.

    References
    ----------
    Gáspár et al. 2021, doi:10.1088/1538-3873/abcd04, for the effect; the numbers are those of
    STPSF 2.2.0 (MIRI-TN-00076-ATC, and images taken in flight).
    """
    my, mx = image.shape
    x, y = np.arange(1 - mx, mx) / oversample, np.arange(1 - my, my) / oversample
    away = np.hypot(x, y[:, None])
    cross = np.where(away > _INNER, _HALO * np.exp(-away / (2.0 * _INNER)), 0.0) / oversample**2
    for axis, line in ((x, cross[my - 1]), (y, cross[:, mx - 1])):
        shape = np.exp(-np.abs(axis) / _LENGTH) * np.where(np.abs(axis) < _INNER, 0.5, 1.0)
        line += _LINE * shape / oversample
    cross *= brightness
    cross[my - 1, mx - 1] += 1.0
    size = [fft.next_fast_len(n + m - 1, real=True) for n, m in zip(image.shape, cross.shape)]
    both = fft.irfft2(fft.rfft2(image, s=size) * fft.rfft2(cross, s=size), s=size)
    spread = both[my - 1 : 2 * my - 1, mx - 1 : 2 * mx - 1]
    kept: np.ndarray = spread * (1.0 - scattered(brightness))
    return kept


def scattered(brightness: float) -> float:
    """Return the fraction of the light that `scatter` moves away from where it fell.

    Parameters
    ----------
    brightness : float
        As of `scatter`.

    Returns
    -------
    float
        0 to 1.
    """
    near = 1.0 - np.exp(-_INNER / _LENGTH)
    lines = 4.0 * _LINE * _LENGTH * (1.0 - 0.5 * near)
    halo = 2.0 * np.pi * _HALO * (2.0 * _INNER) ** 2 * 1.5 * np.exp(-0.5)
    total = brightness * (lines + halo)
    return float(total / (1.0 + total))


def detect(image: np.ndarray, oversample: int, blur: Blur) -> np.ndarray:
    """Integrate an oversampled image over detector pixels and blur it.

    The pixel's box, charge diffusion and interpixel capacitance are applied as one transfer
    function. The image wraps around at its edges, so it needs a margin of two pixels.

    Parameters
    ----------
    image : ndarray
        (my, mx) samples of the light, ``oversample`` to the pixel.
    oversample : int
        Samples per detector pixel along an axis.
    blur : Blur
        The detector.

    Returns
    -------
    ndarray
        (my, mx), for each sample the flux in a pixel centred on it over ``oversample**2``.
    """
    fy = np.fft.fftfreq(image.shape[0], d=1.0 / oversample)[:, None]
    fx = np.fft.rfftfreq(image.shape[1], d=1.0 / oversample)[None, :]

    transfer = np.exp(-2.0 * (np.pi * blur.sigma) ** 2 * (fx**2 + fy**2))
    transfer *= np.sinc(blur.box * fx) * np.sinc(blur.box * fy)
    cos_x, cos_y = np.cos(2.0 * np.pi * fx), np.cos(2.0 * np.pi * fy)
    coupling = 2.0 * blur.ipc_x * (cos_x - 1.0) + 2.0 * blur.ipc_y * (cos_y - 1.0)
    coupling += 4.0 * blur.ipc_corner * (cos_x * cos_y - 1.0)
    transfer *= 1.0 + coupling
    return np.fft.irfft2(np.fft.rfft2(image) * transfer, s=image.shape)
