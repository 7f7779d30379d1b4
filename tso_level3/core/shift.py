"""An image and its derivatives at any shift, on the pixels where they are wanted."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
from scipy.fft import dctn, idctn
from scipy.interpolate import RectBivariateSpline

from tso_level3.datatypes import KernelLike
from tso_level3.utils.cache import SizedCache

__all__ = ["ShiftedImage", "without_noise"]


@dataclass(frozen=True, eq=False)
class ShiftedImage:
    """A star's mean image that can be moved.

    What the kernel explains moves as the kernel does, since an undersampled image cannot be
    interpolated (FWHM below 2 pixels); what it leaves moves as the quintic spline through it.
    Derivatives are those of the kernel and of what is left and is not noise, since derivatives of
    noise would shrink the response to motion. The image itself moves with all that is left, noise
    included: what did not move with the star would hold its position back.

    Attributes
    ----------
    image : ndarray, (ny, nx)
        The mean image, net of background.
    origin : (int, int)
        x, y in the frame of its first pixel.
    kernel : KernelLike or None
        The kernel that moves its part of the image; None where the spline moves all of it.
    x, y : float
        Where the star is in the frame.
    flux : float
        Flux of the kernel in it.
    rest : ndarray, (ny, nx), or None
        What the kernel leaves of the image and is not noise; None where derivatives are those of
        the kernel alone.
    """

    image: np.ndarray
    origin: tuple[int, int]
    kernel: KernelLike | None
    x: float
    y: float
    flux: float
    rest: np.ndarray | None = None
    _cache: SizedCache = field(default_factory=SizedCache, init=False)
    _moves: SizedCache = field(
        default_factory=lambda: SizedCache(8_000_000, pickled_bytes=0), init=False
    )

    def at(
        self, sx: float, sy: float, nx: int, ny: int, pixels: tuple[np.ndarray, np.ndarray]
    ) -> np.ndarray:
        """Evaluate the moved image or a derivative of it.

        Parameters
        ----------
        sx, sy : float
            Shift [pix].
        nx, ny : int
            Orders of the derivative in x and y; three at most together.
        pixels : (ndarray, ndarray)
            Columns and rows in the frame, each (n,).

        Returns
        -------
        ndarray, (n,)
            The values.
        """
        columns, rows = pixels[0] - self.origin[0], pixels[1] - self.origin[1]
        key = (float(sx), float(sy), nx, ny)
        if nx + ny == 3:
            # Wanted once, and in the subframe alone, which is a small part of the box.
            first = int(rows.min()), int(columns.min())
            window = np.arange(first[0], rows.max() + 1), np.arange(first[1], columns.max() + 1)
            return self._moved(*key, window)[rows - first[0], columns - first[1]]
        # A fit asks for the subframe and then for all pixels of the same shift.
        moved = self._moves.get(key, lambda: self._moved(*key), self.image.nbytes)
        return moved[rows, columns]

    def _moved(
        self,
        sx: float,
        sy: float,
        nx: int,
        ny: int,
        window: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> np.ndarray:
        """Make the moved image, or a derivative of it on a window of rows and columns."""
        if nx == 0 and ny == 0 and sx == 0 and sy == 0:
            return self.image
        if self.kernel is None:
            return self._spline("image", self.image, sx, sy, nx, ny, window)
        moved = self._rendered(sx, sy, nx, ny, window)
        if nx or ny:
            if self.rest is not None:
                moved += self._spline("rest", self.rest, sx, sy, nx, ny, window)
            return moved
        left = self._cache.get(
            "left", lambda: self.image - self._rendered(0.0, 0.0, 0, 0), self.image.nbytes
        )
        return moved + self._spline("left", left, sx, sy, 0, 0)

    def _rows_and_columns(self) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(self.image.shape[0]), np.arange(self.image.shape[1])

    def _rendered(
        self,
        sx: float,
        sy: float,
        nx: int,
        ny: int,
        window: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> np.ndarray:
        rows, columns = self._rows_and_columns() if window is None else window
        u = columns + self.origin[0] - (self.x + sx)
        v = rows + self.origin[1] - (self.y + sy)
        return self.flux * self.kernel.evaluate(u, v, nx, ny)

    def _spline(
        self,
        name: str,
        image: np.ndarray,
        sx: float,
        sy: float,
        nx: int,
        ny: int,
        window: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> np.ndarray:
        height, width = image.shape
        spline = self._cache.get(f"spline of {name}", partial(_spline_of, image), image.nbytes)
        rows, columns = self._rows_and_columns() if window is None else window
        rows, columns = np.clip(rows - sy, 0, height - 1), np.clip(columns - sx, 0, width - 1)
        moved: np.ndarray = spline(rows, columns, dx=ny, dy=nx)
        return moved


def _spline_of(image: np.ndarray) -> RectBivariateSpline:
    height, width = image.shape
    order = min(height - 1, width - 1, 5)
    return RectBivariateSpline(np.arange(height), np.arange(width), image, kx=order, ky=order)


def without_noise(
    image: np.ndarray, variance: float, *, patterns: bool = True, n_bins: int = 24
) -> np.ndarray:
    """Take out of an image what its noise explains, scale by scale (a Wiener filter).

    Parameters
    ----------
    image : ndarray, (ny, nx)
        Image, finite.
    variance : float
        Mean variance of its pixels, at least.
    patterns : bool
        Whether to take the noise from the image's finest scales where that is more.
    n_bins : int
        Number of spatial frequencies that are told apart.

    Returns
    -------
    ndarray, (ny, nx)
        The image with each frequency scaled by the share of its power that is not noise. The
        error of that is uncorrelated with it, so that a position measured by its derivatives
        responds to a shift in full, which derivatives with noise in them do not.

    References
    ----------
    Wiener 1949, Extrapolation, Interpolation and Smoothing of Stationary Time Series;
    Press et al. 2007, Numerical Recipes, section 13.3.
    """
    # The cosine transform has no jump at the edges.
    waves = dctn(image, norm="ortho")
    height, width = image.shape
    radius = np.hypot(np.arange(height)[:, None] / height, np.arange(width)[None] / width)
    place = radius * (n_bins / np.sqrt(2.0))
    ring = np.minimum(place.astype(int), n_bins - 1)
    count = np.bincount(ring.ravel(), minlength=n_bins)
    power = np.bincount(ring.ravel(), (waves**2).ravel(), minlength=n_bins)
    power /= np.maximum(count, 1)
    # No telescope puts light into the corners of the frequency plane: what is there is noise, or
    # a pattern of the pixels that does not move with the star.
    if patterns:
        variance = max(variance, float((waves[radius > 1.0] ** 2).mean()))
    share = np.clip(1.0 - variance / np.maximum(power, 1e-300), 0.0, 1.0)
    share = np.interp(place.ravel(), np.arange(n_bins) + 0.5, share).reshape(image.shape)
    return idctn(share * waves, norm="ortho")
