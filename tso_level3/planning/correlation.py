"""Masked normalised cross-correlation of an image with a kernel.

The correlation is normalised over the pixels that are there, so that missing pixels, the
edge of the frame, a constant background and a kernel larger than the frame do no harm.
"""

from dataclasses import dataclass

import numpy as np
from scipy import fft

from tso_level3.datatypes import KernelLike

_STEPS = 30


@dataclass(frozen=True)
class Surface:
    """Correlation at whole-pixel positions of the star.

    Attributes
    ----------
    value : ndarray
        (my, mx) normalised correlation, -inf where image or kernel is flat.
    overlap : ndarray
        (my, mx) fraction of the kernel's flux on good pixels.
    height : ndarray
        (my, mx) the fitted kernel's flux times its norm: in white noise the same everywhere.
    x0, y0 : int
        Position of the star that element [0, 0] stands for.
    """

    value: np.ndarray
    overlap: np.ndarray
    height: np.ndarray
    x0: int
    y0: int


def correlation_surface(image: np.ndarray, good: np.ndarray, kernel: KernelLike) -> Surface:
    """Masked normalised cross-correlation at all whole-pixel positions, by FFT.

    Parameters
    ----------
    image : ndarray
        (ny, nx) finite pixels.
    good : ndarray
        (ny, nx) bool, True where a pixel counts.
    kernel : KernelLike
        Image of a star.

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
    # without the pedestal under the star the sums of squares keep their digits
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
    value, height = np.full(cross.shape, -np.inf), np.zeros(cross.shape)
    height[enough] = cross[enough] / np.sqrt(kernel_var[enough])
    value[enough] = height[enough] / np.sqrt(data_var[enough])
    # element [i, j] has the template's last sample on pixel (i, j)
    return Surface(value, overlap, height, -left - (mx - 1), -below - (my - 1))


def _template(kernel: KernelLike) -> tuple[np.ndarray, int, int]:
    """Kernel at whole pixels, and the offsets of its first column and row."""
    left, right, below, above = (int(np.fix(edge + np.sign(edge) * 1e-9)) for edge in kernel.extent)
    values = kernel.evaluate(np.arange(left, right + 1.0), np.arange(below, above + 1.0))
    return values, left, below


def correlation_at(
    image: np.ndarray, good: np.ndarray, kernel: KernelLike, x: float, y: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """Normalised correlation at a position that need not be a whole pixel.

    Parameters
    ----------
    image : ndarray
        (ny, nx) finite pixels.
    good : ndarray
        (ny, nx) bool, True where a pixel counts.
    kernel : KernelLike
        Image of a star.
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
    cols = span(x + left, x + right, image.shape[1])
    rows = span(y + below, y + above, image.shape[0])
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


def span(low: float, high: float, n: int) -> slice:
    """Give the pixels of an axis of ``n`` between two positions, both included."""
    start = max(0, int(np.ceil(low - 1e-9)))
    return slice(start, max(start, min(n, int(np.floor(high + 1e-9)) + 1)))


def climb(
    image: np.ndarray, good: np.ndarray, kernel: KernelLike, x: float, y: float
) -> tuple[float, float, float]:
    """Find the summit of the correlation near a whole-pixel maximum.

    Parameters
    ----------
    image : ndarray
        (ny, nx) finite pixels.
    good : ndarray
        (ny, nx) bool, True where a pixel counts.
    kernel : KernelLike
        Image of a star.
    x, y : float
        The maximum.

    Returns
    -------
    (float, float, float)
        x, y and the correlation there; NaN where image or kernel is flat.
    """
    start = np.array([x, y])
    place = start.copy()
    here = correlation_at(image, good, kernel, *place)
    if not np.isfinite(here[0]):
        return x, y, np.nan
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
    return float(place[0]), float(place[1]), here[0]
