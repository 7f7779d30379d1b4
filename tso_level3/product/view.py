"""How a product looks, and how one takes rows of it or a trend out of it."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tso_level3.config.fields import UnknownParameter, nearest, refuse_unknown
from tso_level3.product.rows import TIME_SCALES, days, place_of, take, transit_of
from tso_level3.product.tables import TABLES

if TYPE_CHECKING:
    from tso_level3.product.model import TSOLightCurveModel
    from tso_level3.quality.detrend import Detrended

__all__ = ["ProductView"]

log = logging.getLogger(__name__)

#: What hosts and data models set on any model, beside what its schema names.
_SET_BY_HOSTS = ("cal_logs", "history", "shape", "schema", "extra_fits")


class ProductView:
    """What `TSOLightCurveModel` offers beyond its nodes and their values."""

    def __setattr__(self, name: str, value: Any) -> None:
        # A data model takes any name, and what is worked out would not change with it.
        if not name.startswith("_") and name not in _SET_BY_HOSTS:
            nodes = self._schema.get("properties", {})
            if hasattr(type(self), name):
                worked_out = isinstance(getattr(type(self), name), property)
                why = "it follows from the product's tables" if worked_out else "it is a method"
                raise AttributeError(f"{name}: cannot be set, {why}")
            if name not in nodes:
                near = difflib.get_close_matches(name, [*nodes, *_properties(type(self))], n=1)
                hint = f"; {near[0]!r} is the nearest" if near else ""
                raise AttributeError(f"{name}: not an attribute of the product{hint}")
        super().__setattr__(name, value)

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
            Where any are given, the tree of the file is printed instead, as `asdf.AsdfFile.info`
            does with them.
        """
        from tso_level3.product.summary import summary_lines

        if args or kwargs:
            super().info(*args, **kwargs)
            return
        # To print is what this is for.
        print(*summary_lines(self), sep="\n")  # noqa: T201

    # Rows

    def __len__(self) -> int:
        return len(self.light_curve) if "light_curve" in self._instance else 0

    def __bool__(self) -> bool:
        # A model was true before it had a length.
        return True

    def __getitem__(self, key: Any) -> Any:
        """Give some integrations, a column of the light curve, or a node.

        Parameters
        ----------
        key : slice, array, int or str
            Rows from 0, as of a table, or a slice of astropy times, ends included: a product. A
            number: that row of ``light_curve``. A name: the node of the tree that has this dotted
            name, or that column of ``light_curve``.

        Returns
        -------
        TSOLightCurveModel, astropy.table.Row, astropy.table.Column or object
            What was asked for.

        Raises
        ------
        ValueError
            No integration is left.
        IndexError, TypeError
            The key is no row, and no rows, of the product.
        """
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
        """Give the integrations of a stretch of time.

        Parameters
        ----------
        start, end : float or astropy.time.Time, optional
            In days of the column ``time``, or times; both are included.

        Returns
        -------
        TSOLightCurveModel
            See `tso_level3.product.rows.take` for what follows the selection.

        Raises
        ------
        ValueError
            No integration is left; the message has the range of times.
        """
        time = self._time
        edges = [
            default if edge is None else days(edge, self.time_scale)
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

    # Without what follows the star's motion

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
        """Take out of a light curve what follows the star's motion and a trend in time.

        Parameters
        ----------
        vectors : sequence of str
            Columns of ``light_curve`` with one number a row.
        order : int
            Order of the polynomial in time.
        window : sequence of float or of astropy.time.Time, optional
            Start and end of a time that is left out of the fit (the transit or eclipse), in days
            of the column ``time``; more pairs may follow. By default what the setting
            ``out_of_transit`` leaves out; without it nothing, with a warning. An empty window
            says that there is no transit.
        radius : float, optional
            One of `radii` [pix]; the quoted measurement where it is not given.
        components : bool, int or str
            Whether the changes of the star's image (the column ``components``) are vectors too:
            all, the first so many, or, by ``auto``, those that are slow beyond chance.
        **others
            Nothing: names that are not parameters are refused with the nearest one.

        Returns
        -------
        tso_level3.quality.detrend.Detrended
            The corrected light curve and the fit; the product is not changed.

        Raises
        ------
        ValueError
            A name is not such a column, no integration is in the window, or too few are left for
            the fit.
        """
        from tso_level3.quality.detrend import detrend

        if "out_of_transit" in others:
            raise UnknownParameter(
                "out_of_transit: not a parameter of detrended, perhaps window, the time of the"
                " transit itself; by default it is what measure(out_of_transit=...) left out"
            )
        refuse_unknown(others, ("vectors", "order", "window", "radius", "components"))
        flux, flux_err = self.flux_at(radius)
        known = {item.name: item for item in TABLES["light_curve"] if not item.shape}
        named = {}
        for name in (vectors,) if isinstance(vectors, str) else vectors:
            if name not in known:
                raise ValueError(f"vectors: {name!r} found, expected columns: {', '.join(known)}")
            named[name] = np.asarray(self.light_curve[name], dtype=float)
        values = np.asarray(self.light_curve["components"], dtype=float)
        count = _count_of(components, values.shape[1], self.meta.tso_level3)
        named |= {f"component_{k + 1}": values[:, k] for k in range(count)}
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

    @property
    def _time(self) -> np.ndarray:
        """Times of the rows, or their integration numbers where no times are known."""
        name = "time" if self.time_scale in TIME_SCALES else "integration"
        return np.asarray(self.light_curve[name], dtype=float)


def _count_of(components: bool | int | str, most: int, made: Any) -> int:
    """Tell how many components are asked for."""
    if isinstance(components, bool):
        return most if components else 0
    if components == "auto":
        return int(dict(made.instance).get("components", {}).get("significant", 0))
    if isinstance(components, int | np.integer) and 0 <= components <= most:
        return int(components)
    raise ValueError(
        f"components: {components!r} found, expected true, false, auto or a number up to {most}"
    )


def _properties(kind: type) -> list[str]:
    """Name the values that a product works out."""
    return [name for name in dir(kind) if isinstance(getattr(kind, name), property)]
