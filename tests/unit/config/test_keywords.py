"""Keywords of the routines: misspelled, shown to help and completion, with units."""

import inspect
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy import units as u

import tso_level3
from tests import level2
from tso_level3 import Settings
from tso_level3.commands import main as cli
from tso_level3.config.settings import fields_of

N, SIDE = 12, 41


def cube(depth=0.0):
    """A Gaussian star of 2e6 electrons that loses a part of its light in the middle third."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:SIDE, :SIDE]
    star = np.exp(-((x - 20.3) ** 2 + (y - 19.6) ** 2) / (2 * 1.8**2)) / (2 * np.pi * 1.8**2)
    level = np.where((np.arange(N) >= N // 3) & (np.arange(N) < 2 * N // 3), 1 - depth, 1.0)
    return rng.poisson(2e6 * level[:, None, None] * star + 100.0).astype(float)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("err", "errors"),
        ("time", "times"),
        ("raddii", "radii"),
        ("pos", "position"),
        ("gian", "gain"),
        ("progres", "progress"),
        ("out_of_transits", "out_of_transit"),
    ],
)
@pytest.mark.parametrize("routine", [tso_level3.measure, tso_level3.photometry])
def test_a_misspelled_keyword_is_set_right(name, meant, routine):
    """Used to be answered with the names of all parameters, errors and times not among them."""
    with pytest.raises(ValueError, match=f"^{name}: not a parameter, perhaps {meant}$"):
        routine(cube(), **{name: 1})


def test_a_misspelled_field():
    with pytest.raises(TypeError, match="raddii: not a parameter, perhaps radii"):
        Settings(raddii=3)
    with pytest.raises(ValueError, match="raddii: not a parameter, perhaps radii"):
        Settings().replace(raddii=3)
    with pytest.raises(ValueError, match="zzz: not a parameter; expected one of aperture_from, "):
        Settings(zzz=3)


def test_a_misspelled_parameter_of_the_step(tmp_path, monkeypatch):
    from tso_level3.stpipe.step import TSOPhotometryStep

    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="raddii: not a parameter, perhaps radii"):
        TSOPhotometryStep(raddii=3)
    with pytest.raises(ValueError, match="raddii: not a parameter, perhaps radii"):
        TSOPhotometryStep.call(cube(), raddii=3)


@pytest.mark.parametrize(
    ("option", "meant"),
    [("--raddii 3", "--radii"), ("--positon=3,4", "--position"), ("--outptu x", "--output")],
)
def test_a_misspelled_option(option, meant, capsys):
    assert cli.main(["measure", "x.fits", *option.split()]) == 2
    assert f"unrecognized arguments: {option}, perhaps {meant} (see" in capsys.readouterr().err


@pytest.mark.parametrize("routine", [tso_level3.measure, tso_level3.photometry])
def test_every_parameter_is_in_help_and_signature(routine):
    """Used to be ``**overrides``."""
    signature, text = inspect.signature(routine), inspect.getdoc(routine)
    for item in fields_of():
        shown = signature.parameters[item.name]
        assert shown.kind is shown.KEYWORD_ONLY and shown.default == item.default
        assert f"\n{item.name} : " in text and f"    {item.metadata['help']}" in text
    assert "overrides" not in signature.parameters and "**" not in text
    assert list(signature.parameters)[:3] == ["source", "settings", "executor"]
    assert text.index("source") < text.index("\nradii : ") < text.index("\nReturns\n-------\n")


def test_settings_of_the_step_are_not_dropped_in_silence(caplog):
    with ThreadPoolExecutor(1) as threads:
        tso_level3.measure(cube(), save_fits=True, n_workers=2, executor=threads)
    assert "save_fits is not used" in caplog.text and "n_workers=2 is not used" in caplog.text


def test_lengths_with_units():
    plain = tso_level3.measure(cube(), radii=[4, 6], position=(20, 20), subframe=15)
    given = tso_level3.measure(
        cube(),
        radii=[4, 6] * u.pix,
        position=(20 * u.pix, 20 * u.dimensionless_unscaled),
        subframe=15 * u.pix,
    )
    np.testing.assert_array_equal(given.radii, [4, 6])
    np.testing.assert_array_equal(
        given.light_curve["aperture_flux"], plain.light_curve["aperture_flux"]
    )
    with pytest.raises(ValueError, match="radii: .*3. s.* found, expected a number or a list"):
        Settings(radii=3 * u.s)
    assert Settings(out_of_transit=[0, 24] * u.h).out_of_transit == (0.0, 1.0)


def test_angles_need_the_pixel_scale(tmp_path):
    with pytest.raises(ValueError, match="radii: .*arcsec found, expected pixels, since the pixel"):
        tso_level3.measure(cube(), radii=[0.1, 0.2] * u.arcsec)
    files = level2.write(tmp_path)
    scale = files.simulation.pixel_scale
    product = tso_level3.measure(files.segments[0], radii=[3 * scale, 5 * scale] * u.arcsec)
    np.testing.assert_allclose(product.radii, [3, 5], rtol=1e-3)


def test_units_do_not_get_lost_in_the_step(tmp_path, monkeypatch):
    """Used to end in an error that named no parameter."""
    from tso_level3.stpipe.step import TSOPhotometryStep

    monkeypatch.chdir(tmp_path)
    assert TSOPhotometryStep(radii=[3, 4] * u.pix).settings().radii == (3.0, 4.0)
    with pytest.raises(ValueError, match="radii: .*arcsec"):
        TSOPhotometryStep(radii=[3, 4] * u.arcsec)


def test_gain_gives_electrons_and_the_depth():
    """Truth: electrons of the Poisson draw; counts are a gain of 1.5 below them."""
    frames = cube(depth=0.02)
    product = tso_level3.measure(frames / 1.5, gain=1.5, unit="adu", radii=8)
    assert product.meta.tso_level3.unit == "electron"
    flux = product.light_curve["aperture_flux"][:, 0]
    inside = slice(N // 3, 2 * N // 3)
    outside = np.r_[flux[: N // 3], flux[2 * N // 3 :]]
    assert np.median(outside) == pytest.approx(2e6, rel=2e-3)
    # four and eight fluxes of 0.07 % each
    assert 1 - np.mean(flux[inside]) / np.mean(outside) == pytest.approx(0.02, abs=3 * 4.4e-4)
