"""The simulator against closed forms, against its own statement of noise, and against jwst."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from scipy import integrate

from tso_level3.psf.kernel import jwst_kernel
from tso_level3.simulate import (
    PRESETS,
    Tilt,
    build_scene,
    simulate_arrays,
    simulate_files,
    simulate_frames,
    simulation,
    timeline,
    visit,
)
from tso_level3.simulate.exposure import DO_NOT_USE, JUMP_DET
from tso_level3.simulate.scene import barycentric_mjd, segment_edges, transit_factor

QUIET = {"noise": False, "flat_pattern": False, "transit_depth": 0.0}


def gaussian(**changes):
    return simulation("F210M", **{"kernel": "gaussian", "sigma": (1.1, 0.9), **changes})


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_the_modes_they_say(name):
    sim = simulation(name)
    kernel = jwst_kernel(
        instrument=sim.instrument, filter=sim.filter, pupil=sim.pupil, detector=sim.detector
    )
    # pixel areas of files and kernels must not disagree
    assert kernel.description["pixel_scale"] == pytest.approx(sim.pixel_scale, rel=1e-12)
    assert abs(kernel.description["waves"]) == {"WL": 8.03}.get(
        "WL" if name.startswith("WLP8") or name in ("W2", "W3") else "", 4.0 * (name == "WLP4")
    )


def test_benchmark_shapes():
    shapes = {
        name: (simulation(name).n_int, *simulation(name).shape) for name in ("W1", "W2", "W3")
    }
    assert shapes == {
        "W1": (10_000, 64, 64),
        "W2": (2_000, 160, 160),
        "W3": (500, 400, 400),
    }


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"flux": -1}, "flux is -1; expected 0 to 1e"),
        ({"flux": np.nan}, "flux is nan"),
        ({"unit": "Jy"}, "unit is 'Jy'; expected 'MJy/sr' or 'DN/s'"),
        ({"segments": 11, "n_int": 10}, "segments is 11; expected no more than the 10"),
        ({"bad_pixels": ((64, 0),)}, "bad_pixels has .64, 0.; expected x below 64"),
        ({"kernel": "airy"}, "kernel is 'airy'"),
        ({"kernel": "gaussian", "wavefront_rms": 1e-8}, "wavefront_rms needs kernel 'jwst'"),
        ({"tilts": (Tilt(integration=100, segment=1),)}, "tilts has integration 100"),
        ({"colour": "red"}, "colour is not a field"),
        ({"drift": (1, 2, 3)}, "drift is .1, 2, 3.; a pair is expected"),
    ],
)
def test_wrong_settings_are_named(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        simulation("F210M", **changes)


def test_unknown_preset_is_named():
    with pytest.raises(ValueError, match="preset is 'F999W'; expected one of F210M"):
        simulation("F999W")


# ---------------------------------------------------------------- transit and times


@pytest.mark.parametrize("z", [0.0, 0.05, 0.1, 0.3, 0.85, 0.9, 0.95, 1.0, 1.05, 1.0999, 1.1, 2.0])
def test_transit_matches_a_plain_area_integral(z):
    u1, u2, p = 0.3, 0.25, 0.1

    def strip(y):
        # light of the star under the planet's chord at height y, by an independent route
        half = np.sqrt(p**2 - y**2)
        low = max(z - half, -np.sqrt(1 - y**2))
        high = min(z + half, np.sqrt(1 - y**2))
        if high <= low:
            return 0.0

        def primitive(x):
            # of 1 - u1 (1 - mu) - u2 (1 - mu)**2 along x, with mu**2 = c**2 - x**2
            c = np.sqrt(1 - y**2)
            mu = np.sqrt(max(c**2 - x**2, 0))
            of_mu = (x * mu + c**2 * np.arcsin(np.clip(x / c, -1, 1))) / 2
            of_mu2 = c**2 * x - x**3 / 3
            return (1 - u1 - u2) * x + (u1 + 2 * u2) * of_mu - u2 * of_mu2

        return primitive(high) - primitive(low)

    corner = [np.sqrt(max(1 - ((1 + z**2 - p**2) / (2 * z)) ** 2, 0))] if 1 - p < z < 1 + p else []
    points = sorted({c for c in corner if c < p})
    missing = 2 * integrate.quad(strip, 0, p, points=points or None, limit=400, epsabs=1e-12)[0]
    expected = 1 - missing / (np.pi * (1 - u1 / 3 - u2 / 6))
    got = transit_factor(np.array([z]), p, (u1, u2))[0]
    assert got == pytest.approx(expected, rel=0, abs=2e-9)


def test_transit_without_limb_darkening_is_the_ratio_of_areas():
    assert transit_factor(np.array([0.2]), 0.15, (0, 0))[0] == pytest.approx(1 - 0.15**2, abs=1e-12)
    assert transit_factor(np.array([0.2]), 0.0, (0.3, 0.2))[0] == 1


def test_transit_begins_and_ends_when_it_is_told():
    sim = gaussian(n_int=2001, transit_depth=0.02, transit_duration=0.1, transit_mid=0.15)
    truth = build_scene(sim).truth
    hours = (truth["mjd_utc"] - sim.start_mjd) * 24
    inside = np.abs(hours - 0.15) < 0.05
    assert (truth["transit"][~inside] == 1).all()
    assert (truth["transit"][inside] < 1).all()
    assert hours[np.argmin(truth["transit"])] == pytest.approx(0.15, abs=sim.cadence / 3600)
    np.testing.assert_allclose(truth["flux"], sim.flux * truth["transit"], rtol=1e-12)


def test_barycentric_times_agree_with_astropy_along_the_exposure():
    from astropy import units as u
    from astropy.coordinates import SkyCoord, get_body_barycentric
    from astropy.time import Time

    mjd = np.linspace(60310.2, 60312.9, 7)
    target = SkyCoord(217.3267, -3.4445, unit="deg").cartesian.xyz.value
    time = Time(mjd, format="mjd", scale="utc")
    earth = get_body_barycentric("earth", time).xyz.to_value(u.lightyear) * 365.25
    expected = time.tdb.mjd + target @ earth
    # MJD in double precision resolves 0.6 us; the fit along the path is better than 10 us
    np.testing.assert_allclose(
        barycentric_mjd(mjd, 217.3267, -3.4445), expected, rtol=0, atol=1e-5 / 86400
    )
    assert np.abs(expected - mjd).max() * 86400 > 100  # a target near the ecliptic


# ---------------------------------------------------------------- images


@pytest.mark.parametrize("name", ["F210M", "WLP8-SUB64P", "F444W"])
def test_frames_are_the_kernel_itself_to_a_millionth_of_the_peak(name):
    sim = simulation(name, n_int=300, jitter=0.05, drift=(0.3, -0.2), **QUIET)
    scene = build_scene(sim)
    frames = scene.frames(0, 300)
    kernel = scene.renderer.kernels[0]
    for i in (0, 77, 151, 299):
        row = scene.truth[i]
        direct = kernel.render(row["x"], row["y"], sim.shape, flux=row["flux"]) + sim.background
        assert np.abs(frames[i] - direct).max() < 1e-6 * direct.max()
    # and it was the quick way that was tested
    assert any(basis is not None for basis in scene.renderer._cells.values())


def test_kernel_with_an_edge_inside_the_frame_is_rendered_singly():
    kernel = jwst_kernel(instrument="NIRCAM", filter="F210M", half_width=12)
    sim = simulation("F210M", n_int=200, kernel=kernel, jitter=0.3, **QUIET)
    scene = build_scene(sim)
    frames = scene.frames(0, 200)
    for i in (3, 150):
        row = scene.truth[i]
        direct = kernel.render(row["x"], row["y"], sim.shape, flux=row["flux"]) + sim.background
        assert np.abs(frames[i] - direct).max() < 1e-6 * direct.max()


def test_expected_is_what_was_measured_without_noise():
    sim = simulation("F210M", n_int=40, noise=False, companions=((9.5, -7.25, 0.2),))
    exposure = simulate_arrays(sim)
    factor = exposure.truth.meta["electrons_per_unit"]
    for i in (0, 20, 39):
        expected = exposure.expected(i)
        np.testing.assert_allclose(
            exposure.data[i] * factor, expected, rtol=3e-7, atol=1e-7 * expected.max()
        )
    star = exposure.star(0) / exposure.scene.flat
    rest = exposure.expected(0) / exposure.scene.flat - star - sim.background
    x, y = exposure.truth["x"][0] + 9.5, exposure.truth["y"][0] - 7.25
    kernel = exposure.scene.renderer.kernels[0]
    np.testing.assert_allclose(
        rest, kernel.render(x, y, sim.shape, flux=0.2 * sim.flux), rtol=0, atol=1e-6 * rest.max()
    )


def test_photutils_finds_the_true_flux():
    from photutils.aperture import CircularAperture, aperture_photometry

    sim = gaussian(n_int=5, background=0.0, **QUIET)
    exposure = simulate_arrays(sim)
    for i, row in enumerate(exposure.truth):
        table = aperture_photometry(
            exposure.expected(i), CircularAperture((row["x"], row["y"]), 20)
        )
        # twenty widths hold all of a Gaussian
        assert table["aperture_sum"][0] == pytest.approx(row["flux"], rel=1e-9)

    focus = simulate_arrays(simulation("F210M", n_int=2, background=0.0, **QUIET))
    row = focus.truth[0]
    kernel = focus.scene.renderer.kernels[0]
    fine = kernel.render(40.0, 40.0, (81, 81))
    enclosed = aperture_photometry(fine, CircularAperture((40.0, 40.0), 25))["aperture_sum"][0]
    table = aperture_photometry(focus.expected(0), CircularAperture((row["x"], row["y"]), 25))
    # the rest is in the wings; where the pixels' edges lie matters little out there
    assert 0.93 < enclosed < 0.97
    assert table["aperture_sum"][0] / row["flux"] == pytest.approx(enclosed, abs=2e-4)


def test_pointing_has_the_jitter_and_drift_asked_for():
    sim = gaussian(n_int=4000, shape=(16, 16), jitter=0.02, drift=(0.4, -0.1), offset=(0.1, 0.2))
    truth = build_scene(sim).truth
    phase = np.linspace(-0.5, 0.5, 4000)
    for name, offset, drift in (("x", 0.1, 0.4), ("y", 0.2, -0.1)):
        residual = truth[name] - (7.5 + offset + drift * phase)
        assert np.mean(residual) == pytest.approx(0, abs=4 * 0.02 / np.sqrt(4000))
        assert np.std(residual) == pytest.approx(0.02, rel=4 / np.sqrt(2 * 4000))


def test_wavefront_error_is_seeded_and_unknown_to_the_nominal_kernel():
    one, two, other = (
        build_scene(simulation("F210M", n_int=2, wavefront_rms=68e-9, wavefront_seed=seed))
        for seed in (5, 5, 6)
    )
    kernels = [scene.renderer.kernels[0] for scene in (one, two, other)]
    assert (kernels[0].image == kernels[1].image).all()
    nominal = build_scene(simulation("F210M", n_int=2)).renderer.kernels[0]
    for kernel in (kernels[0], kernels[2]):
        assert kernel.description["wavefront_rms"] == pytest.approx(68e-9, rel=1e-3)
        change = np.abs(kernel.image - nominal.image).max() / nominal.image.max()
        # Marechal: 68 nm at 2.1 um lose 4 % of the peak, which pixels soften
        assert 0.01 < change < 0.2
    assert np.abs(kernels[0].image - kernels[2].image).max() > 0.01 * nominal.image.max()


def test_tilt_changes_the_image_from_its_integration_on():
    tilt = Tilt(integration=12, segment=7, tip=6e-7)
    sim = simulation("F210M", n_int=20, jitter=0.0, drift=(0, 0), tilts=(tilt,), **QUIET)
    exposure = simulate_arrays(sim)
    np.testing.assert_array_equal(exposure.truth["kernel"], np.arange(20) >= 12)
    np.testing.assert_array_equal(exposure.data[0], exposure.data[11])
    np.testing.assert_array_equal(exposure.data[12], exposure.data[19])
    before, after = exposure.expected(11), exposure.expected(12)
    assert after.max() < 0.995 * before.max()
    # light is moved, not lost
    assert after.sum() == pytest.approx(before.sum(), rel=2e-3)


# ---------------------------------------------------------------- noise


def test_noise_is_what_err_says_and_the_flat_is_not_noise():
    sim = gaussian(
        n_int=3000,
        shape=(20, 20),
        transit_depth=0.0,
        jitter=0.0,
        drift=(0, 0),
        variance_from="model",
    )
    exposure = simulate_arrays(sim)
    factor = exposure.truth.meta["electrons_per_unit"]
    scatter = exposure.data.astype(float).var(axis=0) * factor**2
    stated = (exposure.var_poisson + exposure.var_rnoise).astype(float).mean(axis=0) * factor**2
    expected = exposure.expected(0) + sim.read_noise**2
    np.testing.assert_allclose(stated, expected, rtol=2e-6)
    # 400 pixels, 3000 draws each: the worst lies within five of sqrt(2 / 3000)
    assert np.abs(scatter / expected - 1).max() < 5 * np.sqrt(2 / 3000)
    assert scatter.mean() / expected.mean() == pytest.approx(1, abs=0.02)

    mean = exposure.data.astype(float).mean(axis=0) * factor
    ideal = exposure.expected(0) / exposure.scene.flat
    bright = ideal > 3000
    assert np.std((mean / ideal - 1)[bright]) == pytest.approx(0.002, rel=0.5)
    ratio = np.sqrt(exposure.var_flat) / np.abs(exposure.data)
    np.testing.assert_allclose(ratio[0], exposure.scene.flat_error, rtol=1e-5)
    np.testing.assert_allclose(ratio[0], ratio[-1], rtol=1e-5)
    np.testing.assert_allclose(
        exposure.err**2, exposure.var_poisson + exposure.var_rnoise + exposure.var_flat, rtol=1e-6
    )


def test_variance_of_the_data_follows_the_data():
    exposure = simulate_arrays(gaussian(n_int=5, background=2.0))
    factor = exposure.truth.meta["electrons_per_unit"]
    electrons = exposure.data.astype(float) * factor
    assert (electrons < 0).any()
    np.testing.assert_allclose(
        exposure.var_poisson * factor**2, np.maximum(electrons, 0), rtol=2e-6, atol=1e-6
    )


def test_excess_noise_scales_scatter_and_variance():
    sim = gaussian(n_int=2000, shape=(12, 12), read_noise=0.0, excess_noise=2.0, jitter=0.0,
                   drift=(0, 0), transit_depth=0.0)  # fmt: skip
    exposure = simulate_arrays(sim)
    factor = exposure.truth.meta["electrons_per_unit"]
    scatter = exposure.data.astype(float).var(axis=0) * factor**2
    assert np.mean(scatter / exposure.expected(0)) == pytest.approx(2, rel=0.02)
    assert np.mean(exposure.var_poisson) * factor**2 == pytest.approx(
        2 * exposure.expected(0).mean(), rel=0.01
    )


def test_row_noise_is_common_to_rows_of_an_amplifier_and_red():
    sim = gaussian(n_int=400, shape=(64, 32), flux=0.0, background=0.0, read_noise=0.0,
                   row_noise=7.0, amplifiers=4, transit_depth=0.0)  # fmt: skip
    exposure = simulate_arrays(sim)
    rows = (exposure.data * exposure.truth.meta["electrons_per_unit"]).reshape(400, 64, 4, 8)
    np.testing.assert_allclose(np.ptp(rows, axis=3), 0, atol=1e-5)
    rows = rows[..., 0]
    assert np.std(rows) == pytest.approx(7, rel=0.02)
    power = np.mean(np.abs(np.fft.rfft(rows, axis=1)) ** 2, axis=(0, 2))
    assert power[1] / power[16] == pytest.approx(16, rel=0.3)
    assert abs(np.corrcoef(rows[:, :, 0].ravel(), rows[:, :, 1].ravel())[0, 1]) < 0.05


def test_cosmic_rays_are_listed_where_they_are():
    sim = gaussian(n_int=300, cosmic_rays=2.0, cosmic_ray_charge=1e5, flux=0.0, background=0.0,
                   noise=False)  # fmt: skip
    exposure = simulate_arrays(sim)
    hits = exposure.hits
    assert len(hits) == pytest.approx(600, abs=4 * np.sqrt(600))
    np.testing.assert_array_equal(
        np.bincount(hits["integration"], minlength=301)[1:], exposure.truth["cosmic_rays"]
    )
    image = np.zeros_like(exposure.data, dtype=float)
    where = (hits["integration"] - 1, hits["y"], hits["x"])
    np.add.at(image, where, hits["electrons"])
    factor = exposure.truth.meta["electrons_per_unit"]
    np.testing.assert_allclose(exposure.data * factor, image, rtol=1e-6)
    flagged = np.zeros(image.shape, dtype=bool)
    np.logical_or.at(flagged, where, hits["flagged"])
    np.testing.assert_array_equal((exposure.dq & JUMP_DET) > 0, flagged)
    assert not (exposure.dq & DO_NOT_USE).any()
    assert 0.2 < np.mean(hits["flagged"]) < 0.4


def test_bad_pixels_are_flagged_and_nan_in_all_planes():
    sim = gaussian(n_int=50, bad_fixed=0.01, bad_random=0.002, bad_pixels=((31, 30),))
    exposure = simulate_arrays(sim)
    bad = (exposure.dq & DO_NOT_USE) > 0
    for name in ("data", "err", "var_poisson", "var_rnoise", "var_flat"):
        np.testing.assert_array_equal(np.isnan(getattr(exposure, name)), bad, err_msg=name)
    always = bad.all(axis=0)
    assert always[30, 31]
    assert 20 < always.sum() < 65  # 41 expected, and one asked for
    np.testing.assert_array_equal((bad & ~always).sum(axis=(1, 2)), exposure.truth["bad_pixels"])
    assert exposure.truth["bad_pixels"].sum() == pytest.approx(50 * 8.2, rel=0.25)
    # flags that do not forbid a pixel are there too
    assert ((exposure.dq > 0) & ~bad).any()


def test_same_seed_same_pixels_whatever_the_files():
    sim = gaussian(n_int=300, cosmic_rays=1.0, bad_random=1e-3, row_noise=3.0)
    one = simulate_arrays(sim)
    two = simulate_arrays(dataclasses.replace(sim, segments=7))
    other = simulate_arrays(dataclasses.replace(sim, seed=2))
    np.testing.assert_array_equal(one.data, two.data)
    np.testing.assert_array_equal(one.dq, two.dq)
    assert not np.array_equal(one.data, other.data)
    assert len(list(simulate_frames(one.scene))) == 2  # so that a seam between blocks is in it


# ---------------------------------------------------------------- files


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    sim = simulation("F210M", n_int=31, segments=3, cosmic_rays=1.0, bad_fixed=2e-3,
                     bad_random=5e-4, flux=1e7)  # fmt: skip
    return simulate_files(sim, tmp_path_factory.mktemp("simulated") / "new")


def test_files_verify_and_hold_the_arrays(written):
    exposure = simulate_arrays(dataclasses.replace(written.simulation))
    edges = segment_edges(written.simulation)
    assert len(written.segments) == 3
    for k, path in enumerate(written.segments):
        rows = slice(edges[k], edges[k + 1])
        with fits.open(path, memmap=False) as hdus:
            hdus.verify("exception")
            for extension, name in (
                ("SCI", "data"), ("ERR", "err"), ("DQ", "dq"), ("VAR_POISSON", "var_poisson"),
                ("VAR_RNOISE", "var_rnoise"), ("VAR_FLAT", "var_flat"),
            ):  # fmt: skip
                np.testing.assert_array_equal(
                    hdus[extension].data, getattr(exposure, name)[rows], err_msg=extension
                )
            assert hdus["DQ"].data.dtype == np.uint32
    assert not list(written.association.parent.glob("*.part"))


def test_truth_is_written_beside(written):
    truth = Table.read(written.truth)
    arrays = simulate_arrays(written.simulation).truth
    for name in arrays.colnames:
        np.testing.assert_allclose(truth[name], arrays[name], rtol=1e-14, err_msg=name)
    np.testing.assert_array_equal(np.bincount(truth["segment"])[1:], [10, 11, 10])
    assert truth["flux"].unit == "electron"
    assert truth.meta["jy_per_electron"] == written.simulation.jy_per_electron


def test_files_open_as_valid_models_without_a_second_look_at_the_headers(written, caplog):
    from stdatamodels.jwst import datamodels

    truth = Table.read(written.truth)
    with caplog.at_level("DEBUG", logger="stdatamodels"):
        model = datamodels.open(written.segments[1])
    assert "FITS hash matches" in caplog.text
    with model:
        assert type(model) is datamodels.CubeModel
        model.validate()
        assert model.data.shape == (11, 64, 64)
        assert model.meta.filename == written.segments[1].name
        assert (model.meta.exposure.integration_start, model.meta.exposure.integration_end) == (
            11,
            21,
        )
        assert model.meta.exposure.nints == 31
        assert model.meta.visit.tsovisit
        rows = truth[10:21]
        np.testing.assert_array_equal(model.int_times["integration_number"], rows["integration"])
        np.testing.assert_array_equal(model.int_times["int_mid_MJD_UTC"], rows["mjd_utc"])
        np.testing.assert_allclose(
            model.int_times["int_mid_BJD_TDB"], rows["bmjd_tdb"], rtol=0, atol=1e-10
        )
        length = np.diff([model.int_times[f"int_{at}_MJD_UTC"] for at in ("start", "end")], axis=0)
        np.testing.assert_allclose(
            length * 86400, model.meta.exposure.integration_time, rtol=0, atol=2e-6
        )
        x, y = model.meta.wcsinfo.siaf_xref_sci - 1, model.meta.wcsinfo.siaf_yref_sci - 1
        assert (x, y) == (31.5, 31.5)
        assert model.meta.wcs(x, y) == pytest.approx((model.meta.target.ra, model.meta.target.dec))
        up = model.meta.wcs(x, y + 1)
        assert (up[1] - model.meta.target.dec) * 3600 == pytest.approx(
            written.simulation.pixel_scale * np.cos(np.radians(written.simulation.roll)), rel=1e-5
        )
        assert model.meta.wcs.invert(*up) == pytest.approx((x, y + 1), abs=1e-6)


def test_fits_keywords_give_the_same_sky_as_the_model(written):
    from astropy.wcs import WCS
    from stdatamodels.jwst import datamodels

    with fits.open(written.segments[0]) as hdus:
        header = hdus["SCI"].header.copy()
    # astropy would rewrite the dates from the MJD keywords, and say so
    for keyword in ("MJD-BEG", "MJD-AVG", "MJD-END"):
        del header[keyword]
    sky = WCS(header).celestial.pixel_to_world_values(12.0, 47.0)
    with datamodels.open(written.segments[0]) as model:
        assert model.meta.wcs(12.0, 47.0) == pytest.approx([float(v) for v in sky], abs=1e-10)


def test_jwst_takes_the_association(written):
    from jwst.datamodels import ModelContainer
    from jwst.lib.pipe_utils import is_tso

    container = ModelContainer(written.association)
    assert container.asn_table["asn_type"] == "tso3"
    assert container.asn_table["products"][0]["name"] == (
        "jw09999-o001_t001_nircam_clear-f210m-sub64p"
    )
    assert [model.meta.exposure.segment_number for model in container] == [1, 2, 3]
    assert all(is_tso(model) for model in container)
    json.loads(written.association.read_text())


def test_upstream_measures_the_truth_in_jy(tmp_path):
    from jwst.tso_photometry.tso_photometry import (
        convert_data_units,
        tso_aperture_photometry,
        tso_source_centroid,
    )
    from stdatamodels.jwst import datamodels

    sim = gaussian(n_int=12, flux=1e7, background=500.0, flat_error=0.0)
    written = simulate_files(sim, tmp_path)
    truth = Table.read(written.truth)
    with datamodels.open(written.segments[0]) as model:
        convert_data_units(model)
        x, y, *_ = tso_source_centroid(model, 31.5, 31.5)
        table = tso_aperture_photometry(model, truth["x"].data, truth["y"].data, 8, 12, 20)
    expected = truth["flux"] * truth.meta["jy_per_electron"]
    noise = np.sqrt(1e7 + np.pi * 64 * (500 + 144)) / 1e7
    assert np.abs(table["net_aperture_sum"].value / expected - 1).max() < 4 * noise
    np.testing.assert_array_equal(table["MJD"], truth["mjd_utc"])
    # a centre of mass of a lone Gaussian is right to a few hundredths
    np.testing.assert_allclose(x, truth["x"], rtol=0, atol=0.05)
    np.testing.assert_allclose(y, truth["y"], rtol=0, atol=0.05)


def test_counts_per_second_become_electrons(tmp_path):
    from jwst.tso_photometry.tso_photometry import convert_data_units
    from stdatamodels.jwst import datamodels

    sim = simulation("F1500W", n_int=3, unit="DN/s", shape=(72, 64), int_times="exposure",
                     segments=2, noise=False)  # fmt: skip
    written = simulate_files(sim, tmp_path)
    scene = build_scene(sim)
    with datamodels.open(written.segments[1]) as model:
        model.validate()
        assert model.meta.exposure.type == "MIR_IMAGE"
        assert model.meta.instrument.channel is None
        np.testing.assert_array_equal(model.int_times["integration_number"], [1, 2, 3])
        convert_data_units(model, np.full(sim.shape, sim.gain))
        assert model.meta.bunit_data == "electron"
        np.testing.assert_allclose(model.data, scene.frames(2, 3), rtol=1e-6)


def test_failed_run_leaves_no_files(tmp_path, monkeypatch):
    from tso_level3.simulate import exposure as simulate

    def stops(scene):
        yield next(iter(simulate_frames(scene)))
        raise OSError("disk full")

    monkeypatch.setattr(simulate, "simulate_frames", stops)
    with pytest.raises(OSError, match="disk full"):
        simulate_files(gaussian(n_int=3), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_long_exposures_are_written_frame_by_frame_and_soon(tmp_path):
    import time
    import tracemalloc

    sim = simulation("W1", n_int=1500)
    begin = time.perf_counter()
    tracemalloc.start()
    written = simulate_files(sim, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # all six planes take 147 MB; a block of 2**20 pixels and its working copies take less
    assert written.segments[0].stat().st_size > 147e6
    assert peak < 100e6
    assert time.perf_counter() - begin < 15


def test_one_frame_and_no_light_at_all():
    exposure = simulate_arrays(gaussian(n_int=1, shape=(9, 14), flux=0.0, background=0.0))
    assert exposure.data.shape == (1, 9, 14)
    factor = exposure.truth.meta["electrons_per_unit"]
    # read noise of 12 in 126 pixels
    assert np.std(exposure.data) * factor == pytest.approx(12, rel=4 / np.sqrt(2 * 126))
    assert exposure.expected(0).max() == 0


def test_import_takes_no_data_models_along():
    code = (
        "import sys, tso_level3.simulate\n"
        "print([m for m in ('stdatamodels', 'gwcs', 'jwst', 'stpipe') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_pointing_jumps_moves_and_settles():
    still = {"n_int": 60, "jitter": 0.0, "drift": (0.0, 0.0), "noise": False}
    plain = build_scene(simulation("F210M", **still)).truth
    scene = build_scene(
        simulation(
            "F210M",
            **still,
            jumps=((20, 0.1, -0.2),),
            antenna_moves=((40, 5, 0.0, 0.3),),
            settling=(0.5, 0.0),
            settling_length=10.0,
        )
    )
    dx, dy = (np.array(scene.truth[key]) - np.array(plain[key]) for key in "xy")
    rows = np.arange(60)
    np.testing.assert_allclose(dx, 0.5 * np.exp(-rows / 10) + 0.1 * (rows >= 20), atol=1e-12)
    np.testing.assert_allclose(
        dy, -0.2 * (rows >= 20) + 0.3 * ((rows >= 40) & (rows < 45)), atol=1e-12
    )
    with pytest.raises(ValueError, match="jumps has integration 60; expected 0 to 59"):
        simulation("F210M", **still, jumps=((60, 0.1, 0.1),))


# Visits


@pytest.mark.parametrize("preset", [name for name in PRESETS if name[0] != "W" or name[1] == "L"])
def test_visit_lasts_hours_and_has_a_baseline(preset):
    """Used to last a minute where only a preset was named."""
    sim = visit(preset)
    hours = sim.n_int * sim.cadence / 3600
    assert hours == pytest.approx(4, rel=0.02)
    assert sim.transit_duration == pytest.approx(hours / 2)
    assert 24 * sim.n_int * sim.shape[0] * sim.shape[1] < 150e6
    truth = build_scene(dataclasses.replace(sim, shape=(16, 16))).truth
    out = np.asarray(truth["transit"]) == 1.0
    assert out[: int(0.24 * len(out))].all() and out[int(0.76 * len(out)) + 1 :].all()
    assert not out[int(0.27 * len(out)) : int(0.73 * len(out))].any()


def test_visit_takes_what_is_given():
    sim = visit("W1", hours=2.0, transit_depth=0.0)
    assert sim.n_int == 10_000 and sim.n_int * sim.cadence / 3600 == pytest.approx(2, rel=0.04)
    assert timeline(sim).endswith("no transit")
    sim = visit(n_int=20, ngroups=3, transit_duration=1e-3, segments=2)
    assert (sim.n_int, sim.ngroups, sim.transit_duration, sim.segments) == (20, 3, 1e-3, 2)
    assert "4 s, a transit of 3.6 s and 1 %" in timeline(sim)
    with pytest.raises(ValueError, match="hours is 0"):
        visit(hours=0)
    with pytest.raises(ValueError, match="preset is 'x'"):
        visit("x")
