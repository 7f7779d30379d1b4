"""The tables of the product, from plain arrays and `tso_level3.columns`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from astropy import units as u
from astropy.table import Column as TableColumn
from astropy.table import Table

from tso_level3.columns import TABLES, Column, unit_of

__all__ = [
    "Quoted",
    "column_unit",
    "expand_files",
    "files_table",
    "find_faults",
    "find_quoted",
    "flux_unit",
    "index_of",
    "make_table",
    "rows_of_events",
]


def flux_unit(text: str) -> u.UnitBase | None:
    """Parse the unit of a measurement.

    Parameters
    ----------
    text : str
        Unit as the input gives it; may be empty.

    Returns
    -------
    astropy.units.UnitBase or None
        The unit; None where the text is empty or is not a unit that astropy knows.
    """
    if not text:
        return None
    try:
        return u.Unit(text)
    except ValueError:
        return None


def column_unit(item: Column, flux: str) -> u.UnitBase | None:
    """Determine the unit of a column for a measurement in a given unit.

    Parameters
    ----------
    item : Column
        The column.
    flux : str
        Unit of the measurement.

    Returns
    -------
    astropy.units.UnitBase or None
        Its unit; None for a bare number.
    """
    known = flux_unit(flux) if "flux" in item.unit else None
    # Without a slash, so that "DN / s" per pixel has a single one, which astropy accepts silently.
    text = unit_of(item, known.to_string("generic", fraction=False) if known else "")
    return u.Unit(text) if text else None


def make_table(
    name: str, arrays: Mapping[str, np.ndarray], unit: str, *, take: bool = False
) -> Table:
    """Make one of the product's tables.

    Parameters
    ----------
    name : str
        One of `TABLES`.
    arrays : mapping of str to ndarray
        The columns by name; others are ignored.
    unit : str
        Unit of the measurement.
    take : bool
        Whether the table may use the arrays of two dimensions without a copy.

    Returns
    -------
    astropy.table.Table
        The columns in their order, with types, units and descriptions.

    Raises
    ------
    ValueError
        A column is missing, or has another length or dimension than expected.
    """
    columns, length = [], None
    for item in TABLES[name]:
        if item.name not in arrays:
            raise ValueError(f"{name}: column {item.name} not found, expected among the arrays")
        given = arrays[item.name]
        # Columns with a value per radius are most of the memory.
        own = take and np.ndim(given) == 2
        data = (np.ascontiguousarray if own else np.array)(given, dtype=item.dtype)
        expected = 2 if item.shape else 1
        if data.ndim != expected:
            raise ValueError(
                f"{name}.{item.name}: an array of {data.ndim} dimensions found, expected {expected}"
            )
        length = len(data) if length is None else length
        if len(data) != length:
            raise ValueError(f"{name}.{item.name}: {len(data)} rows found, expected {length}")
        columns.append(
            TableColumn(
                data,
                name=item.name,
                unit=column_unit(item, unit),
                description=item.description,
            )
        )
    return Table(columns, copy=False)


def files_table(filenames: Sequence[str]) -> Table:
    """Make the table of the files, with one row per run of rows of the light curve.

    Parameters
    ----------
    filenames : sequence of str
        The file of each row.

    Returns
    -------
    astropy.table.Table
        ``filename, n_rows``, in the order of the light curve.
    """
    names = np.asarray([str(name) for name in filenames])
    first = np.flatnonzero(np.r_[True, names[1:] != names[:-1]]) if len(names) else np.zeros(0, int)
    table = Table(
        {
            "filename": names[first],
            "n_rows": np.diff(np.r_[first, len(names)]).astype("i4"),
        }
    )
    table["filename"].description = "the file"
    table["n_rows"].description = "rows of the light curve that come from it"
    return table


def expand_files(table: Table) -> np.ndarray:
    """Expand the table of the files to one name per row.

    Parameters
    ----------
    table : astropy.table.Table
        From `files_table`.

    Returns
    -------
    ndarray, (n_rows,), object
        The names.
    """
    names = np.array([str(name) for name in table["filename"]], dtype=object)
    return np.repeat(names, np.asarray(table["n_rows"]))


def rows_of_events(light_curve: Table, events: Table) -> np.ndarray:
    """Find the rows of the light curve at which events begin.

    Parameters
    ----------
    light_curve, events : astropy.table.Table
        The product's tables.

    Returns
    -------
    ndarray, (n_events,), int
        Rows; -1 for an event whose integration is missing. Where exposures measured together
        have the same integration numbers, the time decides.
    """
    numbers, time = (np.asarray(light_curve[name]) for name in ("integration", "time"))
    rows = np.full(len(events), -1)
    for k, event in enumerate(events):
        same = np.flatnonzero(numbers == event["integration"])
        if len(same):
            apart = np.abs(time[same] - event["time"])
            rows[k] = same[np.argmin(np.where(np.isfinite(apart), apart, np.inf))]
    return rows


def find_faults(tables: Mapping[str, Table], n_radii: int, unit: str) -> list[str]:
    """Compare tables with the columns that they should have.

    Parameters
    ----------
    tables : mapping of str to Table
        The product's tables by name.
    n_radii : int
        Number of radii that the product names.
    unit : str
        Unit of the measurement.

    Returns
    -------
    list of str
        One sentence per fault.
    """
    faults = []
    for name, table in tables.items():
        for item in TABLES[name]:
            if item.name not in table.colnames:
                faults.append(f"{name}: column {item.name} not found")
                continue
            faults += _column_faults(f"{name}.{item.name}", table[item.name], item, n_radii, unit)
    return faults


def _column_faults(
    place: str, found: TableColumn, item: Column, n_radii: int, unit: str
) -> list[str]:
    faults = []
    if found.dtype.kind != np.dtype(item.dtype).kind:
        faults.append(f"{place}: type {found.dtype} found, expected {item.dtype}")
    expected = column_unit(item, unit)
    if (found.unit or None) != expected:
        faults.append(f"{place}: unit {found.unit} found, expected {expected}")
    if found.ndim != (2 if item.shape else 1):
        faults.append(f"{place}: {found.ndim} dimensions found, expected {1 + bool(item.shape)}")
    elif item.shape == "radii" and found.shape[1] != n_radii:
        faults.append(f"{place}: {found.shape[1]} values a row found, expected {n_radii} (radii)")
    return faults


@dataclass(frozen=True)
class Quoted:
    """The primary measurement of a product.

    Attributes
    ----------
    kind : str
        ``aperture``, or ``psf`` for the fit of the template.
    index : int
        Place of the radius among `TSOLightCurveModel.radii`; -1 for the fit.
    radius, radius_inner, radius_outer : float
        Of aperture and annulus [pix]; radius is NaN for the fit.
    area : float
        Pixels in the aperture; NaN for the fit.
    scatter, expected, ratio, red_noise : float
        Its columns of the table ``apertures``; NaN where unknown.
    """

    kind: str
    index: int
    radius: float
    radius_inner: float
    radius_outer: float
    area: float
    # A selection of rows has the same primary measurement with a noise of its own.
    scatter: float = field(default=np.nan, compare=False)
    expected: float = field(default=np.nan, compare=False)
    ratio: float = field(default=np.nan, compare=False)
    red_noise: float = field(default=np.nan, compare=False)

    @property
    def sky(self) -> str:
        """The region of its background, in words; empty where there is none."""
        if not np.isfinite(self.radius_inner):
            return ""
        if np.isfinite(self.radius_outer):
            return f"annulus {self.radius_inner:.4g} to {self.radius_outer:.4g} pix"
        return f"background of the frame outside {self.radius_inner:.4g} pix"


def index_of(radii: np.ndarray, radius: float) -> int:
    """Find a radius among those measured.

    Parameters
    ----------
    radii : ndarray, (n_radii,)
        The radii [pix].
    radius : float
        The radius [pix].

    Returns
    -------
    int
        Its index.

    Raises
    ------
    ValueError
        It was not measured.
    """
    if np.ndim(radius) or isinstance(radius, str):
        raise ValueError(f"radius: {radius!r} found, expected one number, of `radii`")
    near = np.flatnonzero(np.isclose(radii, radius, rtol=0.0, atol=1e-6))
    if not len(near):
        shown = ", ".join(f"{value:g}" for value in radii)
        raise ValueError(f"radius: {radius:g} found, expected one of {shown}")
    return int(near[0])


def find_quoted(apertures: Table, grid: Table, radii: np.ndarray) -> Quoted:
    """Find the primary measurement.

    Parameters
    ----------
    apertures, grid : astropy.table.Table
        The product's tables. The first row marked as chosen is used, or else the first aperture.
    radii : ndarray, (n_radii,)
        Radii of the columns with one value a radius [pix].

    Returns
    -------
    Quoted
        The measurement.
    """
    row = apertures[0] if len(apertures) else grid[0]
    for table in (grid, apertures):
        rows = np.flatnonzero(np.asarray(table["chosen"]))
        if len(rows):
            row = table[int(rows[0])]
    names = ("scatter", "expected", "ratio", "red_noise")
    noise = {name: float(row[name]) for name in names if row["chosen"]}
    inner, outer = float(row["radius_inner"]), float(row["radius_outer"])
    if str(row["kind"]) == "psf":
        return Quoted("psf", -1, np.nan, inner, outer, np.nan, **noise)
    radius = float(row["radius"])
    area = float(row["area"]) if "area" in row.colnames else np.pi * radius**2
    return Quoted("aperture", index_of(radii, radius), radius, inner, outer, area, **noise)
