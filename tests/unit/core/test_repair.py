"""Missing pixels and cosmic rays: found, filled, and no dent in the light curve."""

import numpy as np
import pytest

from tests.trials import BITS, measured, simulated, spoil
from tso_level3.core.measure import gather
from tso_level3.core.repair import find_and_fit
from tso_level3.flags import Flag
from tso_level3.planning.noise import with_changes
from tso_level3.simulate import Tilt


def _bad_by_time(trial, chunk=100):
    """(n_found, 2) frame and pixel of the outliers, whatever DQ says left out."""
    out, segment, plan = [], trial.exposure.segments[0], trial.plan
    for start in range(0, trial.exposure.n_int, chunk):
        stop = min(start + chunk, trial.exposure.n_int)
        pixels = segment.source.load(start, stop, plan.layout.box)
        values, given = gather(pixels, plan.layout.index, segment.scale, plan.dq_mask)
        told = set(zip(given.frame.tolist(), given.pixel.tolist(), strict=True))
        found = find_and_fit(plan.template, values, given, plan.noise.limit, sigma=5.0).bad
        pairs = zip(found.frame.tolist(), found.pixel.tolist(), strict=True)
        out += [(frame + start, pixel) for frame, pixel in pairs if (frame, pixel) not in told]
    return out


def _without_motion(flux, truth):
    x, y = (np.array(truth[key]) - np.mean(truth[key]) for key in "xy")
    design = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    relative = flux / np.median(flux)
    return relative - design @ np.linalg.lstsq(design, relative, rcond=None)[0]


@pytest.mark.parametrize("jitter", [0.01, 0.05])
@pytest.mark.parametrize(
    "preset, changes, share",
    [
        ("F210M", {"flux": 3e5, "n_int": 1000}, 0.03),
        ("F210M", {"flux": 1e7, "n_int": 1000}, 0.03),
        ("F210M", {"filter": "F150W", "flux": 3e5, "n_int": 1000}, 0.03),
        ("F210M", {"filter": "F150W", "flux": 1e7, "n_int": 1000}, 0.03),
        ("F1500W", {"n_int": 400}, 0.03),
    ],
)
def test_missing_pixels_do_not_dent_the_light_curve(preset, changes, share, jitter):
    made = simulated(preset, jitter=jitter, transit_depth=0.0, seed=5, **changes)
    image = made.star(0) / made.truth["flux"][0]
    y, x = np.unravel_index(np.argmin(np.abs(image - share)), image.shape)
    n = made.simulation.n_int
    frames = np.random.default_rng(0).choice(n, n // 10, replace=False)
    spoil(made, x, y, frames)
    trial = measured(made)
    missing = np.zeros(n, bool)
    missing[frames] = True
    radius = int(np.argmin(np.abs(trial.plan.radii - trial.preference.radius)))
    for flux, error in (
        (trial.flux[:, radius], trial.error[:, radius]),
        (trial.found.psf[:, 2], trial.found.psf_err[:, 2]),
    ):
        curve = _without_motion(flux, made.truth)
        rest = curve[~missing].std()
        offset = curve[missing].mean() - curve[~missing].mean()
        assert abs(offset) < max(0.3, 3 / np.sqrt(missing.sum())) * rest
        # 1.1, and three standard errors of a scatter of n / 10 integrations.
        assert curve[missing].std() < (1.1 + 3 / np.sqrt(2 * missing.sum())) * rest
        # What was filled has a larger error, by little.
        assert 1.0 < np.median(error[missing]) / np.median(error[~missing]) < 1.15
    replaced = trial.found.replaced[:, radius] / trial.flux[:, radius]
    pixel = image[y, x] * trial.made.simulation.flux / np.median(trial.flux[:, radius])
    assert np.median(replaced[missing]) == pytest.approx(pixel, rel=0.3)
    assert np.abs(replaced[~missing]).max() < 0.02
    assert ((trial.found.flags[missing] & Flag.FILLED) > 0).all()


def test_weak_lens_with_missing_pixels():
    made = simulated("WLP8", n_int=150, jitter=0.05, transit_depth=0.0, bad_random=3e-3)
    trial = measured(made)
    radius = int(np.argmin(np.abs(trial.plan.radii - trial.preference.radius)))
    pull = (trial.flux - trial.true_flux())[:, radius] / trial.error[:, radius]
    assert pull.std() == pytest.approx(1.0, abs=0.05 + 3 / np.sqrt(2 * 150))
    replaced = trial.found.replaced[:, radius] / trial.flux[:, radius]
    assert np.median(replaced) == pytest.approx(3e-3, rel=0.3)


def test_dropping_pixels_used_to_dent_the_light_curve():
    made = simulated("F210M", n_int=200, transit_depth=0.0)
    frames = np.arange(0, 200, 10)
    spoil(made, 32, 31, frames)
    trial = measured(made, fill=False)
    radius = int(np.argmin(np.abs(trial.plan.radii - 5.0)))
    flux = trial.flux[:, radius]
    others = np.setdiff1d(np.arange(200), frames)
    assert flux[frames].mean() < 0.97 * flux[others].mean()
    assert ((trial.found.flags[frames] & Flag.MISSING_IN_APERTURE) > 0).all()
    assert trial.found.areas[frames[0], radius] == pytest.approx(np.pi * 25 - 1, abs=1e-6)


@pytest.mark.parametrize(
    "flux, jitter, depth, charge",
    [(3e5, 0.01, 0.0, 300.0), (1e7, 0.05, 0.0, 2000.0), (1e7, 0.01, 0.03, 2000.0)],
)
def test_cosmic_rays_are_found_and_good_pixels_are_not(flux, jitter, depth, charge):
    made = simulated(
        "F210M",
        n_int=800,
        flux=flux,
        jitter=jitter,
        transit_depth=depth,
        cosmic_rays=3.0,
        cosmic_ray_charge=charge,
    )
    trial = measured(made)
    layout, sigma = trial.plan.layout, np.sqrt(trial.plan.noise.total)
    place = {(x, y): i for i, (x, y) in enumerate(zip(layout.columns, layout.rows))}
    hits = {}
    for hit in made.hits:
        pixel = place.get((int(hit["x"]), int(hit["y"])))
        if pixel is not None:
            key = (int(hit["integration"]) - 1, pixel)
            hits[key] = hits.get(key, 0.0) + hit["electrons"]
    found = set(_bad_by_time(trial))
    strong = {key for key, charge in hits.items() if charge > 8 * sigma[key[1]]}
    assert len(strong) > 500
    assert len(strong & found) >= 0.99 * len(strong)
    false = np.array([pixel for frame, pixel in found if (frame, pixel) not in hits], int)
    assert len(false) <= 5e-5 * 800 * layout.n_pixels
    core = np.hypot(layout.columns - trial.plan.template.x, layout.rows - trial.plan.template.y) < 3
    assert core[false].sum() <= 5e-4 * 800 * core.sum()


@pytest.mark.parametrize("flux, depth", [(3e5, 0.3), (1e7, 0.3), (1e7, 0.03)])
def test_no_integration_is_lost_to_an_eclipse(flux, depth):
    made = simulated("F210M", n_int=600, flux=flux, transit_depth=depth, jitter=0.01)
    trial = measured(made)
    hit = (trial.found.flags & Flag.OUTLIER) > 0
    inside = np.array(made.truth["transit"]) < 1 - 0.5 * depth
    # Chance makes 6e-7 of 2,000 pixels outliers: one in a thousand frames.
    assert hit[inside].sum() <= 3
    assert np.isfinite(trial.flux).all()


def test_flagged_pixels_follow_the_bits_that_are_named():
    made = simulated("F210M", n_int=60, transit_depth=0.0, jitter=0.001, noise=False)
    made.dq[10, 31, 32] |= np.uint32(BITS["SATURATED"])
    made.dq[20, 31, 32] |= np.uint32(BITS["JUMP_DET"])
    filled = {}
    for bits in (("DO_NOT_USE",), ("SATURATED",), ("SATURATED", "JUMP_DET"), ("4",)):
        trial = measured(made, dq_bits=bits)
        filled[bits] = np.flatnonzero(trial.found.replaced[:, 5]).tolist()
    assert filled == {
        ("DO_NOT_USE",): [],
        ("SATURATED",): [10],
        ("SATURATED", "JUMP_DET"): [10, 20],
        ("4",): [20],
    }


def test_a_tilt_used_to_be_taken_for_cosmic_rays():
    tilt = Tilt(integration=108, segment=5, tip=4e-8)
    made = simulated("WLP8", n_int=120, transit_depth=0.0, tilts=(tilt,))
    trial = measured(made)
    after = [frame for frame, _ in _bad_by_time(trial) if frame >= 108]
    assert len(after) < 5 * 12


def test_a_few_frames_with_another_image_are_left_as_they_are():
    made = simulated("F210M", n_int=300, flux=1e7, transit_depth=0.0, jitter=0.005)
    trial = measured(made)
    plan, segment = trial.plan, trial.exposure.segments[0]
    pixels = segment.source.load(0, 4, plan.layout.box)
    values, given = gather(pixels, plan.layout.index, segment.scale, plan.dq_mask)
    pattern = np.random.default_rng(1).choice([-1.0, 1.0], plan.layout.n_fit)
    values[2, : plan.layout.n_fit] += 15 * pattern * np.sqrt(plan.noise.total[: plan.layout.n_fit])
    values[1, 40] += 30 * np.sqrt(plan.noise.total[40])
    clean = find_and_fit(plan.template, values.copy(), given, plan.noise.limit, sigma=0.0)
    found = find_and_fit(plan.template, values.copy(), given, plan.noise.limit, sigma=5.0)
    assert found.bad.frame.tolist() == [1]
    assert found.bad.pixel.tolist() == [40]
    assert found.fit.flux[2] == clean.fit.flux[2]
    np.testing.assert_array_equal(found.residuals[2], clean.residuals[2])


def test_limits_are_raised_for_a_changed_image_alone():
    rng = np.random.default_rng(2)
    residuals = rng.standard_normal((200, 400))
    np.testing.assert_array_equal(with_changes(np.ones(400), residuals, 5.0), np.ones(400))
    lonely = residuals.copy()
    lonely[:20, 7] += 10.0
    np.testing.assert_array_equal(with_changes(np.ones(400), lonely, 5.0), np.ones(400))
    changed = residuals.copy()
    changed[:20, :50] += 10.0
    limit = with_changes(np.ones(400), changed, 5.0)
    np.testing.assert_allclose(limit[:50], 3.0, atol=0.15)
    np.testing.assert_array_equal(limit[50:], 1.0)
