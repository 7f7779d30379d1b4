"""Measurement of one chunk of frames: from pixels to centres, fluxes, errors and flags."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tso_level3.core.background import Background, backgrounds_of, clipped
from tso_level3.core.bad import Bad
from tso_level3.core.blocks import blocks
from tso_level3.core.gauss_errors import error_factors
from tso_level3.core.gaussian import GaussianFit, fit_gaussians
from tso_level3.core.plan import Measurement, Plan
from tso_level3.core.repair import Repaired, find_and_fit
from tso_level3.core.row_noise import remove_flicker
from tso_level3.core.sums import aperture_sums
from tso_level3.core.template import Fit
from tso_level3.datatypes import Pixels
from tso_level3.flags import Flag

__all__ = ["gather", "marked", "measure", "own_centers"]

# Terms of the template that are its second derivatives.
_WIDTHS = slice(3, 6)

# Part of the subframe without which a frame is not measured.
_EMPTY = 0.7
# An annulus with fewer good pixels is short.
_FEW = 50
# Shifts [pix], and relative changes of the width, up to which the first order is a good start.
_NEAR = 0.2


def gather(
    pixels: Pixels,
    index: np.ndarray,
    scale: float | np.ndarray,
    dq_mask: int,
    background: float | np.ndarray = 0.0,
) -> tuple[np.ndarray, Bad]:
    """Take the used pixels out of a chunk, and scale them.

    Parameters
    ----------
    pixels : Pixels
        What was read, (n, ny, nx).
    index : ndarray, (n_pixels,), int
        Places of the used pixels in the flattened box.
    scale : float or ndarray, (ny, nx)
        Factor to the exposure's unit, on the box.
    dq_mask : int
        Data-quality bits that make a pixel bad.
    background : float or ndarray, (n_pixels,)
        What is subtracted from every scaled pixel.

    Returns
    -------
    (ndarray, Bad)
        Scaled pixels (n, n_pixels), float64, zero where bad, and the list of bad pixels: those with
        a bit set, a value or error that is not finite, or an error of zero or less.
    """
    n = len(pixels.values)
    flat = pixels.values.reshape(n, -1)
    values = np.empty((n, len(index)))
    wrong = np.zeros(flat.shape, bool)
    for part in blocks(*flat.shape):
        values[part] = np.take(flat[part], index, axis=1, mode="clip")
        # The whole box is tested: that is quicker than taking the used pixels out first.
        _mark(wrong[part], pixels, part, dq_mask)
    if np.ndim(scale):
        values *= np.asarray(scale).reshape(-1)[index]
    elif scale != 1.0:
        values *= scale
    if np.any(background):
        values -= background
    bad = _used(wrong, index)
    values[bad.frame, bad.pixel] = 0.0
    more = _not_finite(values)
    if more.frame.size:
        values[more.frame, more.pixel] = 0.0
        bad = bad.join(more)
    return values, bad


def marked(pixels: Pixels, dq_mask: int) -> np.ndarray:
    """Mark the pixels that the input calls bad.

    Parameters
    ----------
    pixels : Pixels
        What was read, (n, ny, nx).
    dq_mask : int
        Data-quality bits that make a pixel bad.

    Returns
    -------
    ndarray, (n, ny, nx), bool
        True where a bit is set, or the error is not a positive number.
    """
    wrong = np.zeros(pixels.values.shape, bool)
    _mark(wrong, pixels, slice(None), dq_mask)
    return wrong


def _mark(wrong: np.ndarray, pixels: Pixels, part: slice, dq_mask: int) -> None:
    """Mark the pixels of some frames that the input calls bad, in place."""
    if pixels.errors is not None:
        wrong |= _no_error(pixels.errors[part]).reshape(wrong.shape)
    if pixels.dq is not None and dq_mask:
        bits = pixels.dq[part] & pixels.dq.dtype.type(dq_mask)
        wrong |= (bits != 0).reshape(wrong.shape)


def _used(wrong: np.ndarray, index: np.ndarray) -> Bad:
    """List the used pixels among those of a mask on the box, by frame and place."""
    place = np.full(wrong.shape[1], -1)
    place[index] = np.arange(len(index))
    found = Bad.of(wrong)
    pixel = place[found.pixel]
    keep = pixel >= 0
    return Bad(*np.divmod(np.sort(found.frame[keep] * len(index) + pixel[keep]), len(index)))


def _not_finite(values: np.ndarray) -> Bad:
    # A sum is finite only where all its terms are.
    with np.errstate(invalid="ignore", over="ignore"):
        rows = np.flatnonzero(~np.isfinite(values @ np.ones(values.shape[1])))
    if rows.size == 0:
        return Bad.none()
    found = Bad.of(~np.isfinite(values[rows]))
    return Bad(rows[found.frame], found.pixel)


def _no_error(errors: np.ndarray) -> np.ndarray:
    if errors.dtype == np.float32:
        # As integers, positive finite numbers are those from 1 to below infinity.
        bits = errors.view(np.uint32) - np.uint32(1)
        return bits >= np.uint32(0x7F7FFFFF)
    return ~(np.isfinite(errors) & (errors > 0))


def measure(pixels: Pixels, plan: Plan, scale: float | np.ndarray) -> Measurement:
    """Measure a chunk of frames.

    Parameters
    ----------
    pixels : Pixels
        What was read of the plan's box.
    plan : Plan
        The plan of the exposure.
    scale : float or ndarray, (ny, nx)
        Factor to the exposure's unit, on the box.

    Returns
    -------
    Measurement
        One row per frame.
    """
    values, given = gather(pixels, plan.layout.index, scale, plan.dq_mask, plan.background.offset)
    counts = np.bincount(given.frame[given.pixel < plan.layout.n_fit], minlength=len(values))
    empty = counts > _EMPTY * plan.layout.n_fit
    # Pixels that are dead in the plan are so in every frame, whatever a frame says of them.
    if plan.dead.any():
        alive = ~plan.dead[given.pixel]
        given = Bad(given.frame[alive], given.pixel[alive])
        values[:, plan.dead] = 0.0
    if plan.rows is not None:
        values = remove_flicker(values, given, plan.template, plan.rows, plan.noise.limit)
    repaired = find_and_fit(
        plan.template, values, given, plan.noise.limit, sigma=plan.outlier_sigma
    )
    return _numbers(values, repaired, empty, plan)


def _numbers(values: np.ndarray, repaired: Repaired, empty: np.ndarray, plan: Plan) -> Measurement:
    """Compute centres, sums, errors and flags of repaired frames."""
    n, n_fit = len(values), plan.layout.n_fit
    fit, bad = repaired.fit, repaired.bad
    backgrounds = _backgrounds(values, repaired, plan)
    level = np.stack([item.level for item in backgrounds], axis=1)
    filled = values.copy() if not plan.fill else values
    filled[bad.frame, bad.pixel] = repaired.model_at_bad
    if plan.dead.any():
        filled[:, plan.dead] = fit.model(plan.template)[:, plan.dead]

    psf, psf_err, psf_chi2 = _psf(repaired, plan)
    net = filled[:, :n_fit] - np.where(np.isfinite(level[:, :1]), level[:, :1], 0.0)
    cc = _correlation(net, fit, plan)
    gauss = _gauss(filled[:, :n_fit], cc, fit.flux, plan)
    center = np.repeat(np.asarray(plan.center, float)[None], n, axis=0)
    if plan.moving:
        own = own_centers(plan.source, psf=psf, gauss=gauss.parameters, cc=cc)
        center = np.where(np.isfinite(own).all(axis=1)[:, None], own, center)
    sums = aperture_sums(filled if plan.fill else values, repaired, center, plan)
    area = np.stack([item.area for item in backgrounds], axis=1)
    marks = {
        Flag.CORRELATION_FAILED: ~np.isfinite(cc[:, 0]),
        Flag.GAUSS_FAILED: ~gauss.ok,
        Flag.PSF_FAILED: ~fit.ok,
        Flag.OUTLIER: repaired.outlier,
        Flag.IMAGE_CHANGED: repaired.changed,
        Flag.ALL_BAD: empty,
        Flag.FILLED if plan.fill else Flag.MISSING_IN_APERTURE: sums.touched,
        Flag.APERTURE_CUT: sums.cut,
        Flag.ANNULUS_SHORT: (area[:, 0] < _FEW) & (plan.background.mode != "none"),
        Flag.NO_ERROR: np.full(n, not plan.noise.stated),
    }
    flags = np.full(n, plan.flags, np.uint32)
    for flag, rows in marks.items():
        flags[rows] |= np.uint32(flag)
    # What is given was taken off all pixels: sums and background are quoted with it.
    known = plan.background.known
    dof = max(int((plan.weights > 0).sum()) - 6, 1)
    residuals = repaired.residuals[:, :n_fit]
    columns = {
        "background": level + known,
        "background_err": np.stack([item.error for item in backgrounds], axis=1),
        "background_area": area,
        "cc": cc,
        "gauss": gauss.parameters,
        "gauss_err": gauss.errors,
        "gauss_chi2": gauss.chi2 / dof,
        "psf": psf,
        "psf_err": psf_err,
        "psf_chi2": psf_chi2,
        "components": _components(repaired, plan),
        "directions": _directions(residuals, plan),
        "center": center,
        "sums": sums.sums + known * sums.areas,
        "areas": sums.areas,
        "variance": sums.variance,
        "read_variance": sums.read_variance,
        "replaced": sums.replaced,
    }
    if not plan.noise.stated:
        for name in ("variance", "read_variance", "psf_err", "gauss_err"):
            columns[name] = np.full_like(columns[name], np.nan)
    if empty.any():
        columns = {name: _without(array, empty) for name, array in columns.items()}
    return Measurement(**columns, flags=flags)


def _components(repaired: Repaired, plan: Plan) -> np.ndarray:
    """Project the normalised images on the eigenimages: residuals, and changes of width."""
    fit, basis = repaired.fit, plan.eigenimages.T
    widths = plan.template.node((0, 0)).terms[_WIDTHS, : len(basis)] @ basis
    out = repaired.residuals[:, : len(basis)] @ basis + fit.coefficients[:, _WIDTHS] @ widths
    with np.errstate(invalid="ignore", divide="ignore"):
        out /= fit.flux[:, None]
    out[~fit.ok] = np.nan
    return out


def _directions(residuals: np.ndarray, plan: Plan) -> np.ndarray:
    """Project on the modes along which events are searched, (n, n_directions)."""
    if plan.directions is None:
        return np.zeros((len(residuals), 0), np.float32)
    # Half a hundred numbers per frame, in standard errors: single precision is fine enough.
    return (residuals @ plan.directions.T).astype(np.float32)


def _without(array: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Blank the frames that have next to no good pixel."""
    out = array.copy()
    out[empty] = np.nan
    return out


def _correlation(images: np.ndarray, fit: Fit, plan: Plan) -> np.ndarray:
    """Find the peaks of the cross-correlation, in the frame: (n, 3) x, y and value."""
    correlator, template = plan.correlator, plan.template
    begin = np.where(fit.ok, [fit.x, fit.y], 0.0)
    begin += [[template.x - correlator.x], [template.y - correlator.y]]
    peaks = correlator.peaks(images, *begin, turns=2 if template.lost else 12)
    return np.stack([correlator.x + peaks.x, correlator.y + peaks.y, peaks.value], axis=1)


def _backgrounds(values: np.ndarray, repaired: Repaired, plan: Plan) -> list[Background]:
    """Measure the background in every annulus of the grid; a single one of zeros without any."""
    n, how, fit = len(values), plan.background, repaired.fit
    if how.mode == "none":
        return [Background(np.zeros(n), np.zeros(n), np.zeros(n))]
    if how.mode == "annulus_clipped":
        return [
            clipped(values, repaired.bad, ring, sigma=how.sigma, stat=how.stat)
            for ring in how.rings
        ]
    constant = fit.coefficients[:, 6] if plan.template.constant else np.zeros(n)
    held = fit.coefficients[:, : len(how.levels)] @ how.levels + constant[:, None]
    return backgrounds_of(
        repaired.residuals, held.T, repaired.bad, how.rings, stat=how.stat, scatter=how.scatter
    )


def _psf(repaired: Repaired, plan: Plan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute position, flux, errors and reduced chi-square of the fit of the template."""
    fit, template, n_fit = repaired.fit, plan.template, plan.layout.n_fit
    x, y, flux = template.x + fit.x, template.y + fit.y, template.flux * fit.flux
    diagonal = np.einsum("nii->ni", fit.covariance)[:, :3]
    # Where the weights are not inverse variances, the errors follow from the variances.
    factor = template.variance_factor
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(diagonal * factor[:3])
        errors = [error[:, 1] / np.abs(fit.flux), error[:, 2] / np.abs(fit.flux)]
        errors.append(error[:, 0] * template.flux)
    inside = repaired.bad.pixel < n_fit
    lost = np.bincount(repaired.bad.frame[inside], minlength=len(flux))
    dof = np.maximum((plan.weights > 0).sum() - lost - template.n_terms, 1)
    residual = repaired.residuals[:, :n_fit]
    chi2 = np.einsum("ij,ij,j->i", residual, residual, plan.weights) / dof
    psf = np.stack([x, y, flux], axis=1)
    psf[~fit.ok] = np.nan
    psf_err = np.stack(errors, axis=1)
    psf_err[~fit.ok] = np.nan
    return psf, psf_err, np.where(fit.ok, chi2, np.nan)


def _gauss(images: np.ndarray, cc: np.ndarray, flux: np.ndarray, plan: Plan) -> GaussianFit:
    """Fit Gaussians, from a start near the solution."""
    fit = plan.layout.fit
    start = _gauss_start(images, cc, flux, plan)
    weights, origin = plan.weights.reshape(fit.ny, fit.nx), (fit.x, fit.y)
    constant = plan.template.constant
    images = images.reshape(-1, fit.ny, fit.nx)
    found = fit_gaussians(images, weights, start, origin=origin, constant=constant)
    if plan.noise.known:
        return found
    # Without errors all pixels weigh the same, and the bright ones are noisier than the fit knows.
    variance = plan.noise.total[: weights.size].reshape(weights.shape)
    factor = error_factors(plan.gauss_start, weights, variance, origin, constant=constant)
    return replace(found, errors=found.errors * factor)


def _gauss_start(images: np.ndarray, cc: np.ndarray, flux: np.ndarray, plan: Plan) -> np.ndarray:
    """Start from the first-order change of the template's Gaussian, else from the peak."""
    usual = plan.gauss_start
    start = np.repeat(usual[None], len(images), axis=0)
    start[:, 1] = np.where(np.isfinite(cc[:, 0]), cc[:, 0], plan.template.x)
    start[:, 2] = np.where(np.isfinite(cc[:, 1]), cc[:, 1], plan.template.y)
    template = plan.template.node((0, 0)).terms[0, : images.shape[1]]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        change = (images @ plan.gauss_response.T) / flux[:, None]
        change -= plan.gauss_response @ template
        near = np.isfinite(change).all(axis=1) & (np.abs(change[:, 1:3]) < _NEAR).all(axis=1)
        near &= (np.abs(change[:, 3:5]) < _NEAR * usual[3:5]).all(axis=1)
    start[near] = usual + change[near]
    start[:, 0] *= np.where(np.isfinite(flux), flux, 1.0)
    return start


def own_centers(source: str, *, psf: np.ndarray, gauss: np.ndarray, cc: np.ndarray) -> np.ndarray:
    """Take the centres of one method.

    Parameters
    ----------
    source : str
        psf, gauss or cc.
    psf, gauss, cc : ndarray, (n, 3), (n, 6), (n, 3)
        As in `Measurement`.

    Returns
    -------
    ndarray, (n, 2)
        x, y; NaN where unknown.
    """
    return {"psf": psf[:, :2], "gauss": gauss[:, 1:3], "cc": cc[:, :2]}[source]
