"""Data types of the plan of an exposure and of the measurement of its frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from tso_level3.core.aperture import MovingApertures
from tso_level3.core.peak import Correlator
from tso_level3.core.row_noise import RowNoise
from tso_level3.core.template import Template
from tso_level3.datatypes import Box, KernelLike

__all__ = [
    "Annulus",
    "BackgroundPlan",
    "Layout",
    "Measurement",
    "Noise",
    "Plan",
    "computed_star",
    "make_layout",
]

# Kinds of kernels that know the wings of the star.
_COMPUTED = ("jwst", "stpsf", "file")


@dataclass(frozen=True)
class Annulus:
    """A ring of background pixels.

    Attributes
    ----------
    inner, outer : float
        Radii [pix].
    """

    inner: float
    outer: float


@dataclass(frozen=True, eq=False)
class Layout:
    """Pixels that are used, and their order.

    Attributes
    ----------
    box : Box
        The rectangle that is read.
    fit : Box
        The subframe of the fits, inside it.
    columns, rows : ndarray, (n,), int
        The used pixels in the frame: first the subframe row by row, then the rest of the disc
        that apertures can reach, then the rest of the annuli.
    index : ndarray, (n,), int
        Their places in the flattened box.
    n_fit, n_near : int
        Number of pixels of the subframe, and of subframe and disc together.
    rings : tuple of ndarray
        For each annulus the places of its pixels in this order.
    """

    box: Box
    fit: Box
    columns: np.ndarray
    rows: np.ndarray
    index: np.ndarray
    n_fit: int
    n_near: int
    rings: tuple[np.ndarray, ...]

    @property
    def n_pixels(self) -> int:
        """Number of used pixels."""
        return len(self.index)


def computed_star(kernel: KernelLike, template: Template, layout: Layout) -> np.ndarray | None:
    """Evaluate a computed kernel at the star's place and flux.

    Parameters
    ----------
    kernel : KernelLike
        The kernel.
    template : Template
        Gives place and flux.
    layout : Layout
        The used pixels.

    Returns
    -------
    ndarray, (n_pixels,), or None
        The star; None for a kernel that is not computed, and so does not know the wings.
    """
    if kernel.kind not in _COMPUTED:
        return None
    box = layout.box
    u, v = np.arange(box.nx) + box.x - template.x, np.arange(box.ny) + box.y - template.y
    star: np.ndarray = template.flux * kernel.evaluate(u, v).reshape(-1)[layout.index]
    return star


def make_layout(
    center: tuple[float, float],
    shape: tuple[int, int],
    *,
    fit: Box,
    reach: float,
    annuli: tuple[Annulus, ...],
    whole_frame: bool = False,
    full_rows: bool = False,
) -> Layout:
    """Select the pixels that are used.

    Parameters
    ----------
    center : (float, float)
        x, y of the star.
    shape : (int, int)
        (ny, nx) of the frame.
    fit : Box
        The subframe of the fits.
    reach : float
        Radius that apertures can reach [pix].
    annuli : tuple of Annulus
        The rings.
    whole_frame : bool
        Take every pixel of the frame outside each annulus' inner radius as its ring.
    full_rows : bool
        Take the rows to the edges of the frame, and every pixel of them.

    Returns
    -------
    Layout
        The selection.
    """
    x, y = center
    reach_all = max([reach + 1.0] + [annulus.outer + 1.0 for annulus in annuli])
    half = (
        max(reach_all, y - fit.y + 1, fit.y + fit.ny - y),
        max(reach_all, x - fit.x + 1, fit.x + fit.nx - x),
    )
    box = Box(0, 0, shape[1], shape[0]) if whole_frame else Box.around(x, y, half, shape)
    if full_rows:
        box = Box(0, box.y, shape[1], box.ny)
    rows, columns = np.mgrid[box.slices]
    rows, columns = rows.ravel(), columns.ravel()
    distance = np.hypot(columns - x, rows - y)
    in_fit = (
        (columns >= fit.x) & (columns < fit.x + fit.nx) & (rows >= fit.y) & (rows < fit.y + fit.ny)
    )
    in_disc = distance <= reach + 0.75
    in_rings = [
        (distance >= annulus.inner) & ((distance < annulus.outer) | whole_frame)
        for annulus in annuli
    ]
    in_any = np.any(in_rings, axis=0) if in_rings else np.zeros(len(rows), bool)
    if full_rows:
        in_any = np.ones(len(rows), bool)
    parts = [in_fit, in_disc & ~in_fit, in_any & ~in_fit & ~in_disc]
    index = np.concatenate([np.flatnonzero(part) for part in parts])
    counts = [int(part.sum()) for part in parts]
    return Layout(
        box=box,
        fit=fit,
        columns=columns[index],
        rows=rows[index],
        index=index,
        n_fit=counts[0],
        n_near=counts[0] + counts[1],
        rings=tuple(np.flatnonzero(ring[index]) for ring in in_rings),
    )


@dataclass(frozen=True, eq=False)
class Noise:
    """Variances of the used pixels.

    Attributes
    ----------
    star : ndarray, (n,)
        Part that is proportional to the star's flux, at the flux of the template.
    rest : ndarray, (n,)
        Part that is not: sky and read noise.
    read : ndarray, (n,)
        The share of the read noise in `rest`.
    limit : ndarray, (n,)
        Standard deviation that outliers are measured with; infinite for dead pixels.
    known : bool
        Whether it comes from the input's errors; otherwise from the scatter in time.
    stated : bool
        Whether errors follow from it: a single frame without errors does not show its photon
        noise.
    """

    star: np.ndarray
    rest: np.ndarray
    read: np.ndarray
    limit: np.ndarray
    known: bool
    stated: bool = True

    @property
    def total(self) -> np.ndarray:
        """Variance at the template's flux, (n,)."""
        result: np.ndarray = self.star + self.rest
        return result


@dataclass(frozen=True, eq=False)
class BackgroundPlan:
    """How the background is measured.

    Attributes
    ----------
    mode, stat : str
        As `Settings.background` and `Settings.background_stat`.
    sigma : float
        Clipping [sigma].
    rings : tuple of ndarray
        For each annulus the places of its used pixels in the layout's order, clipped in space.
    levels : ndarray, (6, n_annuli)
        Level of the template, and of its derivatives, in each ring without the star's wings.
    scatter : ndarray, (n_annuli,), or None
        Standard deviation of a ring's pixels where the frames are too few to show it: their
        residuals are those of their own mean.
    known : float
        Background per pixel that is given, not measured.
    pattern : ndarray, (n_pixels,), or None
        Pattern of detector and sky in every frame, subtracted before all else.
    """

    mode: str
    stat: str
    sigma: float
    rings: tuple[np.ndarray, ...]
    levels: np.ndarray
    scatter: np.ndarray | None = None
    known: float = 0.0
    pattern: np.ndarray | None = None

    @property
    def offset(self) -> float | np.ndarray:
        """Background that is subtracted from every frame, a number or (n_pixels,)."""
        return self.known if self.pattern is None else self.known + self.pattern


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything a chunk is measured with; settled on a sample of frames, the same for all.

    Attributes
    ----------
    layout : Layout
        The used pixels.
    template : Template
        The exposure's own model of the star.
    correlator : Correlator
        The kernel of the cross-correlation.
    noise : Noise
        Variances.
    weights : ndarray, (n_fit,)
        Weights of the fits; zero for dead pixels.
    dead : ndarray, (n,), bool
        Pixels that are bad in more than half of the sample, or always.
    dq_mask : int
        Data-quality bits that make a pixel bad.
    background : BackgroundPlan
        The background.
    annuli : tuple of Annulus
        The grid of annuli; the first is the default.
    radii : ndarray, (n_radii,)
        Aperture radii [pix].
    center : (float, float)
        Centre of the apertures where it does not move.
    source : str
        Method of the centre: psf, gauss, cc or position.
    moving : bool
        Whether the apertures move.
    motion : float
        Distance from the centre to the farthest one in the sample [pix].
    overlap : ndarray, (n_radii, n_near)
        Overlaps at the fixed centre.
    apertures : MovingApertures
        The same for moving centres.
    gauss_start : ndarray, (6,)
        The Gaussian of the template, relative to its centre.
    gauss_response : ndarray, (6, n_fit)
        How it follows small changes of the image.
    components : ndarray, (n_components, n_fit)
        Functionals whose product with residuals gives the principal components.
    directions : ndarray, (n_directions, n_fit), or None
        The same for the shapes along which events are looked for.
    eigenimages : ndarray, (m, n_fit)
        Functionals whose product with normalised images gives their principal components, flux,
        motion and constant taken out.
    fill : bool
        Whether missing pixels are filled.
    outlier_sigma : float
        Limit of outliers in time; 0 for none.
    flicker : str
        none, rows or amps.
    rows : RowNoise or None
        How row noise is removed.
    unit : str
        Unit of the scaled pixels.
    flags : int
        Bits that hold for every frame.
    info : mapping
        What was found of the exposure, in plain values, for the product.
    """

    layout: Layout
    template: Template
    correlator: Correlator
    noise: Noise
    weights: np.ndarray
    dead: np.ndarray
    dq_mask: int
    background: BackgroundPlan
    annuli: tuple[Annulus, ...]
    radii: np.ndarray
    center: tuple[float, float]
    source: str
    moving: bool
    overlap: np.ndarray
    apertures: MovingApertures
    gauss_start: np.ndarray
    gauss_response: np.ndarray
    components: np.ndarray
    eigenimages: np.ndarray
    fill: bool
    outlier_sigma: float
    flicker: str = "none"
    rows: RowNoise | None = None
    unit: str = ""
    directions: np.ndarray | None = None
    flags: int = 0
    motion: float = 0.0
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def beyond_frame(self) -> np.ndarray:
        """Fraction of each fixed aperture beyond the frame, (n_radii,)."""
        inside: np.ndarray = self.overlap.sum(axis=1) / (np.pi * self.radii**2)
        return 1.0 - inside

    @cached_property
    def summed(self) -> np.ndarray:
        """Areas, and variances by star, rest and reading, of the fixed apertures, (4, n_radii)."""
        near = slice(0, self.layout.n_near)
        alive = ~self.dead[near]
        planes = (self.noise.star, self.noise.rest, self.noise.read)
        squared = self.overlap**2
        return np.stack(
            [self.overlap.sum(axis=1), *(squared @ (plane[near] * alive) for plane in planes)]
        )


@dataclass(frozen=True, eq=False)
class Measurement:
    """Measurement of a chunk, or of the whole exposure; one row per frame.

    Attributes
    ----------
    background, background_err, background_area : ndarray, (n, n_annuli)
        For each annulus; one column of zeros where there is none.
    cc : ndarray, (n, 3)
        x, y and normalised value of the peak of the cross-correlation.
    gauss, gauss_err : ndarray, (n, 6)
        Amplitude, x, y, sigma_x, sigma_y, constant.
    gauss_chi2 : ndarray, (n,)
        Reduced chi-square.
    psf, psf_err : ndarray, (n, 3)
        x, y, flux.
    psf_chi2 : ndarray, (n,)
        Reduced chi-square.
    components : ndarray, (n, m)
        Projections of the normalised image on the eigenimages.
    directions : ndarray, (n, n_directions)
        Projections of the residuals, in single precision.
    center : ndarray, (n, 2)
        x, y of the apertures.
    sums, areas : ndarray, (n, n_radii)
        Aperture sums with the background in them, and good pixels.
    variance : ndarray, (n, n_radii)
        Variance of the sums.
    read_variance : ndarray, (n, n_radii)
        Share of the read noise.
    replaced : ndarray, (n, n_radii)
        Sum of the filled pixels of the star.
    flags : ndarray, (n,), uint32
        Bits of `tso_level3.Flag`.
    """

    background: np.ndarray
    background_err: np.ndarray
    background_area: np.ndarray
    cc: np.ndarray
    gauss: np.ndarray
    gauss_err: np.ndarray
    gauss_chi2: np.ndarray
    psf: np.ndarray
    psf_err: np.ndarray
    psf_chi2: np.ndarray
    components: np.ndarray
    directions: np.ndarray
    center: np.ndarray
    sums: np.ndarray
    areas: np.ndarray
    variance: np.ndarray
    read_variance: np.ndarray
    replaced: np.ndarray
    flags: np.ndarray

    @classmethod
    def room(cls, part: Measurement, n: int) -> Measurement:
        """Allocate arrays for all frames, to be filled part by part.

        Parts that wait to be merged would take twice the memory.

        Parameters
        ----------
        part : Measurement
            Some frames, which have the numbers of columns.
        n : int
            Number of frames.

        Returns
        -------
        Measurement
            Arrays of n rows, without values.
        """
        columns = {item.name: getattr(part, item.name) for item in fields(cls)}
        return cls(
            **{name: np.empty((n, *own.shape[1:]), own.dtype) for name, own in columns.items()}
        )

    def put(self, first: int, part: Measurement) -> None:
        """Copy a run of frames to its place.

        Parameters
        ----------
        first : int
            Row of its first frame.
        part : Measurement
            The frames.
        """
        for item in fields(self):
            own = getattr(part, item.name)
            getattr(self, item.name)[first : first + len(own)] = own

    @classmethod
    def merge(cls, parts: list[Measurement]) -> Measurement:
        """Merge runs of frames.

        Parameters
        ----------
        parts : list of Measurement
            In the order of the frames.

        Returns
        -------
        Measurement
            All frames.
        """
        whole = cls.room(parts[0], sum(len(part.flags) for part in parts))
        first = 0
        for part in parts:
            whole.put(first, part)
            first += len(part.flags)
        return whole

    def without_sums(self) -> Measurement:
        """Drop the columns that only the light curves of the apertures need.

        Returns
        -------
        Measurement
            The same frames without radii.
        """
        named = ("sums", "areas", "variance", "read_variance", "replaced")
        return replace(self, **{name: getattr(self, name)[:, :0].copy() for name in named})
