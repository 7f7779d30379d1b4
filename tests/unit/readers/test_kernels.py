"""Kernels from files."""

import logging
import sys
import types

import numpy as np
import pytest
from astropy.io import fits

from tso_level3.psf import pupil
from tso_level3.psf.kernel import GaussianKernel, jwst_kernel
from tso_level3.readers.kernels import load_kernel, stpsf_kernel

F210M = {"instrument": "NIRCAM", "filter": "F210M", "pupil": "CLEAR", "detector": "NRCA3"}
STEP = 4
# wide enough to keep all but 1e-12 of this star's flux
TRUTH = GaussianKernel(1.4, 1.7)
HALF = 13


def effective(step=STEP, odd=True):
    """Pixel-integrated samples of the truth, in flux per pixel, star in the middle."""
    n = 2 * HALF * step + (1 if odd else 0)
    at = (np.arange(n) - 0.5 * (n - 1)) / step
    return TRUTH.evaluate(at, at)


def save(path, data, **header):
    hdu = fits.PrimaryHDU(np.asarray(data, dtype=np.float32))
    for key, value in header.items():
        hdu.header[key] = value
    hdu.writeto(path)
    return path


def same_as_truth(kernel, allowed=2e-5):
    at = np.linspace(-3, 3, 25)
    np.testing.assert_allclose(
        kernel.evaluate(at, at), TRUTH.evaluate(at, at), rtol=0, atol=allowed
    )


@pytest.mark.parametrize(
    ("name", "setup"),
    [
        ("F210M_NRCA3", F210M),
        ("F444W_NRCA5", {"instrument": "NIRCAM", "filter": "F444W", "detector": "NRCALONG"}),
        ("F210M_WLP8_NRCA3", {**F210M, "pupil": "WLP8"}),
        ("F1500W_MIRIM", {"instrument": "MIRI", "filter": "F1500W", "detector": "MIRIMAGE"}),
    ],
)
def test_stpsf_files(shared_data, caplog, name, setup):
    path = shared_data / "stpsf" / f"PSF_{name}.fits"
    kernel = load_kernel(path, **setup)
    assert not caplog.records
    assert kernel.kind == "file"
    assert kernel.description["layout"] == "OVERDIST"
    assert kernel.description["source"] == path.name
    binned = fits.getdata(path, "DET_DIST").astype(float)
    middle = 0.5 * (binned.shape[0] - 1)
    ours = kernel.render(middle, middle, binned.shape)
    # their pixels add up samples at the middles of their parts, ours integrate over the box
    rms = np.sqrt(((ours - binned) ** 2).sum() / (binned**2).sum())
    assert rms < 0.005
    assert abs(kernel.enclosed - binned.sum()) < 1e-4


def test_stpsf_file_without_the_oversampled_extensions(tmp_path, shared_data):
    with fits.open(shared_data / "stpsf" / "PSF_F1500W_MIRIM.fits") as hdus:
        fits.HDUList([fits.PrimaryHDU(), hdus["DET_DIST"].copy()]).writeto(tmp_path / "k.fits")
    kernel = load_kernel(tmp_path / "k.fits", instrument="MIRI", filter="F1500W")
    assert kernel.oversample == 1
    assert kernel.description["layout"] == "DET_DIST"
    assert abs(kernel.enclosed - 0.96) < 0.001


def test_computed_kernel_agrees_with_the_file(shared_data):
    kernel = load_kernel(shared_data / "stpsf" / "PSF_F444W_NRCA5.fits")
    ours = jwst_kernel(instrument="NIRCAM", filter="F444W", detector="NRCALONG")
    at = np.arange(-20.0, 21.0)
    a, b = kernel.evaluate(at, at), ours.evaluate(at, at)
    # 120 nm of instrument wavefront that the computed kernel does not have
    assert np.sqrt(((a - b) ** 2).sum() / (a**2).sum()) < 0.015


@pytest.mark.parametrize("odd", [True, False])
@pytest.mark.parametrize("keyword", ["OVERSAMP", "DET_SAMP"])
@pytest.mark.parametrize("per_sample", [True, False])
def test_plain_image(tmp_path, odd, keyword, per_sample):
    data = effective(odd=odd) / (STEP**2 if per_sample else 1)
    kernel = load_kernel(save(tmp_path / "k.fits", data, **{keyword: STEP}))
    assert kernel.oversample == STEP
    assert abs(kernel.enclosed - 1) < 1e-4
    same_as_truth(kernel)


def test_plain_image_at_detector_sampling(tmp_path):
    kernel = load_kernel(save(tmp_path / "k.fits", effective(step=1)))
    assert kernel.oversample == 1
    same_as_truth(kernel, 1e-3)


def test_plain_image_in_counts_is_scaled(tmp_path, caplog):
    kernel = load_kernel(save(tmp_path / "k.fits", 5e4 * effective(), OVERSAMP=STEP))
    assert "scaled to a total of one" in caplog.text
    same_as_truth(kernel)


def test_stdpsf(tmp_path):
    other = np.roll(effective(), 3, axis=1)
    data = np.stack([other, other, other, effective()])
    header = {"NXPSFS": 2, "NYPSFS": 2, "IPSFX01": 1, "IPSFX02": 2048, "JPSFY01": 1}
    path = save(tmp_path / "STDPSF.fits", data, **header, JPSFY02=2048)
    kernel = load_kernel(path, position=(1900, 1800))
    assert kernel.description["layout"] == "STDPSF"
    same_as_truth(kernel)
    at = np.linspace(-3, 3, 25)
    shifted = load_kernel(path, position=(1900, 100)).evaluate(at, at)
    np.testing.assert_allclose(shifted, TRUTH.evaluate(at - 0.75, at), rtol=0, atol=2e-5)


def test_grid_of_psfs_has_its_places_as_y_x(tmp_path):
    other = np.roll(effective(), 3, axis=1)
    data = np.stack([other, effective(), other, other])
    places = {"DET_YX0": "(0.0, 0.0)", "DET_YX1": "(0.0, 2047.0)"}
    places |= {"DET_YX2": "(2047.0, 0.0)", "DET_YX3": "(2047.0, 2047.0)"}
    path = save(tmp_path / "grid.fits", data, OVERSAMP=STEP, **places)
    # the second PSF is at y = 0, x = 2047
    same_as_truth(load_kernel(path, position=(2000, 50)))
    del places["DET_YX3"]
    short = save(tmp_path / "short.fits", data, OVERSAMP=STEP, **places)
    with pytest.raises(ValueError, match="holds 4 PSFs and places for 3"):
        load_kernel(short)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ({"INSTRUME": "MIRI"}, "was made for MIRI; expected NIRCAM"),
        ({"FILTER": "F182M"}, "was made for F182M; expected F210M"),
        ({"FILTER": "F210M", "PUPIL": "WLP8"}, "was made for F210M with WLP8; expected F210M"),
        ({"PIXELSCL": 0.0629 / STEP}, r"pixels of 0.06290 arcsec; expected 0.03136"),
        ({"OVERSAMP": 2.5}, "oversampling of 2.5"),
        ({"OVERSAMP": "four"}, "oversampling of 'four'"),
    ],
)
def test_wrong_files(tmp_path, header, told):
    path = save(tmp_path / "k.fits", effective(), **{"OVERSAMP": STEP, **header})
    with pytest.raises(ValueError, match=told):
        load_kernel(path, **F210M, pixel_scale=0.031365)


def test_weak_lens_data_and_a_file_in_focus(tmp_path):
    path = save(tmp_path / "k.fits", effective(), OVERSAMP=STEP, FILTER="F210M")
    with pytest.raises(ValueError, match="expected F210M with WLP8"):
        load_kernel(path, **{**F210M, "pupil": "WLP8"})


def test_what_is_only_warned_of(tmp_path, caplog):
    header = {"OVERSAMP": STEP, "DET_NAME": "NRCB1", "PIXELSCL": 0.0307 / STEP}
    path = save(tmp_path / "k.fits", effective(), **header)
    with caplog.at_level(logging.WARNING):
        load_kernel(path, **F210M, pixel_scale=0.031365)
    assert "detector NRCB1, the data are of NRCA3" in caplog.text
    assert "0.03070 arcsec, the data have 0.03136" in caplog.text


@pytest.mark.parametrize("name", ["F210M", "F444W", "F1500W"])
def test_light_that_is_not_integrated_over_the_pixel(tmp_path, caplog, name):
    setup = {"instrument": "MIRI" if name == "F1500W" else "NIRCAM", "filter": name}
    opd = pupil.segment_wavefront(seed=3, rms=60e-9)
    # a telescope's wavefront that the computed kernel does not know is no pixel
    for box, told in ((1.0, False), (0.0, True)):
        caplog.clear()
        image = jwst_kernel(**setup, opd=opd, box=box, half_width=15, oversample=4).image
        path = save(tmp_path / f"{box:g}.fits", image, OVERSAMP=4)
        with caplog.at_level(logging.WARNING):
            load_kernel(path, **setup)
        assert ("not integrated over the pixel" in caplog.text) == told, box
    # nothing can be said where the set-up is not known
    caplog.clear()
    load_kernel(path)
    assert not caplog.text


def test_too_small(tmp_path):
    with pytest.raises(ValueError, match=r"k.fits holds an image of shape \(3, 4\)"):
        load_kernel(save(tmp_path / "k.fits", np.ones((3, 4))))


def test_not_a_number(tmp_path):
    data = effective()
    data[3, 5] = np.nan
    path = save(tmp_path / "k.fits", data, OVERSAMP=STEP)
    with pytest.raises(ValueError, match="k.fits holds 1 values that are not finite"):
        load_kernel(path)


def test_no_flux(tmp_path):
    with pytest.raises(ValueError, match="sums to 0"):
        load_kernel(save(tmp_path / "k.fits", np.zeros((30, 30))))


@pytest.mark.filterwarnings("ignore:.*truncated")
def test_unreadable_files(tmp_path):
    text = tmp_path / "text.fits"
    text.write_text("this is no FITS file\n" * 300)
    empty = tmp_path / "empty.fits"
    empty.touch()
    whole = save(tmp_path / "whole.fits", effective(), OVERSAMP=STEP)
    cut = tmp_path / "cut.fits"
    cut.write_bytes(whole.read_bytes()[:8000])
    for path in (text, empty, cut):
        with pytest.raises(ValueError, match=f"kernel file .*{path.name} cannot be read") as told:
            load_kernel(path)
        assert "\n" not in str(told.value)


def test_no_image(tmp_path):
    table = fits.BinTableHDU.from_columns([fits.Column("a", "D", array=np.zeros(3))])
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "t.fits")
    with pytest.raises(ValueError, match="holds no image"):
        load_kernel(tmp_path / "t.fits")


class TestStpsf:
    def test_no_data_no_start(self, monkeypatch):
        monkeypatch.delenv("STPSF_PATH", raising=False)
        monkeypatch.setitem(sys.modules, "stpsf", None)
        with pytest.raises(ValueError, match="kernel='stpsf' needs STPSF's data"):
            stpsf_kernel(**F210M)

    def test_not_installed(self, monkeypatch, tmp_path):
        (tmp_path / "NIRCam").mkdir()
        monkeypatch.setenv("STPSF_PATH", str(tmp_path))
        monkeypatch.setitem(sys.modules, "stpsf", None)
        with pytest.raises(ImportError, match="needs the package stpsf"):
            stpsf_kernel(**F210M)

    def test_it_is_asked_for_the_right_thing(self, monkeypatch, tmp_path, shared_data):
        (tmp_path / "NIRCam").mkdir()
        monkeypatch.setenv("STPSF_PATH", str(tmp_path))
        asked = {}

        class Camera:
            def calc_psf(self, **options):
                asked.update(options, **vars(self))
                with fits.open(shared_data / "stpsf" / "PSF_F210M_WLP8_NRCA3.fits") as hdus:
                    return fits.HDUList([hdu.copy() for hdu in hdus])

        module = types.SimpleNamespace(NIRCam=Camera, MIRI=Camera, __version__="2.2.0")
        monkeypatch.setitem(sys.modules, "stpsf", module)
        kernel = stpsf_kernel(**{**F210M, "pupil": "WLP8"}, half_width=100, oversample=2)
        assert kernel.kind == "stpsf"
        assert asked == {
            "filter": "F210M",
            "detector": "NRCA3",
            "pupil_mask": "WEAK LENS +8",
            "oversample": 2,
            "fov_pixels": 201,
        }
