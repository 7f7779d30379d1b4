"""Decorrelation: known coefficients come back, and a transit is left alone."""

import numpy as np
import pytest

from tso_level3.core.robust import robust
from tso_level3.quality.detrend import detrend

N_INT = 600
NOISE = 300e-6
SCALE = 2.5e-3
SLOPE_X, SLOPE_Y, TREND = 0.04, -0.02, 0.003
DEPTH = 0.012


@pytest.fixture
def scene():
    rng = np.random.default_rng(11)
    time = 60000.0 + np.linspace(0.0, 0.2, N_INT)
    x, y = rng.normal(0.0, 0.01, (2, N_INT)) + np.array([[31.2], [29.7]])
    phase = (time - time.mean()) / 0.2
    inside = np.abs(time - 60000.1) < 0.03
    baseline = 1 + TREND * phase + SLOPE_X * (x - x.mean()) + SLOPE_Y * (y - y.mean())
    noise = rng.normal(0.0, NOISE, N_INT)
    flux = SCALE * (baseline - DEPTH * inside + noise)
    return {
        "time": time,
        "flux": flux,
        "flux_err": np.full(N_INT, SCALE * NOISE),
        "vectors": {"x": x, "y": y},
        "inside": inside,
        "window": (60000.065, 60000.135),
    }


def run(scene, **options):
    options = {"window": scene["window"]} | options
    return detrend(scene["time"], scene["flux"], scene["flux_err"], scene["vectors"], **options)


def test_coefficients_are_the_true_ones_within_their_errors(scene):
    found = run(scene)
    assert found.names == ("constant", "time", "x", "y")
    truth = np.array([1.0, TREND, SLOPE_X, SLOPE_Y])
    pull = (found.coefficients - truth)[1:] / found.errors[1:]
    np.testing.assert_allclose(pull, 0.0, rtol=0, atol=3.5)
    # About 390 integrations outside the window, x jitters by 0.01 pixel.
    n_out = int((~scene["inside"]).sum())
    expected = NOISE / 0.01 / np.sqrt(n_out)
    np.testing.assert_allclose(found.errors[2:], expected, rtol=0.15)


def test_depth_survives(scene):
    found = run(scene)
    inside, outside = scene["inside"], found.used
    depth = found.flux[outside].mean() - found.flux[inside].mean()
    atol = 4 * NOISE * np.sqrt(1 / inside.sum() + 1 / outside.sum())
    assert depth == pytest.approx(DEPTH, rel=0, abs=atol)


def test_transit_is_bent_where_no_window_is_given(scene):
    found = run(scene, window=None, order=2)
    inside = scene["inside"]
    depth = found.flux[~inside].mean() - found.flux[inside].mean()
    assert depth < 0.8 * DEPTH


def test_scatter_falls_to_the_noise(scene):
    found = run(scene)
    assert found.scatter_before > 1.5 * found.scatter_after
    n_out = found.used.sum()
    # The median absolute deviation is 1.17 / sqrt(n) uncertain.
    assert found.scatter_after == pytest.approx(NOISE, rel=4 * 1.17 / np.sqrt(n_out))
    np.testing.assert_allclose(found.flux_err * found.baseline, scene["flux_err"], rtol=1e-12)


def test_window_is_not_in_the_fit(scene):
    found = run(scene)
    first, last = scene["window"]
    within = (scene["time"] >= first) & (scene["time"] <= last)
    assert not found.used[within].any()
    assert np.isfinite(found.flux[within]).all()
    scene["flux"][within] *= 0.5
    again = run(scene)
    np.testing.assert_array_equal(again.coefficients, found.coefficients)


def test_several_windows(scene):
    edges = (60000.0, 60000.01, *scene["window"])
    found = run(scene, window=edges)
    assert not found.used[scene["time"] <= 60000.01].any()
    assert found.used.sum() < run(scene).used.sum()


def test_outlier_is_left_out(scene):
    clean = run(scene)
    scene["flux"][10] *= 1.05
    found = run(scene)
    assert not found.used[10]
    np.testing.assert_allclose(found.coefficients, clean.coefficients, rtol=0, atol=2e-3)
    assert found.flux[10] == pytest.approx(1.05, abs=5 * NOISE)


def test_rows_that_are_not_finite(scene):
    scene["flux"][3] = np.nan
    scene["vectors"]["x"][4] = np.nan
    found = run(scene)
    assert np.isnan(found.flux[[3, 4]]).all()
    assert not found.used[[3, 4]].any()
    assert np.isfinite(np.delete(found.flux, [3, 4])).all()


def test_noiseless_fit_is_exact(scene):
    x = scene["vectors"]["x"]
    flux = SCALE * (1 + SLOPE_X * (x - x.mean()))
    found = detrend(scene["time"], flux, None, {"x": x}, order=0)
    np.testing.assert_allclose(found.flux, 1.0, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.coefficients, [1.0, SLOPE_X], rtol=0, atol=1e-10)
    assert found.used.all()


def test_without_errors_they_come_from_the_scatter(scene):
    known = run(scene)
    scene["flux_err"] = None
    found = run(scene)
    assert np.isnan(found.flux_err).all()
    np.testing.assert_allclose(found.errors, known.errors, rtol=0.15)


def test_understated_errors_are_scaled(scene):
    known = run(scene)
    scene["flux_err"] = scene["flux_err"] / 10
    np.testing.assert_allclose(run(scene).errors, known.errors, rtol=0.15)


def test_constant_and_repeated_vectors(scene):
    plain = run(scene)
    vectors = scene["vectors"]
    scene["vectors"] = vectors | {"again": vectors["x"], "fixed": np.full(N_INT, 31.5)}
    found = run(scene)
    assert np.isnan(found.coefficients[-1])
    np.testing.assert_allclose(found.flux, plain.flux, rtol=0, atol=1e-9)


def test_inputs_are_not_changed(scene):
    before = {name: np.copy(scene[name]) for name in ("time", "flux", "flux_err")}
    run(scene)
    for name, values in before.items():
        np.testing.assert_array_equal(scene[name], values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": -1}, "order: -1 found"),
        ({"order": 1.5}, "order: 1.5 found"),
        ({"window": (1.0,)}, "window: .* found, expected a start"),
        ({"window": (2.0, 1.0)}, "window: .* found, expected a start"),
        ({"window": (0.0, 1e6)}, "0 usable integrations"),
    ],
)
def test_bad_calls(scene, options, message):
    with pytest.raises(ValueError, match=message):
        run(scene, **options)


def test_vector_without_values_is_named(scene):
    scene["vectors"]["x"] = np.full(N_INT, np.nan)
    with pytest.raises(ValueError, match="vectors: x without a finite value"):
        run(scene)


def test_robust():
    values = np.random.default_rng(5).normal(10.0, 2.0, 20000)
    values[:100] = 1e6
    assert robust(values) == pytest.approx(2.0, rel=0.04)
    assert np.isnan(robust(np.array([np.nan])))
