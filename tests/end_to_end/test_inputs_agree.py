"""The same exposure in every form that the tool takes: the same numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from jwst.datamodels import ModelContainer, ModelLibrary
from stdatamodels.jwst.datamodels import CubeModel, ImageModel

import tso_level3
from tso_level3.simulate import simulate_files, simulation

SETTINGS = {
    "radii": [3.0, 5.0],
    "radius_inner": 16.0,
    "radius_outer": 26.0,
    "position": (31.5, 31.5),
    "kernel": "gaussian",
    "choose_aperture": False,
    "subframe": 21,
}
SAME = ("aperture_flux", "background", "gauss_x", "gauss_y", "cc_x", "psf_x", "psf_flux")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    sim = simulation("F210M", n_int=24, segments=2, seed=3, transit_depth=0.0)
    return simulate_files(sim, tmp_path_factory.mktemp("forms"))


@pytest.fixture(scope="module")
def arrays(files):
    """The pixels in Jy, as every form is brought to."""
    parts = {"SCI": [], "ERR": [], "DQ": [], "VAR_POISSON": [], "VAR_RNOISE": []}
    for path in files.segments:
        with fits.open(path) as hdus:
            for name, kept in parts.items():
                kept.append(hdus[name].data.astype("f8" if name != "DQ" else "u4"))
    return {name: np.concatenate(kept) for name, kept in parts.items()}


@pytest.fixture(scope="module")
def expected(files):
    return tso_level3.measure(list(files.segments), **SETTINGS).light_curve


def assert_same(product, expected, factor=1.0, rtol=1e-12):
    table = product.light_curve
    assert len(table) == len(expected)
    for name in SAME:
        scale = factor if name in ("aperture_flux", "background", "psf_flux") else 1.0
        np.testing.assert_allclose(
            np.asarray(table[name]) * scale, np.asarray(expected[name]), rtol=rtol, err_msg=name
        )


def jwst_forms(files, folder):
    """Give every form that keeps the metadata of the pipeline."""
    paths = [str(path) for path in files.segments]
    listing = folder / "listing.txt"
    listing.write_text("# segments\n" + "\n\n".join(paths) + "\n")
    association = json.loads(Path(files.association).read_text())
    for product in association["products"]:
        for member in product["members"]:
            member["expname"] = str(Path(files.association).parent / Path(member["expname"]).name)
    packed = []
    for path in paths:
        packed.append(str(folder / (Path(path).name + ".gz")))
        with fits.open(path) as hdus:
            hdus.writeto(packed[-1], overwrite=True)
    only = folder / "only"
    only.mkdir(exist_ok=True)
    for path in paths:
        (only / Path(path).name).symlink_to(path)
    models = [CubeModel(path) for path in paths]
    library = ModelLibrary([CubeModel(path) for path in paths])
    return {
        "list of str": paths,
        "tuple of Path": tuple(Path(path) for path in paths),
        "generator": (path for path in paths),
        "reversed": paths[::-1],
        "folder": only,
        "pattern": str(only / "*_calints.fits"),
        "listing": str(listing),
        "association": str(files.association),
        "association as a dict": association,
        "compressed": packed,
        "models": models,
        "container": ModelContainer(models),
        "library": library,
    }


@pytest.fixture(scope="module")
def forms(files, tmp_path_factory):
    return jwst_forms(files, tmp_path_factory.mktemp("same"))


@pytest.mark.parametrize(
    "form",
    ["list of str", "tuple of Path", "generator", "reversed", "folder", "pattern", "listing",
     "association", "association as a dict", "compressed", "models", "container", "library"],
)  # fmt: skip
def test_forms_of_the_pipeline_agree(forms, form, expected):
    product = tso_level3.measure(forms[form], **SETTINGS)
    assert_same(product, expected)
    np.testing.assert_array_equal(product.light_curve["integration"], expected["integration"])
    np.testing.assert_array_equal(product.light_curve["bmjd_tdb"], expected["bmjd_tdb"])
    assert product.light_curve["aperture_flux"].unit == "Jy"


def test_a_model_of_the_file_of_the_first_segment(files):
    by_path = tso_level3.measure(files.segments[0], **SETTINGS).light_curve
    with CubeModel(files.segments[0]) as model:
        assert_same(tso_level3.measure(model, **SETTINGS), by_path)


@pytest.fixture(scope="module")
def plain(arrays):
    """The answer for arrays: fluxes in the unit of the file, errors as one."""
    return tso_level3.measure(arrays["SCI"], errors=arrays["ERR"], mask=arrays["DQ"] & 1,
                              **SETTINGS).light_curve  # fmt: skip


def array_forms(arrays):
    data, error, bad = arrays["SCI"], arrays["ERR"], (arrays["DQ"] & 1).astype(bool)
    uncertainty = StdDevUncertainty(error)
    frames = [
        CCDData(d, unit="adu", uncertainty=StdDevUncertainty(e), mask=m)
        for d, e, m in zip(data, error, bad)
    ]
    return {
        "array": (data, {"errors": error, "mask": bad}),
        "big-endian": (data.astype(">f8"), {"errors": error.astype(">f8"), "mask": bad}),
        "not contiguous": (np.asfortranarray(data), {"errors": error, "mask": bad}),
        "quantity": (data * u.adu, {"errors": error * u.adu, "mask": bad}),
        "nddata": (NDData(data, uncertainty=uncertainty, mask=bad), {}),
        "list of ccddata": (frames, {}),
        "masked array": (np.ma.array(data, mask=bad), {"errors": error}),
    }


@pytest.mark.parametrize(
    "form",
    ["array", "big-endian", "not contiguous", "quantity", "nddata", "list of ccddata",
     "masked array"],
)  # fmt: skip
def test_forms_of_arrays_agree(arrays, plain, form):
    source, more = array_forms(arrays)[form]
    assert_same(tso_level3.measure(source, **more, **SETTINGS), plain)


def test_lists_of_arrays_and_of_images_agree(arrays, tmp_path):
    alone = tso_level3.measure(arrays["SCI"], **SETTINGS).light_curve
    assert_same(tso_level3.measure(list(arrays["SCI"]), **SETTINGS), alone)
    assert_same(tso_level3.measure([arrays["SCI"][:10], arrays["SCI"][10:]], **SETTINGS), alone)
    names = []
    for i, image in enumerate(arrays["SCI"]):
        names.append(tmp_path / f"frame_{i}.fits")
        fits.PrimaryHDU(image).writeto(names[-1])
    # Natural order: frame_10 comes after frame_9.
    assert_same(tso_level3.measure(tmp_path, **SETTINGS), alone)
    assert_same(tso_level3.measure(names, **SETTINGS), alone)
    cube = tmp_path / "cube.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(arrays["SCI"], name="SCI")]).writeto(cube)
    assert_same(tso_level3.measure(cube, **SETTINGS), alone)
    packed = tmp_path / "cube.fits.fz"
    fits.HDUList(
        [fits.PrimaryHDU(), fits.CompImageHDU(arrays["SCI"], compression_type="GZIP_2",
                                              quantize_level=0)]
    ).writeto(packed)  # fmt: skip
    assert_same(tso_level3.measure(packed, **SETTINGS), alone)


def test_a_list_of_image_models_agrees(files, expected):
    models = []
    for path in files.segments:
        with CubeModel(path) as cube:
            for i in range(len(cube.data)):
                image = ImageModel(cube.data[i])
                image.err, image.dq = cube.err[i], cube.dq[i]
                image.var_poisson, image.var_rnoise = cube.var_poisson[i], cube.var_rnoise[i]
                image.update(cube)
                models.append(image)
    product = tso_level3.measure(models, **SETTINGS)
    assert_same(product, expected, rtol=1e-9)


def test_the_data_frame_of_a_single_image(arrays):
    frame = tso_level3.photometry(arrays["SCI"][0], **SETTINGS)
    assert len(frame) == 1
    assert np.isfinite(frame["aperture photometry"][3.0]).all()
