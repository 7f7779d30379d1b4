"""Row noise: removed where there is some, left alone where there is none."""

import numpy as np
import pytest

from tests.trials import exposure_of, measured, simulated
from tso_level3.config.settings import Settings
from tso_level3.core.row_noise import offsets_of, row_groups, trained
from tso_level3.run.measure import run

N = 400


def _scatter(trial):
    radius = int(np.argmin(np.abs(trial.plan.radii - trial.preference.radius)))
    ratio = trial.flux[:, radius] / trial.made.truth["flux"]
    pull = (trial.flux - trial.true_flux())[:, radius] / trial.error[:, radius]
    return ratio.std() / ratio.mean(), pull.std()


@pytest.mark.parametrize("flux", [3e5, 1e7])
def test_row_noise_in_focus_is_removed(flux):
    common = {"n_int": N, "flux": flux, "jitter": 0.01, "transit_depth": 0.0}
    quiet, _ = _scatter(measured(simulated("F210M", **common)))
    made = simulated("F210M", row_noise=12.0, **common)
    for flicker in ("rows", "auto"):
        trial = measured(made, flicker=flicker)
        scatter, pull = _scatter(trial)
        # The design asks for 1.15 of the level before.
        assert scatter < 1.05 * quiet
        assert pull == pytest.approx(1.0, abs=0.05 + 3 / np.sqrt(2 * N))
    if flux == 3e5:
        assert trial.plan.flicker == "rows"
        scatter, pull = _scatter(measured(made, flicker="none"))
        # Row noise is not in the errors where it is not removed.
        assert scatter > 1.4 * quiet and pull > 1.4


def test_nothing_is_lost_without_row_noise():
    made = simulated("F210M", n_int=N, jitter=0.01, transit_depth=0.0)
    before, _ = _scatter(measured(made, flicker="none"))
    after, _ = _scatter(measured(made, flicker="rows"))
    assert after < 1.01 * before
    assert measured(made, flicker="auto").plan.flicker == "none"


@pytest.mark.parametrize("row_noise", [0.0, 6.0])
def test_weak_lens_is_never_worse(row_noise):
    made = simulated("WLP8", n_int=60, row_noise=row_noise, jitter=0.01, transit_depth=0.0)
    before, _ = _scatter(measured(made, flicker="none"))
    after, _ = _scatter(measured(made, flicker="rows"))
    assert after < (1.05 if row_noise == 0 else 0.5) * before


def test_layout_holds_the_rows_to_the_edges():
    made = simulated("F210M", n_int=30, shape=(64, 120), position=(31.0, 31.0))
    layout = measured(made, flicker="rows").plan.layout
    assert (layout.box.x, layout.box.nx) == (0, 120)
    assert layout.n_pixels == 120 * layout.box.ny
    assert len(set(layout.index)) == layout.n_pixels
    plain = measured(made).plan.layout
    assert layout.n_fit == plain.n_fit and layout.n_near == plain.n_near
    np.testing.assert_array_equal(layout.columns[: layout.n_near], plain.columns[: plain.n_near])


def test_numbers_do_not_depend_on_the_chunk():
    made = simulated("F210M", n_int=60, row_noise=10.0, bad_random=3e-3)
    whole, parts = (measured(made, flicker="rows", chunk=chunk) for chunk in (60, 7))
    np.testing.assert_allclose(parts.flux, whole.flux, rtol=1e-11)


def test_amplifiers_have_offsets_of_their_own():
    rows, columns = (part.ravel() for part in np.mgrid[:12, :1024])
    rng = np.random.default_rng(4)
    offsets = 5.0 * rng.standard_normal((150, 2, 12))
    noise = 3.0 * rng.standard_normal((150, rows.size))
    frames = noise + offsets[:, columns // 512, rows]
    outside = np.ones(rows.size, bool)
    limit = np.full(rows.size, 3.0)
    groups = row_groups(columns, rows, outside, np.full(rows.size, 9.0), amps=True)
    assert len(groups.noise) == 24
    means = offsets_of(frames, groups, 10 * limit)
    learned = trained(groups, means)
    means -= means.mean(axis=1, keepdims=True)
    found = means @ learned.gain.T
    offsets -= offsets.mean(axis=(1, 2), keepdims=True)
    truth = offsets.reshape(150, 24) - offsets.reshape(150, 24).mean(axis=0)
    assert np.std(found - found.mean(axis=0) - truth) == pytest.approx(3 / np.sqrt(512), rel=0.1)
    # What is left is what the estimate says of itself.
    assert np.sqrt(np.diag(learned.left).mean()) == pytest.approx(3 / np.sqrt(512), rel=0.1)


def test_rows_without_pixels_follow_their_neighbours():
    rows, columns = (part.ravel() for part in np.mgrid[:40, :30])
    rng = np.random.default_rng(5)
    walk = np.cumsum(rng.standard_normal((400, 40)), axis=1)
    walk -= walk.mean(axis=1, keepdims=True)
    frames = walk[:, rows] + 0.5 * rng.standard_normal((400, rows.size))
    outside = (rows < 18) | (rows > 21)
    groups = row_groups(columns, rows, outside, np.full(rows.size, 0.25), amps=False)
    assert np.isinf(groups.noise[18:22]).all()
    means = offsets_of(frames, groups, np.full(rows.size, 5.0))
    assert np.isnan(means[:, 18:22]).all()
    learned = trained(groups, means)
    found = np.nan_to_num(means) @ learned.gain.T
    truth = walk - walk.mean(axis=0)
    left = (found - truth)[:, 18:22]
    # A random walk between two known ends has a mean variance of 1 on the four steps between.
    assert left.std() < 1.1 < 0.7 * truth[:, 18:22].std()
    # The mean of a row of one frame, an outlier in it left out.
    frames[0, 5] += 1e5
    again = offsets_of(frames, groups, np.full(rows.size, 5.0))
    assert again[0, 0] == pytest.approx(means[0, 0], abs=0.5)


def _wide(columns_of_star, sizes, flicker, n=80):
    """Scatter about the truth of a star in rows of the full width, amplifiers unequally noisy."""
    made = simulated(
        "F210M",
        shape=(56, 2048),
        position=(columns_of_star, 27.5),
        amplifiers=4,
        n_int=n,
        jitter=0.01,
        transit_depth=0.01,
        seed=5,
    )
    rng = np.random.default_rng(6)
    slow = 1 / np.sqrt(np.maximum(np.fft.rfftfreq(56), 1 / 112))
    if len(sizes) == 1:
        # One amplifier: the same offset over the whole row.
        offsets = np.fft.irfft(np.fft.rfft(rng.standard_normal((n, 56))) * slow, 56)
        offsets *= sizes[0] * made.simulation.units_per_electron / offsets.std()
        made.data[...] += offsets[:, :, None].astype(made.data.dtype)
    for k, size in enumerate(sizes if len(sizes) > 1 else ()):
        offsets = np.fft.irfft(np.fft.rfft(rng.standard_normal((n, 56))) * slow, 56)
        offsets *= size * made.simulation.units_per_electron / offsets.std()
        made.data[:, :, 512 * k : 512 * (k + 1)] += offsets[:, :, None].astype(made.data.dtype)
    own = {"radii": (5.0,), "radius": 5.0, "find_events": False}
    result = run(exposure_of(made), Settings(flicker=flicker, choose_aperture=False, **own))
    flux = result.light_curve["aperture_flux"][:, 0] / np.array(made.truth["flux"])
    return flux.std() / flux.mean(), result.record.flicker


# The star in the second amplifier, and on the border of two.
@pytest.mark.parametrize(
    "x, sizes", [(800.0, (4.0, 20.0, 4.0, 0.0)), (1023.4, (0.0, 6.0, 25.0, 9.0))]
)
def test_full_width_with_unequal_amplifiers_is_restored(x, sizes):
    clean, _ = _wide(x, (0.0, 0.0, 0.0, 0.0), "none")
    spoilt, _ = _wide(x, sizes, "none")
    found, kind = _wide(x, sizes, "auto")
    assert kind == "amps"
    assert spoilt > 1.4 * clean
    # All of these share their photons: the ratio is known far better than to 1 / sqrt(2 n).
    assert found < 1.03 * clean


def test_full_width_with_one_amplifier_is_corrected_by_rows():
    clean, _ = _wide(800.0, (0.0,), "none")
    found, kind = _wide(800.0, (12.0,), "auto")
    assert kind == "rows" and found < 1.03 * clean


def test_row_noise_is_removed_by_default():
    # used to be left in: 321 ppm, and errors 2.6 times too small
    common = {"n_int": 60, "jitter": 0.01, "transit_depth": 0.0}
    made = simulated("WLP8", row_noise=8.0, amplifiers=4, **common)
    left, pull_left = _scatter(measured(made, flicker="none"))
    trial = measured(made)
    scatter, pull = _scatter(trial)
    assert trial.plan.flicker == "rows"
    assert scatter < 0.65 * left
    assert pull < 1.35 < 1.8 < pull_left


@pytest.mark.parametrize("preset", ["F210M", "F1500W", "WLP8", "WLP8-SUB64P"])
def test_quiet_exposures_stay_as_they_are(preset):
    made = simulated(preset, n_int=60, jitter=0.01, transit_depth=0.01, seed=4)
    plain, auto = measured(made, flicker="none"), measured(made)
    assert auto.plan.flicker == "none"
    # no row is read to the edge of the frame for it
    assert auto.plan.layout.box == plain.plan.layout.box
    np.testing.assert_array_equal(auto.found.psf, plain.found.psf)


def test_rows_of_a_strip_are_learned_from_all_of_its_columns():
    made = simulated(
        "F210M", n_int=60, shape=(64, 512), position=(101.3, 31.2), row_noise=12.0, jitter=0.01
    )
    trial = measured(made)
    assert trial.plan.flicker == "rows"
    assert trial.plan.layout.box.nx == 512
    assert (trial.plan.rows.valid.sum(axis=1) > 450).all()
