"""The loops that others measure light curves with, on some frames of a file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from jobs import Job

__all__ = ["PEERS", "Frames", "cube_model", "open_cube_model"]


class Frames:
    """Some frames of a file, in memory, for the loops that do not read for themselves.

    Parameters
    ----------
    path : Path
        A ``calints`` file.
    job : Job
        What is measured.
    start, stop : int
        Frames.
    """

    def __init__(self, path: Path, job: Job, start: int, stop: int) -> None:
        self.path, self.job, self.start, self.stop = path, job, start, stop
        with fits.open(path) as hdus:
            self.values = hdus["SCI"].section[start:stop].astype(np.float32)
            self.errors = hdus["ERR"].section[start:stop].astype(np.float32)
            self.bits = hdus["DQ"].section[start:stop].astype(np.uint32)
            header = hdus["SCI"].header
            self.x, self.y = header["XREF_SCI"] - 1.0, header["YREF_SCI"] - 1.0

    def __len__(self) -> int:
        return self.stop - self.start


def open_cube_model(path: Path) -> Any:
    """Open a file as the official step does, and touch what it will read."""
    from stdatamodels.jwst.datamodels import CubeModel

    model = CubeModel(str(path))
    for array in (model.data, model.err, model.dq):
        np.add.reduce(array, axis=None)
    return model


def cube_model(frames: Frames) -> Any:
    """Make a data model of some frames, with the metadata of their file."""
    from stdatamodels.jwst.datamodels import CubeModel

    model = CubeModel(data=frames.values.copy(), err=frames.errors.copy(), dq=frames.bits.copy())
    with CubeModel(str(frames.path)) as whole:
        model.update(whole)
        model.int_times = np.array(whole.int_times)
        model.meta.wcs = whole.meta.wcs
    model.meta.exposure.integration_start = None
    return model


def _official(model: Any, frames: Frames, radii: tuple[float, ...]) -> None:
    """Do what `process` of the official step does, once a radius where there are several."""
    from jwst.tso_photometry import tso_photometry as official

    official.convert_data_units(model)
    inner, outer = frames.job.annulus
    x, y, *shape = official.tso_source_centroid(model, frames.x, frames.y, source_radius=inner)
    center = (float(np.nanmedian(x)), float(np.nanmedian(y)))
    for radius in radii:
        official.tso_aperture_photometry(model, *center, radius, inner, outer, x, y, *shape)


def official_one(frames: Frames) -> Callable[[], None]:
    """Prepare the official step's functions with one radius."""
    model, radius = cube_model(frames), frames.job.settings().radius
    return lambda: _official(model, frames, (radius,))


def official_all(frames: Frames) -> Callable[[], None]:
    """Prepare the official step's functions with all radii: its aperture sums once for each."""
    model = cube_model(frames)
    return lambda: _official(model, frames, frames.job.radii)


def _cut(frames: Frames) -> tuple[slice, slice, int, int]:
    half = frames.job.subframe // 2
    x0, y0 = round(frames.x) - half, round(frames.y) - half
    return slice(y0, y0 + 2 * half + 1), slice(x0, x0 + 2 * half + 1), x0, y0


def photutils_loop(frames: Frames) -> Callable[[], None]:
    """Prepare the leanest loop of photutils: centre of mass, annulus median, aperture sums."""
    from photutils.aperture import CircularAnnulus, CircularAperture
    from photutils.centroids import centroid_com

    rows, columns, x0, y0 = _cut(frames)
    ring = CircularAnnulus((frames.x, frames.y), *frames.job.annulus).to_mask("center")

    def loop() -> None:
        masks = (frames.bits & 1) != 0
        for image, error, mask in zip(frames.values, frames.errors, masks, strict=True):
            sky = np.nanmedian(ring.get_values(image))
            net = image[rows, columns] - sky
            x, y = centroid_com(net, mask=mask[rows, columns])
            for radius in frames.job.radii:
                aperture = CircularAperture((x + x0, y + y0), radius)
                aperture.do_photometry(image, error=error, mask=mask)

    return loop


def brief_loop(frames: Frames) -> Callable[[], None]:
    """Prepare the loop this package grew from: correlation, Gaussian fit, photutils sums."""
    from astropy.modeling.fitting import LevMarLSQFitter
    from astropy.modeling.models import Const2D, Gaussian2D
    from photutils.aperture import CircularAnnulus, CircularAperture, aperture_photometry

    rows, columns, x0, y0 = _cut(frames)
    side = frames.job.subframe
    grid_y, grid_x = np.mgrid[:side, :side]
    middle = side // 2
    kernel = np.exp(-0.5 * ((grid_x - middle) ** 2 + (grid_y - middle) ** 2))
    shift = _shift_finder()
    fitter = LevMarLSQFitter()

    def loop() -> None:
        for image, error, bits in zip(frames.values, frames.errors, frames.bits, strict=True):
            mask = (bits & 1) != 0
            ring = CircularAnnulus((frames.x, frames.y), *frames.job.annulus).to_mask("center")
            sky = np.nanmedian(ring.get_values(image))
            cut = np.nan_to_num(image[rows, columns] - sky).astype(float)
            dx, dy = shift(kernel, cut)
            start = Gaussian2D(cut.max(), middle + dx, middle + dy, 1.0, 1.0) + Const2D(0.0)
            fitted = fitter(start, grid_x, grid_y, cut)
            place = (fitted.x_mean_0.value + x0, fitted.y_mean_0.value + y0)
            apertures = [CircularAperture(place, radius) for radius in frames.job.radii]
            aperture_photometry(image, apertures, error=error, mask=mask)

    return loop


def _shift_finder() -> Callable[[np.ndarray, np.ndarray], tuple[float, float]]:
    try:
        from image_registration import cross_correlation_shifts

        return cross_correlation_shifts
    except ImportError:
        from scipy.signal import fftconvolve

        def shift(kernel: np.ndarray, image: np.ndarray) -> tuple[float, float]:
            surface = fftconvolve(image, kernel[::-1, ::-1], mode="same")
            y, x = np.unravel_index(np.argmax(surface), surface.shape)
            return float(x - kernel.shape[1] // 2), float(y - kernel.shape[0] // 2)

        return shift


def sep_loop(frames: Frames) -> Callable[[], None]:
    """Prepare a loop of sep that fits nothing; it reads its frames, which others are given."""
    import sep

    job = frames.job
    radii = np.array(job.radii)
    x, y = np.full(len(radii), frames.x), np.full(len(radii), frames.y)

    def loop() -> None:
        with fits.open(frames.path, memmap=False) as hdus:
            for start in range(frames.start, frames.stop, 32):
                part = slice(start, min(start + 32, frames.stop))
                values = np.ascontiguousarray(hdus["SCI"].section[part], dtype=np.float32)
                errors = np.ascontiguousarray(hdus["ERR"].section[part], dtype=np.float32)
                masks = (hdus["DQ"].section[part] & 1) != 0
                for image, error, mask in zip(values, errors, masks, strict=True):
                    sep.sum_circle(image, x, y, radii, err=error, mask=mask, subpix=0)
                    sep.sum_circann(image, x[:1], y[:1], *job.annulus, mask=mask, subpix=1)

    return loop


#: Name of the peer, what prepares it, and the integrations that are enough for its pace.
PEERS: dict[str, tuple[Callable[[Frames], Callable[[], None]], int]] = {
    "official step, one radius": (official_one, 20),
    "official step, all radii": (official_all, 20),
    "photutils loop": (photutils_loop, 50),
    "correlation, LevMar, photutils": (brief_loop, 50),
    "sep, fits nothing": (sep_loop, 200),
}


def installed(name: str) -> bool:
    """Whether a peer can run here."""
    import importlib.util

    return name != "sep, fits nothing" or importlib.util.find_spec("sep") is not None


def silence() -> None:
    """Keep the peers' warnings and logs out of the table and out of their time."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
