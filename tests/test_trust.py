"""A reduced form of ``benchmarks/side_by_side.py``: what a light curve must be good for."""

import numpy as np
import pytest

from tests.trials import exposure_of, simulated
from tso_level3.run import run
from tso_level3.settings import Settings

N = 600
#: Three standard errors of a scatter of N values.
CHANCE = 3 / np.sqrt(2 * N)
BAD = {"bad_random": 3e-3, "bad_fixed": 1e-3, "cosmic_rays": 1.0}


def _quoted(result):
    quoted = result.info["quoted"]
    if quoted["kind"] == "psf":
        return result.light_curve["psf_flux"], result.light_curve["psf_flux_err"]
    at = int(np.argmin(np.abs(result.radii - quoted["radius"])))
    curve = result.light_curve
    return curve["aperture_flux"][:, at], curve["aperture_flux_err"][:, at]


def _depth(flux, truth, vectors=()):
    """Depth of the transit of known shape, with its standard error."""
    shape = -(1 - np.array(truth["transit"])) / truth.meta["transit_depth"]
    design = np.stack([np.ones_like(shape), shape, *vectors], axis=1)
    solution, residual, *_ = np.linalg.lstsq(design, flux / np.median(flux), rcond=None)
    variance = residual[0] / (len(flux) - design.shape[1]) * np.linalg.inv(design.T @ design)
    return solution[1] / solution[0], np.sqrt(variance[1, 1])


@pytest.mark.parametrize(
    "preset, changes, required",
    [
        ("F210M", {"jitter": 0.01}, 1.03),
        ("F210M", {"jitter": 0.05, "flux": 1e7}, 1.08),
        ("F210M", {"jitter": 0.01, **BAD}, 1.10),
        ("F1500W", {"jitter": 0.01, "n_int": 300}, 1.03),
    ],
)
def test_scatter_is_what_is_stated_and_the_depth_is_right(preset, changes, required):
    made = simulated(preset, transit_depth=0.01, **{"n_int": N, **changes})
    result = run(exposure_of(made), Settings())
    flux, error = _quoted(result)
    ratio = flux / made.truth["flux"]
    scatter = ratio.std() / ratio.mean()
    n = len(flux)
    assert scatter / np.median(error / flux) < required + 3 / np.sqrt(2 * n)
    depth, doubt = _depth(flux, made.truth)
    assert abs(depth - 0.01) < 4 * doubt
    assert np.isfinite(flux).all()


def test_weak_lens_that_fills_the_frame():
    made = simulated("WLP8-SUB64P", n_int=N, jitter=0.05, transit_depth=0.01)
    result = run(exposure_of(made), Settings())
    flux, error = _quoted(result)
    ratio = flux / made.truth["flux"]
    x, y = (result.light_curve[f"psf_{axis}"] for axis in "xy")
    vectors = [x - x.mean(), y - y.mean()]
    design = np.stack([np.ones(N), *vectors], axis=1)
    rest = ratio / ratio.mean() - design @ np.linalg.lstsq(design, ratio / ratio.mean())[0]
    # The sum of the frame moves with the star; the measured centres take that out.
    assert rest.std() / np.median(error / flux) < 1.05 + CHANCE
    depth, doubt = _depth(flux, made.truth, vectors)
    assert abs(depth - 0.01) < 4 * doubt


def test_row_noise_is_taken_back():
    common = {"n_int": N, "jitter": 0.01, "transit_depth": 0.01}
    settings = Settings(flicker="auto", choose_aperture=False)
    scatter = {}
    for row_noise in (0.0, 8.0):
        made = simulated("F210M", row_noise=row_noise, **common)
        flux, _ = _quoted(run(exposure_of(made), settings))
        ratio = flux / made.truth["flux"]
        scatter[row_noise] = ratio.std() / ratio.mean()
    assert scatter[8.0] < 1.15 * scatter[0.0]


def test_processes_and_one_thread_give_the_same():
    made = simulated("F210M", n_int=60, bad_random=2e-3, cosmic_rays=0.5)
    one = run(exposure_of(made), Settings(chunk=60))
    many = run(exposure_of(made), Settings(chunk=11))
    for name in ("aperture_flux", "aperture_flux_err", "background", "psf_flux"):
        np.testing.assert_allclose(many.light_curve[name], one.light_curve[name], rtol=1e-11)
