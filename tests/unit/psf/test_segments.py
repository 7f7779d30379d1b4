"""First-order changes of the image against kernels of a pupil whose segment has moved."""

import numpy as np
import pytest

from tso_level3.psf import bands, pupil
from tso_level3.psf.kernel import jwst_kernel
from tso_level3.psf.segments import segment_modes

SETUPS = {
    "F210M": {"instrument": "NIRCAM", "filter": "F210M", "detector": "NRCA3"},
    "F150W": {"instrument": "NIRCAM", "filter": "F150W", "detector": "NRCA3"},
    "WLP8": {"instrument": "NIRCAM", "filter": "F210M", "pupil": "WLP8", "detector": "NRCA3"},
    "F1500W": {"instrument": "MIRI", "filter": "F1500W", "detector": "MIRIMAGE"},
}


@pytest.mark.parametrize("name", SETUPS)
@pytest.mark.parametrize("mode", [0, 1, 2])
def test_mode_is_the_change_of_the_kernel(name, mode):
    setup, segment = SETUPS[name], 9
    half = 40 if name == "WLP8" else 10
    u, v = np.arange(-half, half + 1) - 0.23, np.arange(-half, half + 1) + 0.31
    modes = segment_modes(u, v, **setup)
    assert modes.shape == (18, 3, 2, len(v), len(u))
    # a small path difference and its opposite: the second order cancels
    rms = 2e-9
    slope = 2.2 * rms / 0.755
    amounts = [(0.0, 0.0, rms), (0.0, slope, 0.0), (slope, 0.0, 0.0)][mode]
    rotation = bands.rotation(setup["instrument"], setup["detector"])
    images = []
    for sign in (1, -1):
        opd = pupil.segment_tilt(segment, *(sign * a for a in amounts), rotation=rotation)
        images.append(jwst_kernel(**setup, opd=opd).evaluate(u, v))
    expected = (images[0] - images[1]) / 2
    found = modes[segment - 1, mode, 0] * rms
    # two wavelengths stand for the band: 0.5 % of the signal is lost where it is wide, 0.1 % of
    # it in a narrow one
    error = np.sqrt(((found - expected) ** 2).sum() / (expected**2).sum())
    assert error < {"F150W": 0.08, "F1500W": 0.08}.get(name, 0.05)


@pytest.mark.parametrize("name", ["F210M", "WLP8"])
def test_one_slope_of_all_segments_moves_the_image(name):
    setup = SETUPS[name]
    u = np.arange(-10, 11) - 0.2 + (25 if name == "WLP8" else 0)
    modes = segment_modes(u, u, **setup, n_wavelengths=6)[:, :, 0]
    # A slope of the whole wavefront is a piston of each segment and a tilt about its centre.
    x = pupil.segment_centers(bands.rotation("NIRCAM", "NRCA3"))[:, 0]
    change = np.tensordot(x, modes[:, 0], axes=1) + 0.755 / 2.2 * modes[:, 1].sum(axis=0)
    pixel = np.deg2rad(0.031365 / 3600)
    expected = -jwst_kernel(**setup).evaluate(u, u, 1, 0) / pixel
    error = np.sqrt(((change - expected) ** 2).sum() / (expected**2).sum())
    assert error < 0.01


def test_unknown_pupil_is_refused():
    u = np.arange(-5.0, 6.0)
    with pytest.raises(ValueError, match="instrument"):
        segment_modes(u, u, instrument="HST", filter="F210M")
