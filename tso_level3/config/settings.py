"""Parameters of the package: name, default, unit, bounds, help.

The specification of the stpipe step, the command line, the parameter files, the table in
``spec/parameters.md`` and the overrides of `tso_level3.measure` are all made from `Settings`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tso_level3.config.fields import check, coerce, refuse_unknown
from tso_level3.config.fields import parameter as _par
from tso_level3.flags import dq_mask

__all__ = ["Settings", "fields_of", "from_strings", "spec_text"]


@dataclass(frozen=True)
class Settings:
    """The parameters of a measurement; validated when made, never changed after.

    A value of `None` means: from the parameter reference, else from the defaults of the
    observing mode, else from the data. `spec/parameters.md` lists unit, bounds and default of
    each; `dataclasses.replace` makes a changed copy.

    Raises
    ------
    ValueError
        A value is out of bounds; the message names the parameter, the value and what is allowed.
    """

    # What is measured
    radii: tuple[float, ...] | None = _par(
        None,
        "floats",
        "aperture radii; none: a ladder of about 12 around radius",
        unit="pix",
        low=0.1,
    )
    radius: float | None = _par(
        None, "float", "aperture radius that is quoted first", unit="pix", low=0.1
    )
    radius_inner: float | None = _par(
        None, "float", "inner radius of the background annulus", unit="pix", low=0.0
    )
    radius_outer: float | None = _par(
        None, "float", "outer radius of the background annulus", unit="pix", low=0.1
    )
    # Where the star is
    position: tuple[float, ...] | None = _par(
        None,
        "floats",
        "expected x, y of the star, 0-based; none: reference point or frame centre",
        unit="pix",
    )
    subframe: int | tuple[int, ...] | None = _par(
        None, "size", "side or ny, nx of the box for centring, made odd", unit="pix", low=5
    )
    kernel: str = _par(
        "auto",
        "str",
        "kernel of the cross-correlation: auto, gaussian, jwst, empirical (own image; JWST in "
        "focus: fitted wavefront), stpsf, or a path",
    )
    center: str = _par(
        "auto", "str", "centre of the apertures", choices=("auto", "psf", "gauss", "cc", "position")
    )
    centroid_source: bool = _par(
        True, "bool", "centre the apertures on the star; false: on the expected position"
    )
    search_box_width: int | None = _par(
        None, "int", "side of the box that is searched for the star", unit="pix", low=5
    )
    fit_box_width: int | None = _par(
        None,
        "int",
        "least side of the box for centring, where subframe is not set",
        unit="pix",
        low=5,
    )
    moving_centroid: bool = _par(
        False, "bool", "move the apertures with the star; false: its median position"
    )
    # Background
    background: str = _par(
        "annulus",
        "str",
        "where the background is measured",
        choices=("annulus", "annulus_clipped", "frame", "none"),
    )
    background_stat: str = _par(
        "mean", "str", "statistic of the background pixels", choices=("median", "mean", "biweight")
    )
    background_sigma: float = _par(
        3.0, "float", "clipping of the background pixels", unit="sigma", low=1.0
    )
    background_level: float | None = _par(
        None,
        "float",
        "known background, subtracted in the place of a measured one; in the unit of the product",
        unit="flux / pix",
    )
    background_smooth: str = _par(
        "auto",
        "str",
        "average the background in time as far as it varies slowly: auto, none",
        choices=("auto", "none"),
    )
    flicker: str = _par(
        "auto",
        "str",
        "remove row noise: none, rows, amps (row and amplifier), auto (NIRCam and unknown data"
        " where it lowers the scatter)",
        choices=("none", "rows", "amps", "auto"),
    )
    # Missing pixels
    fill: bool = _par(True, "bool", "fill missing pixels from the model of the exposure")
    outlier_sigma: float = _par(
        5.0,
        "float",
        "outliers in time (cosmic rays) above this are filled; 0: none",
        unit="sigma",
        low=0.0,
    )
    dq_bits: tuple[str, ...] = _par(
        ("DO_NOT_USE", "NON_SCIENCE", "DEAD", "HOT", "LOW_QE"),
        "strs",
        "data-quality bits that make a pixel bad, by name or number; strict: all that mark defects",
    )
    # Units
    unit: str | None = _par(
        None, "str", "unit of the pixels, where the input's is missing or wrong; none: BUNIT"
    )
    gain: str | float | None = _par(
        None,
        "any",
        "gain in electron/DN, or a reference file, for DN and DN/s;"
        " none: from CRDS for DN/s where it is set up",
    )
    # Choice and quality
    choose_aperture: bool = _par(
        True, "bool", "choose radius and annulus by their noise; false: quote radius"
    )
    out_of_transit: tuple[float, ...] | None = _par(
        None, "floats", "start, end[, start, end ...] of the times that count for noise", unit="d"
    )
    aperture_from: str | None = _par(None, "str", "a product whose aperture is used for this one")
    find_events: bool = _par(True, "bool", "look for mirror tilts, jumps and settling")
    for_mode: str | None = _par(
        None, "str", "observing mode that these parameters are for; another is warned of"
    )
    # Reading
    where: tuple[str, ...] | None = _par(
        None,
        "conditions",
        "which of many images are meant, by header keyword: FILTER=R, OBJECT=WASP-39*",
    )
    extension: str | None = _par(
        None, "str", "FITS extension of the image, by name or number; none: the first with one"
    )
    plane: int | None = _par(
        None, "int", "plane of a 3-D image that is one frame; none: every plane is a frame", low=0
    )
    error_extension: str | None = _par(
        None, "str", "FITS extension of the standard error; none: ERR where there is one"
    )
    mask_extension: str | None = _par(
        None, "str", "FITS extension of a mask (0 is good); none: DQ where there is one"
    )
    unreadable: str = _par(
        "flag",
        "str",
        "a file of a list that cannot be read: flag its row, or stop",
        choices=("flag", "stop"),
    )
    checksum: bool = _par(False, "bool", "record the checksum of each input file")
    # Running
    chunk: int | None = _par(None, "int", "frames in a chunk; none: by the size of a frame", low=1)
    n_workers: int = _par(1, "int", "processes, this one included", low=1)
    # Products beside the ASDF file
    save_catalog: bool = _par(False, "bool", "save a table in the form of the official product")
    save_fits: bool = _par(False, "bool", "save the light curve as a FITS table")
    save_plots: bool = _par(False, "bool", "save a plot of the light curve")

    def __new__(cls, *_: Any, **values: Any) -> Settings:
        """Refuse unknown names with the nearest known one."""
        refuse_unknown(values, (item.name for item in dataclasses.fields(cls)))
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = coerce(item, getattr(self, item.name))
            check(item, value)
            object.__setattr__(self, item.name, value)
        self._check_together()

    def _check_together(self) -> None:
        if self.position is not None and len(self.position) != 2:
            raise ValueError(f"position: {list(self.position)} found, expected two numbers x, y")
        if self.radii is not None and len(self.radii) == 0:
            raise ValueError("radii: an empty list found, expected one radius or more")
        inner, outer = self.radius_inner, self.radius_outer
        if inner is not None and outer is not None and inner >= outer:
            raise ValueError(
                f"radius_outer: {outer} found, expected more than radius_inner ({inner})"
            )
        if self.background_level is not None and self.background not in ("annulus", "none"):
            raise ValueError(
                f"background_level: {self.background_level:g} found beside "
                f"background={self.background}, expected one of them"
            )
        windows = self.out_of_transit
        if windows is not None and (len(windows) % 2 or len(windows) == 0):
            raise ValueError(
                f"out_of_transit: {list(windows)} found, expected pairs of start and end times"
            )
        for start, end in zip(windows[::2], windows[1::2]) if windows else ():
            if start > end:
                raise ValueError(
                    f"out_of_transit: {start:.10g} to {end:.10g} found, which is reversed, expected"
                    " the start of a time before its end"
                )
        if isinstance(self.gain, float) and not 0 < self.gain < float("inf"):
            raise ValueError(f"gain: {self.gain:g} found, expected a number above 0 or a file")
        dq_mask(self.dq_bits)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain values that any file format can hold.

        Returns
        -------
        dict
            Name to value; tuples become lists.
        """
        out = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            out[item.name] = list(value) if isinstance(value, tuple) else value
        return out

    def replace(self, **overrides: Any) -> Settings:
        """Make a copy with other values.

        Parameters
        ----------
        **overrides
            Fields of `Settings`.

        Returns
        -------
        Settings
            The validated copy.

        Raises
        ------
        ValueError
            A name is not a parameter, or a value is out of bounds.
        """
        refuse_unknown(overrides, (item.name for item in dataclasses.fields(self)))
        return dataclasses.replace(self, **overrides)


def fields_of() -> tuple[dataclasses.Field[Any], ...]:
    """List the parameters.

    Returns
    -------
    tuple of dataclasses.Field
        In the order of `Settings`; ``metadata`` holds kind, help, unit, low, high, choices.
    """
    return dataclasses.fields(Settings)


def from_strings(values: Mapping[str, Any]) -> Settings:
    """Make settings from the values of a step, a command line or a file.

    Parameters
    ----------
    values : mapping
        Name to value; values may be text. Names that are not parameters are ignored.

    Returns
    -------
    Settings
        The validated settings.

    Raises
    ------
    ValueError
        A value is out of bounds or cannot be converted.
    """
    known = {item.name for item in fields_of()}
    return Settings(**{name: value for name, value in values.items() if name in known})


def spec_text() -> str:
    """Write the parameters as a specification for stpipe.

    Returns
    -------
    str
        One line per parameter. Lists are passed as text and converted by `Settings`, so that
        ``--radii=3`` and ``--radii=3,4`` both work.
    """
    lines = []
    for item in fields_of():
        kind: str = item.metadata["kind"]
        default: Any = item.default
        form = {"bool": "boolean", "int": "integer", "float": "float"}.get(kind, "string")
        bounds = ""
        if kind in ("floats", "strs", "conditions", "size"):
            form = "force_list"
            if default is not None:
                default = "list(" + ", ".join(f"'{value}'" for value in default) + ")"
        elif item.metadata["choices"]:
            form = "option"
            bounds = ", ".join(f"'{choice}'" for choice in item.metadata["choices"]) + ", "
            default = f"'{default}'"
        elif isinstance(default, str):
            default = f"'{default}'"
        unit = item.metadata["unit"]
        text = item.metadata["help"] + (f" [{unit}]" if unit else "")
        lines.append(f"{item.name} = {form}({bounds}default={default})  # {text}")
    return "\n".join(lines) + "\n"
