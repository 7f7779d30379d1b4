"""The product in other forms, with the values, units and names that people look for."""

import json
import pickle
import sys

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable, Table

from tests.products import RADII, make_result
from tso_level3.columns import LIGHT_CURVE, TABLES
from tso_level3.product.model import build

N_INT = 80


@pytest.fixture(scope="module")
def result():
    return make_result(N_INT)


@pytest.fixture(scope="module")
def model(result):
    return build(result)


def test_dataframe_has_the_names_for_people(model, result):
    frame = model.to_dataframe()
    wanted = [
        "time",
        "sky background",
        "cross correlation center",
        "gaussian center",
        "gaussian width",
        "gaussian amplitude",
        "aperture photometry",
        "filename",
    ]
    assert list(dict.fromkeys(frame.columns.get_level_values(0))) == wanted
    curve = result.light_curve
    assert isinstance(frame["time"], pd.Series)
    np.testing.assert_array_equal(frame["time"], curve["time"])
    np.testing.assert_array_equal(frame["sky background"], curve["background"])
    np.testing.assert_array_equal(frame["gaussian amplitude"], curve["gauss_amplitude"])
    for axis in "xy":
        for name, column in (
            ("cross correlation center", f"cc_{axis}"),
            ("gaussian center", f"gauss_{axis}"),
            ("gaussian width", f"gauss_sigma_{axis}"),
        ):
            np.testing.assert_array_equal(frame[name][axis], curve[column])
    assert list(frame["aperture photometry"].columns) == list(RADII)
    for k, radius in enumerate(RADII):
        found = frame["aperture photometry"][radius]
        np.testing.assert_array_equal(found, curve["aperture_flux"][:, k])
    np.testing.assert_array_equal(
        frame["aperture photometry"][3], frame["aperture photometry"][3.0]
    )
    assert list(frame["filename"]) == list(result.filenames)


def test_dataframe_names_scale_and_units(model):
    attrs = model.to_dataframe().attrs
    assert attrs["time_scale"] == "BMJD_TDB"
    assert attrs["units"]["time"] == "d"
    assert attrs["units"]["sky background"] == "Jy / pix"
    assert attrs["units"]["aperture photometry"] == "Jy"
    assert attrs["radius"] == 3.0
    assert json.loads(json.dumps(attrs)) == attrs


@pytest.mark.parametrize("flat", [False, True])
def test_dataframe_is_plain(model, flat):
    frame = model.to_flat_dataframe() if flat else model.to_dataframe()
    again = pickle.loads(pickle.dumps(frame))
    pd.testing.assert_frame_equal(again, frame)
    assert again.attrs == frame.attrs
    # pandas may write into what it is given; the product is not to change with it.
    before = np.array(model.light_curve["time"])
    frame.iloc[0, frame.columns.get_loc("time" if flat else ("time", ""))] = 0.0
    np.testing.assert_array_equal(model.light_curve["time"], before)


def test_dataframe_of_the_fit():
    frame = build(make_result(5, quoted="psf")).to_dataframe()
    assert frame.attrs["quoted"] == "psf"
    assert frame.attrs["radius"] is None


def test_flat_dataframe_has_every_column(model, result):
    frame = model.to_flat_dataframe()
    curve = result.light_curve
    for item in LIGHT_CURVE:
        if not item.shape:
            np.testing.assert_array_equal(frame[item.name], curve[item.name])
    np.testing.assert_array_equal(frame["aperture_flux_r3.0"], curve["aperture_flux"][:, 1])
    np.testing.assert_array_equal(frame["aperture_flux_err_r4.5"], curve["aperture_flux_err"][:, 2])
    np.testing.assert_array_equal(frame["components_3"], curve["components"][:, 2])
    assert list(frame["filename"]) == list(result.filenames)
    assert frame.attrs["units"]["aperture_flux_r3.0"] == "Jy"
    assert set(frame.attrs["units"]) <= set(frame.columns)


def test_ecsv(model, result, tmp_path):
    path = model.to_ecsv(tmp_path / "a.ecsv")
    table = QTable.read(path)
    np.testing.assert_array_equal(
        table["aperture_flux"].to_value("Jy"), result.light_curve["aperture_flux"]
    )
    assert table["background"].unit == u.Jy / u.pix
    assert table["flags"].description == model.light_curve["flags"].description
    assert table.meta["time_scale"] == "BMJD_TDB"
    assert table.meta["target_name"] == "WASP-39"
    assert list(table["filename"]) == list(result.filenames)


def test_fits(model, result, tmp_path):
    path = model.to_fits(tmp_path / "a.fits")
    with fits.open(path) as hdus:
        hdus.verify("exception")
        names = [hdu.name for hdu in hdus[1:]]
        assert names == [*map(str.upper, TABLES), "TEMPLATE", "KERNEL", "COMPONENTS"]
        header = hdus["LIGHT_CURVE"].header
        place = model.light_curve.colnames.index("background") + 1
        assert header[f"TTYPE{place}"] == "background"
        assert u.Unit(header[f"TUNIT{place}"]) == u.Jy / u.pix
        assert header[f"TCOMM{place}"] == "background per pixel"
        assert hdus[0].header["TIMESCAL"] == "BMJD_TDB"
        assert hdus[0].header["FILTER"] == "F210M"
        assert hdus[0].header["RADIUS"] == 3.0
        assert [hdus[0].header[f"RAD{k + 1}"] for k in range(len(RADII))] == list(RADII)
        np.testing.assert_array_equal(hdus["TEMPLATE"].data, result.template.image)
        assert hdus["TEMPLATE"].header["ORIGIN_X"] == result.template.origin[0]
    for name in TABLES:
        table = Table.read(path, hdu=name.upper())
        for item in TABLES[name]:
            expected = getattr(model, name)[item.name]
            found = np.asarray(table[item.name]).astype(expected.dtype)
            np.testing.assert_array_equal(found, np.asarray(expected))
            assert table[item.name].unit == expected.unit


def test_fits_keeps_a_unit_that_its_standard_lacks(tmp_path):
    path = build(make_result(5, unit="DN/s")).to_fits(tmp_path / "a.fits")
    with fits.open(path) as hdus:
        units = dict(zip(hdus[1].columns.names, hdus[1].columns.units))
    assert units["psf_flux"] == "DN / s"


def test_names_that_fits_cannot_write(tmp_path):
    names = ("étoile_1.fits", "étoile_2.fits")
    model = build(make_result(2, filenames=names))
    assert list(Table.read(model.to_fits(tmp_path / "a.fits"), hdu=1)["filename"]) == [
        "?toile_1.fits",
        "?toile_2.fits",
    ]
    assert list(Table.read(model.to_ecsv(tmp_path / "a.ecsv"))["filename"]) == list(names)


def test_csv(model, tmp_path):
    frame = pd.read_csv(model.write(tmp_path / "a.csv"))
    pd.testing.assert_frame_equal(frame, model.to_flat_dataframe(), check_dtype=False)


def test_parquet(model, tmp_path):
    pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    frame = pd.read_parquet(model.write(tmp_path / "a.parquet"))
    expected = model.to_flat_dataframe()
    pd.testing.assert_frame_equal(frame, expected)
    assert frame.attrs == expected.attrs


def test_hdf5(model, tmp_path):
    pytest.importorskip("tables", reason="the extra hdf5 is not installed")
    path = model.write(tmp_path / "a.h5")
    expected = model.to_flat_dataframe()
    with pd.HDFStore(path, "r") as store:
        pd.testing.assert_frame_equal(store["light_curve"], expected, check_dtype=False)
        attrs = json.loads(store.get_storer("light_curve").attrs.tso_level3)
    assert attrs == expected.attrs


def test_write_goes_by_the_ending(model, tmp_path):
    for ending, start in ((".asdf", b"#ASDF"), (".FITS", b"SIMPLE"), (".ecsv", b"# %ECSV")):
        path = tmp_path / f"a{ending}"
        assert model.write(path) == str(path)
        assert path.read_bytes().startswith(start)
    with pytest.raises(ValueError, match=r"a.xls: ending '.xls' found, expected one of .asdf, "):
        model.write(tmp_path / "a.xls")


@pytest.mark.parametrize(
    ("ending", "module", "extra"), [("parquet", "pyarrow", "parquet"), ("h5", "tables", "hdf5")]
)
def test_missing_package_names_feature_and_extra(
    model, tmp_path, monkeypatch, ending, module, extra
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"writing .{ending} needs .*tso_level3\[{extra}\]"):
        model.write(tmp_path / f"a.{ending}")
    assert list(tmp_path.iterdir()) == []


def test_existing_file_is_replaced(model, tmp_path):
    for ending in ("asdf", "fits", "ecsv", "csv"):
        path = tmp_path / f"a.{ending}"
        path.write_bytes(b"older")
        model.write(path)
        assert path.stat().st_size > 1000
    assert len(list(tmp_path.iterdir())) == 4


def test_product_is_not_changed_by_writing(model, tmp_path):
    names = list(model.light_curve.colnames)
    for ending in ("fits", "ecsv", "csv"):
        model.write(tmp_path / f"a.{ending}")
    assert model.light_curve.colnames == names
    assert model.light_curve["psf_flux"].unit == u.Jy
    assert model.light_curve.meta == {}
