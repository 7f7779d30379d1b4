"""Events: on made-up series with known noise, and on simulated tilts of mirror segments."""

import numpy as np
import pytest

from benchmarks.events import moved, quiet, tilted
from tso_level3.quality.events.change_points import Subspaces, locate, neg_log_p, scan
from tso_level3.quality.events.drift import steepness
from tso_level3.quality.events.find import LEAST_INTEGRATIONS, find_events
from tso_level3.quality.events.whitening import whiten

N_DIRECTIONS = 30


def _groups(rng):
    return [np.linalg.qr(rng.standard_normal((N_DIRECTIONS, 3)))[0] for _ in range(18)]


def _series(rng, n=1200):
    """White noise everywhere, a transit of 2 % in the flux."""
    time = np.linspace(-1, 1, n)
    transit = 1 - 0.02 * (np.abs(time) < 0.4)
    return {
        "components": rng.standard_normal((n, N_DIRECTIONS)),
        "x": 31.2 + 0.005 * rng.standard_normal(n),
        "y": 30.7 + 0.005 * rng.standard_normal(n),
        "width_x": 0.9 + 0.002 * rng.standard_normal(n),
        "width_y": 0.9 + 0.002 * rng.standard_normal(n),
        "chi2": 1 + 0.07 * rng.standard_normal(n),
        "flux": 3e5 * transit * (1 + 0.002 * rng.standard_normal(n)),
    }


def _direction(groups, rng):
    vector = groups[4] @ rng.standard_normal(3)
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("n", [200, 1200])
def test_white_noise_with_a_transit_has_no_events(n):
    rng = np.random.default_rng(20)
    groups = _groups(rng)
    found = [find_events(**_series(rng, n), subspaces=groups) for _ in range(40)]
    assert sum(len(events) for events in found) <= 1


def test_step_is_found_where_it_is_with_its_flux():
    rng = np.random.default_rng(21)
    groups = _groups(rng)
    errors, sizes = [], []
    for _ in range(30):
        series = _series(rng)
        first = int(rng.integers(150, 1050))
        # signal-to-noise 16 over 100 integrations on each side
        series["components"][first:] += 16 / np.sqrt(50) * _direction(groups, rng)
        series["flux"][first:] *= 1.004
        events = find_events(**series, subspaces=groups)
        assert [event.kind for event in events] == ["tilt"]
        errors.append(abs(events[0].row - first))
        # away from ingress and egress
        if min(abs(first - 360), abs(first - 840)) > 100:
            sizes.append(events[0].size)
    assert np.mean(np.array(errors) <= 2) >= 0.9
    # 100 integrations on each side, a slope fitted too: 0.002 * 2 * sqrt(2 / 100) each
    error = 0.002 * 2 * np.sqrt(2 / 100)
    np.testing.assert_allclose(np.mean(sizes), 0.004, rtol=0, atol=4 * error / np.sqrt(len(sizes)))
    np.testing.assert_allclose(sizes, 0.004, rtol=0, atol=5 * error)


def test_step_without_groups_is_found_by_all_directions_together():
    rng = np.random.default_rng(22)
    series = _series(rng)
    series["components"][500:] += 16 / np.sqrt(50) * _direction(_groups(rng), rng)
    events = find_events(**series)
    assert [event.kind for event in events] == ["tilt"]
    assert abs(events[0].row - 500) <= 6


def test_two_steps_are_two_events():
    rng = np.random.default_rng(23)
    groups, series = _groups(rng), _series(rng)
    series["components"][300:] += 4 * _direction(groups, rng)
    series["components"][800:] -= 4 * _direction(groups, rng)
    events = find_events(**series, subspaces=groups)
    assert [(event.row, event.kind) for event in events] == [(300, "tilt"), (800, "tilt")]


@pytest.mark.parametrize("shape", ["line", "wave", "sigmoid"])
def test_slow_change_is_no_tilt(shape):
    rng = np.random.default_rng(24)
    groups = _groups(rng)
    time = np.linspace(-1, 1, 1200)
    drift = {
        "line": 1.5 * time,
        "wave": np.sin(2 * np.pi * time),
        "sigmoid": np.tanh(time / 0.2),
    }[shape]
    # a change of two sigma within some 250 integrations, at ten times the significance of a tilt
    # that is just found, may look like a step once in a while
    found = []
    for _ in range(10):
        series = _series(rng)
        series["components"] += drift[:, None] * _direction(groups, rng)
        found += find_events(**series, subspaces=groups)
    assert len(found) <= (2 if shape == "sigmoid" else 0)


@pytest.mark.parametrize(
    "n, size", [(2000, 0.3), (2000, 0.6), (10_000, 0.3), (10_000, 3.0), (40_000, 1.0)]
)
def test_faint_and_long_drifts_are_no_tilts(n, size):
    # used to be cut into tilts: what is left of a faint drift beside a parabola is noise, but
    # often a quarter of the drift's own significance (20 to 40 of them in 6 such exposures)
    found = []
    for seed in range(6):
        rng = np.random.default_rng(50 + seed)
        groups, series = _groups(rng), _series(rng, n)
        drift = size * np.linspace(-1, 1, n)
        series["components"] += drift[:, None] * _direction(groups, rng)
        found += find_events(**series, subspaces=groups)
    assert len(found) <= 1


def test_step_on_a_slow_change_is_found():
    rng = np.random.default_rng(25)
    groups = _groups(rng)
    time, found = np.linspace(-1, 1, 1200), 0
    for _ in range(10):
        series = _series(rng)
        drift = 1.5 * time + np.where(np.arange(1200) >= 700, 16 / np.sqrt(50), 0.0)
        series["components"] += drift[:, None] * _direction(groups, rng)
        events = find_events(**series, subspaces=groups)
        found += any(e.kind == "tilt" and abs(e.row - 700) <= 5 for e in events)
    assert found >= 8


def test_transit_after_a_large_tilt_is_no_event():
    # used to be found in residuals and chi-square, which a tilt makes as bright as the star
    rng = np.random.default_rng(35)
    groups, found = _groups(rng), []
    for first in (100, 300, 600):
        series = _series(rng)
        change = 40 * _direction(groups, rng) * series["flux"][:, None] / 3e5
        series["components"] += change * (np.arange(1200) >= first)[:, None]
        series["components"] -= 0.5 * change
        square = (series["components"] ** 2).sum(axis=1) / 400
        series["chi2"] += square - square.mean()
        found.append([(e.row, e.kind) for e in find_events(**series, subspaces=groups)])
    assert found == [[(100, "tilt")], [(300, "tilt")], [(600, "tilt")]]


def test_jump_of_the_pointing_is_a_jump():
    rng = np.random.default_rng(26)
    series = _series(rng)
    series["x"] += 0.03 * np.linspace(0, 1, 1200)
    series["x"][400:] += 0.03
    events = find_events(**series)
    assert [event.kind for event in events] == ["jump"]
    assert abs(events[0].row - 400) <= 1


@pytest.mark.parametrize("length", [6, 20, 60])
def test_short_disturbance_of_the_pointing_is_an_antenna_move(length):
    rng = np.random.default_rng(27)
    series = _series(rng)
    series["y"][700 : 700 + length] += 0.04
    series["flux"][700 : 700 + length] *= 0.99
    events = find_events(**series)
    assert [event.kind for event in events] == ["antenna"]
    assert abs(events[0].row - 700) <= 2
    # 0.2 % of noise over the integrations of the move, 1 where the edges are uncertain
    assert events[0].size == pytest.approx(-0.01, abs=5 * 0.002 * 1.25 / np.sqrt(length))


def test_one_bad_centre_is_no_event():
    rng = np.random.default_rng(28)
    series = _series(rng)
    series["x"][[100, 500, 900]] += 1.0
    series["components"][300] += 40.0
    assert find_events(**series) == ()


def test_ramp_at_the_start_is_settling():
    rng = np.random.default_rng(29)
    series = _series(rng)
    series["x"] += 0.03 * np.exp(-np.arange(1200) / 40)
    events = find_events(**series)
    assert [event.kind for event in events] == ["settling"]
    assert events[0].row == 0
    # 5 % of the ramp are left after three times its length
    assert 60 <= events[0].length <= 240


@pytest.mark.parametrize("length", [10, 40, 80])
def test_ramps_of_any_length_are_settling_and_no_jump(length):
    # used to be jumps and antenna moves where the ramp is short or the exposure
    kinds = []
    for seed in range(6):
        rng = np.random.default_rng(60 + seed)
        series = _series(rng)
        series["x"] += 0.03 * np.exp(-np.arange(1200) / length)
        kinds += [event.kind for event in find_events(**series)]
    assert set(kinds) == {"settling"}
    # that of 80 is too long to be told from a drift in each of these exposures
    assert len(kinds) >= (3 if length == 80 else 6)


@pytest.mark.parametrize("first", [12, 30])
def test_jump_soon_after_the_start_is_a_jump(first):
    for seed in range(4):
        series = _series(np.random.default_rng(70 + seed))
        series["x"][first:] += 0.03
        events = find_events(**series)
        assert [event.kind for event in events] == ["jump"]
        assert abs(events[0].row - first) <= 1


def test_drift_that_is_red_noise_is_no_event():
    rng = np.random.default_rng(30)
    found = []
    for _ in range(10):
        series = _series(rng)
        # a random walk as strong as the jitter after some twenty integrations
        series["x"] = series["x"] + np.cumsum(0.001 * rng.standard_normal(1200))
        found += find_events(**series)
    assert len(found) <= 1


def test_missing_integrations_are_passed_over():
    rng = np.random.default_rng(31)
    groups, series = _groups(rng), _series(rng)
    series["components"][600:] += 4 * _direction(groups, rng)
    gone = rng.random(1200) < 0.2
    gone[600] = False
    for name in ("x", "y", "chi2", "flux", "width_x"):
        series[name][gone] = np.nan
    series["components"][gone] = np.nan
    before = {name: value.copy() for name, value in series.items()}
    events = find_events(**series, subspaces=groups)
    assert [(event.row, event.kind) for event in events] == [(600, "tilt")]
    for name, value in series.items():
        np.testing.assert_array_equal(value, before[name])


def test_too_few_integrations_have_no_events():
    rng = np.random.default_rng(32)
    series = _series(rng, LEAST_INTEGRATIONS - 1)
    series["components"][20:] += 50.0
    assert find_events(**series) == ()


def test_everything_missing_gives_nothing():
    series = {
        name: np.full_like(v, np.nan) for name, v in _series(np.random.default_rng(0)).items()
    }
    assert find_events(**series) == ()


def test_constant_series_give_nothing():
    series = {
        name: np.ones_like(value) for name, value in _series(np.random.default_rng(0)).items()
    }
    assert find_events(**series) == ()


def test_whitening_takes_correlation_and_scale_out():
    rng = np.random.default_rng(33)
    mixing = np.eye(6) + 0.5 * rng.standard_normal((6, 6))
    values = rng.standard_normal((4000, 6)) @ mixing
    values[2000:] += 3.0
    values[123] += 1e4
    white = whiten(values).values
    covariance = np.cov(np.diff(white, axis=0).T) / 2
    np.testing.assert_allclose(covariance, np.eye(6), rtol=0, atol=0.1)


def test_surprise_agrees_with_the_chi_square_distribution():
    from scipy.stats import chi2

    squares, dof = np.array([0.5, 30.0, 200.0, 1200.0]), np.array([2, 3, 40, 3])
    np.testing.assert_allclose(neg_log_p(squares, dof), -chi2.logsf(squares, dof), rtol=1e-6)
    # beyond what a float holds the leading term must go on without a jump
    np.testing.assert_allclose(neg_log_p(np.array([2000.0]), np.array([3])), [996.425], atol=0.01)


def test_scan_beside_a_polynomial_agrees_with_least_squares():
    rng = np.random.default_rng(34)
    values = rng.standard_normal((80, 1))
    best = scan(values, Subspaces((np.eye(1),)), degree=2, least=5)
    step = (np.arange(80) >= best.index).astype(float)
    design = np.stack([np.ones(80), np.arange(80.0), np.arange(80.0) ** 2, step], axis=1)
    rest = [np.linalg.lstsq(d, values[:, 0], rcond=None)[1][0] for d in (design[:, :3], design)]
    np.testing.assert_allclose(best.chi2, rest[0] - rest[1], rtol=1e-8)


def test_step_without_noise_is_placed_exactly():
    values = np.zeros((200, 2))
    values[77:] = [3.0, -1.0]
    assert locate(values, 90, np.eye(2)) == 77
    assert steepness(values[:, 0] * 10, 77, reach=70) > 0.4


def test_simulated_tilts_are_found_in_time():
    trials = [tilted(("F210M", 900 + k, 16.0, 400, {}, {"choose_aperture": False})) for k in (0, 1)]
    assert [len(trial.found) for trial in trials] == [1, 1]
    assert max(trial.error for trial in trials) <= 3
    assert [trial.other for trial in trials] == [(), ()]


def test_simulated_transit_without_a_tilt_gives_no_event():
    assert quiet(("F210M", 17, 600, {}, {"choose_aperture": False})) == ()


@pytest.mark.parametrize("kind", ["jump", "antenna", "settling"])
def test_simulated_moves_of_the_pointing_are_told_apart(kind):
    # 6 times the jitter, the weakest that is called certain; a transit of 1 to 3 % beside
    for seed in (910, 911):
        task = ("F210M", seed, kind, 6.0, 500, {"jitter": 0.008}, {"choose_aperture": False})
        found, error, other = moved(task)
        assert found and error <= 3
        assert other == ()
