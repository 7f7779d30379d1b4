"""Data-quality bits by name."""

import numpy as np
import pytest

import tso_level3
from tso_level3.config.settings import Settings
from tso_level3.datatypes import Exposure, Optics, Segment, Times
from tso_level3.flags import DQ_BITS, dq_mask
from tso_level3.readers.arrays import ArrayFrames
from tso_level3.run.measure import run

# the bits of jwst.datamodels.dqflags
STRICT = 1 << 0 | 1 << 1 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14


def test_strict_is_a_set_of_bits():
    assert dq_mask(("strict",)) == STRICT
    assert dq_mask(("STRICT", "JUMP_DET")) == STRICT | 1 << 2
    assert dq_mask(("strict",)) & DQ_BITS["JUMP_DET"] == 0
    assert Settings(dq_bits="strict").dq_bits == ("strict",)
    with pytest.raises(ValueError, match=r"dq_bits: 'stricter' .* strict"):
        Settings(dq_bits="stricter")


@pytest.mark.parametrize("bits", ["DO_NOT_USE", "strict"])
def test_a_dead_pixel_beside_a_moving_star(bits):
    """Left in, it turns motion into flux; filled, the light curve is as without it."""
    rng, n = np.random.default_rng(1), 80
    y, x = np.mgrid[:48, :48]
    dx, dy = rng.normal(0.0, 0.05, (2, n, 1, 1))
    star = 1e5 * np.exp(-0.5 * ((x - 24.2 - dx) ** 2 + (y - 23.8 - dy) ** 2) / 1.3**2)
    star[:, 24, 26] *= 0.02
    cube = rng.poisson(star + 20.0) + rng.normal(0.0, 8.0, star.shape)
    dq = np.zeros(cube.shape, np.uint32)
    dq[:, 24, 26] = DQ_BITS["DEAD"]
    times = np.arange(n) / 1440.0
    exposure = Exposure(
        segments=(Segment(ArrayFrames(cube, np.sqrt(np.maximum(cube, 0) + 64.0), dq), n),),
        shape=cube.shape[1:],
        times=Times(times, times, "given", np.zeros(n, np.uint32)),
        unit="electron",
        optics=Optics(),
        position=(24.0, 24.0),
        has_errors=True,
        integration=np.arange(1, n + 1),
        segment=np.ones(n, int),
    )
    settings = Settings(dq_bits=bits, radii=[5.0], radius_inner=12.0, radius_outer=20.0)
    table = run(exposure, settings).light_curve
    flux = table["aperture_flux"][:, 0]
    limit = np.sqrt(star.mean(axis=0).sum() + np.pi * 25 * 84)
    scatter = np.std(flux) / limit
    filled = table["flags"] & tso_level3.Flag.FILLED > 0
    assert filled.all() if bits == "strict" else filled.mean() < 0.2
    assert scatter < 1.3 if bits == "strict" else scatter > 1.5
