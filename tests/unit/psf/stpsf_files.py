"""Help with the reference PSFs."""

import numpy as np
from astropy.io import fits


def terms(header):
    """Zernike terms of the instrument in metres, as the header lists them."""
    return [header[f"SIZERN{j}"] for j in range(1, 36)]


def read(folder, name, extension="OVERDIST"):
    """Samples per pixel in units of flux per pixel, header, and offsets of the samples."""
    with fits.open(folder / "stpsf" / f"PSF_{name}.fits") as hdus:
        header = hdus[extension].header.copy()
        image = hdus[extension].data.astype(float)
    step = int(header["DET_SAMP"]) if extension.startswith("OVER") else 1
    offsets = (np.arange(image.shape[0]) - 0.5 * (image.shape[0] - 1)) / step
    return image * step**2, header, offsets
