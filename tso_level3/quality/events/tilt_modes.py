"""Modes of the image for tilts of the mirror segments, as linear functionals of the residuals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tso_level3.core.plan import Plan
from tso_level3.datatypes import Optics
from tso_level3.psf.kernel import known
from tso_level3.psf.segments import segment_modes

__all__ = ["TiltModes", "tilt_modes"]

_N_DIRECT = 30
_N_QUADRATURE = 16
_N_COMPONENTS = 2


@dataclass(frozen=True, eq=False)
class TiltModes:
    """Modes of the image along which events are searched.

    Attributes
    ----------
    functionals : ndarray, (n_modes, n_fit)
        Their product with the residuals is the projections, in standard errors.
    subspaces : tuple of ndarray, (n_modes, k)
        Subspaces of the projections, one per mirror segment; empty where the pupil is unknown.
    """

    functionals: np.ndarray
    subspaces: tuple[np.ndarray, ...]


def tilt_modes(plan: Plan, optics: Optics) -> TiltModes:
    """Compute the tilt modes of an exposure.

    Where the pupil is unknown they are the third derivatives of the mean image, and the image times
    low powers of the offsets: the leading terms of a change of shape in a Gauss-Hermite series.

    Parameters
    ----------
    plan : Plan
        The plan of the exposure.
    optics : Optics
        Its instrument, filter, pupil and detector identify the pupil.

    Returns
    -------
    TiltModes
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

    if known(optics.instrument, optics.filter, optics.pupil):
        rows, segments = _segment_modes(plan, optics, clean)
    else:
        rows, segments = _leading(clean(_derivatives(plan)), 12), []
    own = plan.components * np.sqrt(plan.noise.total[:n_fit]) if len(plan.components) else rows[:0]
    rows = _added(rows, np.where(alive, own, 0.0)[:_N_COMPONENTS], _N_COMPONENTS)
    return TiltModes(rows * inverse, tuple(np.linalg.qr(rows @ part.T)[0] for part in segments))


def _segment_modes(
    plan: Plan, optics: Optics, clean: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Leading modes of all segments and their quadratures, and the three modes of each segment."""
    fit, template = plan.layout.fit, plan.template
    waves = plan.correlator.kernel.description.get("waves")
    modes = segment_modes(
        fit.x - template.x + np.arange(fit.nx),
        fit.y - template.y + np.arange(fit.ny),
        waves=waves if isinstance(waves, (int, float)) else None,
        instrument=optics.instrument,
        filter=optics.filter,
        pupil=optics.pupil,
        detector=optics.detector,
    )
    images = clean(modes * template.flux).reshape(*modes.shape[:2], 2, -1)
    direct = _leading(images[:, :, 0].reshape(-1, images.shape[-1]), _N_DIRECT)
    quadratures = images[:, :, 1].reshape(-1, images.shape[-1])
    return _added(direct, quadratures, _N_QUADRATURE), list(images[:, :, 0])


def _derivatives(plan: Plan) -> np.ndarray:
    """Third derivatives of the mean image, and the image times low powers of the offsets."""
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
    """Leading principal directions of the images, orthonormal."""
    values, left = np.linalg.eigh(images @ images.T)
    order = np.argsort(values)[::-1][:count]
    order = order[values[order] > 1e-10 * values.max()]
    rows = left[:, order].T @ images
    rows, _ = np.linalg.qr(rows.T)
    strongest = np.abs(rows).argmax(axis=0)
    return (rows * np.sign(rows[strongest, np.arange(rows.shape[1])])).T


def _added(rows: np.ndarray, images: np.ndarray, count: int) -> np.ndarray:
    """Add the leading principal directions of the part of the images orthogonal to the rows."""
    if len(images) == 0:
        return rows
    rest = images - (images @ rows.T) @ rows
    if np.abs(rest).max() <= 1e-8 * np.abs(images).max():
        return rows
    return np.concatenate([rows, _leading(rest, count)])
