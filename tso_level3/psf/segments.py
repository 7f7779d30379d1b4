"""First-order change of the image when a mirror segment moves: templates for tilt events."""

from __future__ import annotations

import numpy as np

from tso_level3.psf import bands, optics, wavefront
from tso_level3.psf import pupil as _pupil

__all__ = ["segment_modes"]

_MARGIN = 3
# Modes of a segment about its centre, in circumradii; each has an rms near one over a hexagon.
_SLOPE = 2.2


def segment_modes(
    offsets_x: np.ndarray,
    offsets_y: np.ndarray,
    *,
    instrument: str,
    filter: str,
    pupil: str | None = None,
    detector: str | None = None,
    waves: float | None = None,
    n_wavelengths: int = 2,
) -> np.ndarray:
    """Compute the first-order change of the image for piston, tilt and tip of each segment.

    With E the field of telescope and instrument, as far as their wavefront is known, and F that of
    one mode of one segment, the image changes by 2 k Im(E* F) for a small path difference. The
    telescope's own wavefront error is not known; it turns the phase between E and F and so mixes in
    Re(E* F), which is returned as well.

    Parameters
    ----------
    offsets_x, offsets_y : ndarray, (nx,) and (ny,)
        Pixel centres from the star, a pixel apart [pix].
    instrument, filter, pupil, detector : str
        Header values.
    waves : float, optional
        Defocus in waves of 2.12 um in place of the weak lens's nominal one.
    n_wavelengths : int
        Samples of the band.

    Returns
    -------
    ndarray, (18, 3, 2, ny, nx)
        For each segment, for piston, tilt along x and tip along y of one metre rms, the change
        and its quadrature, as fractions of the star's flux in each pixel.

    Raises
    ------
    ValueError
        The set-up is not known.

    References
    ----------
    Soummer et al. 2007, doi:10.1364/OE.15.015935, for the transform; Perrin et al. 2014,
    doi:10.1117/12.2056689, for the pupil.
    """
    band = bands.resolve(instrument, filter, pupil)
    waves = band.waves if waves is None else float(waves)
    scale = bands.mean_scale(band.channel, detector)
    rotation = bands.rotation(band.instrument, detector)
    # The image holds no detail finer than half of wavelength over diameter.
    finest = np.rad2deg(band.low / (2.0 * _pupil.SIDE)) * 3600
    oversample = max(int(np.ceil(scale / finest - 0.1)), 1)
    angles = [
        _fine(offsets, oversample) * np.deg2rad(scale / 3600) for offsets in (offsets_x, offsets_y)
    ]
    field = _pupil.draw(rotation).amplitude
    lens = optics.defocus(waves) if waves else 0.0
    edges = np.linspace(band.low, band.high, 2 * n_wavelengths + 1)[1::2]
    shape = (_pupil.N_SEGMENTS, 3, 2, len(angles[1]), len(angles[0]))
    modes = np.zeros(shape)
    step = _pupil.SIDE / _pupil.NPUP
    spacing = (angles[0][1] - angles[0][0]) * (angles[1][1] - angles[1][0])
    known = wavefront.of_setup(band, detector, edges)
    lens = lens + (0.0 if known.opd is None else known.opd)
    weights = edges**-3.0 / (edges**-3.0).sum()
    for wavelength, weight, focus in zip(edges, weights, known.focus, strict=True):
        k = 2 * np.pi / wavelength
        lit = field * np.exp(1j * k * (lens + focus * wavefront.focus_shape()))
        whole, parts = _fields(lit, rotation, wavelength, *angles)
        share = weight * spacing * (step / wavelength) ** 2 / field.sum()
        product = np.conj(whole) * parts
        modes[:, :, 0] -= 2 * k * share * product.imag
        modes[:, :, 1] -= 2 * k * share * product.real
    blur = bands.blur(band.channel, scale)
    inner = slice(_MARGIN * oversample, -_MARGIN * oversample, oversample)
    images = [
        optics.detect(image, oversample, blur)[inner, inner]
        for image in modes.reshape(-1, *shape[-2:])
    ]
    return np.reshape(np.stack(images) * oversample**2, (*shape[:3], *images[0].shape))


def _fine(offsets: np.ndarray, oversample: int) -> np.ndarray:
    """Return pixel centres with a margin, oversampled."""
    n = (len(offsets) - 1 + 2 * _MARGIN) * oversample + 1
    return np.asarray(offsets[0] - _MARGIN + np.arange(n) / oversample)


def _fields(
    lit: np.ndarray, rotation: float, wavelength: float, angle_x: np.ndarray, angle_y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the field of the pupil (my, mx) and of its segments' modes (18, 3, my, mx)."""
    axis = _pupil.pupil_axis()
    left = np.exp(-2j * np.pi / wavelength * np.outer(angle_y, axis))
    right = np.exp(-2j * np.pi / wavelength * np.outer(axis, angle_x))
    labels = _pupil.draw(rotation).segments
    parts = np.empty((_pupil.N_SEGMENTS, 3, len(angle_y), len(angle_x)), complex)
    for k, (x, y) in enumerate(_pupil.segment_centers(rotation)):
        mine = labels == k + 1
        rows, cols = _span(mine.any(axis=1)), _span(mine.any(axis=0))
        own = np.where(mine[rows, cols], lit[rows, cols], 0.0)
        in_x = _SLOPE * (axis[cols] - x)[:, None] / _pupil._CIRCUMRADIUS
        in_y = _SLOPE * (axis[rows] - y) / _pupil._CIRCUMRADIUS
        half = left[:, rows] @ own
        parts[k, 0] = half @ right[cols]
        parts[k, 1] = half @ (in_x * right[cols])
        parts[k, 2] = ((left[:, rows] * in_y) @ own) @ right[cols]
    return parts[:, 0].sum(axis=0), parts


def _span(used: np.ndarray) -> slice:
    where = np.flatnonzero(used)
    return slice(where[0], where[-1] + 1)
