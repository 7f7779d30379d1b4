"""Shapes along which a segment's tilt changes the image, as functionals of the residuals."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from tso_level3.core.plan import Plan
from tso_level3.psf.kernel import known
from tso_level3.psf.segments import segment_modes

__all__ = ["Directions", "directions_of"]

log = logging.getLogger(__name__)

_N_PLAIN = 30
_N_QUADRATURE = 16
_N_COMPONENTS = 2


@dataclass(frozen=True, eq=False)
class Directions:
    """What changes of shape are looked for.

    Attributes
    ----------
    functionals : ndarray, (n_directions, n_fit)
        Their product with residuals gives the projections, in standard errors.
    groups : tuple of ndarray, (n_directions, k)
        Subspaces of the projections in which a single cause moves the image: one for each mirror
        segment where the pupil is known.
    """

    functionals: np.ndarray
    groups: tuple[np.ndarray, ...]


def directions_of(plan: Plan, setup: dict[str, str]) -> Directions:
    """Settle the directions for a plan.

    Parameters
    ----------
    plan : Plan
        What the first look settled.
    setup : dict
        instrument, filter, pupil and detector, as in the headers. Where the pupil is not known
        the third derivatives of the mean image, and it times low powers of the offsets, take the
        place of its segments: a change of shape in a Gauss-Hermite series begins with such terms.

    Returns
    -------
    Directions
        In units of standard errors, orthogonal to the terms of the template.
    """
    n_fit = plan.layout.n_fit
    alive = ~plan.dead[:n_fit]
    with np.errstate(divide="ignore"):
        inverse = np.where(alive, 1.0 / np.sqrt(plan.noise.total[:n_fit]), 0.0)
    inverse[~np.isfinite(inverse)] = 0.0
    terms, _ = np.linalg.qr((plan.template.node((0, 0)).terms[:, :n_fit] * inverse).T)

    def clean(images: np.ndarray) -> np.ndarray:
        flat = images.reshape(-1, n_fit) * inverse
        return flat - (flat @ terms) @ terms.T

    if known(setup["instrument"], setup["filter"], setup["pupil"]):
        plain, turned, groups = _of_segments(plan, setup, clean)
    else:
        plain, groups = _leading(clean(_derivatives(plan)), 12), []
        turned = plain[:0]
    rows = _added(plain, turned, _N_QUADRATURE)
    own = plan.components * np.sqrt(plan.noise.total[:n_fit]) if len(plan.components) else rows[:0]
    rows = _added(rows, np.where(alive, own, 0.0)[:_N_COMPONENTS], _N_COMPONENTS)
    return Directions(rows * inverse, tuple(_orthonormal(rows @ part.T) for part in groups))


def _of_segments(plan: Plan, setup: dict[str, str], clean) -> tuple:  # noqa: ANN001
    """Directions of the segments, of their quadratures, and the triple of each segment."""
    fit, template = plan.layout.fit, plan.template
    waves = plan.correlator.kernel.description.get("waves")
    modes = segment_modes(
        fit.x - template.x + np.arange(fit.nx),
        fit.y - template.y + np.arange(fit.ny),
        waves=waves if isinstance(waves, (int, float)) else None,
        **setup,
    )
    n, shape = len(modes), modes.shape
    images = clean(modes * template.flux).reshape(n, shape[1], 2, -1)
    plain = _leading(images[:, :, 0].reshape(-1, images.shape[-1]), _N_PLAIN)
    turned = images[:, :, 1].reshape(-1, images.shape[-1])
    return plain, turned, list(images[:, :, 0])


def _derivatives(plan: Plan) -> np.ndarray:
    """Third derivatives of the mean image, and it times low powers of the offsets."""
    template, n_fit = plan.template, plan.layout.n_fit
    pixels = (template.columns[:n_fit], template.rows[:n_fit])
    third = [template.image.at(0.0, 0.0, 3 - k, k, pixels) for k in range(4)]
    u, v = pixels[0] - template.x, pixels[1] - template.y
    image = template.image.at(0.0, 0.0, 0, 0, pixels)
    power = np.abs(image) / max(np.abs(image).sum(), 1e-300)
    size = max(np.sqrt(power @ (u**2 + v**2)), 0.5)
    orders = [(n - k, k) for n in (2, 3, 4) for k in range(n + 1)]
    return np.stack(third + [image * (u / size) ** nx * (v / size) ** ny for nx, ny in orders])


def _leading(images: np.ndarray, count: int) -> np.ndarray:
    """Orthonormal directions that hold most of the images."""
    values, left = np.linalg.eigh(images @ images.T)
    order = np.argsort(values)[::-1][:count]
    order = order[values[order] > 1e-10 * values.max()]
    rows = left[:, order].T @ images
    rows, _ = np.linalg.qr(rows.T)
    strongest = np.abs(rows).argmax(axis=0)
    return (rows * np.sign(rows[strongest, np.arange(rows.shape[1])])).T


def _added(rows: np.ndarray, images: np.ndarray, count: int) -> np.ndarray:
    """Add the leading directions of what images hold beside those that there are."""
    if len(images) == 0:
        return rows
    rest = images - (images @ rows.T) @ rows
    if np.abs(rest).max() <= 1e-8 * np.abs(images).max():
        return rows
    return np.concatenate([rows, _leading(rest, count)])


def _orthonormal(columns: np.ndarray) -> np.ndarray:
    return np.linalg.qr(columns)[0]
