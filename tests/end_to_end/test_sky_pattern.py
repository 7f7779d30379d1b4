"""What detector and sky leave in every frame must not be scaled with the star.

The truth is made here with NumPy.
"""

import numpy as np
import pytest

import tso_level3
from tests.skies import gaussian, night, stpsf
from tso_level3.config.settings import Settings
from tso_level3.datatypes import Exposure, Optics, Segment, Times
from tso_level3.readers.arrays import ArrayFrames
from tso_level3.run.measure import run

SHAPE = (64, 64)
OPTICS = {
    "F444W": ("PSF_F444W_NRCA5.fits", Optics("NIRCAM", "NRCALONG", "F444W", "CLEAR")),
    "F210M": ("PSF_F210M_NRCA3.fits", Optics("NIRCAM", "NRCA3", "F210M", "CLEAR")),
    "F1500W": ("PSF_F1500W_MIRIM.fits", Optics("MIRI", "MIRIMAGE", "F1500W")),
    "WLP8": ("PSF_F210M_WLP8_NRCA3.fits", Optics("NIRCAM", "NRCA3", "F210M", "WLP8")),
}


def measured(made, optics=None, **settings):
    """Light curve and what is quoted, without the search for events."""
    n = len(made.times)
    exposure = Exposure(
        segments=(Segment(ArrayFrames(made.data, made.errors, None), n),),
        shape=made.data.shape[1:],
        times=Times(made.times, made.times, "given", np.zeros(n, np.uint32)),
        unit="electron",
        optics=optics or Optics(),
        position=(made.x[0], made.y[0]),
        has_errors=True,
        integration=np.arange(1, n + 1),
        segment=np.ones(n, int),
    )
    return run(exposure, Settings(find_events=False, **settings))


def dead(*places, response=0.1):
    out = np.ones(SHAPE)
    for x, y in places:
        out[y, x] = response
    return out


def flat(size, seed=5):
    return 1 + size * np.random.default_rng(seed).standard_normal(SHAPE)


CASES = {
    # used to be 1.63, 1.32, 1.41 and 9.0 % by the fit, and the second and third were quoted
    "one dead pixel": (1e6, 0.02, dead((37, 33))),
    "two dead pixels": (1e6, 0.02, dead((37, 33), (26, 27))),
    "faint, one dead pixel": (2e5, 0.10, dead((37, 33))),
    "faint, response 0.7": (2e5, 0.10, dead((37, 33), response=0.7)),
}


@pytest.mark.parametrize("name", CASES)
def test_depth_beside_defects_in_a_bright_sky(name):
    flux, depth, response = CASES[name]
    made = night(gaussian(1.5), flux, 2e4, n=192, depth=depth, response=response, seed=1)
    before = made.data.copy()
    product = tso_level3.measure(
        made.data,
        errors=made.errors,
        times=made.times,
        unit="electron",
        position=(31.6, 31.3),
        find_events=False,
    )
    curves = [product.flux, product.light_curve["psf_flux"], product.light_curve["aperture_flux"]]
    for flux in (*curves[:2], *np.asarray(curves[2]).T):
        found, error = made.depth_of(np.asarray(flux))
        assert abs(found - depth) < 3.5 * error
    assert np.array_equal(made.data, before)


def paired(psf, optics, patterns, *, flux=2e5, ratio=0.3, n=96, shape=SHAPE):
    """How far a pattern shifts the depths, in errors of one exposure: (n_patterns, fit + radii)."""
    at = ((shape[1] - 1) / 2 + 0.1, (shape[0] - 1) / 2 - 0.2)
    sky = ratio * flux * psf(*at, shape).max()
    out = []
    for seed, (response, hot) in enumerate(patterns):
        how = {"n": n, "shape": shape, "at": at, "jitter": 0.02, "seed": seed}
        runs = []
        for pattern in ({}, {"response": response, "hot": hot * flux * psf(*at, shape).max()}):
            made = night(psf, flux, sky, **how, **pattern)
            found = measured(made, optics, radii=(2, 3, 5, 8)).light_curve
            curves = [found["psf_flux"], *found["aperture_flux"].T]
            runs.append(np.array([made.depth_of(curve) for curve in curves]))
        out.append((runs[1][:, 0] - runs[0][:, 0]) / runs[0][:, 1])
    return np.array(out)


def defects(seed, shape=SHAPE):
    """Dead and hot pixels, 0.1 % each; the hot ones as bright as the star at the most."""
    rng = np.random.default_rng(seed)
    response = np.where(rng.random(shape) < 1e-3, 0.1, 1.0)
    return response, np.where(rng.random(shape) < 1e-3, rng.random(shape), 0.0)


def uneven(size, seed, shape=SHAPE):
    return 1 + size * np.random.default_rng(seed).standard_normal(shape), 0.0


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_defects_shift_no_depth(ratio):
    away = paired(gaussian(1.5), None, [defects(s) for s in range(1000, 1005)], ratio=ratio)
    assert np.all(np.abs(away.mean(axis=0)) < 0.1)
    assert np.all(away.std(axis=0) < 0.2)


@pytest.mark.parametrize("name", ["F444W", "F210M", "F1500W"])
@pytest.mark.parametrize("kind", ["defects", "flat"])
def test_patterns_shift_no_depth_of_webb(name, kind, shared_data):
    file, optics = OPTICS[name]
    seeds = range(1000, 1004)
    patterns = [defects(s) if kind == "defects" else uneven(0.02, s) for s in seeds]
    away = paired(stpsf(shared_data / "stpsf" / file), optics, patterns)
    # 0.2, and the standard error of so few seeds
    doubt = away.std(axis=0, ddof=1) / np.sqrt(len(away))
    assert np.all(np.abs(away.mean(axis=0)) < 0.2 + doubt)


def test_patterns_shift_no_depth_of_a_weak_lens(shared_data):
    # used to be 14 errors by the fit for dead and hot pixels, and 3.4 for the flat of 2 %
    file, optics = OPTICS["WLP8"]
    shape = (170, 170)
    psf = stpsf(shared_data / "stpsf" / file)
    at = (84.6, 84.3)
    peak = 2e7 * psf(*at, shape).max()
    cases = (
        (defects(3, shape), 0.3),
        (uneven(0.005, 4, shape), 0.3),
        (uneven(0.02, 5, shape), 1.0),
    )
    for (response, hot), ratio in cases:
        runs = []
        for pattern in ({}, {"response": response, "hot": hot * peak}):
            sky = ratio * peak
            made = night(psf, 2e7, sky, n=60, shape=shape, at=at, seed=2, **pattern)
            found = measured(made, optics, radii=(55, 65)).light_curve
            curves = [found["psf_flux"], *found["aperture_flux"].T]
            runs.append(np.array([made.depth_of(curve) for curve in curves]))
        shift = (runs[1][:, 0] - runs[0][:, 0]) / runs[0][:, 1]
        assert abs(shift[0]) < 0.2
        # One pattern's sum in so large an aperture is as good as random.
        assert np.all(np.abs(shift[1:]) < 0.45)


@pytest.mark.parametrize("drift", [0.0, 2.0])
def test_a_dead_pixel_under_the_star_stays_while_the_star_moves(drift):
    # used to answer with 0.95 of the motion, at five times the scatter
    made = night(
        gaussian(1.5), 2e5, 10.0, n=150, jitter=0.1, drift=drift, response=dead((33, 33)), seed=3
    )
    clean = night(gaussian(1.5), 2e5, 10.0, n=150, jitter=0.1, drift=drift, seed=3)
    scatters = []
    for it in (clean, made):
        x = measured(it).light_curve["psf_x"]
        slope = np.polyfit(it.x - it.x.mean(), x, 1)[0]
        assert slope == pytest.approx(1.0, abs=0.005)
        scatters.append(np.std(x - it.x))
    assert scatters[1] < 1.2 * scatters[0]


def test_a_moving_star_over_an_uneven_sky_keeps_its_depth():
    # used to be 5.6 % for 5 %
    for seed in (1, 2):
        made = night(gaussian(1.5), 2e5, 4e3, n=150, drift=2.0, response=flat(0.02), seed=seed)
        found, error = made.depth_of(measured(made).light_curve["psf_flux"])
        assert abs(found - 0.05) < 3 * error
        assert error < 0.001
