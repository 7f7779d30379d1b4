"""Light curves of one star against each other, made of NumPy alone."""

import numpy as np
import pytest

from tso_level3.quality.compare import (
    box_difference,
    hour_of,
    jump_variance,
    jumps_in,
    red_excess,
    response_of,
)
from tso_level3.quality.noise import bins

N, SIZE = 1200, 20
USE = np.ones(N, bool)


def _transit(depth, n=N):
    return np.where(np.abs(np.arange(n) - 0.45 * n) < 0.15 * n, 1.0 - depth, 1.0)


def _pair(seed, *, sigma=1e-3, shared=0.8, n=N):
    common, *own = np.random.default_rng(seed).standard_normal((3, n))
    return [sigma * (np.sqrt(shared) * common + np.sqrt(1 - shared) * part) for part in own]


@pytest.mark.parametrize("depth", [0.01, 0.1])
def test_response_is_one_where_both_follow_the_star(depth):
    for seed in range(40):
        noise = _pair(seed, shared=0.5)
        found = response_of(*[5e5 * _transit(depth) * (1 + part) for part in noise], USE)
        assert found.low <= found.high and not found.wrong
        assert found.low < 1.0 + 4 * found.error and found.high > 1.0 - 4 * found.error


@pytest.mark.parametrize("slope", [0.14, 0.66, 0.9, 1.2])
def test_a_curve_that_holds_a_part_of_the_sky_is_found(slope):
    # used to be quoted: its scatter is as much smaller as its depth
    for seed in range(40):
        one, two = _pair(seed)
        curve = _transit(0.02) * (1 + two)
        found = response_of(1 + slope * (_transit(0.02) * (1 + one) - 1), curve, USE)
        assert found.wrong
        assert found.low - 4 * found.error < slope < found.high + 4 * found.error


def test_noise_says_nothing_of_the_response():
    for seed in range(40):
        one, two = _pair(seed)
        found = response_of(1 + 0.6 * one, 1 + two, USE)
        assert found is None or not found.wrong


def test_slow_errors_of_one_curve_are_no_response():
    # a plain regression says 0.3 here, and its noise alone 0.02
    drift = 0.004 * np.sin(np.arange(N) / 150.0)
    for seed in range(10):
        one, two = _pair(seed)
        star = _transit(0.004)
        for first, second in ((0.0, drift), (drift, 0.0)):
            found = response_of(star * (1 + one + first), star * (1 + two + second), USE)
            assert not found.wrong


def _means(curves):
    return np.stack([bins(curve, SIZE) for curve in curves])


def test_transits_and_chance_are_no_red_noise():
    false = 0
    for seed in range(60):
        noise = 1e-3 * np.random.default_rng(seed).standard_normal((12, N))
        curves = _transit(0.01) * (1 + noise)
        excess, _ = red_excess(_means(curves), np.full(12, 1e-3), SIZE)
        false += (np.abs(excess) > 2e-6).sum()
    assert false <= 0.05 * 60 * 12


@pytest.mark.parametrize("length", [20, 60])
def test_red_noise_of_ten_minutes_and_of_half_an_hour_counts(length):
    sizes = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        noise = 1e-3 * rng.standard_normal((6, N))
        noise[2] += np.repeat(6e-4 * rng.standard_normal(N // length), length)
        excess, doubt = red_excess(_means(_transit(0.02) * (1 + noise)), np.full(6, 1e-3), SIZE)
        assert not np.delete(excess, 2).max() > excess[2] and doubt[2] >= 0
        sizes.append(excess[2])
    assert np.count_nonzero(sizes) >= 8
    # a part of what the bins have of their own, by how many integrations they are of
    assert np.mean(sizes) == pytest.approx(6e-4**2 * length, rel=0.5)


def test_a_jump_of_one_aperture_is_found_and_a_transit_is_not():
    rng = np.random.default_rng(1)
    star = _transit(0.01)
    small, large, fit = star * (1 + 1e-3 * rng.standard_normal((3, N)))
    quiet = np.stack([large / small, fit / small], axis=1)
    assert jumps_in(quiet, USE) == []
    small[540:] *= 1.0015
    found = jumps_in(np.stack([large / small, fit / small], axis=1), USE)
    assert len(found) == 1 and abs(found[0] - 540) < 10
    worth = jump_variance([small, large], np.full(2, 1e-3), found, 120)
    assert worth[1] == 0.0
    # by hand: a step J in n integrations is J^2 h / (6 n) of a box of h
    by_hand = 0.0015**2 * 120**2 / (12 * N)
    assert worth[0] == pytest.approx(by_hand, rel=0.6)
    # the side of a transit is in both
    sides = jump_variance([small, large], np.full(2, 1e-3), [360], 120)
    assert (sides < 0.1 * worth[0]).all()


def test_a_jump_is_worth_the_white_noise_that_it_is_worth():
    # over all places of a box of an hour, in a curve of nothing but the step
    n, hour, step = 4000, 100, 1e-3
    curve = np.where(np.arange(n) >= n // 2, 1.0 + step, 1.0)
    error, _ = box_difference(curve, np.ones(n), np.ones(n, bool), hour)
    worth = jump_variance([curve, np.ones(n)], np.full(2, 1e-9), [n // 2], hour)
    white = np.sqrt(worth[0])
    assert white * np.sqrt(2 / hour) == pytest.approx(error, rel=0.05)


def test_depths_of_a_box_differ_by_the_noise_that_is_not_shared():
    one, two = _pair(3, shared=0.9)
    found, expected = box_difference(1e6 * (1 + one), 3e5 * (1 + two), USE, 60)
    assert expected == pytest.approx(1e-3 * np.sqrt(2 * 0.1) * np.sqrt(2 / 60), rel=0.1)
    assert found == pytest.approx(expected, rel=0.4)
    assert box_difference(one + 1, one + 1, USE, 60)[0] == 0.0
    assert np.isnan(box_difference(one[:50] + 1, two[:50] + 1, USE[:50], 60)[0])


def test_integrations_in_an_hour():
    minute = 1 / 1440
    assert hour_of(np.arange(1000) * minute, 1000) == 60
    assert hour_of(np.arange(100) * minute, 100) == 25
    assert hour_of(np.full(100, np.nan), 100) == 25
