"""The noise of every aperture, and which one is quoted."""

import dataclasses

import numpy as np
import pytest

from tests.trials import measured, simulated
from tso_level3.quality.apertures import judge, net_flux
from tso_level3.quality.choice import AperturePreference, choose, stated_scatter
from tso_level3.quality.noise import Centres, bin_size, scatter_about


def _judged(preset, *, windows=None, settings=None, **changes):
    made = simulated(preset, jitter=0.01, **changes)
    trial = measured(made, **(settings or {}))
    choice = judge(trial.found, trial.plan, trial.exposure.times.time, trial.preference, windows)
    return trial, choice


def _primary(found, choice):
    """The primary flux, of an aperture or of the fit."""
    if choice.kind == "psf":
        return found.psf[:, 2]
    return net_flux(found, choice.annulus)[0][:, choice.radius]


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
    choice = judge(trial.found, trial.plan, trial.exposure.times.time, trial.preference)
    primary = _primary(trial.found, choice) / made.truth["flux"]
    plain = net_flux(trial.found, 0)[0][:, trial.plan.radii == 5.0][:, 0] / made.truth["flux"]
    assert primary.std() / primary.mean() < 0.95 * plain.std() / plain.mean()


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
    left = {"flicker": "none"}
    _, choice = _judged("F210M", n_int=600, row_noise=12.0, transit_depth=0.0, settings=left)
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
    inside = judge(trial.found, trial.plan, time, trial.preference, outside)
    assert np.isfinite(inside.grid["score"]).sum() > 10


def _pure(n, rng, radii, true):
    """Rows of a grid from light curves of NumPy alone, half of whose noise is in all of them."""
    star = np.where(np.abs(np.arange(n) - n / 2) < n / 5, 0.99, 1.0)
    centres = Centres(*(0.01 * rng.standard_normal((2, n))))
    size = bin_size(np.arange(n) / 1440.0, n)
    common = rng.standard_normal(n)
    scatters, rows = [], []
    for radius, sigma in zip(radii, true):
        noise = sigma * np.sqrt(0.5) * (common + rng.standard_normal(n))
        scatters.append(scatter_about(1e6 * star * (1 + noise), centres, np.ones(n, bool), size))
        own = {"score": scatters[-1].plain, "score_err": scatters[-1].error}
        rows.append({"radius": radius, "kind": "aperture", "rejected": "", **own})
    return scatters, rows


@pytest.mark.parametrize("n", [30, 60, 120, 500])
def test_stated_noise_is_right_on_average(n):
    # used to be that of the least of all: 0.75 of the truth for 50 integrations
    rng = np.random.default_rng(n)
    radii = np.geomspace(2, 12, 24)
    true = 1e-3 * (1 + 0.3 * np.linspace(-1, 1, 24) ** 2)
    ratios = []
    for _ in range(60):
        scatters, rows = _pure(n, rng, radii, true)
        nothing = {"radius": np.nan, "score": np.nan, "score_err": np.nan, "rejected": "none"}
        scatters.append(dataclasses.replace(scatters[0], others=scatters[0].others * np.nan))
        rows.append({"kind": "psf", **nothing})
        picked = choose(rows, radii, AperturePreference("aperture", 3.0, True, ""), n)
        ratios.append(stated_scatter(scatters, rows, picked) / true[picked.best])
    # 200 series give 0.99 to 1.01
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.05)


def test_radius_does_not_jump_between_seeds():
    # used to go from 2.9 to 9 between seeds of one scene
    rng = np.random.default_rng(5)
    radii = np.geomspace(2, 12, 24)
    true = 1e-3 * (1 + 0.05 * np.linspace(-1, 1, 24) ** 2)
    found = []
    for _ in range(30):
        _, rows = _pure(60, rng, radii, true)
        nothing = {"radius": np.nan, "score": np.nan, "score_err": np.nan, "rejected": "none"}
        picked = choose(
            [*rows, {"kind": "psf", **nothing}],
            radii,
            AperturePreference("aperture", 5.0, True, ""),
            60,
        )
        found.append(radii[picked.best])
    assert np.percentile(found, 90) < 1.5 * 5 and np.percentile(found, 10) > 5 / 1.5


def test_what_cannot_be_is_not_quoted():
    # used to quote a fit that holds the pattern of the sky, for its small scatter
    trial, choice = _judged("F210M", n_int=200, transit_depth=0.02)
    assert not any(choice.grid["rejected"][choice.grid["radius"] <= choice.grid["radius_inner"]])
    psf = trial.found.psf.copy()
    psf[:, 2] = np.median(psf[:, 2]) + 0.66 * (psf[:, 2] - np.median(psf[:, 2]))
    wrong = dataclasses.replace(trial.found, psf=psf)
    time = trial.exposure.times.time
    # the fit asked for, or chosen: with the scatter as it is, and with noise put back on it
    for preference in (trial.preference, dataclasses.replace(trial.preference, kind="psf")):
        choice = judge(wrong, trial.plan, time, preference)
        assert choice.kind == "aperture" and choice.rejected == ""
        assert choice.grid["rejected"][-1] != "" == choice.grid["rejected"][0]
        assert choice.apertures["rejected"][-1] == choice.grid["rejected"][-1]
    noise = np.random.default_rng(2).standard_normal(len(psf))
    psf[:, 2] *= 1 + 0.75 * choice.grid["expected"][-1] * noise
    choice = judge(wrong, trial.plan, time, preference)
    assert choice.kind == "aperture"
    assert "of the changes of the flux" in choice.grid["rejected"][-1]


def test_where_nothing_else_remains_it_is_quoted_and_said():
    trial, _ = _judged("F210M", n_int=200, transit_depth=0.0)
    noise = trial.plan.noise
    loud = dataclasses.replace(
        trial.plan,
        noise=dataclasses.replace(noise, star=9 * noise.star, rest=9 * noise.rest),
    )
    found = dataclasses.replace(
        trial.found, variance=9 * trial.found.variance, psf_err=3 * trial.found.psf_err
    )
    choice = judge(found, loud, trial.exposure.times.time, trial.preference)
    assert "photon" in choice.rejected and choice.rejected in choice.reason


def test_a_jump_that_stays_counts_against_an_aperture():
    trial, before = _judged("F210M", n_int=600, transit_depth=0.01)
    small = before.radius
    sums = trial.found.sums.copy()
    assert trial.plan.radii[small] < 8
    # the image changes in the middle: the small ones lose light
    sums[330:] *= 1 - 3e-3 * (trial.plan.radii <= trial.plan.radii[small])
    changed = dataclasses.replace(trial.found, sums=sums)
    choice = judge(changed, trial.plan, trial.exposure.times.time, trial.preference)
    # the primary flux is without the step of the small apertures
    for flux, least, most in (
        (net_flux(changed, choice.annulus)[0][:, small], 2.5e-3, 3.5e-3),
        (_primary(changed, choice), 0.0, 1e-3),
    ):
        ratio = flux / trial.made.truth["flux"]
        assert least <= abs(ratio[330:].mean() / ratio[:330].mean() - 1) < most
    # and how much it matters to a depth is told
    difference = choice.apertures["depth_difference"][small]
    assert difference > 10 * choice.apertures["depth_difference_err"][small]
    chosen = choice.apertures["chosen"]
    assert (choice.apertures["depth_difference"][chosen] == 0).all()


def test_moving_apertures_are_judged_by_what_is_quoted():
    # used to be scored after a regression on the centres that the quoted flux does not get:
    # 1,813 ppm was chosen where 595 was there
    made = simulated("F210M", n_int=300, flux=1e7, jitter=0.1, transit_depth=0.0, seed=8)
    trial = measured(made, moving_centroid=True)
    choice = judge(trial.found, trial.plan, trial.exposure.times.time, trial.preference)
    truth = np.array(made.truth["flux"])
    curves = np.stack([net_flux(trial.found, 0)[0][:, k] / truth for k in range(12)])
    true = curves.std(axis=1) / curves.mean(axis=1)
    psf = (trial.found.psf[:, 2] / truth).std() / (trial.found.psf[:, 2] / truth).mean()
    chosen = psf if choice.kind == "psf" else true[choice.radius]
    assert chosen < 1.15 * min(true.min(), psf)
