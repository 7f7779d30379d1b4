"""Kernels: what a star of unit flux puts into the pixels around it.

Two classes with one interface: `Kernel` holds samples, `GaussianKernel` (from
`tso_level3.psf.analytic`, and found here too) a formula.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from tso_level3.psf import bands, optics, spline
from tso_level3.psf import pupil as _pupil
from tso_level3.psf import wavefront as _wavefront
from tso_level3.psf.analytic import GaussianKernel, KernelBase

__all__ = [
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
# a pixel of this side leaves out the rest of the detector too
_UNDETECTED = -1.0


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
    description: dict = field(default_factory=dict)

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

    def __getstate__(self) -> dict:
        # coefficients are quicker made again than sent
        return {name: value for name, value in self.__dict__.items() if name != "_coefficients"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self.image.flags.writeable = False

    @property
    def half_width(self) -> float:
        """Detector pixels from the star to the nearest edge of the support."""
        my, mx = self.image.shape
        x, y = self.center
        return min(x, mx - 1 - x, y, my - 1 - y) / self.oversample

    @property
    def enclosed(self) -> float:
        """Fraction of the star's flux that the samples hold."""
        return float(self.image.sum()) / self.oversample**2

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Support in detector pixels from the star: left, right, below, above."""
        my, mx = self.image.shape
        x, y = self.center
        return tuple(edge / self.oversample for edge in (-x, mx - 1 - x, -y, my - 1 - y))

    def evaluate(self, u: np.ndarray, v: np.ndarray, nu: int = 0, nv: int = 0) -> np.ndarray:
        """Compute the kernel, or a derivative of it, on a grid of offsets (see `KernelBase`)."""
        coefficients = self.__dict__.get("_coefficients")
        if coefficients is None:
            coefficients = spline.coefficients(self.image)
            object.__setattr__(self, "_coefficients", coefficients)
        x = self.center[0] + np.asarray(u, dtype=np.float64) * self.oversample
        y = self.center[1] + np.asarray(v, dtype=np.float64) * self.oversample
        values = spline.grid(coefficients, x, y, nu, nv)
        return values * float(self.oversample) ** (nu + nv)


def known(instrument: str | None, filter: str | None, pupil: str | None = None) -> bool:
    """Whether `jwst_kernel` can compute this set-up."""
    try:
        bands.resolve(instrument, filter, pupil)
    except ValueError:
        return False
    return True


def nominal_waves(instrument: str, filter: str, pupil: str | None = None) -> float:
    """Nominal defocus in waves of 2.12 um of a set-up, 0 in focus.

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
    """Pixel scale in arcsec, the mean of x and y.

    Parameters
    ----------
    instrument, filter, pupil, detector : str
        Header values; the detector may be left out.

    Raises
    ------
    ValueError
        Where instrument or filter is not known.
    """
    x, y = bands.scales(bands.resolve(instrument, filter, pupil).channel, detector)
    return 0.5 * (x + y)


def jwst_kernel(
    *,
    instrument: str,
    filter: str,
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
    opd : ndarray, optional
        (NPUP, NPUP) wavefront error in metres to add, on the detector's pupil array, which
        is turned by `bands.rotation`.
        Kernels without one are kept in memory.
    wavefront : str, optional
        ``instrument`` adds what is known of the instrument's own wavefront: NIRCam's focus at
        each wavelength, and the Zernike terms of NRCA3 and NRCA5 (those of other detectors are
        not known here; the description says so). ``none`` adds nothing.
    zernikes : sequence of float, optional
        Terms in metres (Noll's order, from piston on, as ``SIZERN1`` and so on in the headers
        of STPSF) in place of the built-in ones; up to 100.
    half_width : float, optional
        Detector pixels from the star to the edge of the support; None: 40 in focus and
        7.5 more for each wave of defocus.  It is cut where the sampled pupil's image would
        repeat itself: at 119 pixels for F070W, 382 for F210M.
    oversample : int, optional
        Samples per pixel; None: 4 in focus, 2 (3 below 1.3 um) on weak lens.
    box : float, optional
        Side of the pixel that integrates the light; 0 leaves that out, for comparisons.
    detected : bool, optional
        False leaves out all that the detector does: pixel, charge diffusion and coupling.

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
    box = float(box) if detected else _UNDETECTED
    key = (band, detector, waves, half_width, int(oversample), box, (wavefront, terms))
    if opd is None:
        return _cached(*key)
    opd = np.asarray(opd, dtype=np.float64)
    if opd.shape != (_pupil.NPUP, _pupil.NPUP) or not np.isfinite(opd).all():
        raise ValueError(
            f"opd has shape {opd.shape}, {np.count_nonzero(~np.isfinite(opd))} values not finite; "
            f"expected finite metres of shape ({_pupil.NPUP}, {_pupil.NPUP})"
        )
    return _compute(*key, opd)


def _within_period(band: bands.Band, detector: str | None, half_width: float) -> float:
    """Half width, kept to where the sampled pupil's image does not begin to repeat itself."""
    scale = np.deg2rad(max(bands.scales(band.channel, detector)) / 3600)
    most = np.floor(0.75 * _pupil.NPUP * band.low / (_pupil.SIDE * scale))
    if half_width > most:
        log.info("kernel of %s: half width %g cut to %g pixels", band.name, half_width, most)
    return float(min(half_width, most))


@lru_cache(maxsize=32)
def _cached(*key: object) -> Kernel:
    return _compute(*key, None)


def _compute(
    band: bands.Band,
    detector: str | None,
    waves: float,
    half_width: float,
    oversample: int,
    box: float,
    chosen: tuple[str, tuple[float, ...] | None],
    opd: np.ndarray | None,
) -> Kernel:
    # one scale for both axes, as the reference files want it and, by a little, a real image
    scale = 0.5 * sum(bands.scales(band.channel, detector))
    inner = int(np.ceil(half_width * oversample))
    margin = _MARGIN * oversample
    offsets = np.arange(-inner - margin, inner + margin + 1) * np.deg2rad(1 / 3600) / oversample
    rotation = bands.rotation(band.instrument, detector)
    amplitude = _pupil.draw(rotation).amplitude
    wavelengths, weights = band.samples()
    own, focus, source = _wavefront.of_setup(band, detector, wavelengths, *chosen)
    cross = bands.scattering(band) if box != _UNDETECTED else 0.0
    description = {
        "instrument": band.instrument,
        "filter": band.name,
        "weak_lens": band.lens,
        "detector": detector or "",
        "waves": waves,
        "pixel_scale": scale,
        "wavefront": source,
        "instrument_rms": _rms(own, float(np.average(focus, weights=weights)), amplitude),
        "wavefront_rms": _rms(opd, 0.0, amplitude),
        "scattered": optics.scattered(cross),
        "half_width": inner / oversample,
        "oversample": oversample,
    }
    lens = optics.defocus(waves) if waves else None
    opds = [item for item in (own, opd, lens) if item is not None]
    opds = sum(opds) if opds else None
    if focus.any():
        opds = [(0.0 if opds is None else opds) + f * _wavefront.focus_shape() for f in focus]
    light = optics.propagate(
        amplitude, opds, wavelengths, weights, offsets * scale, offsets * scale
    )
    if cross:
        light = optics.scatter(light, oversample, cross)
    blur = bands.blur(band.channel, scale)._replace(box=box)
    if box == _UNDETECTED:
        blur = optics.Blur(bands.JITTER / scale, box=0.0)
    image = optics.detect(light, oversample, blur)
    image = image[margin:-margin, margin:-margin] * oversample**2
    return Kernel(image, oversample, (float(inner), float(inner)), "jwst", description)


def _rms(opd: np.ndarray | None, focus: float, amplitude: np.ndarray) -> float:
    """Amplitude-weighted rms of a path difference with a focus term, its mean taken off."""
    if opd is None and not focus:
        return 0.0
    total = (0.0 if opd is None else opd) + (focus * _wavefront.focus_shape() if focus else 0.0)
    total = total - (total * amplitude).sum() / amplitude.sum()
    return float(np.sqrt((total**2 * amplitude).sum() / amplitude.sum()))


def fwhm(kernel: Kernel | GaussianKernel) -> float:
    """Full width at half maximum in detector pixels: of the circle with the same area.

    Meaningful in focus. It is that of what the pixels hold; published tables of NIRCam and MIRI
    list the light in front of the detector (``jwst_kernel(..., detected=False)``), which is
    narrower by 3 to 10 % above 1.5 um.
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
    """The kernel that a setting asks for, where no file and no data are needed.

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
    setup = {"instrument": instrument, "filter": filter, "pupil": pupil, "detector": detector}
    if name == "jwst" or (name == "auto" and known(instrument, filter, pupil)):
        try:
            return jwst_kernel(**setup, waves=waves)
        except ValueError as error:
            raise ValueError(f"kernel={name!r}: {error}") from error
    source = "given"
    if fwhm is None:
        fwhm, source = 3.0, "default"
        if known(instrument, filter, pupil) and not bands.resolve(instrument, filter, pupil).waves:
            fwhm, source = _width(jwst_kernel(**setup)), "computed kernel"
    if not (np.isfinite(fwhm) and fwhm > 0):
        raise ValueError(f"fwhm is {fwhm!r}; expected a positive number of pixels")
    if name == "auto":
        log.info(
            "no kernel is known for instrument %s, filter %s, pupil %s: a Gaussian of FWHM %.2f px",
            instrument, filter, pupil, fwhm,
        )  # fmt: skip
    # the width includes the pixel's box, which adds 1/12 px^2 of variance
    sigma = float(np.sqrt(max((fwhm / 2.354820045) ** 2 - 1.0 / 12.0, 0.01)))
    return GaussianKernel(sigma, sigma, description={"fwhm": float(fwhm), "width_from": source})


_width = fwhm
