"""Exports of the product: pandas, ECSV, FITS, CSV, Parquet and HDF5."""

from __future__ import annotations

import importlib
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tso_level3.columns import LIGHT_CURVE, TABLES
from tso_level3.product.tree import setup_of
from tso_level3.utils.atomic import replacing
from tso_level3.utils.threads import catch_warnings

if TYPE_CHECKING:
    import pandas as pd
    from astropy.table import Table

    from tso_level3.product.model import TSOLightCurveModel

__all__ = ["OPTIONAL", "to_dataframe", "to_ecsv", "to_fits", "to_flat_dataframe", "write"]

#: Optional module of each ending, and the extra that installs it.
OPTIONAL = {".parquet": ("pyarrow", "parquet"), ".h5": ("tables", "hdf5")}


def to_dataframe(model: TSOLightCurveModel) -> pd.DataFrame:
    """Make a DataFrame of the main columns, under descriptive names.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    pandas.DataFrame
        A row per integration and columns of two levels: ``df['time']``,
        ``df['gaussian center']['x']``, and ``df['aperture photometry'][3.0]`` for the aperture of
        3 pixels. ``df.attrs`` has the time scale and the units.
    """
    import pandas as pd

    columns: dict[tuple[str, str | float], Any] = {}
    units: dict[str, str] = {}
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
    frame.attrs = cast("Any", _attrs(model, units))
    return frame


def to_flat_dataframe(model: TSOLightCurveModel) -> pd.DataFrame:
    """Make a DataFrame of every column of the light curve.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    pandas.DataFrame
        A row per integration; columns with several values per row become several, such as
        ``aperture_flux_r3.0`` and ``components_1``. ``df.attrs`` has the time scale and the
        units.
    """
    import pandas as pd

    columns: dict[str, Any] = {}
    units: dict[str, str] = {}
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
    frame.attrs = cast("Any", _attrs(model, {name: unit for name, unit in units.items() if unit}))
    return frame


def to_ecsv(model: TSOLightCurveModel, path: str | os.PathLike[str]) -> str:
    """Write the light curve as ECSV, with units and descriptions.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.
    path : str or path-like
        The file; an existing one is replaced.

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


def to_fits(model: TSOLightCurveModel, path: str | os.PathLike[str]) -> str:
    """Write tables and images as FITS.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.
    path : str or path-like
        The file; an existing one is replaced.

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


def write(model: TSOLightCurveModel, path: str | os.PathLike[str]) -> str:
    """Write the product or its light curve in the format of the file's ending.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.
    path : str or path-like
        The file, ending in ``.asdf`` (the whole product), ``.fits`` (tables and images), or
        ``.ecsv``, ``.csv``, ``.parquet`` or ``.h5`` (the light curve); an existing one is
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
        A package that the format needs is not installed.
    """
    path = Path(path)
    ending = path.suffix.lower()
    writers: dict[str, Callable[[], object]] = {
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
    if ending in OPTIONAL:
        module, extra = OPTIONAL[ending]
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

    store: Any = pd.HDFStore(path, "w")
    with store:
        store.put("light_curve", frame, format="table", track_times=False)
        # pandas itself does not write attrs.
        store.get_storer("light_curve").attrs.tso_level3 = json.dumps(frame.attrs)


def _native(column: Any) -> np.ndarray:
    """Copy the values of a column, in the native byte order that pandas needs."""
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
        "tso_level3": model.record.version,
    }


def _summary(model: TSOLightCurveModel) -> dict[str, Any]:
    """Metadata of a table that is written alone."""
    setup = {name: value for name, value in setup_of(model.meta).items() if value is not None}
    return setup | {name: value for name, value in _attrs(model, {}).items() if name != "units"}


def _cards(model: TSOLightCurveModel) -> dict[str, tuple[Any, str]]:
    """Header cards of the FITS file."""
    setup = setup_of(model.meta)
    cards: dict[str, tuple[Any, str]] = {
        "TELESCOP": (model.meta.telescope, "telescope"),
        "INSTRUME": (setup["instrument"], "instrument"),
        "DETECTOR": (setup["detector"], "detector"),
        "FILTER": (setup["filter"], "filter"),
        "PUPIL": (setup["pupil"], "pupil"),
        "SUBARRAY": (setup["subarray"], "subarray"),
        "TARGNAME": (setup["target_name"], "target"),
        "TIMESCAL": (model.time_scale, "scale of the column time"),
        "RADIUS": (None if np.isnan(model.chosen_radius) else model.chosen_radius, "quoted [pix]"),
        "QUOTED": (model.quoted.kind, "aperture, or psf for the fit of the template"),
        "CREATOR": (f"tso_level3 {model.record.version}", "software"),
    }
    cards |= {
        f"RAD{k + 1}": (float(radius), "[pix] radius of value of a row")
        for k, radius in enumerate(model.radii)
    }
    return {name: card for name, card in cards.items() if card[0] is not None}


def _ascii(text: str) -> str:
    """Replace the characters that FITS does not allow."""
    return str(text).encode("ascii", "replace").decode("ascii")


def _with_filenames(model: TSOLightCurveModel) -> Table:
    from astropy.table import Table

    # A new table, so that its metadata and file names do not appear in the product.
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
        # astropy leaves out units that the FITS standard does not list, such as DN/s.
        if column.unit is not None:
            hdu.header[f"TUNIT{k}"] = column.unit.to_string()
        if column.description:
            hdu.header[f"TCOMM{k}"] = column.description
    return hdu
