"""A reduced form of ``benchmarks/side_by_side.py``: what a light curve must be good for."""

import numpy as np
import pytest

from tests.trials import exposure_of, simulated
from tso_level3.config.settings import Settings
from tso_level3.run.measure import run

N = 600
#: Three standard errors of a scatter of N values.
CHANCE = 3 / np.sqrt(2 * N)
BAD = {"bad_random": 3e-3, "bad_fixed": 1e-3, "cosmic_rays": 1.0}


def _quoted(result):
    quoted = result.record.quoted
    if quoted.kind == "psf":
        return result.light_curve["psf_flux"], result.light_curve["psf_flux_err"]
    at = int(np.argmin(np.abs(result.radii - quoted.radius)))
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


def test_background_that_is_given_is_subtracted():
    # a weak lens fills the small frame: its sky of 20 electrons a pixel is 0.35 % of the flux, by
    # which every depth is too small
    made = simulated("WLP8-SUB64P", n_int=60, jitter=0.0, transit_depth=0.3, seed=12)
    sky = made.simulation.background
    plain = run(exposure_of(made), Settings(find_events=False))
    given = run(exposure_of(made), Settings(find_events=False, background_level=sky))
    assert (given.light_curve["background"] == sky).all()
    assert not given.light_curve["background_err"].any()
    depths = [_depth(result.light_curve["psf_flux"], made.truth) for result in (plain, given)]
    star = made.scene.frames(0, 1, star_only=True)[0].sum()
    dilution = sky * 64 * 64 / (star + sky * 64 * 64)
    assert dilution > 0.003
    assert depths[0][0] == pytest.approx(0.3 * (1 - dilution), abs=5 * depths[0][1])
    assert depths[1][0] == pytest.approx(0.3, abs=5 * depths[1][1])
    assert 5 * depths[1][1] < 0.5 * 0.3 * dilution


def test_given_and_measured_background_agree_in_focus():
    made = simulated("F210M", n_int=60, jitter=0.01, seed=13, bad_random=2e-3)
    sky = made.simulation.background
    given = run(exposure_of(made), Settings(background_level=sky)).light_curve
    own = run(exposure_of(made), Settings()).light_curve
    at = given["aperture_flux"].shape[1] // 2
    away = (given["aperture_flux"] - own["aperture_flux"])[:, at]
    # the measured one is known to 0.4 electrons a pixel, and averaged over 60 integrations
    assert abs(away.mean()) < 5 * np.pi * 5**2 * 0.4 / np.sqrt(60)
    np.testing.assert_allclose(given["psf_x"], own["psf_x"], rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match="background_level: 20 found beside background=frame"):
        Settings(background_level=20, background="frame")
