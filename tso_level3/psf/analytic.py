"""Gaussian kernel in closed form, and the base class of all kernels."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import special


class KernelBase(ABC):
    """What all kernels derive from `evaluate`; `tso_level3.datatypes.KernelLike` is the type."""

    @abstractmethod
    def evaluate(self, u: np.ndarray, v: np.ndarray, nu: int = 0, nv: int = 0) -> np.ndarray:
        """Compute the kernel, or a derivative of it, on a grid of offsets from the star.

        Parameters
        ----------
        u, v : ndarray, (nx,) and (ny,)
            Offsets along x and y [pix].
        nu, nv : int, optional
            Order of the derivative along u and v, 0 to 4.

        Returns
        -------
        ndarray, (ny, nx)
            Flux per pixel; zero outside the support.
        """

    def render(
        self, x: float, y: float, shape: tuple[int, int], *, flux: float = 1.0
    ) -> np.ndarray:
        """Compute the image of a star.

        Parameters
        ----------
        x, y : float
            Position of the star, 0-based [pix].
        shape : (int, int)
            (ny, nx) of the image.
        flux : float, optional
            Total flux of the star.

        Returns
        -------
        ndarray, (ny, nx)
            The image, float64; zero outside the support.
        """
        image = self.evaluate(np.arange(shape[1]) - x, np.arange(shape[0]) - y)
        image *= flux
        return image


@dataclass(frozen=True)
class GaussianKernel(KernelBase):
    """An elliptical Gaussian along the axes, integrated over the pixel.

    Attributes
    ----------
    sigma_x, sigma_y : float
        Standard deviations in detector pixels before the pixel's box.
    kind : str
        ``gaussian``.
    description : dict
        Where it comes from, in plain values.
    """

    sigma_x: float
    sigma_y: float
    kind: str = "gaussian"
    description: dict[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        for name in ("sigma_x", "sigma_y"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value!r}; expected a positive number of pixels")

    @property
    def half_width(self) -> float:
        """Detector pixels to where less than 1e-8 of the flux is left outside."""
        return 6.0 * max(self.sigma_x, self.sigma_y) + 0.5

    @property
    def enclosed(self) -> float:
        """Fraction of the star's flux inside the support."""
        return 1.0

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Support in detector pixels from the star: left, right, below, above."""
        x, y = 6.0 * self.sigma_x + 0.5, 6.0 * self.sigma_y + 0.5
        return (-x, x, -y, y)

    def evaluate(self, u: np.ndarray, v: np.ndarray, nu: int = 0, nv: int = 0) -> np.ndarray:
        """Compute the kernel, or a derivative of it, on a grid of offsets (see `KernelBase`)."""
        return np.outer(_profile(v, self.sigma_y, nv), _profile(u, self.sigma_x, nu))


def _profile(offset: np.ndarray, sigma: float, order: int) -> np.ndarray:
    """Pixel-integrated unit Gaussian in one dimension, or a derivative of it."""
    t = np.asarray(offset, dtype=np.float64)
    upper, lower = (t + 0.5) / sigma, (t - 0.5) / sigma
    values: np.ndarray
    if order == 0:
        # The difference of the tails nearer to zero keeps its digits.
        flip = np.where(t > 0, -1.0, 1.0)
        values = flip * (special.ndtr(flip * upper) - special.ndtr(flip * lower))
    else:
        scale = (-1.0) ** (order - 1) / (np.sqrt(2.0 * np.pi) * sigma**order)
        values = scale * (_slope(upper, order) - _slope(lower, order))
    return values


def _slope(z: np.ndarray, order: int) -> np.ndarray:
    """Hermite polynomial of degree order - 1 times exp(-z**2 / 2)."""
    previous, polynomial = np.zeros_like(z), np.ones_like(z)
    for k in range(order - 1):
        previous, polynomial = polynomial, z * polynomial - k * previous
    values: np.ndarray = polynomial * np.exp(-0.5 * z * z)
    return values
