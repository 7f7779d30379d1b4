"""Wavefront error of the instruments: measured Zernike terms and focus against wavelength."""

from collections.abc import Sequence
from functools import lru_cache
from math import comb
from typing import NamedTuple

import numpy as np

from tso_level3.psf import bands
from tso_level3.psf import pupil as _pupil

__all__ = ["Instrument", "chromatic_focus", "instrument", "noll", "of_setup", "opd", "zernike"]

# Terms 1 to 35 in nm at the middle of a detector, as STPSF 2.2.0 (webbpsf-data 1.5.0) interpolates
# them from ground measurements at 2.12 and 3.23 um (F323N). MIRI's are left out: its reference file
# contains a larger telescope error, and does not state the orientation of the terms.
_MEASURED = {
    "NRCA3": (
        -0.858, 0.115, 3.393, 24.454, -8.892, 1.363, 11.604, 1.885, 7.779, 7.204, -14.151, 1.423,
        10.966, -2.357, -1.886, -2.522, 1.081, -5.376, -1.387, 1.674, 2.180, -3.353, -2.081,
        -1.477, -0.170, -2.305, 0.060, -0.934, -4.378, 2.657, -1.558, -1.743, 0.351, -0.615, -0.725,
    ),
    "NRCA5": (
        -17.661, -1.216, 1.880, -135.568, -9.831, -6.666, 4.190, -7.395, -2.178, 3.183, 1.499,
        -2.698, -1.043, -0.161, -2.088, -1.155, -6.491, -1.815, 0.726, -2.778, -0.822, 1.748,
        2.385, -0.738, -0.395, 1.262, 0.370, 13.762, 2.328, 0.065, 1.099, -0.453, 0.449, 1.279,
        0.824,
    ),
}  # fmt: skip

# NIRCam's focus against wavelength: polynomials in um (highest power first), mm of defocus, and
# metres of the focus term to the millimetre. From the design, adjusted to ground tests.
_SHORT = (-5.169185169, 50.62919436, -201.5444129, 415.9031962, -465.9818413, 265.843112,
          -59.64330811)  # fmt: skip
_LONG = (0.175718713, -1.100964635, 0.986462016, 1.641692934)
_PER_MM = -1.0 / 1.09746e7
# Wavelength at which the terms of the short channel were measured [um], and the focus term of
# F323N, in which those of the long channel were measured [m].
_SHORT_REFERENCE = 2.12
_F323N = 1.206e-7
_FOCUS = 4
_GIVEN = "terms given"


class Instrument(NamedTuple):
    """Known wavefront error of an instrument.

    Attributes
    ----------
    terms : tuple of float
        Zernike terms in metres, from piston on; empty where none are known.
    source : str
        Whether terms were measured on this detector, in words.
    """

    terms: tuple[float, ...]
    source: str


def noll(j: int) -> tuple[int, int]:
    """Return the radial and azimuthal order of Noll's j-th polynomial.

    Parameters
    ----------
    j : int
        Number of the polynomial; 1 is piston.

    Returns
    -------
    (int, int)
        n, and m, negative for the sines.

    References
    ----------
    Noll 1976, doi:10.1364/JOSA.66.000207.
    """
    if j != int(j) or j < 1:
        raise ValueError(f"j is {j!r}; expected the number of a Zernike polynomial, 1 or more")
    n = int((np.sqrt(8 * j - 7) - 1) / 2)
    place = j - n * (n + 1) // 2
    m = 2 * (place // 2) if n % 2 == 0 else 2 * ((place - 1) // 2) + 1
    return n, m if j % 2 == 0 else -m


def zernike(j: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compute Noll's j-th Zernike polynomial, whose rms over the unit circle is one.

    Parameters
    ----------
    j : int
        Number of the polynomial.
    x, y : ndarray
        Positions in radii of the circle; they broadcast. Beyond it the polynomial is continued.

    Returns
    -------
    ndarray
        The values.

    References
    ----------
    Noll 1976, doi:10.1364/JOSA.66.000207.
    """
    return _series({j: 1.0}, x, y)


def _series(terms: dict[int, float], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Add up Zernike polynomials."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    square = x**2 + y**2
    total, power = np.zeros(np.shape(square)), np.ones(np.shape(square), dtype=complex)
    orders = {j: noll(j) for j in terms}
    # A polynomial is rho^|m| times one in rho^2, and rho^|m| e^(i |m| theta) is a power of x + i y:
    # the polynomials in rho^2 of one m are added up first.
    for order in range(max((abs(m) for _, m in orders.values()), default=-1) + 1):
        for sign in (1, -1) if order else (1,):
            some = {j: n for j, (n, m) in orders.items() if m == sign * order}
            if some:
                radial = np.zeros(())
                for factor in reversed(_radial(some, terms, order)):
                    radial = radial * square + factor
                total += radial * (power.real if sign > 0 else power.imag)
        power = power * (x + 1j * y)
    return total


def _radial(some: dict[int, int], terms: dict[int, float], order: int) -> np.ndarray:
    """Add up the coefficients of rho^0, rho^2, ... of polynomials of one azimuthal order."""
    factors = np.zeros((max(some.values()) - order) // 2 + 1)
    for j, n in some.items():
        half = (n - order) // 2
        size = terms[j] * np.sqrt((2 if order else 1) * (n + 1))
        for k in range(half + 1):
            factors[half - k] += size * (-1) ** k * comb(n - k, k) * comb(n - 2 * k, half - k)
    return factors


def opd(terms: Sequence[float], rotation: float = 0.0) -> np.ndarray:
    """Compute the path difference of Zernike terms over the pupil array.

    Parameters
    ----------
    terms : sequence of float
        Terms in metres, from piston on. Their orientation is that of STPSF's headers
        (``SIZERN1`` and so on), which is turned by 180 degrees against the pupil drawn here.
    rotation : float, optional
        Rotation in degrees, counter-clockwise.

    Returns
    -------
    ndarray
        (NPUP, NPUP) metres.
    """
    return _opd(tuple(float(term) for term in terms), float(rotation)).copy()


@lru_cache(maxsize=4)
def _opd(terms: tuple[float, ...], rotation: float) -> np.ndarray:
    axis = _pupil.pupil_axis() / (-0.5 * _pupil.SIDE)
    angle = np.deg2rad(rotation)
    cos, sin = np.cos(angle), np.sin(angle)
    x = cos * axis[None, :] + sin * axis[:, None]
    y = cos * axis[:, None] - sin * axis[None, :]
    return _series({j: term for j, term in enumerate(terms, start=1) if term}, x, y)


@lru_cache(maxsize=1)
def focus_shape() -> np.ndarray:
    """Return the focus term of one metre rms, (NPUP, NPUP), read-only."""
    shape = opd([0.0] * (_FOCUS - 1) + [1.0])
    shape.flags.writeable = False
    return shape


def instrument(band: bands.Band, detector: str | None) -> Instrument:
    """Look up the wavefront error of an instrument at the middle of a detector.

    Parameters
    ----------
    band : Band
        The set-up.
    detector : str or None
        Detector, such as ``NRCA3``; not needed for MIRI.

    Returns
    -------
    Instrument
        For NRCA3 and NRCA5 the built-in terms, at the wavelength at which they were measured (see
        `chromatic_focus`).

    References
    ----------
    Perrin et al. 2014, doi:10.1117/12.2056689: the terms are those that STPSF 2.2.0 writes into
    its headers.
    """
    name = "MIRIMAGE" if band.instrument == "MIRI" else bands.detector_name(detector)
    if name not in _MEASURED:
        return Instrument((), f"not known for {name}" if name else "no detector is known")
    return Instrument(tuple(1e-9 * term for term in _MEASURED[name]), f"measured on {name}")


def chromatic_focus(band: bands.Band, wavelengths: np.ndarray, *, measured: bool) -> np.ndarray:
    """Compute the change of the focus term with wavelength.

    Parameters
    ----------
    band : Band
        The set-up.
    wavelengths : ndarray
        (k,) in metres.
    measured : bool
        Whether it will be added to measured terms, which in the long channel include the focus
        of F323N.

    Returns
    -------
    ndarray
        (k,) focus term, metres rms; zero for MIRI.

    References
    ----------
    The polynomials are those of the focus model of NIRCam that STPSF uses (Perrin et al. 2014,
    doi:10.1117/12.2056689).
    """
    waves = 1e6 * np.asarray(wavelengths, dtype=np.float64)
    if band.channel == "NIRCAM_SHORT":
        curve = _PER_MM * np.polyval(_SHORT, waves)
        at_rest = _PER_MM * np.polyval(_SHORT, _SHORT_REFERENCE)
        return np.zeros(len(waves)) if band.name.startswith("F212N") else at_rest - curve
    if band.channel == "NIRCAM_LONG":
        focus = np.full(len(waves), _F323N)
        if band.name != "F323N":
            focus = _PER_MM * np.polyval(_LONG, waves)
        return (_F323N if measured else 0.0) - focus
    return np.zeros(len(waves))


class Wavefront(NamedTuple):
    """Path difference of a set-up.

    Attributes
    ----------
    opd : ndarray or None
        (NPUP, NPUP) metres; None where there is none.
    focus : ndarray
        (k,) focus term to add at each wavelength in metres, see `focus_shape`.
    source : str
        Origin of the terms, in words.
    """

    opd: np.ndarray | None
    focus: np.ndarray
    source: str


def of_setup(
    band: bands.Band,
    detector: str | None,
    wavelengths: np.ndarray,
    which: str = "instrument",
    terms: tuple[float, ...] | None = None,
) -> Wavefront:
    """Compute the wavefront error of a set-up at some wavelengths.

    Parameters
    ----------
    band : Band
        The set-up.
    detector : str or None
        Detector.
    wavelengths : ndarray
        (k,) in metres.
    which : str, optional
        ``instrument`` or ``none``, as in `tso_level3.psf.kernel.jwst_kernel`.
    terms : tuple of float, optional
        Zernike terms in metres in place of the built-in ones.

    Returns
    -------
    Wavefront
    """
    if which == "none":
        own = None if terms is None else opd(terms)
        return Wavefront(own, np.zeros(len(wavelengths)), "none" if terms is None else _GIVEN)
    known = instrument(band, detector)
    source = known.source if terms is None else _GIVEN
    terms = known.terms if terms is None else terms
    focus = chromatic_focus(band, wavelengths, measured=bool(terms))
    return Wavefront(opd(terms) if terms else None, focus, source)
