"""Help with the reference PSFs: the instrument's wavefront error that their headers list."""

from math import factorial

import numpy as np
from astropy.io import fits

from tso_level3.psf import pupil


def _noll(j):
    n = 0
    while (n + 1) * (n + 2) // 2 < j:
        n += 1
    k = j - n * (n + 1) // 2
    m = 2 * (k // 2) if n % 2 == 0 else 2 * ((k - 1) // 2) + 1
    return n, m if j % 2 == 0 else -m


def zernike(j, x, y):
    """Noll's j-th polynomial (rms 1 over the unit circle)."""
    n, m = _noll(j)
    rho, theta, a = np.hypot(x, y), np.arctan2(y, x), abs(m)
    radial = sum(
        (-1) ** k
        * factorial(n - k)
        / (factorial(k) * factorial((n + a) // 2 - k) * factorial((n - a) // 2 - k))
        * rho ** (n - 2 * k)
        for k in range((n - a) // 2 + 1)
    )
    if m == 0:
        return np.sqrt(n + 1) * radial
    return np.sqrt(2 * (n + 1)) * radial * (np.cos(a * theta) if m > 0 else np.sin(a * theta))


def wavefront(header, *, focus=0.0):
    """The header's wavefront error in metres, turned into the image's orientation.

    The header quotes it at the wavelength where it was measured; ``focus`` is the change of
    the focus term up to the filter's, which the header does not list.
    """
    axis = pupil.pupil_axis() / (0.5 * pupil.SIDE)
    x, y = np.meshgrid(-axis, -axis)
    opd = sum(header[f"SIZERN{j}"] * zernike(j, x, y) for j in range(1, 36))
    return opd + focus * zernike(4, x, y)


def read(folder, name, extension="OVERDIST"):
    """Samples per pixel in units of flux per pixel, header, and offsets of the samples."""
    with fits.open(folder / "stpsf" / f"PSF_{name}.fits") as hdus:
        header = hdus[extension].header.copy()
        image = hdus[extension].data.astype(float)
    step = int(header["DET_SAMP"]) if extension.startswith("OVER") else 1
    offsets = (np.arange(image.shape[0]) - 0.5 * (image.shape[0] - 1)) / step
    return image * step**2, header, offsets
