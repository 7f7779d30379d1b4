"""Exposures with known truth for the benchmarks, and what is measured on them."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from astropy.io import fits
from scipy import ndimage

from tso_level3.datatypes import Box, Exposure, Optics, Pixels, Segment, Times
from tso_level3.planning.empirical import fill_missing
from tso_level3.psf.kernel import Kernel
from tso_level3.quality.crlb import Bound, crlb
from tso_level3.simulate import Scene, build_scene, simulate_frames, simulation
from tso_level3.simulate.settings import Simulation

#: Chosen before any result was seen.
SEED = 20240611
#: Residual wavefront error of the telescope that no fit is told of [m rms].
WAVEFRONT = 67e-9
MACHINE = "two shared cores of a virtual machine, one thread"


@dataclasses.dataclass(frozen=True, eq=False)
class Frames:
    """Frames in electrons whose errors follow from the counts, as in calibrated files.

    Attributes
    ----------
    values : ndarray, (n, ny, nx)
        Images [electron].
    read : float
        Read noise [electron].
    dq : ndarray, (n, ny, nx), uint32, or None
        Bits.
    """

    values: np.ndarray
    read: float
    dq: np.ndarray | None = None

    def load(self, start: int, stop: int, box: Box, *, variances: bool = False) -> Pixels:
        """Hand out the box of some frames."""
        cut = (slice(start, stop), *box.slices)
        values = self.values[cut]
        photons = np.maximum(values, 0)
        read = np.full_like(values, self.read**2)
        parts = {"var_poisson": photons, "var_rnoise": read} if variances else {}
        dq = None if self.dq is None else self.dq[cut]
        return Pixels(values=values, errors=np.sqrt(photons + read), dq=dq, **parts)


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """An exposure and its truth.

    Attributes
    ----------
    name : str
        What it is.
    exposure : Exposure
        What is measured.
    frames : Frames
        The same frames.
    x, y, flux : ndarray, (n,)
        The truth.
    scene : Scene
        Noise-free images.
    """

    name: str
    exposure: Exposure
    frames: Frames
    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    scene: Scene

    def bound(self) -> Bound:
        """Cramér-Rao bound of the median position, on all pixels of the true image."""
        sim = self.scene.simulation
        x, y, flux = (float(np.median(value)) for value in (self.x, self.y, self.flux))
        kernel = self.scene.renderer.kernels[0]
        star = kernel.render(x, y, sim.shape, flux=flux)
        variance = np.maximum(star, 0) + sim.background + sim.read_noise**2
        return crlb(kernel, variance, flux=flux, position=(x, y))


def make_case(name: str, sim: Simulation, *, dq: bool = False) -> Case:
    """Simulate an exposure.

    Parameters
    ----------
    name : str
        What to call it.
    sim : Simulation
        The settings.
    dq : bool
        Keep the flags too.

    Returns
    -------
    Case
        The exposure.
    """
    scene = build_scene(sim)
    values = np.empty((sim.n_int, *sim.shape), np.float32)
    bits = np.empty(values.shape, np.uint32) if dq else None
    for part in simulate_frames(scene):
        values[part.start : part.stop] = part.data / np.float32(sim.units_per_electron)
        if bits is not None:
            bits[part.start : part.stop] = part.dq
    truth = scene.truth
    frames = Frames(values, sim.read_noise, bits)
    n = sim.n_int
    times = Times(
        np.array(truth["mjd_utc"]), np.array(truth["bmjd_tdb"]), "given", np.zeros(n, np.uint32)
    )
    exposure = Exposure(
        segments=(Segment(frames, n),),
        shape=sim.shape,
        times=times,
        unit="electron",
        optics=Optics(sim.instrument, sim.detector, sim.filter, sim.pupil or ""),
        position=sim.planned_position,
        has_errors=True,
        integration=np.arange(1, n + 1),
        segment=np.ones(n, int),
    )
    columns = (np.array(truth[key], float) for key in ("x", "y", "flux"))
    return Case(name, exposure, frames, *columns, scene)


def settings_of(preset: str, n_int: int, **changes: Any) -> Simulation:
    """Make a simulation with the benchmarks' seed and wavefront error."""
    changes = {"wavefront_rms": WAVEFRONT, "seed": SEED, **changes}
    return simulation(preset, n_int=n_int, **changes)


def data_folder() -> Path | None:
    """Find the folder of real data; None where there is none."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TSO_LEVEL3_DATA", default))
    return folder if folder.is_dir() else None


def real_star(half: int = 88) -> Kernel:
    """Make a truth of the real weak-lens image of WASP-39.

    Parameters
    ----------
    half : int
        Half side of the box around the star [pix].

    Returns
    -------
    Kernel
        The image with dark pixels filled, its noise smoothed (sigma 0.6 pixels) and its level
        taken off; the quintic spline through it is the star at any shift. The place of the
        "star" in it is a convention, so that it gives no absolute zero point.
    """
    path = data_folder() / "wasp39_nrca3_f210m_wlp8" / "median_image.fits"
    image = fits.getdata(path).astype(float)
    bad = ~np.isfinite(image) | (image < 0.6 * ndimage.median_filter(image, 5) - 200)
    clean = fill_missing(np.where(bad, 0.0, image), ~bad)
    x, y = 549, 161
    cut = clean[y - half : y + half + 1, x - half : x + half + 1]
    rows, columns = np.indices(cut.shape) - half
    far = np.hypot(rows, columns) > 80
    smooth = ndimage.gaussian_filter(cut - np.median(cut[far]), 0.6)
    # The image ends in a frame of zeros, so that no edge moves across pixels.
    edge = np.clip((half - 2.0 - np.maximum(abs(rows), abs(columns))) / 4.0, 0.0, 1.0)
    smooth *= edge
    return Kernel(smooth / smooth.sum(), 1, (float(half), float(half)), "file")


def write_json(path: Path, content: Any) -> None:
    """Write results."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
