"""An image and its derivatives at any shift, on the pixels where they are wanted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.interpolate import RectBivariateSpline

__all__ = ["ShiftedImage"]


@dataclass(frozen=True, eq=False)
class ShiftedImage:
    """A star's mean image that can be moved.

    Where the kernel is known well enough, the image moves as the kernel does: an undersampled
    image cannot be interpolated (FWHM below 2 pixels). Elsewhere a quintic spline moves it.

    Attributes
    ----------
    image : ndarray, (ny, nx)
        The mean image, net of background.
    origin : (int, int)
        x, y in the frame of its first pixel.
    kernel : Kernel or None
        What its derivatives come from; None for the spline.
    x, y : float
        Where the star is in the frame.
    flux : float
        Flux of the star.
    """

    image: np.ndarray
    origin: tuple[int, int]
    kernel: Any
    x: float
    y: float
    flux: float
    _cache: dict = field(default_factory=dict)

    def __getstate__(self) -> dict:
        """Leave out what is quicker made again than sent."""
        return {**self.__dict__, "_cache": {}}

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
        if self.kernel is None:
            return self._spline(sx, sy, nx, ny)[rows, columns]
        moved = self._rendered(sx, sy, nx, ny)
        if nx == 0 and ny == 0:
            moved = self.image + (moved - self._rendered(0.0, 0.0, 0, 0))
        return moved[rows, columns]

    def _rendered(self, sx: float, sy: float, nx: int, ny: int) -> np.ndarray:
        height, width = self.image.shape
        u = np.arange(width) + self.origin[0] - (self.x + sx)
        v = np.arange(height) + self.origin[1] - (self.y + sy)
        return self.flux * self.kernel.evaluate(u, v, nx, ny)

    def _spline(self, sx: float, sy: float, nx: int, ny: int) -> np.ndarray:
        if nx == 0 and ny == 0 and sx == 0 and sy == 0:
            return self.image
        if "spline" not in self._cache:
            height, width = self.image.shape
            order = min(5, height - 1, width - 1)
            self._cache["spline"] = RectBivariateSpline(
                np.arange(height), np.arange(width), self.image, kx=order, ky=order
            )
        height, width = self.image.shape
        rows = np.clip(np.arange(height) - sy, 0, height - 1)
        columns = np.clip(np.arange(width) - sx, 0, width - 1)
        return self._cache["spline"](rows, columns, dx=ny, dy=nx)
