"""What a run hands to the product: its tables and images (`Result`) and its `RunRecord`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tso_level3._version import __version__
from tso_level3.columns import TABLES, unit_of
from tso_level3.datatypes import Picture
from tso_level3.quality.verdict import Verdict

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from tso_level3.quality.noise import Averaging

__all__ = [
    "FORMAT_VERSION",
    "ApertureCenter",
    "BackgroundSmoothing",
    "CenterScatter",
    "ImageComponents",
    "NoiseAveraging",
    "PrimaryAperture",
    "Result",
    "RunRecord",
    "plain",
]

#: Version of the product's form; the first number changes where older readers would fail.
FORMAT_VERSION = "2.0.0"


def plain(value: object, *, nothing: object = None) -> Any:
    """Convert a value to one that any file format can hold.

    Parameters
    ----------
    value : object
        Numbers, texts, arrays, paths, and mappings and lists of them.
    nothing : object
        Replacement of None, which a data model drops when it saves.

    Returns
    -------
    object
        The value as Python's own numbers, texts, lists and dicts.
    """
    if value is None:
        return nothing
    if isinstance(value, Mapping):
        return {str(key): plain(item, nothing=nothing) for key, item in value.items()}
    if isinstance(value, np.generic):
        return plain(value.item(), nothing=nothing)
    if isinstance(value, np.ndarray):
        return plain(value.tolist(), nothing=nothing)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item, nothing=nothing) for item in value]
    if isinstance(value, (bool, int, float, str)):
        return value
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


_T = TypeVar("_T", bound="DataclassInstance")


@dataclass(frozen=True)
class PrimaryAperture:
    """The primary measurement, and why it was chosen.

    Attributes
    ----------
    kind : str
        ``aperture``, or ``psf`` for the fit of the template.
    radius, radius_inner, radius_outer : float or None
        Of aperture and annulus [pix]; None where there is none.
    reason : str
        Why, in a few words.
    """

    kind: str | None = None
    radius: float | None = None
    radius_inner: float | None = None
    radius_outer: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class ApertureCenter:
    """Where the apertures are centred.

    Attributes
    ----------
    source : str
        psf, gauss, cc or position.
    moving : bool
        Whether they follow the star.
    """

    source: str | None = None
    moving: bool = False


@dataclass(frozen=True)
class BackgroundSmoothing:
    """How the background was smoothed in time; see `tso_level3.quality.sky.Sky`.

    Attributes
    ----------
    smoothed : bool or None
        Whether it was; None where it was not tried.
    reason : str
        Why not.
    length : float or str
        Correlation length in integrations, or ``constant``.
    white : float
        Standard deviation of the white changes over the measured error.
    steps : sequence of int
        Rows of sudden changes.
    """

    smoothed: bool | None = None
    reason: str | None = None
    length: float | str | None = None
    white: float | None = None
    steps: Sequence[int] | None = None


@dataclass(frozen=True)
class CenterScatter:
    """Scatter of the fitted centres [pix], its Cramér-Rao bound, and their ratio."""

    scatter_x: float = np.nan
    bound_x: float = np.nan
    ratio_x: float = np.nan
    scatter_y: float = np.nan
    bound_y: float = np.nan
    ratio_y: float = np.nan


@dataclass(frozen=True)
class ImageComponents:
    """The column and the images ``components``; see `tso_level3.quality.components.Components`.

    Attributes
    ----------
    origin : sequence of int
        x, y in the frame of the first pixel of the images.
    red : sequence of float
        Variance of slow changes over that of white noise, per component.
    significant : int
        Number of components that are slow beyond chance.
    """

    origin: Sequence[int] = ()
    red: Sequence[float] = ()
    significant: int = 0


@dataclass(frozen=True)
class NoiseAveraging:
    """How the scatter falls with binning; see `tso_level3.quality.noise.Averaging`.

    Attributes
    ----------
    size : sequence of int
        Integrations per bin.
    scatter, white : sequence of float
        Relative scatter of the bins, measured and of white noise.
    red_noise : float
        Their ratio at one size, 1 or more.
    """

    size: Sequence[int] = ()
    scatter: Sequence[float] = ()
    white: Sequence[float] = ()
    red_noise: float = np.nan

    @classmethod
    def of(cls, found: Averaging) -> NoiseAveraging:
        """Take the plain values of an `Averaging`."""
        return cls(
            found.size.tolist(), found.scatter.tolist(), found.white.tolist(), found.red_noise
        )


@dataclass(frozen=True)
class RunRecord:
    """How a product was made: the content of its ``meta.tso_level3``.

    Attributes
    ----------
    format_version, version : str
        Of the product's form and of the package.
    settings : mapping
        The settings in effect; where read from a product, ``none`` stands for None.
    inputs : sequence of mapping
        Name, size, dates and frames of each input.
    time_scale, time_source : str
        Scale of the column ``time`` and where the times are from.
    unit : str
        Unit of the fluxes; empty where unknown.
    units : mapping
        Unit of each column of each table.
    radii : sequence of float
        Radii of the columns with one value per radius [pix].
    aperture_corrected, errors_known : bool
        Whether fluxes are corrected for the light outside the aperture; whether the input has
        errors.
    notes : sequence of str
        Assumptions, in sentences.
    mode, flicker : str
        Observing mode; kind of the 1/f row-noise correction.
    kernel, acquisition : mapping
        Description of the kernel, and result of the search for the star.
    quoted : PrimaryAperture
        The primary measurement.
    verdict : Verdict or None
        Whether the light curve can be used.
    aperture_center : ApertureCenter
        Centre of the apertures.
    components : ImageComponents
        Changes of the star's image.
    background_smooth : BackgroundSmoothing
        Smoothing of the background in time.
    bound : CenterScatter
        Scatter of the centres.
    averaging : NoiseAveraging
        Scatter against bin size.
    """

    format_version: str = FORMAT_VERSION
    version: str = __version__
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: Sequence[Mapping[str, Any]] = ()
    time_scale: str = "none"
    time_source: str = ""
    unit: str = ""
    units: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    radii: Sequence[float] = ()
    aperture_corrected: bool = False
    errors_known: bool = False
    notes: Sequence[str] = ()
    mode: str = ""
    kernel: Mapping[str, Any] = field(default_factory=dict)
    acquisition: Mapping[str, Any] = field(default_factory=dict)
    quoted: PrimaryAperture = PrimaryAperture()
    verdict: Verdict | None = None
    aperture_center: ApertureCenter = ApertureCenter()
    flicker: str = ""
    components: ImageComponents = ImageComponents()
    background_smooth: BackgroundSmoothing = BackgroundSmoothing()
    bound: CenterScatter = CenterScatter()
    averaging: NoiseAveraging = NoiseAveraging()

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> RunRecord:
        """Read the node of a product.

        Parameters
        ----------
        tree : mapping
            The content of ``meta.tso_level3``.

        Returns
        -------
        RunRecord
            With the default for each value that is missing.
        """
        values = {name: value for name, value in tree.items() if value is not None}
        for name, kind in _PARTS.items():
            if name in values:
                values[name] = _read(kind, values[name])
        return _read(cls, values)

    def as_tree(self) -> dict[str, Any]:
        """Give the content of ``meta.tso_level3``.

        Returns
        -------
        dict
            Plain values; None is left out, and written as ``none`` in the settings.
        """
        tree = {name: plain(value) for name, value in _present(self).items()}
        for name in _PARTS:
            if name in tree:
                tree[name] = plain(_present(getattr(self, name)))
        # A data model drops None.
        tree["settings"] = plain(self.settings, nothing="none")
        return tree

    @property
    def grade(self) -> str:
        """Grade of the verdict: good, doubtful or failed; good where there is no verdict."""
        return self.verdict.grade if self.verdict else "good"

    def setting(self, name: str) -> Any:
        """Look up a setting in effect.

        Parameters
        ----------
        name : str
            Name of the parameter.

        Returns
        -------
        object
            Its value; ``none`` where it was not given.
        """
        value = self.settings.get(name)
        return "none" if value is None else value


#: The fields of `RunRecord` that are dataclasses.
_PARTS: dict[str, type[Any]] = {
    "quoted": PrimaryAperture,
    "verdict": Verdict,
    "aperture_center": ApertureCenter,
    "components": ImageComponents,
    "background_smooth": BackgroundSmoothing,
    "bound": CenterScatter,
    "averaging": NoiseAveraging,
}


def _present(record: DataclassInstance) -> dict[str, Any]:
    values = {item.name: getattr(record, item.name) for item in fields(record)}
    return {name: value for name, value in values.items() if value is not None}


def _read(kind: type[_T], values: Mapping[str, Any]) -> _T:
    known = {item.name for item in fields(kind)}
    return kind(**{name: value for name, value in values.items() if name in known})


@dataclass(frozen=True, eq=False)
class Result:
    """The result of a run: plain arrays and values, to be put into a product.

    Attributes
    ----------
    light_curve, apertures, grid, events : dict of ndarray
        The tables of `tso_level3.columns`, by column name.
    radii : ndarray, (n_radii,)
        Radii of the columns with one value per radius [pix].
    unit : str
        What ``flux`` stands for in the units of the columns.
    template, kernel : Picture
        The mean image of the star and the kernel that was used.
    components : ndarray, (n_components, ny, nx)
        Changes of the star's image, the slowest first, relative to its flux.
    meta : mapping
        The input's metadata tree.
    record : RunRecord
        How it was made; units, radii and versions are added in the product.
    filenames : sequence of str or None
        The file of each row.
    """

    light_curve: Mapping[str, np.ndarray]
    apertures: Mapping[str, np.ndarray]
    grid: Mapping[str, np.ndarray]
    events: Mapping[str, np.ndarray]
    radii: np.ndarray
    unit: str
    template: Picture
    kernel: Picture
    components: np.ndarray
    meta: Mapping[str, Any]
    record: RunRecord
    filenames: Sequence[str] | None = None

    def completed_record(self) -> RunRecord:
        """Give the record with the facts that follow from the tables.

        Returns
        -------
        RunRecord
            With radii, unit and the units of all columns.
        """
        units = {
            name: {item.name: text for item in columns if (text := unit_of(item, self.unit))}
            for name, columns in TABLES.items()
        }
        radii = [float(radius) for radius in self.radii]
        return replace(self.record, radii=radii, unit=self.unit, units=units)
