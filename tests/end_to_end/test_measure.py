"""The whole way from a file to numbers, against truth, photutils and the official step."""

import numpy as np
import pytest
from jwst.tso_photometry.tso_photometry import tso_aperture_photometry
from stdatamodels.jwst.datamodels import CubeModel

import tso_level3
from tso_level3.simulate import simulate_files, simulation


@pytest.fixture(scope="module")
def exposure(tmp_path_factory):
    sim = simulation("F210M", n_int=120, segments=2, transit_depth=0.0, seed=5)
    return simulate_files(sim, tmp_path_factory.mktemp("exposure"))


@pytest.fixture(scope="module")
def truth(exposure):
    from astropy.table import Table

    return Table.read(exposure.truth)


def test_segments_are_one_light_curve_near_the_truth(exposure, truth):
    product = tso_level3.measure(exposure.segments)
    table = product.light_curve
    assert len(table) == 120
    np.testing.assert_array_equal(table["integration"], np.arange(1, 121))
    np.testing.assert_allclose(table["mjd_utc"], truth["mjd_utc"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(table["bmjd_tdb"], truth["bmjd_tdb"], rtol=0, atol=1e-9)
    for axis in "xy":
        pull = (table[f"psf_{axis}"] - truth[axis]) / table[f"psf_{axis}_err"]
        # 120 values: the scatter of a pull is known to 6.5 per cent.
        assert np.std(pull) == pytest.approx(1.0, abs=0.25)
        assert abs(np.mean(table[f"psf_{axis}"] - truth[axis])) < 0.003
    flux = table["psf_flux"] / truth["flux"] / truth.meta["jy_per_electron"]
    assert np.mean(flux) == pytest.approx(1.0, abs=2e-3)
    level = table["background"] / truth.meta["jy_per_electron"]
    # The annulus lies in the star's wings, which raise it by 2 electrons; the kernel knows them.
    assert np.mean(level) == pytest.approx(20.0, abs=0.3)


def test_sums_are_those_of_the_official_step(exposure):
    path = exposure.segments[0]
    settings = {"radius": 3.0, "radius_inner": 4.0, "radius_outer": 5.0}
    product = tso_level3.measure(
        path,
        **settings,
        position=(31.3, 30.9),
        center="position",
        background_stat="mean",
        choose_aperture=False,
        radii=[3.0],
        outlier_sigma=0,
    )
    with CubeModel(path) as model:
        # It converts units in single precision; its sums do not depend on that.
        factor = 1e6 * model.meta.photometry.pixelarea_steradians
        official = tso_aperture_photometry(model, 31.3, 30.9, *settings.values())
    ours = product.light_curve
    net, level = ours["aperture_flux"][:, 0], ours["background"]
    total = net + level * product.apertures["area"][0]
    np.testing.assert_allclose(total, factor * official["aperture_sum"].value, rtol=1e-10)
    np.testing.assert_allclose(ours["mjd_utc"], official["MJD"].value, rtol=0, atol=1e-9)


@pytest.mark.parametrize("chunk", [1, 7, 60])
def test_numbers_do_not_depend_on_the_chunk(tmp_path, chunk):
    sim = simulation("F210M", n_int=60, cosmic_rays=0.5, bad_random=0.002, seed=11)
    files = simulate_files(sim, tmp_path)
    whole = tso_level3.measure(files.segments, chunk=128).light_curve
    parts = tso_level3.measure(files.segments, chunk=chunk).light_curve
    for name in whole.colnames:
        scale = np.nanmax(np.abs(np.asarray(whole[name], float))) or 1.0
        if name == "components":
            scale = 1e3
        np.testing.assert_allclose(
            parts[name], whole[name], rtol=0, atol=1e-12 * scale, err_msg=name
        )


def test_an_open_model_is_not_changed(exposure):
    with CubeModel(exposure.segments[0]) as model:
        before = {name: getattr(model, name).copy() for name in ("data", "err", "dq")}
        meta = model.to_flat_dict()
        opened = tso_level3.measure(model).light_curve
        for name, array in before.items():
            np.testing.assert_array_equal(getattr(model, name), array)
        assert model.to_flat_dict() == meta
    by_path = tso_level3.measure(exposure.segments[0]).light_curve
    np.testing.assert_allclose(opened["aperture_flux"], by_path["aperture_flux"], rtol=1e-12)


def test_photometry_answers_with_the_keys_of_the_seven_steps(exposure):
    frame = tso_level3.photometry(exposure.segments[0], radii=[3, 4.5])
    for key in (
        "time", "sky background", "cross correlation center", "gaussian center",
        "gaussian width", "gaussian amplitude", "aperture photometry", "filename",
    ):  # fmt: skip
        assert key in frame.columns.get_level_values(0)
    assert list(frame["aperture photometry"].columns) == [3.0, 4.5]
    assert frame.attrs["time_scale"] == "BMJD_TDB"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"position": (200, 20)}, "position"),
        ({"radius": 5, "radius_inner": 4, "radius_outer": 8}, "radius_inner"),
        ({"radius_inner": 100, "radius_outer": 120}, "outside the frame"),
        ({"radii": [-1]}, "radii"),
        ({"no_such_thing": 1}, "no_such_thing"),
        ({"out_of_transit": (1.0, 2.0)}, "out_of_transit"),
    ],
)
def test_wrong_parameters_are_one_sentence(exposure, changes, words):
    with pytest.raises(ValueError, match=words) as error:
        tso_level3.measure(exposure.segments[0], **changes)
    assert "\n" not in str(error.value)


def test_a_cube_without_a_good_pixel_is_one_sentence():
    with pytest.raises(ValueError, match="no good pixel"):
        tso_level3.measure(np.full((3, 32, 32), np.nan))


@pytest.mark.slow
def test_noise_without_a_star_is_flagged():
    cube = np.random.default_rng(2).normal(0.0, 1.0, (20, 48, 48))
    product = tso_level3.measure(cube)
    assert np.all(product.light_curve["flags"] & tso_level3.Flag.FAINT)


def test_an_aperture_beyond_the_frame_is_measured_and_flagged():
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:40, :40]
    star = 1e4 * np.exp(-0.5 * ((x - 4) ** 2 + (y - 20) ** 2) / 1.5**2)
    cube = star + 10.0 + rng.normal(0.0, 3.0, (12, 40, 40))
    product = tso_level3.measure(
        cube,
        position=(4, 20),
        radii=[3, 8],
        radius_inner=10,
        radius_outer=15,
        choose_aperture=False,
    )
    assert np.all(product.light_curve["flags"] & tso_level3.Flag.APERTURE_CUT)
    assert product.apertures["area"][1] < 0.9 * np.pi * 64
    total = 1e4 * 2 * np.pi * 1.5**2
    assert np.median(product.light_curve["aperture_flux"][:, 1]) == pytest.approx(total, rel=0.02)
