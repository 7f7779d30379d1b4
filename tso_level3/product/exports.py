"""The product in other forms: pandas, ECSV, FITS, CSV, Parquet, HDF5, and jwst's own table."""

from __future__ import annotations

import importlib
import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tso_level3.columns import LIGHT_CURVE
from tso_level3.product.tables import TABLES
from tso_level3.utils.atomic import replacing
from tso_level3.utils.threads import catch_warnings

if TYPE_CHECKING:
    import pandas as pd
    from astropy.table import Table

    from tso_level3.product.model import TSOLightCurveModel

__all__ = ["to_dataframe", "to_ecsv", "to_fits", "to_flat_dataframe", "write"]

#: What each ending needs beyond the compulsory packages: module, extra.
_NEEDS = {".parquet": ("pyarrow", "parquet"), ".h5": ("tables", "hdf5")}


def to_dataframe(model: TSOLightCurveModel) -> pd.DataFrame:
    """Give the main columns as pandas, under names for people.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    pandas.DataFrame
        A row for each integration. Its columns are of two levels: ``df['time']`` is a series,
        ``df['gaussian center']['x']`` another, and ``df['aperture photometry'][3.0]`` the light
        curve of the aperture of 3 pixels. ``df.attrs`` names the time scale and the units.
    """
    import pandas as pd

    columns, units = {}, {}
    table = model.light_curve
    for item in LIGHT_CURVE:
        if item.key is None:
            continue
        name, part = item.key
        values = _native(table[item.name])
        if item.shape:
            columns |= {(name, float(r)): values[:, k] for k, r in enumerate(model.radii)}
        else:
            columns[name, part] = values
        units[name] = str(table[item.name].unit or "")
    if model.filenames is not None:
        columns["filename", ""] = model.filenames
    frame = pd.DataFrame(dict(enumerate(columns.values())))
    frame.columns = pd.MultiIndex.from_tuples(list(columns))
    frame.attrs = _attrs(model, units)
    return frame


def to_flat_dataframe(model: TSOLightCurveModel) -> pd.DataFrame:
    """Give every column of the light curve as pandas, under plain names.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    pandas.DataFrame
        A row for each integration; columns with several values a row become several, such as
        ``aperture_flux_r3.0`` and ``components_1``. ``df.attrs`` names the time scale and the
        units.
    """
    import pandas as pd

    columns, units = {}, {}
    for item in LIGHT_CURVE:
        found = model.light_curve[item.name]
        values, unit = _native(found), str(found.unit or "")
        if item.shape == "radii":
            named = {f"{item.name}_r{float(r)}": values[:, k] for k, r in enumerate(model.radii)}
        elif item.shape:
            named = {f"{item.name}_{k + 1}": values[:, k] for k in range(values.shape[1])}
        else:
            named = {item.name: values}
        columns |= named
        units |= dict.fromkeys(named, unit)
    if model.filenames is not None:
        columns["filename"] = model.filenames
    frame = pd.DataFrame(columns)
    frame.attrs = _attrs(model, {name: unit for name, unit in units.items() if unit})
    return frame


def to_ecsv(model: TSOLightCurveModel, path: str | os.PathLike) -> str:
    """Write the light curve as ECSV: text, with units and descriptions.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.
    path : str or path-like
        The file; one that exists is replaced.

    Returns
    -------
    str
        The file.
    """
    table = _with_filenames(model)
    table.meta = _summary(model)
    with replacing(path) as temporary:
        table.write(temporary, format="ascii.ecsv")
    return str(path)


def to_fits(model: TSOLightCurveModel, path: str | os.PathLike) -> str:
    """Write tables and images as FITS.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.
    path : str or path-like
        The file; one that exists is replaced.

    Returns
    -------
    str
        The file. Its extensions are ``LIGHT_CURVE``, ``APERTURES``, ``GRID`` and ``EVENTS``,
        binary tables with TUNIT and TCOMM, and the images ``TEMPLATE``, ``KERNEL`` and
        ``COMPONENTS``.
    """
    from astropy.io import fits

    primary = fits.PrimaryHDU()
    for keyword, (value, comment) in _cards(model).items():
        primary.header[keyword] = (_ascii(value) if isinstance(value, str) else value, comment)
    hdus = [primary]
    for name in TABLES:
        table = _with_filenames(model) if name == "light_curve" else getattr(model, name)
        hdus.append(_table_hdu(table, name))
    for name in ("template", "kernel"):
        picture = getattr(model, name)
        hdu = fits.ImageHDU(np.asarray(picture.image), name=name.upper())
        hdu.header["STAR_X"] = (picture.x, "x of the star, 0-based")
        hdu.header["STAR_Y"] = (picture.y, "y of the star, 0-based")
        hdu.header["OVERSAMP"] = (picture.oversample, "pixels of the image a detector pixel")
        hdu.header["ORIGIN_X"] = (picture.origin_x, "x in the frame of its first pixel")
        hdu.header["ORIGIN_Y"] = (picture.origin_y, "y in the frame of its first pixel")
        hdus.append(hdu)
    components = np.asarray(model.components)
    hdus.append(fits.ImageHDU(components if components.size else None, name="COMPONENTS"))
    with replacing(path) as temporary:
        fits.HDUList(hdus).writeto(temporary)
    return str(path)


def write(model: TSOLightCurveModel, path: str | os.PathLike) -> str:
    """Write the product, or its light curve, in the form that the ending names.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.
    path : str or path-like
        The file, ending in ``.asdf`` (the whole product), ``.fits`` (tables and images), or
        ``.ecsv``, ``.csv``, ``.parquet`` or ``.h5`` (the light curve); one that exists is
        replaced.

    Returns
    -------
    str
        The file.

    Raises
    ------
    ValueError
        The ending is none of these.
    ImportError
        A package that the form needs is not installed.
    """
    path = Path(path)
    ending = path.suffix.lower()
    writers = {
        ".asdf": lambda: model.to_asdf(path),
        ".fits": lambda: to_fits(model, path),
        ".ecsv": lambda: to_ecsv(model, path),
        ".csv": lambda: _write_frame(model, path, ending),
        ".parquet": lambda: _write_frame(model, path, ending),
        ".h5": lambda: _write_frame(model, path, ending),
    }
    if ending not in writers:
        raise ValueError(f"{path}: ending {ending!r} found, expected one of {', '.join(writers)}")
    writers[ending]()
    return str(path)


def _write_frame(model: TSOLightCurveModel, path: Path, ending: str) -> None:
    if ending in _NEEDS:
        module, extra = _NEEDS[ending]
        try:
            importlib.import_module(module)
        except ImportError:
            raise ImportError(
                f"writing {ending} needs the package {module}: "
                f'install it with pip install "tso_level3[{extra}]"'
            ) from None
    frame = to_flat_dataframe(model)
    with replacing(path) as temporary:
        if ending == ".csv":
            frame.to_csv(temporary, index=False)
        elif ending == ".parquet":
            frame.to_parquet(temporary, engine="pyarrow", index=False)
        else:
            _write_hdf(frame, temporary)


def _write_hdf(frame: pd.DataFrame, path: Path) -> None:
    import pandas as pd

    with pd.HDFStore(path, "w") as store:
        store.put("light_curve", frame, format="table", track_times=False)
        # pandas does not keep attrs here by itself.
        store.get_storer("light_curve").attrs.tso_level3 = json.dumps(frame.attrs)


def _native(column: Any) -> np.ndarray:
    """Give a column's values in an array of its own, in the byte order pandas wants."""
    values = np.array(column)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _attrs(model: TSOLightCurveModel, units: dict[str, str]) -> dict[str, Any]:
    quoted = model.quoted
    return {
        "time_scale": model.time_scale,
        "units": units,
        "quoted": quoted.kind,
        "radius": None if quoted.kind == "psf" else quoted.radius,
        "radii": [float(radius) for radius in model.radii],
        "tso_level3": str(model.meta.tso_level3.version),
    }


def _summary(model: TSOLightCurveModel) -> dict[str, Any]:
    """What a table alone should still say of its origin."""
    meta = model.meta
    named = {
        "instrument": meta.instrument.name,
        "detector": meta.instrument.detector,
        "filter": meta.instrument.filter,
        "pupil": meta.instrument.pupil,
        "subarray": meta.subarray.name,
        "target_name": meta.target.catalog_name,
    }
    found = {name: value for name, value in named.items() if value is not None}
    found |= {key: value for key, value in _attrs(model, {}).items() if key != "units"}
    return found


def _cards(model: TSOLightCurveModel) -> dict[str, tuple[Any, str]]:
    """Header cards of the FITS form."""
    meta = model.meta
    cards = {
        "TELESCOP": (meta.telescope, "telescope"),
        "INSTRUME": (meta.instrument.name, "instrument"),
        "DETECTOR": (meta.instrument.detector, "detector"),
        "FILTER": (meta.instrument.filter, "filter"),
        "PUPIL": (meta.instrument.pupil, "pupil"),
        "SUBARRAY": (meta.subarray.name, "subarray"),
        "TARGNAME": (meta.target.catalog_name, "target"),
        "TIMESCAL": (model.time_scale, "scale of the column time"),
        "RADIUS": (None if np.isnan(model.chosen_radius) else model.chosen_radius, "quoted [pix]"),
        "QUOTED": (model.quoted.kind, "aperture, or psf for the fit of the template"),
        "CREATOR": (f"tso_level3 {meta.tso_level3.version}", "software"),
    }
    cards |= {
        f"RAD{k + 1}": (float(radius), "[pix] radius of value of a row")
        for k, radius in enumerate(model.radii)
    }
    return {name: card for name, card in cards.items() if card[0] is not None}


def _ascii(text: str) -> str:
    """Write a text with the characters that FITS has."""
    return str(text).encode("ascii", "replace").decode("ascii")


def _with_filenames(model: TSOLightCurveModel) -> Table:
    from astropy.table import Table

    # A copy: what is written beside the columns is not to appear in the product.
    table = Table(model.light_curve, copy=False)
    if model.filenames is not None:
        table["filename"] = model.filenames.astype(str)
        table["filename"].description = "the file the integration came from"
    return table


def _table_hdu(table: Table, name: str) -> Any:
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning

    bare = table.copy()
    for key, column in list(bare.columns.items()):
        if column.dtype.kind == "U":
            bare[key] = np.array([_ascii(text) for text in column], dtype=column.dtype)
        else:
            column.unit = None
    with catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        hdu = fits.table_to_hdu(bare)
    hdu.name = name.upper()
    for k, column in enumerate(table.columns.values(), start=1):
        # By hand: astropy leaves out a unit that the FITS standard does not list, such as DN/s.
        if column.unit is not None:
            hdu.header[f"TUNIT{k}"] = column.unit.to_string()
        if column.description:
            hdu.header[f"TCOMM{k}"] = column.description
    return hdu
