"""Which files of a folder or pattern are meant, and what is refused."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from tests.products import make_result
from tests.unit.readers import samples
from tso_level3.config.settings import Settings
from tso_level3.product.model import build
from tso_level3.readers.open import open_exposure

SMALL = np.ones((5, 6))


@pytest.fixture
def mixed(tmp_path):
    """A night: two filters, a bias, one image of another shape."""
    for k in range(6):
        samples.write_plain(
            tmp_path, f"f{k}.fits", FILTER="R" if k % 3 else "V", OBJECT="WASP 39", EXPTIME=30 + k
        )
    samples.write_plain(tmp_path, "f6.fits", FILTER="R", OBJECT="bias", IMAGETYP="zero")
    samples.write_plain(tmp_path, "f7.fits", FILTER="R", OBJECT="wasp-39", image=SMALL)
    return tmp_path


@pytest.mark.parametrize("pattern", ["", "f*.fits"])
def test_what_differs_is_listed(pattern, mixed):
    """Used to name two files and one difference; the target was not looked at."""
    with pytest.raises(ValueError, match="inputs that differ found") as caught:
        open_exposure(mixed / pattern)
    text = str(caught.value)
    assert "shape (12, 10) (7 of 8, such as f0.fits) and (5, 6) (1 of 8, such as f7.fits)" in text
    assert "filter R (6 of 8, such as f1.fits) and V (2 of 8, such as f0.fits)" in text
    assert "target WASP 39 (7 of 8, such as f0.fits) and bias (1 of 8, such as f6.fits)" in text
    assert "where='" in text


def test_other_targets_stop(tmp_path):
    names = [samples.write_plain(tmp_path, f"{k}.fits", OBJECT=k) for k in ("HAT-P-1", "HAT-P-2")]
    with pytest.raises(ValueError, match="target HAT-P-1 .* and HAT-P-2 .*where='OBJECT=HAT-P-1'"):
        open_exposure(names)
    # what the user chose may vary
    assert open_exposure(names, Settings(where="OBJECT=HAT-P-*")).n_int == 2


@pytest.mark.parametrize(
    ("where", "taken"),
    [
        ("filter=v", "03"),
        ("FILTER=R, OBJECT=wasp 39", "1245"),
        (["FILTER=R", "OBJECT=WASP*", "NAXIS1=10"], "1245"),
        ({"FILTER": "R", "EXPTIME": 32.0}, "2"),
        ("NAXIS1=6", "7"),
    ],
)
def test_picked_by_header(where, taken, mixed):
    exposure = open_exposure(mixed, Settings(where=where))
    assert exposure.filenames == tuple(f"f{k}.fits" for k in taken)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("FILTER=B", r"FILTER=B found in none .*FILTER is R \(6\), V \(2\)"),
        ("FILTR=R", "no FILTR there, perhaps FILTER"),
    ],
)
def test_nothing_is_picked(where, message, mixed):
    with pytest.raises(ValueError, match=message):
        open_exposure(mixed, Settings(where=where))


def test_an_array_has_no_header():
    with pytest.raises(ValueError, match="FILTER=R found in none of the inputs"):
        open_exposure(np.ones((3, 4, 5)), Settings(where="FILTER=R"))


def test_what_is_no_condition():
    for wrong in ("FILTER", "=R", "FILTER=", ["FILTER=R", "V"]):
        with pytest.raises(ValueError, match="where: .*expected KEYWORD=VALUE"):
            Settings(where=wrong)


def test_picked_among_models():
    models = [samples.cube_model(first=1), samples.cube_model(first=7, segment=2)]
    models[1].meta.instrument.filter = "F182M"
    assert open_exposure(models, Settings(where="FILTER=f210m")).n_int == samples.SHAPE[0]


@pytest.mark.parametrize("ending", [".asdf", ".fits", ".ecsv", ".csv"])
def test_a_product_is_no_input(ending, tmp_path):
    """Used to: the template of a product in FITS was measured."""
    path = tmp_path / f"x_phot{ending}"
    build(make_result(5)).write(path)
    image = samples.write_plain(tmp_path, "f1.fits")
    for named in (path, [image, path], [image, str(path)]):
        with pytest.raises(
            ValueError, match=f"x_phot{ending}: a product .* found, expected images"
        ):
            open_exposure(named)


def test_a_product_of_a_folder_is_left_out(tmp_path, caplog):
    """Used to end the second run over a folder that the first had written to."""
    samples.write_plain(tmp_path, "f1.fits")
    for ending in ("asdf", "fits"):
        build(make_result(5)).write(tmp_path / f"x_phot.{ending}")
    assert open_exposure(tmp_path).filenames == ("f1.fits",)
    assert "x_phot.asdf and 1 more: a product, no image; left out." in caplog.text
    (tmp_path / "f1.fits").unlink()
    with pytest.raises(ValueError, match="a product"):
        open_exposure(tmp_path)


def test_an_official_table_is_no_input(tmp_path):
    path = tmp_path / "jw_phot.ecsv"
    Table({"a": [1]}).write(path, format="ascii.ecsv")
    with pytest.raises(ValueError, match="jw_phot.ecsv: a product"):
        open_exposure(path)
    # a name alone does not make a product of an image
    fits.writeto(tmp_path / "night_phot.fits", samples.frames()[0])
    assert open_exposure(tmp_path / "night_phot.fits").n_int == samples.SHAPE[0]
