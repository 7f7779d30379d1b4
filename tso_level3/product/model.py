"""The product: a data model with the light curves and tables of an exposure."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from stdatamodels.jwst.datamodels import JwstDataModel

from tso_level3._version import __version__
from tso_level3.columns import TABLES
from tso_level3.config.fields import UnknownParameter, nearest, refuse_unknown
from tso_level3.product.record import FORMAT_VERSION, RunRecord
from tso_level3.product.tables import (
    Quoted,
    expand_files,
    files_table,
    find_faults,
    find_quoted,
    flux_unit,
    index_of,
    make_table,
)
from tso_level3.product.tree import (
    metadata_of,
    picture_of,
    read_tree,
    upgraded,
)
from tso_level3.utils.atomic import replacing
from tso_level3.utils.threads import catch_warnings

if TYPE_CHECKING:
    import pandas as pd
    from astropy.table import QTable
    from astropy.time import Time

    from tso_level3.product.record import Result
    from tso_level3.quality.detrend import Detrended

__all__ = ["FORMAT_VERSION", "Quoted", "TSOLightCurveModel", "build", "open"]

log = logging.getLogger(__name__)

_MODEL_TYPE = "TSOLightCurveModel"
#: Attributes that hosts and data models set on any model, beside those of its schema.
_SET_BY_HOSTS = ("cal_logs", "history", "shape", "schema", "extra_fits")


class TSOLightCurveModel(JwstDataModel):
    """The light curves of one exposure, with all other measurements.

    From `tso_level3.measure`, or read with `tso_level3.open`. ``light_curve``, ``apertures``,
    ``grid`` and ``events`` are astropy Tables; ``template`` and ``kernel`` have an image and the
    place of the star in it; ``meta`` has the input's metadata, and ``meta.tso_level3``, which
    `record` reads, how the product was made.

    Parameters
    ----------
    init : object
        As for any data model.
    **kwargs
        As for any data model. ``strict_validation`` is true by default: a wrong value raises
        instead of being dropped with a warning.
    """

    schema_url = "https://tso-level3.readthedocs.io/schemas/tso_light_curve-1.0.0"

    def __init__(self, init: object = None, **kwargs: Any) -> None:
        if kwargs.get("strict_validation") is None:
            kwargs["strict_validation"] = True
        super().__init__(init=init, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        # A data model accepts any name; a typing error would be lost without a message.
        if not name.startswith("_") and name not in _SET_BY_HOSTS:
            nodes = self._schema.get("properties", {})
            if hasattr(type(self), name):
                derived = isinstance(getattr(type(self), name), property)
                why = "it follows from the product's tables" if derived else "it is a method"
                raise AttributeError(f"{name}: cannot be set, {why}")
            if name not in nodes:
                hint = nearest(name, [*nodes, *_properties(type(self))])
                raise AttributeError(f"{name}: not an attribute of the product{hint}")
        super().__setattr__(name, value)

    # What was measured

    @property
    def record(self) -> RunRecord:
        """How the product was made, read from ``meta.tso_level3``."""
        return RunRecord.from_tree(self._instance.get("meta", {}).get("tso_level3", {}))

    @property
    def radii(self) -> np.ndarray:
        """Radii of the columns with one value per radius, (n_radii,) [pix]."""
        return np.array(self.record.radii, dtype=float)

    @property
    def unit(self) -> str:
        """Unit of the fluxes; empty where it is not known."""
        return self.record.unit

    @property
    def time_scale(self) -> str:
        """Scale of the column ``time``: BMJD_TDB, MJD_UTC or none."""
        return self.record.time_scale

    @property
    def quoted(self) -> Quoted:
        """The primary measurement, which was chosen or asked for."""
        return find_quoted(self.apertures, self.grid, self.radii)

    @property
    def chosen_radius(self) -> float:
        """Radius of the primary aperture [pix]; NaN for the fit of the template."""
        return self.quoted.radius

    @property
    def flux(self) -> np.ndarray:
        """Primary flux of each integration, (n_int,), in `unit`."""
        flux: np.ndarray = self.flux_at()[0]
        return flux

    @property
    def flux_err(self) -> np.ndarray:
        """Standard error of `flux`, (n_int,), in `unit`."""
        error: np.ndarray = self.flux_at()[1]
        return error

    @property
    def times(self) -> Time:
        """The mid-times of the rows that have one.

        Raises
        ------
        ValueError
            No row has a time.
        """
        from astropy.time import Time

        from tso_level3.product.rows import TIME_SCALES

        if self.time_scale not in TIME_SCALES:
            raise ValueError(f"{self.meta.filename}: no times found, expected BMJD_TDB or MJD_UTC")
        values = np.asarray(self.light_curve["time"], dtype=float)
        finite = values[np.isfinite(values)]
        return Time(finite, format="mjd", scale=TIME_SCALES[self.time_scale])

    @property
    def filenames(self) -> np.ndarray | None:
        """The file of each row, (n_int,); None where frames are not from files."""
        return expand_files(self.files) if "files" in self._instance else None

    def flux_at(self, radius: float | None = None) -> np.ndarray:
        """Return a light curve and its errors.

        Parameters
        ----------
        radius : float, optional
            One of `radii` [pix]; by default the primary measurement.

        Returns
        -------
        ndarray, (2, n_int)
            Flux and standard error, in `unit`.

        Raises
        ------
        ValueError
            The radius is not one of `radii`.
        """
        table = self.light_curve
        index = self.quoted.index if radius is None else index_of(self.radii, radius)
        if index < 0:
            return np.array([table["psf_flux"], table["psf_flux_err"]], dtype=float)
        return np.array(
            [table["aperture_flux"][:, index], table["aperture_flux_err"][:, index]], dtype=float
        )

    # At a glance

    def __repr__(self) -> str:
        from tso_level3.product.summary import brief

        return brief(self)

    def _repr_html_(self) -> str:
        from tso_level3.product.summary import html_summary

        return html_summary(self)

    def info(self, *args: Any, **kwargs: Any) -> None:
        """Print what the command ``tso-level3 info`` prints.

        Parameters
        ----------
        *args, **kwargs
            If any are given, the tree of the file is printed instead, by `asdf.AsdfFile.info`.
        """
        from tso_level3.product.summary import summary_lines

        if args or kwargs:
            super().info(*args, **kwargs)
            return
        print(*summary_lines(self), sep="\n")  # noqa: T201

    # Rows

    def __len__(self) -> int:
        return len(self.light_curve) if "light_curve" in self._instance else 0

    def __bool__(self) -> bool:
        # A model was true before it had a length.
        return True

    def __getitem__(self, key: Any) -> Any:
        """Select integrations, a column of the light curve, or a node.

        Parameters
        ----------
        key : slice, array, int or str
            Rows from 0, or a slice of astropy times with both ends included: a product. A number:
            that row of ``light_curve``. A name: the node of this dotted name, or that column of
            ``light_curve``.

        Returns
        -------
        TSOLightCurveModel, astropy.table.Row, astropy.table.Column or object
            The selection.

        Raises
        ------
        ValueError
            No integration is selected.
        IndexError, TypeError
            The key names no row of the product.
        """
        from tso_level3.product.rows import place_of, take

        if isinstance(key, str):
            try:
                return super().__getitem__(key)
            except KeyError:
                names = self.light_curve.colnames
                if key not in names:
                    raise KeyError(
                        f"{key}: no column of light_curve{nearest(key, names)}"
                    ) from None
                return self.light_curve[key]
        if isinstance(key, slice) and any(hasattr(edge, "mjd") for edge in (key.start, key.stop)):
            return self.between(key.start, key.stop)
        if np.ndim(key) == 0 and not isinstance(key, slice):
            return self.light_curve[place_of(key, len(self))]
        return take(self, key)

    def between(self, start: Any = None, end: Any = None) -> TSOLightCurveModel:
        """Select the integrations of an interval of time.

        Parameters
        ----------
        start, end : float or astropy.time.Time, optional
            In days of the column ``time``, or times; both ends are included.

        Returns
        -------
        TSOLightCurveModel
            See `tso_level3.product.rows.take`.

        Raises
        ------
        ValueError
            No integration is selected; the message has the range of times.
        """
        from tso_level3.product.rows import days, take

        for edge in (start, end):
            if np.size(edge) != 1:
                raise ValueError(f"between: {edge} found, expected one time for each end")
        time = self._time
        edges = [
            default if edge is None else days(edge, self.time_scale)[0]
            for edge, default in ((start, -np.inf), (end, np.inf))
        ]
        if edges[0] > edges[1]:
            raise ValueError(
                f"between: {edges[0]:.10g} to {edges[1]:.10g} found, which is reversed, expected"
                " the start before the end"
            )
        inside = (time >= edges[0]) & (time <= edges[1])
        if not inside.any():
            raise ValueError(
                f"between: no integration from {edges[0]:.10g} to {edges[1]:.10g} found, expected "
                f"times from {np.nanmin(time):.10g} to {np.nanmax(time):.10g}"
            )
        return take(self, inside)

    def detrended(
        self,
        vectors: Sequence[str] = ("psf_x", "psf_y"),
        *,
        order: int = 1,
        window: Sequence[float] | None = None,
        radius: float | None = None,
        components: bool | int | str = False,
        **others: Any,
    ) -> Detrended:
        """Decorrelate a light curve against the star's motion and a trend in time.

        Parameters
        ----------
        vectors : sequence of str
            Columns of ``light_curve`` with one number per row.
        order : int
            Order of the polynomial in time.
        window : sequence of float or of astropy.time.Time, optional
            Start and end of an interval that is left out of the fit (the transit or eclipse), in
            days of the column ``time``; more pairs may follow. By default what the setting
            ``out_of_transit`` leaves out, or nothing, with a warning. An empty window means that
            there is no transit.
        radius : float, optional
            One of `radii` [pix]; by default the primary measurement.
        components : bool, int or str
            Whether the changes of the star's image (the column ``components``) are vectors too:
            all, the first so many, or, with ``auto``, those that are slow beyond chance.
        **others
            None: other names are refused, with the nearest parameter.

        Returns
        -------
        tso_level3.quality.detrend.Detrended
            The corrected light curve and the fit.

        Raises
        ------
        ValueError
            A name is not such a column, no integration is in the window, or too few are left for
            the fit.
        """
        from tso_level3.product.rows import days, transit_of
        from tso_level3.quality.detrend import detrend

        if "out_of_transit" in others:
            raise UnknownParameter(
                "out_of_transit: not a parameter of detrended, perhaps window, the time of the"
                " transit itself; by default it is what measure(out_of_transit=...) left out"
            )
        refuse_unknown(others, ("vectors", "order", "window", "radius", "components"))
        flux, flux_err = self.flux_at(radius)
        named = self._vectors((vectors,) if isinstance(vectors, str) else vectors, components)
        time = self._time
        if window is None:
            window = transit_of(self)
            if window is None:
                log.warning(
                    "detrended: without a window an eclipse or transit is fitted away in part; "
                    "give its start and end, within %.10g to %.10g, or window=() if there is none",
                    np.nanmin(time),
                    np.nanmax(time),
                )
        else:
            window = days(window, self.time_scale)
        return detrend(time, flux, flux_err, named, order=order, window=window)

    def _vectors(self, names: Sequence[str], components: bool | int | str) -> dict[str, np.ndarray]:
        """Look up columns with one number per row, and components, by name."""
        table = self.light_curve
        known = [item.name for item in TABLES["light_curve"] if not item.shape]
        for name in names:
            if name not in known:
                raise ValueError(f"vectors: {name!r} found, expected columns: {', '.join(known)}")
        named = {name: np.asarray(table[name], dtype=float) for name in names}
        values = np.asarray(table["components"], dtype=float)
        count = _count_of(components, values.shape[1], self.record.components.significant)
        return named | {f"component_{k + 1}": values[:, k] for k in range(count)}

    @property
    def _time(self) -> np.ndarray:
        """Times of the rows, or their integration numbers where no times are known."""
        from tso_level3.product.rows import TIME_SCALES

        name = "time" if self.time_scale in TIME_SCALES else "integration"
        return np.asarray(self.light_curve[name], dtype=float)

    # Other forms

    def to_dataframe(self) -> pd.DataFrame:
        """Return the main columns as pandas; see `tso_level3.product.exports.to_dataframe`."""
        from tso_level3.product import exports

        return exports.to_dataframe(self)

    def to_flat_dataframe(self) -> pd.DataFrame:
        """Return every column as pandas; see `tso_level3.product.exports.to_flat_dataframe`."""
        from tso_level3.product import exports

        return exports.to_flat_dataframe(self)

    def to_qtable(self) -> QTable:
        """Return the catalog of jwst's own step; see `tso_level3.product.catalog.to_qtable`."""
        from tso_level3.product import catalog

        return catalog.to_qtable(self)

    def to_ecsv(self, path: str | os.PathLike[str]) -> str:
        """Write the light curve as ECSV, with units; returns the name of the file."""
        from tso_level3.product import exports

        return exports.to_ecsv(self, path)

    def to_fits(self, init: str | os.PathLike[str], *args: Any, **kwargs: Any) -> str:
        """Write tables and images as FITS, with units; returns the name of the file."""
        from tso_level3.product import exports

        return exports.to_fits(self, init)

    def write(self, path: str | os.PathLike[str]) -> str:
        """Write in the format of the file's ending; see `tso_level3.product.exports.write`."""
        from tso_level3.product import exports

        return exports.write(self, path)

    # Saving

    def save(
        self,
        path: str | os.PathLike[str] | Callable[[str], str],
        dir_path: str | os.PathLike[str] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> str:
        """Save as ASDF, as a whole or not at all.

        Parameters
        ----------
        path : str, path-like or callable
            The file, or a function that makes its name from ``meta.filename``. An ending other
            than ``.asdf``, such as hosts of the step force, is replaced.
        dir_path : str or path-like, optional
            Folder, in place of the path's.
        *args, **kwargs
            As for `to_asdf`.

        Returns
        -------
        str
            The file that was written.
        """
        target = Path(path(self.meta.filename) if callable(path) else os.fspath(path))
        if target.suffix in {".fits", ".ecsv", ".json"}:
            target = target.with_suffix(".asdf")
        elif target.suffix != ".asdf":
            target = target.with_name(f"{target.name}.asdf")
        if dir_path:
            target = Path(dir_path) / target.name
        self.to_asdf(target, *args, **kwargs)
        return str(target)

    def to_asdf(self, init: object, *args: Any, **kwargs: Any) -> None:
        """Write ASDF, as a whole or not at all.

        Parameters
        ----------
        init : str, path-like or file object
            The file, with any ending; an existing one is replaced.
        *args, **kwargs
            As for `asdf.AsdfFile.write_to`.
        """
        kwargs.pop("overwrite", None)
        if not isinstance(init, (str, os.PathLike)):
            super().to_asdf(init, *args, **kwargs)
            return
        before = self.meta.filename
        self.meta.filename = Path(init).name
        try:
            with replacing(init) as temporary:
                super().to_asdf(temporary, *args, **kwargs)
        except BaseException:
            self.meta.filename = before
            raise

    def validate(self) -> None:
        """Check the model against its schema, and its tables against their columns.

        Raises
        ------
        asdf.exceptions.ValidationError
            Something is missing or wrong.
        """
        # The columns first: their messages are clearer than those of the schema.
        self._check_columns()
        super().validate()

    def _check_columns(self) -> None:
        from asdf.exceptions import ValidationError
        from astropy.table import Table

        tables = {name: self._instance.get(name) for name in TABLES}
        tables = {name: table for name, table in tables.items() if isinstance(table, Table)}
        faults = find_faults(tables, len(self.record.radii), self.record.unit)
        if faults:
            raise ValidationError("; ".join(faults))


def build(result: Result, *, take: bool = False) -> TSOLightCurveModel:
    """Make a product of the result of a run.

    Parameters
    ----------
    result : tso_level3.datatypes.Result
        Arrays and values; not changed, and not shared with the product.
    take : bool
        Whether the product may use the arrays without a copy, where nothing else needs them.

    Returns
    -------
    TSOLightCurveModel
        The product.

    Raises
    ------
    ValueError
        A column is missing or has a wrong shape.
    asdf.exceptions.ValidationError
        A column has a wrong type.
    """
    model = _with_metadata(result.meta)
    # Saving validates the whole model.
    model._validate_on_assignment = False
    model.meta.tso_level3 = result.completed_record().as_tree()
    model.meta.cal_step.tso_photometry = "COMPLETE"
    model.meta.cal_step.tso_level3_photometry = "COMPLETE"
    if result.unit:
        model.meta.bunit_data = model.meta.bunit_err = result.unit
    if result.unit and flux_unit(result.unit) is None:
        log.warning("unit %r is not known to astropy: the columns carry none", result.unit)
    for name in TABLES:
        setattr(model, name, make_table(name, getattr(result, name), result.unit, take=take))
    if result.filenames is not None:
        model.files = files_table(result.filenames)
    model.template = picture_of(result.template)
    model.kernel = picture_of(result.kernel)
    model.components = np.array(result.components)
    # Before the first save: later entries are lost.
    model.add_history_entry(
        f"Light curves measured by tso_level3 {__version__}",
        {"name": "tso_level3", "version": __version__, "author": "The tso_level3 developers"},
    )
    model._validate_on_assignment = True
    model._check_columns()
    return model


def open(path: str | os.PathLike[str]) -> TSOLightCurveModel:
    """Read a product.

    Parameters
    ----------
    path : str or path-like
        The ``_phot.asdf`` file.

    Returns
    -------
    TSOLightCurveModel
        The product in memory, checked against schema and columns; the file is closed.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is not such a product, is damaged, or has a later format.
    """
    from asdf.exceptions import ValidationError

    tree = upgraded(read_tree(path, _MODEL_TYPE))
    made = tree["meta"].get("tso_level3")
    form = str(made.get("format_version", "")) if isinstance(made, Mapping) else ""
    if form.split(".")[0] != FORMAT_VERSION.split(".")[0]:
        raise ValueError(
            f"{path}: format version {form or 'none'} found, expected one that "
            f"{FORMAT_VERSION} can read; tso_level3 {__version__} is too old or the file damaged"
        )
    model = TSOLightCurveModel(tree)
    try:
        model.validate()
    except ValidationError as error:
        cause = error.__cause__ if isinstance(error.__cause__, ValidationError) else error
        place = ".".join(str(part) for part in getattr(cause, "absolute_path", ()))
        reason = f"{place}: {cause.message}" if place else cause.message
        raise ValueError(f"{path}: {reason[:300]}; expected it as the schema says") from error
    model.meta.filename = Path(path).name
    return model


def _with_metadata(tree: Mapping[str, Any]) -> TSOLightCurveModel:
    """Make a model with the metadata of an input."""
    from stdatamodels.exceptions import ValidationWarning

    # A value of the input that the schema does not allow is left out.
    lenient = TSOLightCurveModel(strict_validation=False)
    with catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ValidationWarning)
        lenient.update(metadata_of(tree))
    for item in caught or ():
        log.warning("metadata left out: %s", " ".join(str(item.message).split())[:200])
    lenient._strict_validation = True
    return lenient


def _count_of(components: bool | int | str, most: int, significant: int) -> int:
    """Number of components that are asked for."""
    if isinstance(components, bool):
        return most if components else 0
    if components == "auto":
        return significant
    if isinstance(components, int | np.integer) and 0 <= components <= most:
        return int(components)
    raise ValueError(
        f"components: {components!r} found, expected true, false, auto or a number up to {most}"
    )


def _properties(kind: type) -> list[str]:
    """Names of the derived values of a product."""
    return [name for name in dir(kind) if isinstance(getattr(kind, name), property)]
