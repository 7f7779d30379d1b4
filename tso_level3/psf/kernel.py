"""Kernels: the image of a star of unit flux, sampled, Gaussian or computed for a JWST set-up.

`Kernel` holds samples and `GaussianKernel` a formula; both are a
`tso_level3.datatypes.KernelLike`.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from tso_level3.datatypes import KernelLike
from tso_level3.psf import bands, optics
from tso_level3.psf import pupil as _pupil
from tso_level3.psf import wavefront as _wavefront
from tso_level3.psf.analytic import GaussianKernel, KernelBase
from tso_level3.psf.spline import ImageSpline

__all__ = [
    "FWHM",
    "GaussianKernel",
    "Kernel",
    "choose_kernel",
    "fwhm",
    "jwst_kernel",
    "known",
    "nominal_waves",
    "pixel_scale",
]

log = logging.getLogger(__name__)

_MARGIN = 3
FWHM = 2.354820045


@dataclass(frozen=True, eq=False)
class Kernel(KernelBase):
    """A sampled kernel.

    Attributes
    ----------
    image : ndarray
        (my, mx) float64, integrated over the pixel; ``image.sum() / oversample**2`` is
        the fraction of the star's flux that the samples hold.
    oversample : int
        Samples per detector pixel along an axis.
    center : tuple of float
        x, y index in ``image`` of the star's position.
    kind : str
        ``jwst``, ``empirical``, ``stpsf`` or ``file``.
    description : dict
        Where it comes from, in plain values.

    Raises
    ------
    ValueError
        Where the image is not two-dimensional, holds a value that is not finite, holds no
        flux, or the centre lies outside it.
    """

    image: np.ndarray
    oversample: int
    center: tuple[float, float]
    kind: str
    description: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        image = np.ascontiguousarray(self.image, dtype=np.float64)
        if image.ndim != 2 or min(image.shape) < 6:
            raise ValueError(
                f"kernel image has shape {image.shape}; expected two dimensions of 6 or more"
            )
        bad = int(np.count_nonzero(~np.isfinite(image)))
        if bad:
            raise ValueError(f"kernel image holds {bad} values that are not finite; expected none")
        if image.sum() <= 0:
            raise ValueError(f"kernel image sums to {image.sum():g}; expected a positive flux")
        if self.oversample != int(self.oversample) or self.oversample < 1:
            raise ValueError(f"oversample is {self.oversample!r}; expected an integer of 1 or more")
        x, y = (float(value) for value in self.center)
        if not (0 <= x <= image.shape[1] - 1 and 0 <= y <= image.shape[0] - 1):
            raise ValueError(
                f"kernel center is ({x:g}, {y:g}); expected a place inside its image of shape "
                f"{image.shape}"
            )
        if image is self.image or image.base is not None:
            image = image.copy()
        image.flags.writeable = False
        for name, value in (
            ("image", image), ("oversample", int(self.oversample)), ("center", (x, y)),
            ("description", dict(self.description)),
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    def __getstate__(self) -> dict[str, Any]:
        # The spline is computed faster than it is sent.
        return {name: value for name, value in self.__dict__.items() if name != "_spline"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.image.flags.writeable = False

    @cached_property
    def _spline(self) -> ImageSpline:
        return ImageSpline(self.image)

    @property
    def half_width(self) -> float:
        """Detector pixels from the star to the nearest edge of the support."""
        my, mx = self.image.shape
        x, y = self.center
        return float(min(x, mx - 1 - x, y, my - 1 - y)) / self.oversample

    @property
    def enclosed(self) -> float:
        """Fraction of the star's flux that the samples hold."""
        return float(self.image.sum()) / self.oversample**2

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Support in detector pixels from the star: left, right, below, above."""
        my, mx = self.image.shape
        x, y = self.center
        left, right, below, above = (
            edge / self.oversample for edge in (-x, mx - 1 - x, -y, my - 1 - y)
        )
        return left, right, below, above

    def evaluate(self, u: np.ndarray, v: np.ndarray, nu: int = 0, nv: int = 0) -> np.ndarray:
        """Compute the kernel, or a derivative of it, on a grid of offsets (see `KernelBase`)."""
        x = self.center[0] + np.asarray(u, dtype=np.float64) * self.oversample
        y = self.center[1] + np.asarray(v, dtype=np.float64) * self.oversample
        return self._spline.grid(x, y, nu, nv) * float(self.oversample) ** (nu + nv)


def known(instrument: str | None, filter: str | None, pupil: str | None = None) -> bool:
    """Return whether `jwst_kernel` can compute this set-up."""
    try:
        bands.resolve(instrument, filter, pupil)
    except ValueError:
        return False
    return True


def nominal_waves(instrument: str, filter: str, pupil: str | None = None) -> float:
    """Return the nominal defocus of a set-up in waves of 2.12 um, 0 in focus.

    Parameters
    ----------
    instrument, filter, pupil : str
        Header values.

    Raises
    ------
    ValueError
        Where instrument or filter is not known.
    """
    return bands.resolve(instrument, filter, pupil).waves


def pixel_scale(
    instrument: str, filter: str, pupil: str | None = None, detector: str | None = None
) -> float:
    """Return the pixel scale in arcsec, the mean of x and y.

    Parameters
    ----------
    instrument, filter, pupil, detector : str
        Header values; the detector may be left out.

    Raises
    ------
    ValueError
        Where instrument or filter is not known.
    """
    return bands.mean_scale(bands.resolve(instrument, filter, pupil).channel, detector)


def jwst_kernel(
    *,
    instrument: str | None,
    filter: str | None,
    pupil: str | None = None,
    detector: str | None = None,
    waves: float | None = None,
    opd: np.ndarray | None = None,
    wavefront: str = "instrument",
    zernikes: Sequence[float] | None = None,
    half_width: float | None = None,
    oversample: int | None = None,
    box: float = 1.0,
    detected: bool = True,
) -> Kernel:
    """Compute the kernel of a JWST imaging set-up from the telescope's pupil.

    Parameters
    ----------
    instrument, filter : str
        ``NIRCAM`` or ``MIRI``, and the filter; weak lenses may stand in ``filter`` or in
        ``pupil``, as in headers.
    pupil, detector : str, optional
        Header values.
    waves : float, optional
        Defocus in waves of 2.12 um in place of the weak lens's nominal one.
    opd : ndarray, (NPUP, NPUP), optional
        Wavefront error to add [m], on the detector's pupil array, which is turned by
        `bands.rotation`. Kernels without one are cached.
    wavefront : str, optional
        ``instrument`` adds what is known of the instrument's own wavefront: NIRCam's focus at
        each wavelength, and the Zernike terms of NRCA3 and NRCA5 (for other detectors the
        description says that none are known). ``none`` adds nothing.
    zernikes : sequence of float, optional
        Terms [m] in place of the built-in ones, in Noll's order from piston on, as ``SIZERN1``
        and so on in the headers of STPSF; up to 100.
    half_width : float, optional
        Distance from the star to the edge of the support [pix]; None: 40 in focus and 7.5 more
        for each wave of defocus. It is cut where the image of the sampled pupil would repeat
        itself: at 119 pixels for F070W, 382 for F210M.
    oversample : int, optional
        Samples per pixel; None: 4 in focus, 2 (3 below 1.3 um) with a weak lens.
    box : float, optional
        Side of the pixel that integrates the light; 0 leaves the integration out.
    detected : bool, optional
        False leaves out everything that the detector does: pixel, charge diffusion and coupling.

    Returns
    -------
    Kernel
        Of kind ``jwst``.

    Raises
    ------
    ValueError
        Where the set-up is not known or a parameter is out of bounds.

    References
    ----------
    Soummer et al. 2007, doi:10.1364/OE.15.015935; Perrin et al. 2014,
    doi:10.1117/12.2056689.
    """
    band = bands.resolve(instrument, filter, pupil)
    waves = band.waves if waves is None else float(waves)
    if not abs(waves) <= 20:
        raise ValueError(f"waves is {waves!r}; expected a defocus between -20 and 20 waves")
    if half_width is None:
        half_width = 40.0 + 7.5 * abs(round(waves))
    if not 4 <= half_width <= 1024:
        raise ValueError(f"half_width is {half_width!r}; expected 4 to 1024 pixels")
    if oversample is None:
        oversample = 4 if abs(waves) < 2 else (2 if band.low > 1.3e-6 else 3)
    if oversample != int(oversample) or not 1 <= oversample <= 16:
        raise ValueError(f"oversample is {oversample!r}; expected an integer from 1 to 16")
    half_width = _within_period(band, detector, half_width)
    if wavefront not in ("instrument", "none"):
        raise ValueError(f"wavefront is {wavefront!r}; expected 'instrument' or 'none'")
    terms = None if zernikes is None else tuple(float(term) for term in np.ravel(zernikes))
    if terms is not None and not (len(terms) <= 100 and np.isfinite(terms).all()):
        raise ValueError(
            f"zernikes holds {len(terms)} terms, {np.count_nonzero(~np.isfinite(terms))} of them "
            "not finite; expected up to 100 finite numbers of metres"
        )
    setup = _Setup(
        band, detector, waves, half_width, int(oversample), float(box) if detected else None,
        wavefront, terms,
    )  # fmt: skip
    if opd is None:
        return _cached(setup)
    opd = np.asarray(opd, dtype=np.float64)
    if opd.shape != (_pupil.NPUP, _pupil.NPUP) or not np.isfinite(opd).all():
        raise ValueError(
            f"opd has shape {opd.shape}, {np.count_nonzero(~np.isfinite(opd))} values not finite; "
            f"expected finite metres of shape ({_pupil.NPUP}, {_pupil.NPUP})"
        )
    return _compute(setup, opd)


def _within_period(band: bands.Band, detector: str | None, half_width: float) -> float:
    """Limit the half width to where the image of the sampled pupil does not repeat itself."""
    scale = np.deg2rad(max(bands.scales(band.channel, detector)) / 3600)
    most = np.floor(0.75 * _pupil.NPUP * band.low / (_pupil.SIDE * scale))
    if half_width > most:
        log.info("kernel of %s: half width %g cut to %g pixels", band.name, half_width, most)
    return float(min(half_width, most))


class _Setup(NamedTuple):
    """Checked arguments of `jwst_kernel` but the wavefront error; a box of None: no detector."""

    band: bands.Band
    detector: str | None
    waves: float
    half_width: float
    oversample: int
    box: float | None
    wavefront: str
    terms: tuple[float, ...] | None


@lru_cache(maxsize=32)
def _cached(setup: _Setup) -> Kernel:
    return _compute(setup, None)


def _compute(setup: _Setup, opd: np.ndarray | None) -> Kernel:
    band, oversample = setup.band, setup.oversample
    # One scale for both axes, as in the reference files and, nearly, in real images.
    scale = bands.mean_scale(band.channel, setup.detector)
    inner = int(np.ceil(setup.half_width * oversample))
    margin = _MARGIN * oversample
    offsets = np.arange(-inner - margin, inner + margin + 1) * np.deg2rad(1 / 3600) / oversample
    amplitude = _pupil.draw(bands.rotation(band.instrument, setup.detector)).amplitude
    wavelengths, weights = band.samples()
    own, focus, source = _wavefront.of_setup(
        band, setup.detector, wavelengths, setup.wavefront, setup.terms
    )
    lens = optics.defocus(setup.waves) if setup.waves else None
    light = optics.propagate(
        amplitude, _paths([own, opd, lens], focus), wavelengths, weights, offsets * scale,
        offsets * scale,
    )  # fmt: skip
    cross = 0.0 if setup.box is None else bands.scattering(band)
    if cross:
        light = optics.scatter(light, oversample, cross)
    if setup.box is None:
        blur = optics.Blur(bands.JITTER / scale, box=0.0)
    else:
        blur = bands.blur(band.channel, scale)._replace(box=setup.box)
    image = optics.detect(light, oversample, blur)
    image = image[margin:-margin, margin:-margin] * oversample**2
    description = {
        "instrument": band.instrument,
        "filter": band.name,
        "weak_lens": band.lens,
        "detector": setup.detector or "",
        "waves": setup.waves,
        "pixel_scale": scale,
        "wavefront": source,
        "instrument_rms": _rms(own, float(np.average(focus, weights=weights)), amplitude),
        "wavefront_rms": _rms(opd, 0.0, amplitude),
        "scattered": optics.scattered(cross),
        "half_width": inner / oversample,
        "oversample": oversample,
    }
    return Kernel(image, oversample, (float(inner), float(inner)), "jwst", description)


def _paths(
    parts: list[np.ndarray | None], focus: np.ndarray
) -> np.ndarray | list[np.ndarray] | None:
    """Add up path differences; one for each wavelength where the focus depends on it."""
    known = [part for part in parts if part is not None]
    total = np.sum(known, axis=0) if known else None
    if not focus.any():
        return total
    return [(0.0 if total is None else total) + f * _wavefront.focus_shape() for f in focus]


def _rms(opd: np.ndarray | None, focus: float, amplitude: np.ndarray) -> float:
    """Amplitude-weighted rms of a path difference and a focus term about their mean."""
    if opd is None and not focus:
        return 0.0
    total = (0.0 if opd is None else opd) + (focus * _wavefront.focus_shape() if focus else 0.0)
    total = total - (total * amplitude).sum() / amplitude.sum()
    return float(np.sqrt((total**2 * amplitude).sum() / amplitude.sum()))


def fwhm(kernel: KernelLike) -> float:
    """Full width at half maximum of an image in focus [pix]: of the circle with the same area.

    Published tables of NIRCam and MIRI list the width of the light in front of the detector
    (``jwst_kernel(..., detected=False)``), which is narrower by 3 to 10 % above 1.5 um.
    """
    half = min(kernel.half_width, 12.0 if isinstance(kernel, Kernel) else np.inf)
    grid = np.linspace(-half, half, 2 * int(np.ceil(20 * half)) + 1)
    values = kernel.evaluate(grid, grid)
    area = np.count_nonzero(values >= 0.5 * values.max()) * (grid[1] - grid[0]) ** 2
    return float(2.0 * np.sqrt(area / np.pi))


def choose_kernel(
    name: str = "auto",
    *,
    instrument: str | None = None,
    filter: str | None = None,
    pupil: str | None = None,
    detector: str | None = None,
    fwhm: float | None = None,
    waves: float | None = None,
) -> Kernel | GaussianKernel:
    """Choose the kernel for a setting that needs neither file nor data.

    Parameters
    ----------
    name : str, optional
        ``auto`` (computed where the set-up is known, a Gaussian otherwise), ``jwst`` or
        ``gaussian``.
    instrument, filter, pupil, detector : str, optional
        Header values.
    fwhm : float, optional
        Width of the Gaussian in detector pixels; None: of the computed kernel where it is
        known and in focus, else 3.
    waves : float, optional
        Defocus of the weak lens, see `jwst_kernel`.

    Raises
    ------
    ValueError
        Where the name is none of these, or ``jwst`` is asked for a set-up not known.
    """
    if name not in ("auto", "jwst", "gaussian"):
        raise ValueError(f"kernel is {name!r}; expected 'auto', 'jwst' or 'gaussian' here")
    computed = partial(
        jwst_kernel, instrument=instrument, filter=filter, pupil=pupil, detector=detector
    )
    if name == "jwst" or (name == "auto" and known(instrument, filter, pupil)):
        try:
            return computed(waves=waves)
        except ValueError as error:
            raise ValueError(f"kernel={name!r}: {error}") from error
    source = "given"
    if fwhm is None:
        fwhm, source = 3.0, "default"
        if known(instrument, filter, pupil) and not bands.resolve(instrument, filter, pupil).waves:
            fwhm, source = _width(computed()), "computed kernel"
    if not (np.isfinite(fwhm) and fwhm > 0):
        raise ValueError(f"fwhm is {fwhm!r}; expected a positive number of pixels")
    if name == "auto":
        log.info(
            "no kernel is known for instrument %s, filter %s, pupil %s: a Gaussian of FWHM %.2f px",
            instrument, filter, pupil, fwhm,
        )  # fmt: skip
    # The width includes the pixel's box, which adds 1/12 px^2 of variance.
    sigma = float(np.sqrt(max((fwhm / FWHM) ** 2 - 1.0 / 12.0, 0.01)))
    return GaussianKernel(sigma, sigma, description={"fwhm": float(fwhm), "width_from": source})


_width = fwhm
