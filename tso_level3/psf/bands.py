"""Optical set-ups of NIRCam and MIRI: bands, weak lenses, detector orientation and blur."""

from typing import NamedTuple

import numpy as np

from tso_level3.config.instruments import DETECTOR_SCALES, PIXEL_SCALES, WEAK_LENSES, detector_name
from tso_level3.psf.optics import Blur

__all__ = [
    "JITTER",
    "Band",
    "blur",
    "detector_name",
    "mean_scale",
    "resolve",
    "rotation",
    "scales",
    "scattering",
]

# Half-power edges in um.
_NIRCAM = {
    "F070W": (0.623, 0.781), "F090W": (0.795, 1.005), "F115W": (1.014, 1.281),
    "F140M": (1.332, 1.479), "F150W": (1.332, 1.668), "F162M": (1.542, 1.713),
    "F164N": (1.635, 1.653), "F150W2": (1.007, 2.380), "F182M": (1.722, 1.967),
    "F187N": (1.864, 1.885), "F200W": (1.756, 2.227), "F210M": (1.992, 2.200),
    "F212N": (2.109, 2.134), "F250M": (2.412, 2.594), "F277W": (2.422, 3.131),
    "F300M": (2.831, 3.156), "F322W2": (2.433, 4.010), "F323N": (3.217, 3.255),
    "F335M": (3.177, 3.536), "F356W": (3.138, 3.980), "F360M": (3.427, 3.813),
    "F405N": (4.030, 4.076), "F410M": (3.866, 4.301), "F430M": (4.168, 4.398),
    "F444W": (3.881, 4.980), "F460M": (4.516, 4.748), "F466N": (4.629, 4.681),
    "F470N": (4.684, 4.733), "F480M": (4.662, 4.963),
}  # fmt: skip
_MIRI = {
    "F560W": (5.054, 6.171), "F770W": (6.581, 8.687), "F1000W": (9.023, 10.891),
    "F1130W": (10.953, 11.667), "F1280W": (11.588, 14.115), "F1500W": (13.527, 16.640),
    "F1800W": (16.519, 19.502), "F2100W": (18.477, 23.159), "F2550W": (23.301, 26.733),
    "F2550WR": (23.301, 26.733),
}  # fmt: skip
_BANDS = {"NIRCAM": _NIRCAM, "MIRI": _MIRI}

# The +4 lens is bonded to a filter of its own, wider than F212N.
_LENS_BANDS = {"WLP4": ("F212N2", (2.096, 2.145))}
_OPEN = {"", "CLEAR", "NONE", "N/A", "ANY", "IMAGING"}

# Degrees from V3 to the detector's y axis.
_V3_ANGLES = {
    "NRCA1": -0.55, "NRCA2": -0.20, "NRCA3": 0.28, "NRCA4": 0.10, "NRCA5": -0.06,
    "NRCB1": 0.35, "NRCB2": 0.85, "NRCB3": -0.45, "NRCB4": -0.34, "NRCB5": 0.02,
}  # fmt: skip

# Brightness of the cross that MIRI's detector scatters light into, see `optics.scatter`: the
# ground value of MIRI-TN-00076-ATC times the corrections by which STPSF 2.2.0 matches the images
# of MIRI's first year. Filters beyond 13 um have none.
_CROSS = {
    "F560W": 0.00220 * 4.05 * 0.5,
    "F770W": 0.00139 * 4.1 * 0.5,
    "F1000W": 0.00034 * 3.8 * 0.5,
    "F1130W": 0.00007 * 2.5 * 0.5,
    "F1280W": 0.00011 * 2.5 * 0.5,
}

JITTER = 0.0008
"""Pointing jitter within an integration, arcsec rms per axis."""


class Band(NamedTuple):
    """A resolved instrument set-up.

    Attributes
    ----------
    instrument, name : str
        Instrument and the filter that limits the light, in capitals.
    channel : str
        Key of the pixel scale and blur: ``NIRCAM_SHORT``, ``NIRCAM_LONG`` or ``MIRI``.
    low, high : float
        Half-power edges in metres.
    waves : float
        Defocus in waves of 2.12 um, 0 in focus.
    lens : str
        Name of the weak lens, empty without one.
    """

    instrument: str
    name: str
    channel: str
    low: float
    high: float
    waves: float
    lens: str

    @property
    def middle(self) -> float:
        """Middle of the band in metres."""
        return 0.5 * (self.low + self.high)

    def samples(self) -> tuple[np.ndarray, np.ndarray]:
        """Sample the band: wavelengths in metres, and photon weights.

        Five samples, more where the band is wider than a quarter of its wavelength. The weights
        are those of the Rayleigh-Jeans side of a star's spectrum, in photons.
        """
        n = max(5, int(np.ceil(20.0 * (self.high - self.low) / self.middle)))
        wavelengths = self.low + (self.high - self.low) * (np.arange(n) + 0.5) / n
        return wavelengths, wavelengths**-3.0 / (wavelengths**-3.0).sum()


def _token(value: str | None) -> str:
    return "" if value is None else str(value).strip().upper()


def resolve(instrument: str | None, filter: str | None, pupil: str | None = None) -> Band:
    """Find the band and the weak lens that the header's keywords describe.

    Filters and lenses may stand in either keyword; of two filters the narrower wins, the
    defocus of two lenses adds up.

    Parameters
    ----------
    instrument, filter, pupil : str or None
        Header values, in any case.

    Returns
    -------
    Band

    Raises
    ------
    ValueError
        Where the instrument or an optical element has no computed kernel.
    """
    name = _token(instrument)
    bands = _BANDS.get(name)
    if bands is None:
        raise ValueError(
            f"instrument is {instrument!r}; a kernel can be computed for {', '.join(_BANDS)}"
        )
    found: list[tuple[str, tuple[float, float]]] = []
    waves, lenses = 0.0, []
    weak_lenses = WEAK_LENSES if name == "NIRCAM" else {}
    for keyword, value in (("filter", _token(filter)), ("pupil", _token(pupil))):
        if value in _OPEN:
            continue
        if value in weak_lenses:
            waves += weak_lenses[value]
            lenses.append(value)
            if value in _LENS_BANDS:
                found.append(_LENS_BANDS[value])
        elif value in bands:
            found.append((value, bands[value]))
        else:
            raise ValueError(
                f"{keyword} is {value!r}; a kernel can be computed for {name} imaging with "
                f"{', '.join(bands)}" + (f" and {', '.join(weak_lenses)}" if weak_lenses else "")
            )
    if not found:
        raise ValueError(
            f"filter is {filter!r} and pupil {pupil!r}; expected the name of a {name} filter"
        )
    label, (low, high) = min(found, key=lambda item: item[1][1] - item[1][0])
    channel = name
    if name == "NIRCAM":
        channel = "NIRCAM_SHORT" if low < 2.39 else "NIRCAM_LONG"
    return Band(name, label, channel, low * 1e-6, high * 1e-6, waves, "+".join(lenses))


def scales(channel: str, detector: str | None = None) -> tuple[float, float]:
    """Return the pixel scales along x and y in arcsec.

    Parameters
    ----------
    channel : str
        ``Band.channel``.
    detector : str, optional
        Detector, such as ``NRCA3`` or ``NRCALONG``; None or unknown: the channel's nominal scale.

    Returns
    -------
    tuple of float
        x and y, arcsec per pixel.
    """
    nominal = PIXEL_SCALES[channel]
    return DETECTOR_SCALES.get(detector_name(detector), (nominal, nominal))


def mean_scale(channel: str, detector: str | None = None) -> float:
    """Return the mean of the pixel scales along x and y in arcsec, see `scales`."""
    return 0.5 * sum(scales(channel, detector))


def rotation(instrument: str, detector: str | None = None) -> float:
    """Return the rotation of the pupil on a detector, degrees counter-clockwise in the image.

    Parameters
    ----------
    instrument : str
        ``NIRCAM`` or ``MIRI``.
    detector : str, optional
        Detector; None or unknown: 0 for NIRCam.

    Returns
    -------
    float
        The ``rotation`` of the functions in `tso_level3.psf.pupil`.
    """
    if _token(instrument) == "MIRI":
        return -4.83
    return -_V3_ANGLES.get(detector_name(detector), 0.0)


def scattering(band: Band) -> float:
    """Return the brightness of MIRI's scattered cross in a band (`optics.scatter`), or 0."""
    return _CROSS.get(band.name, 0.0) if band.instrument == "MIRI" else 0.0


def blur(channel: str, scale: float) -> Blur:
    """Return the detector blur of a channel for a pixel of ``scale`` arcsec.

    MIRI's interpixel capacitance is that of report JWST-STScI-002925, corners included; it
    reproduces the difference of the first and the last image of STPSF's file.
    """
    diffusion, ipc_x, ipc_y, corner = {
        "NIRCAM_SHORT": (0.0062, 0.0060, 0.0060, 0.0),
        "NIRCAM_LONG": (0.018, 0.0050, 0.0050, 0.0),
        "MIRI": (0.001, 0.033, 0.024, 0.013),
    }[channel]
    sigma = float(np.hypot(diffusion, JITTER)) / scale
    return Blur(sigma, ipc_x, ipc_y, ipc_corner=corner)
