"""From the pupil to the detector: matrix Fourier transform, pixel and detector blur."""

from typing import NamedTuple

import numpy as np

from tso_level3.psf import pupil as _pupil

WEAK_LENS_WAVELENGTH = 2.12e-6
"""Wavelength in metres in which the weak lenses' waves are counted."""


class Blur(NamedTuple):
    """What the detector does to the light.

    Attributes
    ----------
    sigma : float
        Standard deviation in detector pixels of charge diffusion and jitter together.
    ipc_x, ipc_y : float
        Fraction of a pixel's charge seen by each neighbour in the row, in the column.
    box : float
        Side of the pixel, 1 (or 0 where the image is integrated over pixels already).
    """

    sigma: float
    ipc_x: float = 0.0
    ipc_y: float = 0.0
    box: float = 1.0


def defocus(waves: float) -> np.ndarray:
    """Path difference of a weak lens.

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
    opd: np.ndarray | None,
    wavelengths: np.ndarray,
    weights: np.ndarray,
    offsets_x: np.ndarray,
    offsets_y: np.ndarray,
) -> np.ndarray:
    """Intensity in the image plane of a point source, by matrix Fourier transform.

    Parameters
    ----------
    amplitude : ndarray
        (n, n) transmitted amplitude of the pupil, over `pupil.SIDE` metres.
    opd : ndarray or None
        (n, n) optical path difference in metres; None is a flat wavefront.
    wavelengths : ndarray
        (k,) in metres.
    weights : ndarray
        (k,) share of the photons; they are normalised here.
    offsets_x, offsets_y : ndarray
        (mx,) and (my,) regularly spaced angles in radians.

    Returns
    -------
    ndarray
        (my, mx) such that the sum over the whole image plane at this spacing is one.

    References
    ----------
    Soummer et al. 2007, doi:10.1364/OE.15.015935.
    """
    n = amplitude.shape[0]
    step = _pupil.SIDE / n
    axis = (np.arange(n) - 0.5 * (n - 1)) * step
    # rows and columns that carry no light cost time and add nothing
    rows = _lit(amplitude.any(axis=1))
    cols = _lit(amplitude.any(axis=0))
    amplitude = amplitude[rows, cols]
    opd = None if opd is None else opd[rows, cols]
    spacing = (offsets_x[1] - offsets_x[0]) * (offsets_y[1] - offsets_y[0])
    # a sample that is half open passes half the light: its square would lose some of it
    power = amplitude.sum()
    image = np.zeros((len(offsets_y), len(offsets_x)))
    for wavelength, weight in zip(wavelengths, weights / np.sum(weights), strict=True):
        k = -2j * np.pi / wavelength
        field = amplitude if opd is None else amplitude * np.exp(-k * opd)
        left = np.exp(k * np.outer(offsets_y, axis[rows]))
        right = np.exp(k * np.outer(axis[cols], offsets_x))
        wave = (left @ field) @ right
        share = weight * spacing * (step / wavelength) ** 2 / power
        image += share * (wave.real**2 + wave.imag**2)
    return image


def _lit(used: np.ndarray) -> slice:
    where = np.flatnonzero(used)
    return slice(where[0], where[-1] + 1)


def detect(image: np.ndarray, oversample: int, blur: Blur) -> np.ndarray:
    """Integrate an oversampled image over detector pixels and blur it.

    The pixel's box, charge diffusion and the coupling between neighbours are applied as
    one transfer function; the image wraps round at its edges, so give it a margin of two
    pixels.

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
        (my, mx), each value what a pixel centred there would hold, over ``oversample**2``.
    """
    fy = np.fft.fftfreq(image.shape[0], d=1.0 / oversample)[:, None]
    fx = np.fft.rfftfreq(image.shape[1], d=1.0 / oversample)[None, :]

    transfer = np.exp(-2.0 * (np.pi * blur.sigma) ** 2 * (fx**2 + fy**2))
    transfer *= np.sinc(blur.box * fx) * np.sinc(blur.box * fy)
    coupling = 2.0 * blur.ipc_x * (np.cos(2.0 * np.pi * fx) - 1.0)
    coupling = coupling + 2.0 * blur.ipc_y * (np.cos(2.0 * np.pi * fy) - 1.0)
    transfer *= 1.0 + coupling
    return np.fft.irfft2(np.fft.rfft2(image) * transfer, s=image.shape)
