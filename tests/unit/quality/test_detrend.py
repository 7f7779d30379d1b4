"""Decorrelation: known coefficients come back, and a transit is left alone."""

import numpy as np
import pytest

from tso_level3.quality.detrend import detrend
from tso_level3.utils.stats import mad_std

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
        ({"window": (2.0, 1.0)}, "window: .* found, expected a start .* 60000 to 60000.2"),
        ({"window": (0.0, 1e6)}, "0 usable integrations"),
    ],
)
def test_bad_calls(scene, options, message):
    with pytest.raises(ValueError, match=message):
        run(scene, **options)


@pytest.mark.parametrize("window", [(0.1, 0.2), (59999.0, 59999.5), (60000.05, 60000.1, 3.0, 4.0)])
def test_window_that_misses_the_data_shows_their_times(scene, window):
    """Used to be taken in silence, and the transit was fitted away."""
    with pytest.raises(ValueError, match=r"window: no integration .* times from 60000 to 60000.2"):
        run(scene, window=window)


def bright(n, depth, rng, jitter=0.005, noise=120e-6):
    """A transit of a bright star with short ingress, in the middle 40 % of n integrations."""
    time = 60310.25 + np.arange(n) * 1.4 / 86400
    phase = (np.arange(n) - (n - 1) / 2) / n
    transit = 1 - depth * np.clip((0.2 - np.abs(phase)) / 0.04, 0, 1)
    x, y = rng.normal(0, jitter, (2, n)) + np.array([[79.7], [79.2]])
    flux = 3.0 * (transit * (1 + 0.002 * (x - 79.7)) + rng.normal(0, noise, n))
    window = (time[np.abs(phase) < 0.21][0], time[np.abs(phase) < 0.21][-1])
    return time, flux, np.full(n, 3.0 * noise), {"psf_x": x, "psf_y": y}, window


@pytest.mark.parametrize("n", [100, 400])
@pytest.mark.parametrize("depth", [0.0, 0.01])
def test_a_transit_is_no_outlier(n, depth, caplog):
    """Used to leave out 95 % of 100 integrations, and to end with 100 times the scatter."""
    warned = 0
    for seed in range(30):
        *series, window = bright(n, depth, np.random.default_rng([seed, n]))
        for given in (None, window):
            caplog.clear()
            found = detrend(*series, window=given)
            inside = np.zeros(n, bool)
            if given is not None:
                inside = (series[0] >= given[0]) & (series[0] <= given[1])
            assert (~found.used & ~inside).sum() <= 0.02 * (~inside).sum()
            assert found.scatter_after <= found.scatter_before
            worse = 1 + 1 / np.sqrt((~inside).sum())
            assert found.noise_after <= worse * found.noise_before
            # The scatter of the light curve itself, far from the ingress and in the middle.
            quiet = np.abs(np.arange(n) - (n - 1) / 2) / n
            parts = [np.std(found.flux[part]) for part in (quiet > 0.25, quiet < 0.1)]
            np.testing.assert_allclose(parts, 120e-6, rtol=0.5)
            warned += "not taken out" in caplog.text
            assert given is None or not caplog.records
    # Fitted without a window, 1 % of transit is 5,000 / sqrt(n) ppm of motion by chance.
    assert warned > 20 if depth > 0 else warned == 0


def test_depth_is_that_of_the_data_within_its_error():
    pulls = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        time, flux, error, vectors, window = bright(400, 0.01, rng, jitter=0.02, noise=200e-6)
        found = detrend(time, flux, error, vectors, window=window)
        phase = np.abs(np.arange(400) - 199.5) / 400
        bottom, out = phase < 0.15, found.used
        depth = np.mean(found.flux[out]) - np.mean(found.flux[bottom])
        pulls.append((depth - 0.01) / (200e-6 * np.sqrt(1 / bottom.sum() + 1 / out.sum())))
    assert abs(np.mean(pulls)) < 3.5 / np.sqrt(60)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.33)


def test_many_outliers_are_kept_with_a_warning(scene, caplog):
    rng = np.random.default_rng(4)
    bad = rng.choice(N_INT, 60, replace=False)
    scene["flux"][bad] *= 1 + rng.choice([-1, 1], 60) * 0.02
    found = run(scene)
    assert "more than outliers can be: none is left out" in caplog.text
    first, last = scene["window"]
    outside = (scene["time"] < first) | (scene["time"] > last)
    assert found.used[outside].all()


def test_order_of_the_rows_does_not_matter(scene):
    scene["flux"][10] *= 1.05
    mixed = np.random.default_rng(8).permutation(N_INT)
    one, other = run(scene), None
    vectors = {name: values[mixed] for name, values in scene["vectors"].items()}
    other = detrend(
        scene["time"][mixed],
        scene["flux"][mixed],
        scene["flux_err"][mixed],
        vectors,
        window=scene["window"],
    )
    np.testing.assert_array_equal(other.used, one.used[mixed])
    np.testing.assert_allclose(other.flux, one.flux[mixed], rtol=0, atol=1e-12)


def test_noise_leaves_out_trend_and_ingress(scene):
    """The rms has the transit in it where no window leaves it out; the noise does not."""
    found = detrend(scene["time"], scene["flux"], scene["flux_err"], {}, order=2)
    assert found.scatter_after > 10 * NOISE
    expected = np.hypot(NOISE, 0.01 * np.hypot(SLOPE_X, SLOPE_Y))
    assert found.noise_before == pytest.approx(expected, rel=0.12)


def test_short_words_and_a_table(scene):
    found = run(scene)
    assert len(repr(found)) < 200 and "600 integrations" in repr(found)
    assert f"point to point {1e6 * found.noise_before:.0f}" in repr(found)
    table = found.to_table()
    assert table.colnames == ["time", "flux", "flux_err", "baseline", "used"]
    np.testing.assert_array_equal(table["flux"], found.flux)
    assert list(table.meta["terms"]) == list(found.names)
    assert table.meta["terms"]["x"] == [found.coefficients[2], found.errors[2]]


def test_vector_without_values_is_named(scene):
    scene["vectors"]["x"] = np.full(N_INT, np.nan)
    with pytest.raises(ValueError, match="vectors: x without a finite value"):
        run(scene)


def test_robust():
    values = np.random.default_rng(5).normal(10.0, 2.0, 20000)
    values[:100] = 1e6
    assert mad_std(values) == pytest.approx(2.0, rel=0.04)
    assert np.isnan(mad_std(np.array([np.nan])))
