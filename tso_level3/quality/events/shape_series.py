"""The series in which a change of the image's shape shows, made ready stretch by stretch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tso_level3.quality.events.change_points import Families
from tso_level3.quality.events.whitening import whiten

__all__ = ["ShapeSeries"]

_LEADING = (6, 16)
_LEAST = 40
# Projections that are worked on together, and so many that single precision has to do: it is
# finer than their noise by six orders of magnitude.
_BLOCK = 4096
_MANY = 2_000_000


@dataclass(frozen=True, eq=False)
class ShapeSeries:
    """Projections of the residuals, widths and chi-square.

    Attributes
    ----------
    projections : ndarray, (n, n_components)
        White projections.
    families : Families
        Where a tilt may point in them.
    widths, place : ndarray, (n, 2)
        Widths, and the centres that they follow.
    chi2 : ndarray, (n,)
        Chi-square.
    brightness : ndarray, (n, 2)
        What it follows: the flux, and the squares of the projections.
    """

    projections: np.ndarray
    families: Families
    widths: np.ndarray
    place: np.ndarray
    chi2: np.ndarray
    brightness: np.ndarray

    @property
    def n(self) -> int:
        """Number of integrations."""
        return len(self.projections)

    @classmethod
    def of(
        cls,
        components: np.ndarray,
        rows: np.ndarray,
        *,
        widths: np.ndarray,
        chi2: np.ndarray,
        place: np.ndarray,
        flux: np.ndarray,
        groups: Sequence[np.ndarray],
    ) -> ShapeSeries:
        """Make them from what was measured.

        Parameters
        ----------
        components : ndarray, (n_all, n_components)
            Projections of all integrations; they are left as they are.
        rows : ndarray, (n,), int
            The integrations that count, whose projections are finite.
        widths, place : ndarray, (n, 2)
            Widths and centres.
        chi2, flux : ndarray, (n,)
            Chi-square and flux.
        groups : sequence of ndarray, (n_components, k)
            Subspaces in which a single cause moves the image.

        Returns
        -------
        ShapeSeries
            The series.
        """
        n, k = len(rows), components.shape[1]
        # After a tilt residuals are as bright as the star, and a transit would show in them.
        relative, strength = _relative(flux), np.empty(n)
        taken = np.empty((n, k), np.float32 if n * k > _MANY else float)
        for first in range(0, n, _BLOCK):
            block = slice(first, first + _BLOCK)
            part = components[rows[block]].astype(float)
            strength[block] = np.einsum("ij,ij->i", part, part)
            taken[block] = part / relative[block, None]
        white = whiten(taken, in_place=True)
        eye = np.eye(k)
        bases = [*groups, *[eye[:, :m] for m in _LEADING if m < k], eye]
        # More directions than integrations can carry are not looked at together.
        bases = [basis for basis in bases if basis.shape[1] < n / 4]
        return cls(
            projections=white.values,
            families=Families.of(bases, white.matrix),
            widths=_filled(widths),
            place=place,
            chi2=_filled(chi2[:, None])[:, 0],
            brightness=_filled(np.stack([flux, strength], axis=1)),
        )

    def looks(self, start: int, stop: int) -> list[tuple[np.ndarray, Families]]:
        """Give what is to be looked at in a stretch.

        Parameters
        ----------
        start, stop : int
            Integrations [start, stop), without a known step between.

        Returns
        -------
        list of (ndarray, Families)
            White series and where a step may point: the projections; widths and chi-square.

        Notes
        -----
        The width of a star on pixels follows its place, and so a drift; chi-square follows the
        star's photon noise, and so a transit, and what the projections hold. Both relations
        change with a tilt and are fitted in each stretch.
        """
        out = [(self.projections[start:stop], self.families)]
        if stop - start < _LEAST:
            return out
        part = slice(start, stop)
        widths = [_without(width, self.place[part]) for width in self.widths[part].T]
        chi2 = _without(self.chi2[part], self.brightness[part])
        white = whiten(np.stack([*widths, chi2], axis=1))
        eye = np.eye(3)
        return [*out, (white.values, Families.of([eye[:, :2], eye[:, 2:]], white.matrix))]


def _filled(values: np.ndarray) -> np.ndarray:
    """Put medians where nothing is known."""
    good = np.isfinite(values)
    middle = [np.median(v[g]) if g.any() else 0.0 for v, g in zip(values.T, good.T, strict=True)]
    return np.where(good, values, middle)


def _relative(flux: np.ndarray) -> np.ndarray:
    """Flux over its median, 1 where it is not known, within a factor of two."""
    good = np.isfinite(flux)
    middle = np.median(flux[good]) if good.any() else 0.0
    if not middle > 0:
        return np.ones(len(flux))
    return np.clip(np.where(good, flux, middle) / middle, 0.5, 2.0)


def _without(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Take out what follows other series linearly."""
    others = others - others.mean(axis=0)
    size = others.std(axis=0)
    others = others / np.where(size > 0, size, np.inf)
    return values - others @ np.linalg.lstsq(others, values - values.mean(), rcond=None)[0]
