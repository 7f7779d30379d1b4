"""Whitened series that show a change of the image's shape: projections, widths, chi-square."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tso_level3.quality.events.change_points import Subspaces
from tso_level3.quality.events.whitening import whiten

__all__ = ["ShapeSeries"]

_LEADING = (6, 16)
_LEAST = 40
# Integrations per block, and the number of projections above which single precision is used: it is
# finer than their noise by six orders of magnitude.
_BLOCK = 4096
_MANY = 2_000_000


@dataclass(eq=False)
class ShapeSeries:
    """Projections of the residuals, widths and chi-square.

    Attributes
    ----------
    projections : ndarray, (n, n_components)
        Whitened projections.
    subspaces : Subspaces
        Directions that a tilt may have in them.
    widths, place : ndarray, (n, 2)
        Widths, and the centres on which they depend.
    chi2 : ndarray, (n,)
        Chi-square.
    brightness : ndarray, (n, 2)
        What chi-square depends on: the flux, and the sum of squares of the projections.
    """

    projections: np.ndarray
    subspaces: Subspaces
    widths: np.ndarray
    place: np.ndarray
    chi2: np.ndarray
    brightness: np.ndarray

    @property
    def n(self) -> int:
        """Number of integrations."""
        return len(self.projections)

    @classmethod
    def from_columns(
        cls,
        components: np.ndarray,
        rows: np.ndarray,
        *,
        widths: np.ndarray,
        chi2: np.ndarray,
        place: np.ndarray,
        flux: np.ndarray,
        subspaces: Sequence[np.ndarray],
    ) -> ShapeSeries:
        """Make the series of a measured exposure.

        Parameters
        ----------
        components : ndarray, (n_all, n_components)
            Projections of all integrations; not changed.
        rows : ndarray, (n,), int
            The integrations to use, whose projections are finite.
        widths, place : ndarray, (n, 2)
            Widths and centres.
        chi2, flux : ndarray, (n,)
            Chi-square and flux.
        subspaces : sequence of ndarray, (n_components, k)
            Subspaces of the projections, each of a single cause.

        Returns
        -------
        ShapeSeries
            The series.
        """
        n, k = len(rows), components.shape[1]
        # After a tilt the residuals scale with the flux, and a transit would show in them.
        relative, strength = _relative(flux), np.empty(n)
        taken = np.empty((n, k), np.float32 if n * k > _MANY else float)
        for first in range(0, n, _BLOCK):
            block = slice(first, first + _BLOCK)
            part = components[rows[block]].astype(float)
            strength[block] = np.einsum("ij,ij->i", part, part)
            taken[block] = part / relative[block, None]
        whitened = whiten(taken, out=taken)
        eye = np.eye(k)
        bases = [*subspaces, *[eye[:, :m] for m in _LEADING if m < k], eye]
        # A subspace needs several integrations per dimension.
        bases = [basis for basis in bases if basis.shape[1] < n / 4]
        return cls(
            projections=whitened.values,
            subspaces=Subspaces.of(bases, whitened.matrix),
            widths=_filled(widths),
            place=place,
            chi2=_filled(chi2[:, None])[:, 0],
            brightness=_filled(np.stack([flux, strength], axis=1)),
        )

    def stretch(self, start: int, stop: int) -> list[tuple[np.ndarray, Subspaces]]:
        """Return the series of a stretch that are searched for a step.

        Parameters
        ----------
        start, stop : int
            Integrations [start, stop), without a known step.

        Returns
        -------
        list of (ndarray, Subspaces)
            Whitened series and the directions of a step: projections; widths and chi-square.

        Notes
        -----
        The width of a star depends on its place in the pixel, and chi-square on its photon noise
        and the projections. Both relations change with a tilt and are fitted in each stretch.
        """
        out = [(self.projections[start:stop], self.subspaces)]
        if stop - start < _LEAST:
            return out
        part = slice(start, stop)
        widths = [_without(width, self.place[part]) for width in self.widths[part].T]
        chi2 = _without(self.chi2[part], self.brightness[part])
        whitened = whiten(np.stack([*widths, chi2], axis=1))
        eye = np.eye(3)
        return [*out, (whitened.values, Subspaces.of([eye[:, :2], eye[:, 2:]], whitened.matrix))]


def _filled(values: np.ndarray) -> np.ndarray:
    """Replace NaN by the median of the column."""
    good = np.isfinite(values)
    middle = [np.median(v[g]) if g.any() else 0.0 for v, g in zip(values.T, good.T, strict=True)]
    return np.where(good, values, middle)


def _relative(flux: np.ndarray) -> np.ndarray:
    """Flux over its median, limited to a factor of two; 1 where unknown."""
    good = np.isfinite(flux)
    middle = np.median(flux[good]) if good.any() else 0.0
    if not middle > 0:
        return np.ones(len(flux))
    return np.clip(np.where(good, flux, middle) / middle, 0.5, 2.0)


def _without(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Subtract the linear dependence on other series."""
    others = others - others.mean(axis=0)
    size = others.std(axis=0)
    others = others / np.where(size > 0, size, np.inf)
    return values - others @ np.linalg.lstsq(others, values - values.mean(), rcond=None)[0]
