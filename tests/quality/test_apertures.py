"""The noise of every aperture, and which one is quoted."""

import numpy as np
import pytest

from tests.trials import measured, simulated
from tso_level3.quality.apertures import judge, net_flux


def _judged(preset, *, windows=None, settings=None, **changes):
    made = simulated(preset, jitter=0.01, **changes)
    trial = measured(made, **(settings or {}))
    choice = judge(trial.found, trial.plan, trial.exposure.times.time, trial.wish, windows)
    return trial, choice


def _true_scatter(trial):
    """Of every row of the grid, about the truth and after regression on the true centres."""
    truth = trial.made.truth
    x, y = (np.array(truth[key]) - np.mean(truth[key]) for key in "xy")
    design = np.stack([np.ones_like(x), x, y], axis=1)
    curves = [net_flux(trial.found, a)[0] for a in range(max(len(trial.plan.annuli), 1))]
    curves = np.concatenate([*curves, trial.found.psf[:, 2:]], axis=1) / truth["flux"][:, None]
    curves = curves / curves.mean(axis=0)
    return (curves - design @ np.linalg.lstsq(design, curves, rcond=None)[0]).std(axis=0)


@pytest.mark.parametrize(
    "preset, changes",
    [
        ("F210M", {"n_int": 200}),
        ("F210M", {"n_int": 5000}),
        ("F210M", {"n_int": 200, "flux": 1e7}),
        ("F210M", {"n_int": 600, "flux": 3e4}),
        ("F1500W", {"n_int": 200}),
        ("F1500W", {"n_int": 1200}),
        ("WLP8-SUB64P", {"n_int": 200}),
        ("WLP8", {"n_int": 100}),
    ],
)
def test_choice_is_close_to_the_best_there_is(preset, changes):
    trial, choice = _judged(preset, transit_depth=0.01, **changes)
    true = _true_scatter(trial)
    chosen = int(np.flatnonzero(choice.grid["chosen"])[0])
    allowed = [row for row in range(len(true)) if np.isfinite(choice.grid["score"][row])]
    n = changes["n_int"]
    # A scatter of n values that share most of their noise: half its own error, and 3 %.
    assert true[chosen] < true[allowed].min() * (1.03 + 1.5 / np.sqrt(n))
    assert choice.grid["rank"][chosen] == 1
    assert sorted(choice.grid["rank"]) == list(range(1, len(true) + 1))
    inner, radius = choice.grid["radius_inner"], choice.grid["radius"]
    assert not (radius[allowed] > inner[allowed]).any()


def test_star_that_moves_across_pixels_gets_a_large_aperture():
    # used to keep the mode's radius: a trace of red noise made all others uncertain by a quarter
    made = simulated("F210M", n_int=1500, flux=1e7, jitter=0.05, transit_depth=0.01, seed=3)
    trial = measured(made)
    choice = judge(trial.found, trial.plan, trial.exposure.times.time, trial.wish)
    ratio = net_flux(trial.found, choice.annulus)[0][:, choice.radius] / made.truth["flux"]
    plain = net_flux(trial.found, 0)[0][:, trial.plan.radii == 5.0][:, 0] / made.truth["flux"]
    assert choice.kind == "psf" or ratio.std() / ratio.mean() < 0.95 * plain.std() / plain.mean()


def test_expected_and_measured_noise_agree():
    trial, choice = _judged("F210M", n_int=1500, transit_depth=0.0)
    table = choice.apertures
    np.testing.assert_allclose(table["ratio"], 1.0, atol=0.05 + 4 / np.sqrt(1500))
    parts = [table[f"{name}_noise"] for name in ("photon", "read", "background")]
    together = np.sqrt(np.sum(np.square(parts), axis=0))
    np.testing.assert_allclose(together, table["expected"], rtol=0.02)
    assert table["kind"][-1] == "psf"
    for part in parts:
        assert (part > 0).all()
    overlap, sim = trial.plan.overlap, trial.made.simulation
    read = sim.read_noise * np.sqrt(np.sum(overlap**2, axis=1)) / table["flux"][:-1]
    np.testing.assert_allclose(table["read_noise"][:-1], read, rtol=0.01)


def test_row_noise_shows_as_more_than_expected():
    _, choice = _judged("F210M", n_int=600, row_noise=12.0, transit_depth=0.0)
    at = int(np.argmin(np.abs(choice.apertures["radius"] - 5.0)))
    assert choice.apertures["ratio"][at] > 1.25


def test_what_is_wished_wins_where_noise_makes_no_difference():
    trial, choice = _judged("F210M", n_int=15, transit_depth=0.0)
    assert "too few" in choice.reason
    assert trial.plan.radii[choice.radius] == 5.0
    trial, choice = _judged("F210M", n_int=100, settings={"choose_aperture": False, "radius": 3.0})
    assert trial.plan.radii[choice.radius] == 3.0 and choice.reason == "radius of the settings"


def test_runner_up_and_windows():
    trial, choice = _judged("F210M", n_int=300, transit_depth=0.02)
    second = np.flatnonzero(choice.grid["rank"] == 2)
    assert second.size == 1 and not choice.grid["chosen"][second[0]]
    time = trial.exposure.times.time
    outside = (time[0], time[80], time[220], time[-1])
    inside = judge(trial.found, trial.plan, time, trial.wish, outside)
    assert np.isfinite(inside.grid["score"]).sum() > 10
