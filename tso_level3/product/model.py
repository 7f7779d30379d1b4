"""The product: one data model with the tables of an exposure; alone in writing metadata."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from stdatamodels.jwst.datamodels import JwstDataModel

from tso_level3._version import __version__
from tso_level3.product import catalog as official
from tso_level3.product import exports
from tso_level3.product.rows import TIME_SCALES
from tso_level3.product.tables import (
    TABLES,
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
    FORMAT_VERSION,
    load_extensions,
    made_of,
    metadata_of,
    picture_of,
    read_tree,
    renewed,
)
from tso_level3.product.view import ProductView
from tso_level3.utils.atomic import replacing
from tso_level3.utils.threads import catch_warnings

if TYPE_CHECKING:
    import pandas as pd
    from astropy.table import QTable
    from astropy.time import Time

    from tso_level3.datatypes import Result

__all__ = ["FORMAT_VERSION", "Quoted", "TSOLightCurveModel", "build", "open"]

log = logging.getLogger(__name__)

_MODEL_TYPE = "TSOLightCurveModel"


class TSOLightCurveModel(ProductView, JwstDataModel):
    """The light curves of one exposure, with all that was measured beside them.

    Made by `tso_level3.measure`, or read with `tso_level3.open`. The tables ``light_curve``,
    ``apertures``, ``grid`` and ``events`` are astropy Tables; ``template`` and ``kernel`` hold an
    image and the place of the star in it; ``meta`` has the input's metadata, and
    ``meta.tso_level3`` how the product was made.

    Parameters
    ----------
    init : object
        As for any data model.
    **kwargs
        As for any data model. ``strict_validation`` is true where it is not given: a wrong value
        raises instead of being dropped with a warning.
    """

    schema_url = "https://tso-level3.readthedocs.io/schemas/tso_light_curve-1.0.0"

    def __init__(self, init: object = None, **kwargs: Any) -> None:
        if kwargs.get("strict_validation") is None:
            kwargs["strict_validation"] = True
        super().__init__(init=init, **kwargs)

    # What was measured

    @property
    def radii(self) -> np.ndarray:
        """Radii of the columns with one value a radius, (n_radii,) [pix]."""
        return np.array(self._made["radii"], dtype=float)

    @property
    def unit(self) -> str:
        """Unit of the fluxes; empty where it is not known."""
        return self._made.get("unit", "")

    @property
    def time_scale(self) -> str:
        """Scale of the column ``time``: BMJD_TDB, MJD_UTC or none."""
        return self._made["time_scale"]

    @property
    def quoted(self) -> Quoted:
        """The measurement that was chosen, or asked for."""
        return find_quoted(self.apertures, self.grid, self.radii)

    @property
    def chosen_radius(self) -> float:
        """Radius of the quoted aperture [pix]; NaN where the fit of the template is quoted."""
        return self.quoted.radius

    @property
    def flux(self) -> np.ndarray:
        """The quoted flux of each integration, (n_int,), in `unit`."""
        return self.flux_at(None)[0]

    @property
    def flux_err(self) -> np.ndarray:
        """Standard error of `flux`, (n_int,), in `unit`."""
        return self.flux_at(None)[1]

    @property
    def times(self) -> Time:
        """The mid-times of the rows that have one.

        Raises
        ------
        ValueError
            No row has a time.
        """
        from astropy.time import Time

        if self.time_scale not in TIME_SCALES:
            raise ValueError(f"{self.meta.filename}: no times found, expected BMJD_TDB or MJD_UTC")
        values = np.asarray(self.light_curve["time"], dtype=float)
        finite = values[np.isfinite(values)]
        return Time(finite, format="mjd", scale=TIME_SCALES[self.time_scale])

    @property
    def filenames(self) -> np.ndarray | None:
        """The file of each row, (n_int,), or None where frames did not come from files."""
        return expand_files(self.files) if "files" in self._instance else None

    def flux_at(self, radius: float | None = None) -> np.ndarray:
        """Give a light curve and its errors.

        Parameters
        ----------
        radius : float, optional
            One of `radii` [pix]; the quoted measurement where it is not given.

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

    # Other forms

    def to_dataframe(self) -> pd.DataFrame:
        """Give the main columns as pandas, under names for people; see `exports.to_dataframe`."""
        return exports.to_dataframe(self)

    def to_flat_dataframe(self) -> pd.DataFrame:
        """Give every column as pandas; see `exports.to_flat_dataframe`."""
        return exports.to_flat_dataframe(self)

    def to_qtable(self) -> QTable:
        """Give the table that jwst's own step writes; see `official.to_qtable`."""
        return official.to_qtable(self)

    def to_ecsv(self, path: str | os.PathLike) -> str:
        """Write the light curve as ECSV, with units; returns the name of the file."""
        return exports.to_ecsv(self, path)

    def to_fits(self, init: str | os.PathLike, *args: Any, **kwargs: Any) -> str:
        """Write tables and images as FITS, with units; returns the name of the file."""
        return exports.to_fits(self, init)

    def write(self, path: str | os.PathLike) -> str:
        """Write in the form that the ending names; see `exports.write`."""
        return exports.write(self, path)

    # Saving

    def save(
        self, path: object, dir_path: str | os.PathLike | None = None, *args: Any, **kwargs: Any
    ) -> str:
        """Save as ASDF, whole or not at all.

        Parameters
        ----------
        path : str, path-like or callable
            The file, or a function that makes its name from ``meta.filename``. Another ending
            than ``.asdf``, as hosts of the step force it, is replaced.
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
        """Write ASDF, whole or not at all.

        Parameters
        ----------
        init : str, path-like or file object
            The file, with any ending; one that exists is replaced.
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
            Something is missing or not as it should be.
        """
        # First the columns, since of them the schema says less, and less clearly.
        self._check_columns()
        super().validate()

    def _check_columns(self) -> None:
        from asdf.exceptions import ValidationError
        from astropy.table import Table

        tables = {name: self._instance.get(name) for name in TABLES}
        tables = {name: table for name, table in tables.items() if isinstance(table, Table)}
        faults = find_faults(tables, len(self._made.get("radii", ())), self.unit)
        if faults:
            raise ValidationError("; ".join(faults))

    @property
    def _made(self) -> Mapping[str, Any]:
        return self._instance.get("meta", {}).get("tso_level3", {})


def build(result: Result, *, take: bool = False) -> TSOLightCurveModel:
    """Put what a run found into a product.

    Parameters
    ----------
    result : tso_level3.datatypes.Result
        Arrays and values; not changed, and not referred to by the product.
    take : bool
        Whether the product may have the arrays themselves, where nobody else needs them.

    Returns
    -------
    TSOLightCurveModel
        The product.

    Raises
    ------
    ValueError
        A column is missing or has a wrong shape.
    asdf.exceptions.ValidationError
        A column is not of the type that it should have.
    """
    load_extensions()
    model = _with_metadata(result.meta)
    # To save it validates all of it against the schema: once is enough.
    model._validate_on_assignment = False
    model.meta.tso_level3 = made_of(result)
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
    # Before the first save: an entry made later would be lost.
    model.add_history_entry(
        f"Light curves measured by tso_level3 {__version__}",
        {"name": "tso_level3", "version": __version__, "author": "The tso_level3 developers"},
    )
    model._validate_on_assignment = True
    model._check_columns()
    return model


def open(path: str | os.PathLike) -> TSOLightCurveModel:
    """Read a product.

    Parameters
    ----------
    path : str or path-like
        The ``_phot.asdf`` file.

    Returns
    -------
    TSOLightCurveModel
        The product, checked against schema and columns, wholly in memory; the file is closed.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is not such a product, is damaged, or is of a later form.
    """
    from asdf.exceptions import ValidationError

    tree = renewed(read_tree(path, _MODEL_TYPE))
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
    """Make a model that has an input's metadata."""
    from stdatamodels.exceptions import ValidationWarning

    # A value of the input that the schema does not allow is no reason to lose the product.
    lenient = TSOLightCurveModel(strict_validation=False)
    with catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ValidationWarning)
        lenient.update(metadata_of(tree))
    for item in caught or ():
        log.warning("metadata left out: %s", " ".join(str(item.message).split())[:200])
    lenient._strict_validation = True
    return lenient
