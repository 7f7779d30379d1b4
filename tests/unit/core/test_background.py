"""The background and its error, in every form."""

import numpy as np
import pytest
from astropy.stats import biweight_location, sigma_clipped_stats

import tso_level3
from tests.skies import gaussian, night
from tests.trials import measured, simulated
from tso_level3.core.background import backgrounds_of, clipped, location
from tso_level3.core.template import Bad


def test_clipping_frame_by_frame_used_to_chatter():
    made = simulated("F210M", n_int=400, flux=1e7, transit_depth=0.0, jitter=0.01, drift=(0, 0))
    rms = {}
    for mode in ("annulus", "annulus_clipped"):
        trial = measured(made, background=mode, radius_inner=16, radius_outer=26)
        rms[mode] = np.std(trial.found.background[:, 0])
    assert rms["annulus"] < 0.75
    assert rms["annulus_clipped"] > 2 * rms["annulus"]


@pytest.mark.parametrize(
    "preset, changes",
    [("F210M", {}), ("F1500W", {"background_slope": 0.002, "flat_pattern": False})],
)
def test_error_of_the_background(preset, changes):
    made = simulated(preset, n_int=500, jitter=0.005, transit_depth=0.0, drift=(0, 0), **changes)
    for stat in ("median", "mean", "biweight"):
        trial = measured(made, background_stat=stat)
        pull = trial.found.background[:, 0] - trial.true_background()
        pull /= trial.found.background_err[:, 0]
        assert pull.std() == pytest.approx(1.0, abs=0.05 + 3 / np.sqrt(2 * 500)), stat
        if stat == "median":
            # Wings and skewed photon noise make the median of residuals differ from the mean.
            assert abs(pull.mean()) < 0.6
        # An outlier in time is left out of its frame, and only there.
        area, ring = trial.found.background_area[:, 0], trial.plan.background.rings[0]
        assert area.max() == len(ring) and area.min() >= len(ring) - 3


def test_background_follows_the_sky_not_the_star():
    made = simulated(
        "F210M",
        n_int=400,
        flux=1e6,
        transit_depth=0.1,
        background_slope=1.0,
        companions=((18.0, 6.0, 0.02), (-15.0, -15.0, 0.01)),
        bad_fixed=0.02,
        bad_random=0.002,
    )
    trial = measured(made)
    found, sky = trial.found.background[:, 0], np.array(made.truth["background"])
    slope = np.polyfit(sky, found, 1)[0]
    # 400 values of 0.5 e- over 20 e-: the slope is known to 0.5 %.
    assert slope == pytest.approx(1.0, abs=0.02)
    ring = trial.plan.layout.rings[0]
    kept = trial.plan.background.rings[0]
    at = np.hypot(
        trial.plan.layout.columns[ring] - trial.plan.template.x - 18,
        trial.plan.layout.rows[ring] - trial.plan.template.y - 6,
    )
    assert not np.isin(ring[at < 1.5], kept).any()
    assert (trial.found.background_area[:, 0] <= len(kept)).all()


def test_annulus_cut_by_the_edge_and_columns_without_values():
    made = simulated("F210M", n_int=200, position=(12.0, 40.0), offset=(0.2, 0.1))
    made.data[:, :, 30] = np.nan
    made.data[::3, :, 3] = np.nan
    trial = measured(made)
    pull = trial.found.background[:, 0] - trial.true_background()
    pull /= trial.found.background_err[:, 0]
    assert pull.std() == pytest.approx(1.0, abs=0.05 + 3 / np.sqrt(400))
    columns = trial.plan.layout.columns[trial.plan.background.rings[0]]
    assert columns.min() >= 0 and not (columns == 30).any()
    area = trial.found.background_area[:, 0]
    assert area[0] == area[1] - (columns == 3).sum()
    assert np.isfinite(trial.flux).all()


def test_linear_gradient_cancels():
    made = simulated("F210M", n_int=100, transit_depth=0.0, noise=False, jitter=0.0, drift=(0, 0))
    flat = measured(made)
    gain = made.truth.meta["electrons_per_unit"]
    tilted = 0.3 * (np.arange(64) - np.median(made.truth["x"]))[None, None, :]
    made.data[:] += (tilted / gain).astype(np.float32)
    sloped = measured(made)
    assert sloped.found.background[0, 0] == pytest.approx(flat.found.background[0, 0], abs=0.3)
    assert sloped.flux[0, 5] == pytest.approx(flat.flux[0, 5], rel=1e-4)


def test_clipped_agrees_with_astropy():
    rng = np.random.default_rng(3)
    values = rng.normal(10.0, 2.0, (20, 900))
    values[:, :40] += 50.0
    bad = Bad.of(rng.random((20, 900)) < 0.01)
    ring = np.arange(100, 900)
    ring = np.concatenate([ring, np.arange(0, 30)])
    for stat, place in (("mean", 0), ("median", 1)):
        found = clipped(values, bad, ring, sigma=3.0, stat=stat)
        for i in range(20):
            mask = np.zeros(900, bool)
            mask[bad.pixel[bad.frame == i]] = True
            expected = sigma_clipped_stats(values[i, ring], mask=mask[ring], sigma=3.0, maxiters=5)
            assert found.level[i] == pytest.approx(expected[place], rel=0, abs=1e-12)
    assert (found.area < 830).all()


def test_statistics_agree_with_references():
    rng = np.random.default_rng(4)
    values = rng.standard_normal((6, 501)) + 3.0
    values[:, :20] += 15.0
    np.testing.assert_allclose(location(values.copy(), "mean"), values.mean(axis=1), rtol=1e-14)
    np.testing.assert_array_equal(location(values.copy(), "median"), np.median(values, axis=1))
    # More values than are ordered as a whole, and a distribution that hides its median.
    many = np.concatenate([rng.standard_normal((3, 3000)), 9 + rng.random((3, 3001))], axis=1)
    np.testing.assert_array_equal(location(many.copy(), "median"), np.median(many, axis=1))
    np.testing.assert_allclose(
        location(values.copy(), "biweight"), biweight_location(values, axis=1), rtol=1e-12
    )
    assert location(np.full((1, 9), 2.0), "biweight")[0] == 2.0


def test_frame_without_a_good_pixel():
    residuals = np.zeros((2, 50))
    mask = np.zeros((2, 50), bool)
    mask[1, 10:] = True
    rings = [np.arange(10, 50), np.arange(5, 50)]
    for stat in ("mean", "median", "biweight"):
        for scatter in (None, [1.0, 1.0]):
            found, wider = backgrounds_of(
                residuals, np.ones((2, 2)), Bad.of(mask), rings, stat=stat, scatter=scatter
            )
            assert found.level[0] == wider.level[0] == 1.0
            assert np.isnan([found.level[1], found.error[1]]).all()
            assert found.area.tolist() == [40.0, 0.0]
            assert wider.area.tolist() == [45.0, 5.0] and wider.level[1] == 1.0


@pytest.mark.parametrize("stat", ["mean", "median", "biweight"])
def test_every_frame_by_itself(stat):
    """Each ring's statistic and error are those of its good pixels, one frame at a time."""
    rng = np.random.default_rng(5)
    mask = rng.random((30, 700)) < 0.05
    residuals = np.where(mask, 0.0, rng.normal(3.0, 2.0, (30, 700)))
    rings = [rng.choice(700, 300, replace=False), np.arange(700)]
    added = rng.normal(size=(2, 30))
    of, factor = {
        "mean": (np.mean, 1.0),
        "median": (np.median, np.sqrt(np.pi / 2)),
        "biweight": (biweight_location, 1.02),
    }[stat]
    known = backgrounds_of(residuals, added, Bad.of(mask), rings, stat=stat, scatter=[2.0, 4.0])
    found = backgrounds_of(residuals, added, Bad.of(mask), rings, stat=stat)
    for k, ring in enumerate(rings):
        for i in range(30):
            good = residuals[i, ring][~mask[i, ring]]
            level = {"mean": np.mean, "median": np.median, "biweight": biweight_location}[stat](
                good
            )
            assert found[k].level[i] == pytest.approx(level + added[k, i], rel=1e-12)
            assert found[k].error[i] == pytest.approx(factor * good.std() / good.size**0.5)
            assert found[k].area[i] == good.size
            assert known[k].error[i] == pytest.approx(factor * (2.0, 4.0)[k] / good.size**0.5)


def test_frame_and_none():
    made = simulated("F210M", n_int=150, transit_depth=0.0)
    frame = measured(made, background="frame")
    assert frame.plan.layout.box.nx == 64 and len(frame.plan.background.rings[0]) > 2500
    pull = frame.found.background[:, 0] - frame.true_background()
    pull /= frame.found.background_err[:, 0]
    assert pull.std() == pytest.approx(1.0, abs=0.05 + 3 / np.sqrt(300))
    none = measured(made, background="none")
    assert (none.found.background == 0).all()
    assert none.plan.template.n_terms == 6
    difference = none.flux[:, 5] - frame.flux[:, 5]
    radius = frame.plan.radii[5]
    assert difference.mean() == pytest.approx(
        frame.found.background.mean() * np.pi * radius**2, rel=0.02
    )


@pytest.mark.parametrize("stat", ["median", "biweight"])
def test_the_stars_wings_are_taken_by_the_statistic_of_the_settings(stat):
    # used to: biweight took the level of the template by its median
    psf = gaussian(4.0)
    made = night(psf, 1e6, 100.0, n=40, depth=0.0, read=0.5, seed=9)
    product = tso_level3.measure(
        made.data, errors=made.errors, times=made.times, unit="electron", position=(31.6, 31.3),
        radii=[5.0], radius_inner=8.0, radius_outer=16.0, background_stat=stat,
        background_sigma=50.0, choose_aperture=False,
    )  # fmt: skip
    rows, columns = np.mgrid[:64, :64]
    distance = np.hypot(columns - 31.6, rows - 31.3)
    wings = 1e6 * psf(31.6, 31.3, (64, 64))[(distance >= 8) & (distance < 16)] + 100.0
    middle, biweight = np.median(wings), biweight_location(wings)
    expected = middle if stat == "median" else biweight
    found = np.median(product.light_curve["background"])
    assert abs(found - expected) < 0.2 * abs(middle - biweight)
