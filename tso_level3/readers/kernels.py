"""Kernels from files: STPSF, STDPSF, grids of PSFs and plain images; and STPSF itself."""

import importlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from tso_level3.config.instruments import WEAK_LENSES
from tso_level3.psf import bands, optics
from tso_level3.psf import kernel as computed
from tso_level3.psf.kernel import Kernel

log = logging.getLogger(__name__)

_PAD = 2
# Pixels around the star in which an image is compared with the computed one.
_LOOKED_AT = 5.0


@dataclass(frozen=True)
class _Samples:
    """What a file holds, in one form.

    ``image`` is (my, mx); ``box`` says whether the pixel has still to be applied.
    """

    image: np.ndarray
    oversample: int
    header: fits.Header
    layout: str
    box: bool


def load_kernel(
    path: str | Path,
    *,
    instrument: str | None = None,
    filter: str | None = None,
    pupil: str | None = None,
    detector: str | None = None,
    pixel_scale: float | None = None,
    position: tuple[float, float] | None = None,
) -> Kernel:
    """Read a kernel from a FITS file and check that it belongs to the data.

    Understood are STPSF's files of four extensions (``OVERDIST`` before the others; it is
    integrated over the pixel here), STDPSF files and grids written by STPSF (both are
    integrated already), and a plain two-dimensional image, which is taken to be integrated
    and to have the samples per pixel that ``OVERSAMP`` or ``DET_SAMP`` gives, one without.

    Parameters
    ----------
    path : str or Path
        The file.
    instrument, filter, pupil, detector : str, optional
        Of the data; what is None is not checked.
    pixel_scale : float, optional
        Of the data's pixels in arcsec, see `tso_level3.psf.kernel.pixel_scale`.
    position : tuple of float, optional
        x, y of the star on the detector, 0-based, to choose from a grid of PSFs; None:
        the one nearest to the grid's middle.

    Returns
    -------
    Kernel
        Of kind ``file``.

    Raises
    ------
    ValueError
        Where the file cannot be read, holds no PSF, holds values that are not finite, or
        was made for another instrument, filter, weak lens or pixel scale.  A detector that
        differs, a scale by 1 to 5 percent, or an image that looks like light not yet
        integrated over the pixel where it should be, is only warned of.
    """
    path = Path(path)
    hdus = _read(path)
    samples = _samples(hdus, path, position)
    data = {"instrument": instrument, "filter": filter, "pupil": pupil, "detector": detector}
    _check(samples, path.name, data, pixel_scale)
    kernel = _kernel(samples, path.name, "file")
    _check_pixel(kernel, samples, data)
    return kernel


def _read(path: Path) -> fits.HDUList:
    """Everything in a file, in memory."""
    if not path.exists():
        raise ValueError(
            f"kernel: {path} found, expected auto, gaussian, jwst, empirical, stpsf or a file"
        )
    try:
        with fits.open(path, memmap=False) as opened:
            return fits.HDUList([hdu.copy() for hdu in opened])
    except (OSError, TypeError, KeyError, ValueError, EOFError) as error:
        # a file cut off fails in one of several ways, according to where
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"kernel file {path} cannot be read as FITS: {reason}") from error


def _samples(hdus: fits.HDUList, path: Path, position: tuple[float, float] | None) -> _Samples:
    """Find the PSF in an open file."""
    named = {hdu.name: hdu for hdu in hdus if hdu.data is not None and hdu.is_image}
    for name in ("OVERDIST", "OVERSAMP"):
        if name in named and "DET_SAMP" in named[name].header and len(named) > 1:
            hdu = named[name]
            return _Samples(
                _plane(hdu, path), _oversample(hdu.header, path), hdu.header, name, True
            )
    for name in ("DET_DIST", "DET_SAMP"):
        if name in named:
            return _Samples(_plane(named[name], path), 1, named[name].header, name, False)
    images = [hdu for hdu in hdus if hdu.is_image and hdu.data is not None and hdu.data.ndim >= 2]
    if not images:
        raise ValueError(f"kernel file {path} holds no image; expected a PSF")
    hdu = images[0]
    header = hdu.header
    if "NXPSFS" in header or "IPSFX01" in header:
        image = _from_grid(hdu.data, _stdpsf_places(header), position, path)
        return _Samples(image, int(header.get("OVERSAMP", 4)), header, "STDPSF", False)
    if "DET_YX0" in header:
        image = _from_grid(hdu.data, _grid_places(header, path), position, path)
        return _Samples(image, _oversample(header, path), header, "psf_grid", False)
    oversample = _oversample(header, path) if {"OVERSAMP", "DET_SAMP"} & set(header) else 1
    return _Samples(_plane(hdu, path), oversample, header, "image", False)


def _plane(hdu: fits.ImageHDU, path: Path) -> np.ndarray:
    data = np.squeeze(np.asarray(hdu.data, dtype=np.float64))
    if data.ndim != 2:
        raise ValueError(
            f"kernel file {path}, extension {hdu.name or 'PRIMARY'}, has shape {hdu.data.shape}; "
            "expected a two-dimensional image"
        )
    return data


def _oversample(header: fits.Header, path: Path) -> int:
    # in STPSF's files DET_SAMP counts the samples, and so does OVERSAMP in most
    value = header.get("DET_SAMP", header.get("OVERSAMP"))
    if not isinstance(value, (int, float)) or value != int(value) or not 1 <= value <= 64:
        raise ValueError(
            f"kernel file {path} has an oversampling of {value!r}; expected an integer from 1 to 64"
        )
    return int(value)


def _stdpsf_places(header: fits.Header) -> np.ndarray:
    """(n, 2) x, y of the PSFs of an STDPSF file, 0-based, rows of constant y first."""
    nx, ny = int(header.get("NXPSFS", 1)), int(header.get("NYPSFS", 1))
    xs = [header.get(f"IPSFX{i:02d}", i) for i in range(1, nx + 1)]
    ys = [header.get(f"JPSFY{j:02d}", j) for j in range(1, ny + 1)]
    return np.array([(float(x) - 1.0, float(y) - 1.0) for y in ys for x in xs])


def _grid_places(header: fits.Header, path: Path) -> np.ndarray:
    """(n, 2) x, y of the PSFs of a grid file; the header's pairs are (y, x)."""
    places = []
    while (text := header.get(f"DET_YX{len(places)}")) is not None:
        try:
            y, x = (float(part) for part in str(text).strip("()[] ").split(","))
        except ValueError as error:
            raise ValueError(
                f"kernel file {path} has DET_YX{len(places)} = {text!r}; expected '(y, x)'"
            ) from error
        places.append((x, y))
    return np.array(places)


def _from_grid(
    data: np.ndarray,
    places: np.ndarray,
    position: tuple[float, float] | None,
    path: Path,
) -> np.ndarray:
    """The PSF nearest to a position, of a stack of them."""
    stack = np.asarray(data, dtype=np.float64)
    stack = stack.reshape(-1, *stack.shape[-2:])
    if len(stack) != len(places):
        raise ValueError(
            f"kernel file {path} holds {len(stack)} PSFs and places for {len(places)}; "
            "expected as many"
        )
    target = 0.5 * (places.min(axis=0) + places.max(axis=0)) if position is None else position
    return stack[int(np.argmin(((places - np.asarray(target)) ** 2).sum(axis=1)))]


def _check(samples: _Samples, name: str, data: dict, pixel_scale: float | None) -> None:
    """Compare a file's header with the data's."""
    bad = int(np.count_nonzero(~np.isfinite(samples.image)))
    if bad:
        raise ValueError(
            f"kernel file {name} holds {bad} values that are not finite; expected none"
        )
    header = samples.header
    theirs = str(header.get("INSTRUME", "")).strip().upper()
    ours = str(data["instrument"] or "").strip().upper()
    if theirs and ours and theirs != ours:
        raise ValueError(f"kernel file {name} was made for {theirs}; expected {ours}")
    lamp = _optics(ours or theirs, header.get("FILTER"), header.get("PUPIL"))
    wanted = _optics(ours or theirs, data["filter"], data["pupil"])
    if lamp[0] and wanted[0] and lamp != wanted:
        raise ValueError(
            f"kernel file {name} was made for {' with '.join(_names(lamp))}; "
            f"expected {' with '.join(_names(wanted))}"
        )
    chip = bands.detector_name(header.get("DET_NAME", header.get("DETECTOR")))
    mine = bands.detector_name(data["detector"])
    if chip and mine and chip != mine:
        log.warning("kernel file %s was made for detector %s, the data are of %s", name, chip, mine)
    scale = header.get("PIXELSCL")
    if scale is not None and pixel_scale is not None:
        found = float(scale) * samples.oversample
        off = abs(found / pixel_scale - 1.0)
        if off > 0.05:
            raise ValueError(
                f"kernel file {name} has pixels of {found:.5f} arcsec; expected {pixel_scale:.5f}"
            )
        if off > 0.01:
            log.warning(
                "kernel file %s has pixels of %.5f arcsec, the data have %.5f",
                name, found, pixel_scale,
            )  # fmt: skip


def _check_pixel(kernel: Kernel, samples: _Samples, data: dict) -> None:
    """Warn of an image that should be integrated over the pixel and resembles one that is not."""
    setup = {key: data[key] for key in ("instrument", "filter", "pupil", "detector")}
    known = computed.known(setup["instrument"], setup["filter"], setup["pupil"])
    if samples.box or samples.oversample < 2 or not known:
        return
    if bands.resolve(setup["instrument"], setup["filter"], setup["pupil"]).waves:
        return
    reach = min(kernel.half_width, _LOOKED_AT)
    offsets = np.linspace(-reach, reach, 8 * int(np.ceil(reach)) + 1)
    ours, light = (
        computed.jwst_kernel(**setup, box=box, half_width=max(reach + 1, 8)).evaluate(
            offsets, offsets
        )
        for box in (1.0, 0.0)
    )
    # how far the file is on the way from what pixels hold to the light itself
    way = ((kernel.evaluate(offsets, offsets) - ours) * (light - ours)).sum()
    share = float(way / ((light - ours) ** 2).sum())
    if share > 0.5:
        log.warning(
            "kernel file %s looks like light that is not integrated over the pixel (%.0f %% of the "
            "way to it); expected an integrated image",
            kernel.description["source"], 100 * share,
        )  # fmt: skip


def _names(pair: tuple[str, str]) -> list[str]:
    """Names of a filter and lens that are not empty."""
    return [part for part in pair if part]


def _optics(instrument: str, filter: Any, pupil: Any) -> tuple[str, str]:
    """Filter and weak lens that two header values name, in one form."""
    try:
        band = bands.resolve(instrument, filter, pupil)
    except ValueError:
        return str(filter or "").strip().upper(), ""
    return band.name, band.lens


def _kernel(samples: _Samples, name: str, kind: str) -> Kernel:
    """Bring samples to the kernel's normalisation, centre and pixel."""
    image, step = samples.image, samples.oversample
    if min(image.shape) < 6:
        raise ValueError(
            f"kernel file {name} holds an image of shape {image.shape}; expected 6 or more along "
            "both axes"
        )
    total = float(image.sum())
    if not total > 0:
        raise ValueError(f"kernel file {name} sums to {total:g}; expected a positive flux")
    # files give either the flux of a sample (sum near 1) or of a pixel (near step**2)
    if 0.3 < total <= 1.05:
        image = image * step**2
    elif not 0.3 < total / step**2 <= 1.05:
        log.warning("kernel file %s sums to %g: scaled to a total of one", name, total)
        image = image * (step**2 / total)
    if samples.box:
        margin = _PAD * step
        padded = np.pad(image, margin)
        blurred = optics.detect(padded, step, optics.Blur(0.0))
        image = blurred[margin:-margin, margin:-margin]
    header = samples.header
    center = (0.5 * (image.shape[1] - 1), 0.5 * (image.shape[0] - 1))
    description = {
        "source": name,
        "layout": samples.layout,
        "oversample": step,
        **{
            key.lower(): header[key]
            for key in (
                "INSTRUME",
                "FILTER",
                "PUPIL",
                "DET_NAME",
                "DETECTOR",
                "PIXELSCL",
                "VERSION",
            )
            if isinstance(header.get(key), (str, int, float))
        },
    }
    return Kernel(image, step, center, kind, description)


def stpsf_kernel(
    *,
    instrument: str,
    filter: str,
    pupil: str | None = None,
    detector: str | None = None,
    half_width: float = 40.0,
    oversample: int = 4,
) -> Kernel:
    """Have the user's own STPSF compute the kernel.

    Runs only where ``STPSF_PATH`` names a folder that holds STPSF's data: without one its
    constructors would start a download.

    Parameters
    ----------
    instrument, filter, pupil, detector : str
        Header values.
    half_width : float, optional
        Detector pixels from the star to the edge.
    oversample : int, optional
        Samples per pixel.

    Returns
    -------
    Kernel
        Of kind ``stpsf``.

    Raises
    ------
    ValueError
        Where ``STPSF_PATH`` names no folder of data.
    ImportError
        Where STPSF is not installed.
    """
    folder = os.environ.get("STPSF_PATH", "")
    if not folder or not (Path(folder) / "NIRCam").is_dir():
        raise ValueError(
            f"kernel='stpsf' needs STPSF's data: STPSF_PATH is {folder!r}; "
            "expected a folder that holds them"
        )
    try:
        stpsf = importlib.import_module("stpsf")
    except ImportError as error:
        raise ImportError("kernel='stpsf' needs the package stpsf: pip install stpsf") from error
    band = bands.resolve(instrument, filter, pupil)
    model = {"NIRCAM": stpsf.NIRCam, "MIRI": stpsf.MIRI}[band.instrument]()
    model.filter = "F212N" if band.name == "F212N2" else band.name
    if band.instrument == "NIRCAM":
        if detector:
            model.detector = bands.detector_name(detector)
        if band.lens:
            model.pupil_mask = f"WEAK LENS {WEAK_LENSES[band.lens]:+.0f}"
    hdus = model.calc_psf(oversample=oversample, fov_pixels=2 * int(half_width) + 1)
    samples = _samples(hdus, Path("STPSF"), None)
    return _kernel(samples, f"STPSF {getattr(stpsf, '__version__', '')}".strip(), "stpsf")
