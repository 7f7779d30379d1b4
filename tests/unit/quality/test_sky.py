"""A slowly varying sky is estimated from all integrations, a quick one from each."""

import dataclasses

import numpy as np
import pytest

from tests.trials import exposure_of, simulated
from tso_level3.config.settings import Settings
from tso_level3.quality.apertures import net_flux
from tso_level3.quality.sky import LEAST, smooth_sky
from tso_level3.quality.sky_model import Series, fading_sum
from tso_level3.run.assess import with_smooth_sky
from tso_level3.run.measure import run

#: Error of a single background; the skies are made of it.
ERROR = 0.25


def _smoothed(make, n, seeds=range(20), star=None):
    """Departures from the truth: as measured, as estimated, and in stated errors, (seeds, n)."""
    plain, best, pull, skies = [], [], [], []
    for seed in seeds:
        rng = np.random.default_rng(100 + seed)
        truth = 20 + ERROR * make(rng, n)
        error = ERROR * (1 + 0.02 * rng.standard_normal(n))
        level = truth + error * rng.standard_normal(n)
        sky = smooth_sky(level, error, star=star)
        plain.append(level - truth)
        best.append(sky.level - truth)
        pull.append((sky.level - truth) / sky.error)
        skies.append(sky)
    return np.array(plain), np.array(best), np.array(pull), skies


def _ratio(best, plain):
    return np.sqrt((best**2).mean() / (plain**2).mean())


@pytest.mark.parametrize("n", [25, 100, 1500])
def test_constant_sky_approaches_its_mean(n):
    plain, best, pull, skies = _smoothed(lambda rng, n: np.zeros(n), n)
    # the mean has 1 / sqrt(n); what is not known of the sky's variation costs as much again
    assert _ratio(best, plain) < 1.6 / np.sqrt(n)
    assert np.sqrt((pull**2).mean()) < 1.1
    assert all(sky.smoothed for sky in skies)


@pytest.mark.parametrize("n", [100, 1500])
def test_changes_from_one_integration_to_the_next_are_kept(n):
    plain, best, pull, skies = _smoothed(lambda rng, n: 5 * rng.standard_normal(n), n)
    np.testing.assert_array_equal(best, plain)
    assert not any(sky.smoothed for sky in skies)
    assert "one integration to the next" in skies[0].reason
    # as large as the error: the best linear estimate has 0.71 of it, and nobody can do better
    plain, best, pull, _ = _smoothed(lambda rng, n: rng.standard_normal(n), n)
    assert _ratio(best, plain) == pytest.approx(np.sqrt(0.5), abs=0.03)
    assert np.sqrt((pull**2).mean()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("walk, gain", [(0.1, 0.30), (0.01, 0.13)])
def test_wandering_sky_is_followed_with_an_honest_error(walk, gain):
    plain, best, pull, _ = _smoothed(lambda rng, n: walk * np.cumsum(rng.standard_normal(n)), 1000)
    # a random walk of s can be known to sqrt(s / 2)
    assert np.sqrt(walk / 2) * 0.9 < _ratio(best, plain) < gain
    # the slower the walk, the more of the error is that of not knowing how slow
    assert 0.4 < np.sqrt((pull**2).mean()) < 1.15


@pytest.mark.parametrize("size", [3, 10, 100])
def test_step_is_not_smeared(size):
    n, at = 600, 200
    plain, best, pull, skies = _smoothed(lambda rng, n: size * (np.arange(n) >= at), n)
    # next to a step what was measured stands, and its noise
    near = slice(at - 15, at + 15)
    assert np.abs(best[:, near]).max() < 4 * ERROR
    assert np.abs(best[:, near].mean(axis=0)).max() < 4 * ERROR / np.sqrt(20)
    assert np.abs(pull).max() < 5
    assert all(abs(sky.steps[0] - at) <= 2 and len(sky.steps) == 1 for sky in skies)
    assert _ratio(best, plain) < 0.3


def test_small_step_is_within_the_stated_error():
    # one sigma cannot be told from a sky that wanders: the error says so
    plain, best, pull, _ = _smoothed(lambda rng, n: 1.0 * (np.arange(n) >= 200), 600)
    assert _ratio(best, plain) < 0.35
    assert np.sqrt((pull**2).mean()) < 1.15


def test_flash_and_single_wild_values_stay_as_they_are():
    def make(rng, n):
        sky = np.zeros(n)
        sky[300:320] = 10
        sky[[50, 450]] = [200, -40]
        return sky

    plain, best, _, skies = _smoothed(make, 600)
    np.testing.assert_array_equal(best[:, [50, 450]], plain[:, [50, 450]])
    assert np.abs(best[:, 290:330]).max() < 4 * ERROR
    assert all(len(sky.steps) == 2 for sky in skies)


@pytest.mark.parametrize("depth", [0.03, 0.3])
def test_what_follows_the_star_is_neither_smeared_nor_lost(depth):
    # used to be taken for a sky that wanders: the edges of the transit were smeared in it
    n = 300
    star = 1 - depth * np.clip((0.45 - np.abs(np.linspace(-1, 1, n))) / 0.1, 0, 1)
    wings = 40.0
    plain, best, pull, skies = _smoothed(lambda rng, n: wings * star, n, star=star)
    inside, outside = star < 1 - 0.99 * depth, star == 1
    drop = best[:, outside].mean() - best[:, inside].mean()
    # of a drop of 0.3 or 3: its error is that of two means in 20 exposures
    error = ERROR * np.sqrt((1 / inside.sum() + 1 / outside.sum()) / 20)
    assert abs(drop) < 4 * error
    edge = (star < 1) & ~inside
    assert np.abs(best[:, edge].mean(axis=0)).max() < 5 * ERROR * 0.25 / np.sqrt(20)
    assert _ratio(best, plain) < 0.2
    assert np.sqrt((pull**2).mean()) < 1.1


def test_nan_gaps_and_inputs():
    rng = np.random.default_rng(5)
    n = 400
    time = np.arange(n) * 1e-4
    time[200:] += 100 * 1e-4
    level = 20 + 2 * ERROR * (time / time[-1]) + ERROR * rng.standard_normal(n)
    error = np.full(n, ERROR)
    level[rng.random(n) < 0.2] = np.nan
    error[7] = np.nan
    before = level.copy(), error.copy(), time.copy()
    sky = smooth_sky(level, error, time, star=np.ones(n))
    for old, new in zip(before, (level, error, time), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(np.isnan(sky.level), np.isnan(level))
    assert np.isnan(sky.error[7]) and sky.level[7] == level[7]
    good = np.isfinite(level) & np.isfinite(error)
    assert sky.smoothed and (sky.error[good] < 0.5 * ERROR).all()
    truth = 20 + 2 * ERROR * (time / time[-1])
    assert np.sqrt(np.mean((sky.level[good] - truth[good]) ** 2)) < 0.3 * ERROR
    # the gap is longer than the series' own steps: less is known across it
    assert sky.error[good][0] > np.median(sky.error[good])


def test_few_integrations_stay_as_they_are():
    level = np.random.default_rng(6).standard_normal(LEAST - 1)
    sky = smooth_sky(level, np.ones(LEAST - 1))
    np.testing.assert_array_equal(sky.level, level)
    assert not sky.smoothed and "fewer than" in sky.reason
    nothing = smooth_sky(np.full(50, np.nan), np.full(50, np.nan))
    assert not nothing.smoothed and np.isnan(nothing.level).all()
    assert smooth_sky(np.zeros(50), np.zeros(50)).smoothed is False
    assert np.isfinite(smooth_sky(np.ones(50), np.ones(50)).level).all()


def test_last_digits_of_the_input_are_the_last_of_the_output():
    # chunks of another size give sums that differ in the last digits
    rng = np.random.default_rng(7)
    level = 20 + ERROR * (0.05 * np.cumsum(rng.standard_normal(2000)) + rng.standard_normal(2000))
    error = ERROR * (1 + 0.02 * rng.standard_normal(2000))
    first = smooth_sky(level, error)
    other = smooth_sky(level * (1 + 1e-14 * rng.standard_normal(2000)), error)
    np.testing.assert_allclose(other.level, first.level, rtol=1e-12)
    np.testing.assert_allclose(other.error, first.error, rtol=1e-11)


def _curve(made, how):
    result = run(exposure_of(made), Settings(background_smooth=how, find_events=False))
    return result.light_curve, result


def test_weak_lens_in_a_small_frame_gains_and_its_errors_hold():
    made = simulated("WLP8", n_int=150, jitter=0.01, transit_depth=0.03, seed=81)
    plain, first = _curve(made, "none")
    best, second = _curve(made, "auto")
    assert first.record.background_smooth.smoothed is None
    assert second.record.background_smooth.smoothed is True
    at = int(np.argmin(np.abs(first.radii - 65.0)))
    # flux, background and errors are of one piece
    area = np.pi * 65.0**2
    change = best["aperture_flux"][:, at] - plain["aperture_flux"][:, at]
    moved = area * (best["background"] - plain["background"])
    np.testing.assert_allclose(change, -moved, rtol=1e-9, atol=1e-4)
    assert np.median(best["background_err"] / plain["background_err"]) < 0.4
    light = np.array(made.truth["flux"]) / made.simulation.flux
    scatter = []
    for curve in (plain, best):
        flux = curve["aperture_flux"][:, at] / light
        pull = (flux - flux.mean()) / (curve["aperture_flux_err"][:, at] / light)
        # 150 integrations: 6 %
        assert pull.std() == pytest.approx(1.0, abs=0.18)
        scatter.append(flux.std())
    # the sky was 0.37 of the limit: 1.07 becomes 1.00, of noise that both share
    assert scatter[1] < 0.98 * scatter[0]


def test_other_modes_do_not_get_worse():
    for preset in ("F210M", "F1500W"):
        made = simulated(preset, n_int=300, transit_depth=0.03, seed=82)
        light = np.array(made.truth["flux"])
        spread = []
        for how in ("none", "auto"):
            curve, result = _curve(made, how)
            at = int(np.argmin(np.abs(result.radii - (5.0 if preset == "F210M" else 3.4))))
            flux = curve["aperture_flux"][:, at] / light
            spread.append((flux / flux.mean()).std())
        assert spread[1] < 1.005 * spread[0]


def test_nothing_is_done_without_background_or_where_it_is_not_wanted():
    made = simulated("F210M", n_int=40)
    _, result = _curve(made, "none")
    assert result.record.background_smooth.smoothed is None
    bare = run(exposure_of(made), Settings(background="none", find_events=False))
    assert bare.record.background_smooth.smoothed is None
    assert not bare.light_curve["background"].any()


def test_measurement_is_left_as_it_is():
    made = simulated("F210M", n_int=60)
    from tests.trials import measured

    trial = measured(made)
    before = dataclasses.replace(
        trial.found,
        background=trial.found.background.copy(),
        background_err=trial.found.background_err.copy(),
    )
    after, skies = with_smooth_sky(trial.found, trial.plan, trial.exposure.times.time, Settings())
    np.testing.assert_array_equal(before.background, trial.found.background)
    np.testing.assert_array_equal(before.background_err, trial.found.background_err)
    assert len(skies) == len(trial.plan.annuli)
    flux, error = net_flux(after, 0)
    assert (error <= net_flux(trial.found, 0)[1] + 1e-9).all()


@pytest.mark.parametrize("n", [1, 63, 64, 65, 5000])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.999, 1.0])
def test_fading_sums_are_those_of_the_recursion(n, keep):
    values = np.random.default_rng(n).normal(size=n)
    expected, total = np.empty(n), 0.0
    for k, value in enumerate(values):
        total = expected[k] = value + keep * total
    np.testing.assert_allclose(fading_sum(values, keep), expected, rtol=0, atol=1e-11)


def test_runs_of_a_long_series_give_the_likelihood_of_the_whole(monkeypatch):
    rng = np.random.default_rng(9)
    n = 300
    gaps = np.cumsum(rng.integers(1, 4, n))
    for place in (np.arange(n), gaps):
        series = Series(place, rng.standard_normal(n), 1 + rng.random(n))
        whole = [series.likelihood(0.1, 20.0, steps) for steps in ((), (100, 180))]
        level, variance = series.values[:1], series.variance[:1] + 0.1
        expected, mean, weight = 0.0, level[0], 1 / variance[0]
        for k in range(1, n):
            weight *= np.exp(-(place[k] - place[k - 1]) / 20.0)
            spread = 1 / weight + series.variance[k] + 0.1
            expected -= 0.5 * ((series.values[k] - mean) ** 2 / spread + np.log(spread))
            own = 1 / (series.variance[k] + 0.1)
            mean = (mean * weight + series.values[k] * own) / (weight + own)
            weight += own
        assert whole[0] == pytest.approx(expected, rel=1e-10)
        with monkeypatch.context() as small:
            small.setattr("tso_level3.quality.sky_model._TOGETHER", 37)
            runs = [series.likelihood(0.1, 20.0, steps) for steps in ((), (100, 180))]
        np.testing.assert_allclose(runs, whole, rtol=1e-12)
