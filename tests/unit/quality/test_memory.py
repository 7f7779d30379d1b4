"""What the judgement of a long exposure needs beside what was measured."""

import dataclasses
import tracemalloc

import numpy as np

from tests.trials import measured, simulated
from tests.unit.quality.test_events import _direction, _groups, _series
from tso_level3.core.plan import Measurement
from tso_level3.quality.apertures import judge
from tso_level3.quality.events.find import find_events
from tso_level3.quality.events.whitening import whiten


def _peak(call):
    """Answer of a call, and the bytes that it had at once."""
    tracemalloc.start()
    try:
        return call(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_search_for_events_holds_little_more_than_the_projections_once():
    # used to hold them several times over, and their products with every family beside
    rng = np.random.default_rng(40)
    groups, n = _groups(rng), 80_000
    series = _series(rng, n)
    # residuals are as bright as the star
    bright = series["flux"][30_000:, None] / 3e5
    series["components"][30_000:] += 4.0 * bright * _direction(groups, rng)
    events, peak = _peak(lambda: find_events(**series, subspaces=groups))
    assert [event.kind for event in events] == ["tilt"]
    assert abs(events[0].row - 30_000) <= 2
    single = series["components"].size * 4
    assert peak < single + 35 * 8 * n


def test_single_precision_finds_the_same_events(monkeypatch):
    rng = np.random.default_rng(41)
    groups, series = _groups(rng), _series(rng)
    series["components"][400:] += 2.0 * _direction(groups, rng)
    series["components"][800:] -= 3.0 * _direction(groups, rng)
    double = find_events(**series, subspaces=groups)
    monkeypatch.setattr("tso_level3.quality.events.shape_series._MANY", 0)
    single = find_events(**series, subspaces=groups)
    assert len(double) == 2
    assert [(e.row, e.kind) for e in single] == [(e.row, e.kind) for e in double]
    np.testing.assert_allclose(
        [e.significance for e in single], [e.significance for e in double], rtol=1e-5
    )


def test_whitening_in_place_is_whitening():
    values = np.random.default_rng(42).standard_normal((5000, 7))
    values[77] *= 50.0
    copy = values.copy()
    apart = whiten(copy)
    np.testing.assert_array_equal(copy, values)
    within = whiten(copy, out=copy)
    np.testing.assert_array_equal(within.values, apart.values)
    assert within.values is copy


def test_choice_holds_a_few_series_and_no_table_of_all():
    trial = measured(simulated("F210M", n_int=400, transit_depth=0.01))
    copies = 50
    whole = Measurement(
        **{
            item.name: np.concatenate([getattr(trial.found, item.name)] * copies)
            for item in dataclasses.fields(Measurement)
        }
    )
    time, n = 6e4 + np.arange(400 * copies) / 86400, 400 * copies
    choice, peak = _peak(lambda: judge(whole, trial.plan, time, trial.preference))
    assert int(choice.grid["chosen"].sum()) == 1
    # used to be those of each of 36 rows, and 12 radii by 16 terms of the pointing noise
    assert peak < 30 * 8 * n
