"""Primary aperture: the user's radius or another product's aperture, and the reason."""

import numpy as np
import pytest

import tso_level3
from tso_level3.simulate import simulate_files, simulation


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    sim = simulation("F210M", n_int=40, transit_depth=0.0, seed=21)
    return simulate_files(sim, tmp_path_factory.mktemp("primary")).segments


def quoted(product):
    return product.meta.tso_level3.instance["quoted"]


@pytest.mark.parametrize("background", ["annulus", "frame", "none", "annulus_clipped"])
def test_another_product_lends_its_aperture_and_its_background(files, tmp_path, background):
    # used to: the frame's infinite outer radius was refused, and none became an annulus
    first = tso_level3.measure(files, radius=4.0, background=background, choose_aperture=False)
    path = first.save(tmp_path / "first_phot.asdf")
    second = tso_level3.measure(files, aperture_from=str(path))
    assert quoted(second)["radius"] == 4.0
    assert quoted(second)["reason"] == "aperture of another product"
    np.testing.assert_allclose(second.flux, first.flux, rtol=1e-7)  # with fewer radii
    # used to: the settings before those of the other product were recorded
    recorded = second.meta.tso_level3.instance["settings"]
    assert recorded["radius"] == 4.0 and recorded["background"] == background
    assert recorded["choose_aperture"] is False


def test_the_fit_is_lent_too(files, tmp_path):
    first = tso_level3.measure(files)
    first.meta.tso_level3.quoted.kind = "psf"
    path = first.save(tmp_path / "first_phot.asdf")
    assert quoted(tso_level3.measure(files, aperture_from=str(path)))["kind"] == "psf"


def test_the_reason_is_true(files):
    # used to: any radius was called that of the observing mode
    mode = tso_level3.measure(files, choose_aperture=False)
    assert quoted(mode)["radius"] == 5.0
    assert quoted(mode)["reason"] == "radius of the observing mode"
    near = tso_level3.measure(files, choose_aperture=False, radii=[3.0, 4.0])
    assert quoted(near)["radius"] == 4.0
    assert "nearest" in quoted(near)["reason"]


def test_a_gaussian_kernel_gives_the_light_of_the_subframe(files):
    # used to: the Gaussian's own flux, which is that of the core alone
    kernel = tso_level3.measure(files).light_curve["psf_flux"]
    table = tso_level3.measure(files, kernel="gaussian", radii=[10.0], subframe=21)
    gaussian = table.light_curve["psf_flux"]
    inside = table.light_curve["aperture_flux"][:, 0]
    assert np.median(gaussian) == pytest.approx(np.median(inside), rel=0.05)
    assert np.median(gaussian) < np.median(kernel)


def test_a_plane_of_a_cube_has_its_own_time_and_number(files):
    # used to: the time of the first integration
    whole = tso_level3.measure(files).light_curve[9]
    one = tso_level3.measure(files, plane=9).light_curve[0]
    assert one["integration"] == whole["integration"] == 10
    assert one["time"] == whole["time"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"position": (2, 2)}, "no star found"),
        ({"gain": -1.0}, "gain"),
        ({"chunk": float("inf")}, "chunk"),
        ({"kernel": "nothing.fits"}, "kernel"),
        ({"radius_outer": 3.0}, "radius_outer"),
        ({"plane": 400}, "plane"),
    ],
)
def test_what_cannot_be_is_one_sentence(files, changes, words):
    with pytest.raises((ValueError, OSError), match=words) as error:
        tso_level3.measure(files, **changes)
    assert "\n" not in str(error.value)
