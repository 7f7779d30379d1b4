"""The cross of MIRI's detector, against sums written out here."""

import numpy as np
import pytest

from tso_level3.psf import bands, optics
from tso_level3.psf.kernel import jwst_kernel

# STPSF 2.2.0, detectors.py and constants.py: ground value, correction, half in flight
FACTS = {"F560W": 0.0022 * 4.05 / 2, "F770W": 0.00139 * 4.1 / 2}


@pytest.mark.parametrize("name", FACTS)
def test_a_point_becomes_a_cross(name):
    side, over = 241, 4
    point = np.zeros((side, side))
    point[120, 120] = 1.0
    found = optics.scatter(point, over, bands.scattering(bands.resolve("MIRI", name)))
    x = (np.arange(side) - 120) / over
    line = FACTS[name] * np.exp(-abs(x) / 25) * np.where(abs(x) < 12, 0.5, 1.0)
    expected = np.zeros((side, side))
    expected[120] += line
    expected[:, 120] += line
    r = np.hypot(x, x[:, None])
    expected += FACTS[name] * 0.005 * np.exp(-r / 24) * (r > 12)
    expected /= over**2
    share = found / found[120, 120]
    away = r > 0.3
    np.testing.assert_allclose(share[away], expected[away], rtol=1e-2, atol=1e-9)


@pytest.mark.parametrize(("name", "lost"), [("F560W", 0.14), ("F770W", 0.095), ("F1500W", 0.0)])
def test_the_light_is_taken_from_the_star(name, lost):
    cross = bands.scattering(bands.resolve("MIRI", name))
    wide = np.zeros((801, 801))
    wide[400, 400] = 1.0
    spread = optics.scatter(wide, 4, cross)
    assert spread.sum() == pytest.approx(1.0, abs=0.01)
    assert 1 - spread[400, 400] == pytest.approx(lost, abs=0.003)
    assert optics.scattered(cross) == pytest.approx(lost, abs=0.003)


def test_encircled_energy_of_a_kernel_and_its_arms():
    # used to leave out the cross: 6 % of the light within 40 pixels, encircled energy off by 0.044
    kernel = jwst_kernel(instrument="MIRI", filter="F770W", detector="MIRIMAGE")
    plain = jwst_kernel(instrument="MIRI", filter="F770W", detected=False)
    offsets = np.arange(-160, 161) / 4
    r = np.hypot(offsets, offsets[:, None])

    def within(one, radius):
        values = one.evaluate(offsets, offsets)
        return values[r <= radius].sum() / values[r <= 40].sum()

    # blur and pixel do nothing to what is within 12 pixels
    assert within(plain, 12) - within(kernel, 12) == pytest.approx(0.044, abs=0.012)
    arm = kernel.evaluate(np.arange(25.0, 33.0), [0.0]).mean()
    between = kernel.evaluate(np.arange(25.0, 33.0) * 0.924, np.arange(25.0, 33.0) * 0.383)
    assert arm > 3 * np.diag(between).mean()
    assert kernel.description["scattered"] == pytest.approx(0.095, abs=0.003)
