"""Pictures: what is drawn is what was measured; no window, no global state."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from tests.products import NOISE, make_result
from tso_level3.flags import Flag
from tso_level3.product.model import build
from tso_level3.product.record import RunRecord
from tso_level3.report import plots

pytest.importorskip("matplotlib", reason="the extra report is not installed")


def lines_of(axis):
    return {line.get_label(): line for line in axis.get_lines()}


@pytest.fixture(scope="module")
def model():
    return build(make_result(1500))


def test_bin_means():
    rng = np.random.default_rng(2)
    time = np.arange(1000.0)
    values = 1.0 + 0.01 * rng.normal(size=1000)
    values[37] = 5.0
    values[38] = np.nan
    found = plots.bin_means(time, values, np.full(1000, 0.01), 50.0)
    assert len(found["time"]) == 20
    # Bins of 50: the mean is 0.01 / sqrt(50) uncertain.
    np.testing.assert_allclose(found["value"], 1.0, rtol=0, atol=4.5 * 0.01 / np.sqrt(50))
    np.testing.assert_allclose(found["error"], 0.01 / np.sqrt(50), rtol=0.35)
    np.testing.assert_allclose(found["time"][5:], np.arange(5, 20) * 50 + 24.5, rtol=0, atol=1.0)


def test_bin_means_of_little():
    empty = plots.bin_means(np.array([np.nan]), np.array([1.0]), np.array([0.1]), 1.0)
    assert all(len(values) == 0 for values in empty.values())
    one = plots.bin_means(np.array([0.0, 5.0]), np.ones(2), np.ones(2), 1.0)
    assert len(one["time"]) == 0


def test_figure_shows_the_quoted_flux(model):
    figure = plots.light_curve(model)
    axis = figure.axes[0]
    drawn = lines_of(axis)["integrations"]
    np.testing.assert_allclose(drawn.get_ydata(), model.flux / np.median(model.flux), rtol=1e-12)
    hours = (model.light_curve["time"] - model.light_curve["time"][0]) * 24
    np.testing.assert_allclose(drawn.get_xdata(), hours, rtol=0, atol=1e-4 * 24 + 1e-9)
    low, high = axis.get_ylim()
    assert low < drawn.get_ydata().min() < drawn.get_ydata().max() < high
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert "10-minute means" in labels
    assert "pixels filled (1)" in labels
    assert any("tilt" in text.get_text() for text in axis.texts)
    assert any(f"{NOISE * 1e6:.0f} ppm" in text.get_text() for text in axis.texts)
    ylabels = " ".join(axis.get_ylabel() for axis in figure.axes)
    for word in ("relative flux", "psf x", "psf y", "background", "Jy / pix", "width"):
        assert word in ylabels
    assert "WASP-39" in figure.get_suptitle()


@pytest.mark.parametrize(
    ("span", "label", "bins"),
    [(5.0, "hours from BMJD TDB", "10-minute"), (0.5, "minutes from BMJD TDB", "2-minute")],
)
def test_axis_and_bins_go_by_the_length(span, label, bins):
    result = make_result(500)
    time = result.light_curve["time"]
    time[:] = time[0] + np.linspace(0.0, span / 24.0, len(time))
    figure = plots.light_curve(build(result))
    assert any(axis.get_xlabel().startswith(label) for axis in figure.axes)
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert f"{bins} means" in texts


def test_wild_and_missing_points_do_not_set_the_scale():
    result = make_result(300)
    calm = plots.light_curve(build(result)).axes[0].get_ylim()
    result.light_curve["aperture_flux"][40] *= 30
    result.light_curve["aperture_flux"][41] = np.nan
    result.light_curve["flags"][41] = Flag.ALL_BAD
    axis = plots.light_curve(build(result)).axes[0]
    np.testing.assert_allclose(axis.get_ylim(), calm, rtol=0, atol=3 * NOISE)
    marks = lines_of(axis)
    assert "beyond (1)" in marks
    (place,) = marks["no value (1)"].get_ydata()
    assert calm[0] - 3 * NOISE < place < calm[1]


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_file_is_written_whole(model, tmp_path, ending):
    plots.light_curve(model, tmp_path / f"a.{ending}")
    starts = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    assert (tmp_path / f"a.{ending}").read_bytes().startswith(starts[ending])
    assert len(list(tmp_path.iterdir())) == 1


def test_unknown_ending(model, tmp_path):
    with pytest.raises(ValueError, match=r"a.xyz: ending '.xyz' found, expected one of"):
        plots.light_curve(model, tmp_path / "a.xyz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["psf", "short", "one", "bad", "no times", "no metadata", "unit"])
def test_odd_products_are_drawn(kind, tmp_path):
    import dataclasses

    n_int = {"short": 3, "one": 1}.get(kind, 60)
    result = make_result(n_int, quoted="psf" if kind == "psf" else "aperture")
    curve = dict(result.light_curve)
    changes = {"light_curve": curve}
    if kind == "bad":
        for name in curve:
            if name.startswith(("aperture_flux", "psf", "background", "gauss", "cc")):
                curve[name] = np.full_like(curve[name], np.nan)
        curve["flags"] = np.full(n_int, Flag.ALL_BAD, "u4")
    elif kind == "no times":
        for name in ("time", "bmjd_tdb", "mjd_utc"):
            curve[name] = np.full(n_int, np.nan)
        changes["record"] = RunRecord()
    elif kind == "no metadata":
        changes["meta"] = {}
    elif kind == "unit":
        changes["unit"] = ""
    path = tmp_path / "a.png"
    plots.light_curve(build(dataclasses.replace(result, **changes)), path)
    assert path.stat().st_size > 10000


def test_no_pyplot_and_no_backend():
    script = """
    import sys
    from tests.products import make_result
    from tso_level3.report import plots
    assert "matplotlib" not in sys.modules
    from tso_level3.product.model import build
    plots.light_curve(build(make_result(20)))
    assert "matplotlib.pyplot" not in sys.modules
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_missing_matplotlib_names_feature_and_extra(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"drawing .*matplotlib.*tso_level3\[report\]"):
        plots.light_curve(model)


def test_drawing_changes_nothing(model):
    before = {name: np.array(model.light_curve[name]) for name in model.light_curve.colnames}
    plots.light_curve(model)
    for name, values in before.items():
        np.testing.assert_array_equal(model.light_curve[name], values)


def test_flux_is_relative_to_what_is_out_of_transit():
    """Used to be relative to the median, which is in the transit where that is long."""
    import dataclasses

    result = make_result(900)
    time = result.light_curve["time"]
    settings = dict(result.record.settings) | {
        "out_of_transit": np.quantile(time, [0.0, 0.3, 0.7, 1.0]).tolist()
    }
    model = build(
        dataclasses.replace(result, record=dataclasses.replace(result.record, settings=settings))
    )
    drawn = lines_of(plots.light_curve(model).axes[0])["integrations"].get_ydata()
    assert np.median(drawn[:250]) == pytest.approx(1.0, abs=5 * NOISE / np.sqrt(250) * 1.25)


def test_jump_is_marked_with_its_size_and_error(model):
    (text,) = [
        t.get_text() for t in plots.light_curve(model).axes[0].texts if "tilt" in t.get_text()
    ]
    assert text == "tilt -300 ± 50 ppm"
