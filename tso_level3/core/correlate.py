"""Finding a star: masked normalised cross-correlation of an image with its kernel.

The correlation is normalised over the pixels that are there, so that missing pixels, the
edge of the frame, a constant background and a kernel larger than the frame do no harm.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import fft

_STEPS = 30
_CANDIDATES = 5
_ALMOST = 0.02
_POOR = 0.85
_CONVINCING = 0.9


@dataclass(frozen=True)
class Peak:
    """Where an image resembles a kernel most.

    Attributes
    ----------
    x, y : float
        Position of the star, 0-based pixels; NaN where none was found.
    value : float
        Normalised correlation there, -1 to 1; NaN where none was found.
    overlap : float
        Fraction of the kernel's flux that falls on good pixels.
    """

    x: float
    y: float
    value: float
    overlap: float


NOWHERE = Peak(np.nan, np.nan, np.nan, 0.0)


@dataclass(frozen=True)
class Surface:
    """Correlation at whole-pixel positions of the star.

    Attributes
    ----------
    value : ndarray
        (my, mx) normalised correlation, -inf where image or kernel is flat.
    overlap : ndarray
        (my, mx) fraction of the kernel's flux on good pixels.
    x0, y0 : int
        Position of the star that element [0, 0] stands for.
    """

    value: np.ndarray
    overlap: np.ndarray
    x0: int
    y0: int


def acquire(
    image: np.ndarray,
    mask: np.ndarray | None,
    kernel: Any,
    *,
    near: tuple[float, float] | None = None,
    radius: float | None = None,
    min_overlap: float = 0.5,
) -> Peak:
    """Find a star.

    Parameters
    ----------
    image : ndarray
        (ny, nx) pixels; those that are not finite count as masked.
    mask : ndarray or None
        (ny, nx) bool, True where a pixel is bad.
    kernel : Kernel or GaussianKernel
        What the star looks like.
    near : tuple of float, optional
        Expected x, y: of peaks equally good within 0.02 the nearest is taken.
    radius : float, optional
        With ``near``: no peak farther from it than this, in pixels.
    min_overlap : float, optional
        Least fraction of the kernel's flux on good pixels, 0 to 1; where the kernel is
        larger than the frame, of the most that the frame can hold.

    Returns
    -------
    Peak
        NaN where no position has the overlap or the image is flat.  The caller judges by
        ``value`` whether there was a star.

    Raises
    ------
    ValueError
        Where shapes do not match or a parameter is out of bounds.

    References
    ----------
    Padfield 2012, doi:10.1109/TIP.2011.2181402.
    """
    image, good = _checked(image, mask)
    if not 0 < min_overlap <= 1:
        raise ValueError(f"min_overlap is {min_overlap!r}; expected a fraction in (0, 1]")
    if radius is not None and (near is None or not radius > 0):
        raise ValueError(
            f"radius is {radius!r} with near {near!r}; expected a positive radius and a position"
        )
    x0 = y0 = 0
    if radius is not None:
        # pixels that no allowed position touches only cost time
        left, right, below, above = kernel.extent
        cols = _span(near[0] - radius - 1 + left, near[0] + radius + 1 + right, image.shape[1])
        rows = _span(near[1] - radius - 1 + below, near[1] + radius + 1 + above, image.shape[0])
        image, good, x0, y0 = image[rows, cols], good[rows, cols], cols.start, rows.start
        near = (near[0] - x0, near[1] - y0)
    peak = _search(image, good, kernel, (near, radius, min_overlap))
    return replace(peak, x=peak.x + x0, y=peak.y + y0)


def _search(image: np.ndarray, good: np.ndarray, kernel: Any, limits: tuple) -> Peak:
    """Best peak within the limits (near, radius, overlap)."""
    if np.count_nonzero(good) < 9:
        return NOWHERE
    near, radius, min_overlap = limits
    surface = correlation_surface(image, good, kernel)
    best = _best(image, good, kernel, surface, limits)
    if not best.value > _POOR:
        # a star at the edge of the frame has little of its flux inside, but what there is
        # fits; of a match by chance so much is asked that it does not get through
        edge = _best(image, good, kernel, surface, (near, radius, 0.3 * min_overlap))
        if edge.value > _CONVINCING:
            return edge
    return best


def _best(
    image: np.ndarray, good: np.ndarray, kernel: Any, surface: Surface, limits: tuple
) -> Peak:
    """Best of the surface's summits within the limits (near, radius, overlap)."""
    near, radius, _ = limits
    best = NOWHERE
    for x, y in _candidates(surface, *limits):
        peak = _climb(image, good, kernel, x, y)
        if radius is not None and _distance(peak, near) > radius + 0.5:
            continue
        if np.isfinite(peak.value) and (best is NOWHERE or _wins(peak, best, near)):
            best = peak
    return best


def _wins(peak: Peak, best: Peak, near: tuple[float, float] | None) -> bool:
    if near is None or abs(peak.value - best.value) > _ALMOST:
        return peak.value > best.value
    return _distance(peak, near) < _distance(best, near)


def _distance(peak: Peak, near: tuple[float, float]) -> float:
    return float(np.hypot(peak.x - near[0], peak.y - near[1]))


def correlation_surface(image: np.ndarray, good: np.ndarray, kernel: Any) -> Surface:
    """Masked normalised cross-correlation at all whole-pixel positions, by FFT.

    Parameters
    ----------
    image : ndarray
        (ny, nx) finite pixels.
    good : ndarray
        (ny, nx) bool, True where a pixel counts.
    kernel : Kernel or GaussianKernel
        What the star looks like.

    Returns
    -------
    Surface

    References
    ----------
    Padfield 2012, doi:10.1109/TIP.2011.2181402.
    """
    ny, nx = image.shape
    template, left, below = _template(kernel)
    my, mx = template.shape
    size = [fft.next_fast_len(n, real=True) for n in (ny + my - 1, nx + mx - 1)]
    used = good.astype(np.float64)
    # a star sits on a pedestal: without it the sums of squares keep their digits
    level = float(np.median(image[good]))
    data = np.where(good, image - level, 0.0)
    scale = np.abs(data).max()
    data /= scale if scale > 0 else 1.0

    def transform(values: np.ndarray) -> np.ndarray:
        return fft.rfft2(values, s=size)

    def correlate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return fft.irfft2(a * b, s=size)[: ny + my - 1, : nx + mx - 1]

    f_used, f_data, f_square = transform(used), transform(data), transform(data * data)
    flipped = template[::-1, ::-1]
    f_one, f_kernel = transform(np.ones_like(flipped)), transform(flipped)
    f_kernel_square = transform(flipped * flipped)
    count = np.maximum(np.rint(correlate(f_used, f_one)), 1.0)
    data_sum, kernel_sum = correlate(f_data, f_one), correlate(f_used, f_kernel)
    cross = correlate(f_data, f_kernel) - data_sum * kernel_sum / count
    data_var = correlate(f_square, f_one) - data_sum**2 / count
    kernel_var = correlate(f_used, f_kernel_square) - kernel_sum**2 / count
    overlap = kernel_sum / template.sum()
    floor = 1e-9
    enough = (
        (count >= 9) & (data_var > floor * data_var.max()) & (kernel_var > floor * kernel_var.max())
    )
    value = np.full(cross.shape, -np.inf)
    value[enough] = cross[enough] / np.sqrt(data_var[enough] * kernel_var[enough])
    # element [i, j] has the template's last sample on pixel (i, j)
    return Surface(value, overlap, -left - (mx - 1), -below - (my - 1))


def _template(kernel: Any) -> tuple[np.ndarray, int, int]:
    """Kernel at whole pixels, and the offsets of its first column and row."""
    left, right, below, above = (int(np.fix(edge + np.sign(edge) * 1e-9)) for edge in kernel.extent)
    values = kernel.evaluate(np.arange(left, right + 1.0), np.arange(below, above + 1.0))
    return values, left, below


def _candidates(
    surface: Surface,
    near: tuple[float, float] | None,
    radius: float | None,
    min_overlap: float,
) -> list[tuple[float, float]]:
    """Positions of the best local maxima, best first."""
    # a star larger than the frame never has all of its flux inside
    enough = surface.overlap >= min_overlap * min(1.0, surface.overlap.max())
    value = np.where(enough, surface.value, -np.inf)
    my, mx = value.shape
    x = surface.x0 + np.arange(mx)
    y = surface.y0 + np.arange(my)
    if radius is not None:
        inside = (x[None, :] - near[0]) ** 2 + (y[:, None] - near[1]) ** 2 <= radius**2
        value = np.where(inside, value, -np.inf)
    padded = np.pad(value, 1, constant_values=-np.inf)
    summit = value > -np.inf
    for dy in range(3):
        for dx in range(3):
            if (dy, dx) != (1, 1):
                summit &= value >= padded[dy : dy + my, dx : dx + mx]
    rows, cols = np.nonzero(summit)
    order = np.argsort(-value[rows, cols], kind="stable")[:_CANDIDATES]
    found = [(float(x[cols[i]]), float(y[rows[i]]), value[rows[i], cols[i]]) for i in order]
    # only peaks that could still win deserve the exact solution
    return [(a, b) for a, b, v in found if v >= found[0][2] - 0.15]


def correlation_at(
    image: np.ndarray, good: np.ndarray, kernel: Any, x: float, y: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """Normalised correlation at a position that need not be a whole pixel.

    Parameters
    ----------
    image : ndarray
        (ny, nx) finite pixels.
    good : ndarray
        (ny, nx) bool, True where a pixel counts.
    kernel : Kernel or GaussianKernel
        What the star looks like.
    x, y : float
        Position of the star, 0-based pixels.

    Returns
    -------
    value : float
        Correlation over the good pixels inside the kernel's support; NaN where either
        image or kernel is flat there.
    gradient : ndarray
        (2,) derivatives along x and y.
    curvature : ndarray
        (2, 2) second derivatives, without the terms that vanish where the model fits.
    """
    left, right, below, above = kernel.extent
    cols = _span(x + left, x + right, image.shape[1])
    rows = _span(y + below, y + above, image.shape[0])
    keep = good[rows, cols]
    if np.count_nonzero(keep) < 9:
        return np.nan, np.zeros(2), np.zeros((2, 2))
    u = np.arange(cols.start, cols.stop) - x
    v = np.arange(rows.start, rows.stop) - y
    data = image[rows, cols][keep]
    data = data - data.mean()
    stack = np.stack([kernel.evaluate(u, v, *order)[keep] for order in ((0, 0), (1, 0), (0, 1))])
    stack -= stack.mean(axis=1, keepdims=True)
    norm = np.sqrt(stack[0] @ stack[0])
    power = np.sqrt(data @ data)
    if not (norm > 0 and power > 0):
        return np.nan, np.zeros(2), np.zeros((2, 2))
    model = stack[0] / norm
    # moving the star by +x moves the kernel's argument by -x
    slopes = -stack[1:] / norm
    slopes -= np.outer(slopes @ model, model)
    data /= power
    value = float(data @ model)
    return value, slopes @ data, -value * (slopes @ slopes.T)


def _span(low: float, high: float, n: int) -> slice:
    start = max(0, int(np.ceil(low - 1e-9)))
    return slice(start, max(start, min(n, int(np.floor(high + 1e-9)) + 1)))


def _climb(image: np.ndarray, good: np.ndarray, kernel: Any, x: float, y: float) -> Peak:
    """Summit of the correlation near a whole-pixel maximum, on the oversampled kernel."""
    start = np.array([x, y])
    place = start.copy()
    here = correlation_at(image, good, kernel, *place)
    if not np.isfinite(here[0]):
        return NOWHERE
    damping = 1e-3
    for _ in range(_STEPS):
        value, gradient, curvature = here
        if value <= 0:
            break
        matrix = -curvature
        matrix[np.diag_indices(2)] += damping * np.trace(matrix) + 1e-30
        step = np.linalg.solve(matrix, gradient)
        step *= min(1.0, 0.7 / max(np.abs(step).max(), 1e-30))
        trial = place + step
        if np.abs(trial - start).max() > 2.0:
            break
        there = correlation_at(image, good, kernel, *trial)
        if there[0] >= value:
            place, here, damping = trial, there, damping * 0.1
        else:
            damping = max(10.0 * damping, 0.1)
            if damping > 1e4:
                break
        if np.abs(step).max() < 1e-6:
            break
    return Peak(float(place[0]), float(place[1]), here[0], _overlap(good, kernel, *place))


def _overlap(good: np.ndarray, kernel: Any, x: float, y: float) -> float:
    """Fraction of the kernel's flux on good pixels."""
    left, right, below, above = kernel.extent
    u = np.arange(np.ceil(x + left), np.floor(x + right) + 1.0)
    v = np.arange(np.ceil(y + below), np.floor(y + above) + 1.0)
    values = kernel.evaluate(u - x, v - y)
    rows, cols = np.ix_(v.astype(int), u.astype(int))
    inside = (rows >= 0) & (rows < good.shape[0]) & (cols >= 0) & (cols < good.shape[1])
    lit = inside & good[np.clip(rows, 0, good.shape[0] - 1), np.clip(cols, 0, good.shape[1] - 1)]
    return float(values[lit].sum() / values.sum())


def _checked(image: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Image with zeros for what is not finite, and which pixels count."""
    image = np.asarray(image, dtype=np.float64)
    if image.ndim != 2:
        raise ValueError(f"image has shape {image.shape}; expected two dimensions")
    good = np.isfinite(image)
    if mask is not None:
        mask = np.asarray(mask, dtype=bool)
        if mask.shape != image.shape:
            raise ValueError(f"mask has shape {mask.shape}; expected the image's, {image.shape}")
        good &= ~mask
    return np.where(good, image, 0.0), good
