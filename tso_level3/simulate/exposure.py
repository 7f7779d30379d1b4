"""Synthetic exposures with known truth: arrays, or level-2 files with their association.

Frames are simulated in electrons and converted at the end. The same `Simulation` gives the same
pixels, as arrays or in any number of files.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from astropy.table import Table, vstack

from tso_level3.flags import DQ_BITS
from tso_level3.simulate.scene import Scene, build_scene
from tso_level3.simulate.settings import Simulation

__all__ = [
    "SimulatedExposure",
    "SimulatedFiles",
    "SimulatedFrames",
    "simulate_arrays",
    "simulate_files",
    "simulate_frames",
]

log = logging.getLogger(__name__)

# Pixels that are made at once; another number changes the random numbers of a seed.
_BLOCK = 2**20

DO_NOT_USE, SATURATED, JUMP_DET, DEAD, HOT = (
    DQ_BITS[name] for name in ("DO_NOT_USE", "SATURATED", "JUMP_DET", "DEAD", "HOT")
)
_PLANES = ("data", "err", "dq", "var_poisson", "var_rnoise", "var_flat")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulatedFrames:
    """Consecutive frames in the file's unit.

    Attributes
    ----------
    start, stop : int
        Integrations [start, stop), 0-based.
    data, err, var_poisson, var_rnoise, var_flat : ndarray
        (n, ny, nx) float32; variances in the squared unit; NaN in pixels not to be used.
    dq : ndarray
        (n, ny, nx) uint32.
    hits : Table
        Cosmic rays: ``integration`` (1-based), ``x``, ``y``, ``electrons``, ``flagged``.
    bad_pixels : ndarray
        (n,) number of pixels that are bad in this integration alone.
    """

    start: int
    stop: int
    data: np.ndarray
    err: np.ndarray
    dq: np.ndarray
    var_poisson: np.ndarray
    var_rnoise: np.ndarray
    var_flat: np.ndarray
    hits: Table
    bad_pixels: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulatedExposure:
    """A synthetic exposure in memory.

    Attributes
    ----------
    simulation : Simulation
        The settings.
    scene : Scene
        Kernels, fixed pattern and noise-free images.
    data, err, var_poisson, var_rnoise, var_flat : ndarray
        (n_int, ny, nx) float32 in ``simulation.unit`` (variances in its square); NaN in pixels
        not to be used.
    dq : ndarray
        (n_int, ny, nx) uint32.
    truth : Table
        A row per integration (`tso_level3.simulate.build_scene`); ``truth.meta`` has
        ``electrons_per_unit`` and ``jy_per_electron``.
    hits : Table
        Cosmic rays: ``integration`` (1-based), ``x``, ``y``, ``electrons``, ``flagged``.
    """

    simulation: Simulation
    scene: Scene
    data: np.ndarray
    err: np.ndarray
    dq: np.ndarray
    var_poisson: np.ndarray
    var_rnoise: np.ndarray
    var_flat: np.ndarray
    truth: Table
    hits: Table

    def expected(self, i: int) -> np.ndarray:
        """(ny, nx) noise-free image of integration ``i`` (0-based), as used [electrons]."""
        return self.scene.frames(i, i + 1)[0]

    def star(self, i: int) -> np.ndarray:
        """(ny, nx) the same without sky and companions [electrons]."""
        return self.scene.frames(i, i + 1, star_only=True)[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulatedFiles:
    """Paths of a synthetic exposure.

    Attributes
    ----------
    simulation : Simulation
        The settings.
    segments : tuple of Path
        The ``calints`` files in order of time.
    association : Path
        Their tso3 association.
    truth : Path
        ECSV table with a row per integration.
    """

    simulation: Simulation
    segments: tuple[Path, ...]
    association: Path
    truth: Path


def simulate_arrays(sim: Simulation) -> SimulatedExposure:
    """Make a synthetic exposure in memory.

    Parameters
    ----------
    sim : Simulation
        The settings.

    Returns
    -------
    SimulatedExposure
        Arrays and truth.
    """
    scene = build_scene(sim)
    shape = (sim.n_int, *sim.shape)
    planes = {
        name: np.empty(shape, dtype=np.uint32 if name == "dq" else np.float32) for name in _PLANES
    }
    hits = []
    for frames in simulate_frames(scene):
        for name, plane in planes.items():
            plane[frames.start : frames.stop] = getattr(frames, name)
        hits.append(frames.hits)
    return SimulatedExposure(
        simulation=sim,
        scene=scene,
        truth=scene.truth,
        hits=vstack(hits) if len(hits) > 1 else hits[0],
        **planes,
    )


def simulate_files(sim: Simulation, folder: str | Path) -> SimulatedFiles:
    """Write a synthetic exposure as level-2 files, with association and truth.

    Frames are written as they are made, so that memory does not grow with their number. Files of
    the same names are replaced.

    Parameters
    ----------
    sim : Simulation
        The settings.
    folder : str or Path
        Folder of the files; made if it does not exist.

    Returns
    -------
    SimulatedFiles
        The paths.
    """
    from tso_level3.simulate import files

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    scene = build_scene(sim)
    with files.segment_writers(scene, folder) as writers:
        for frames in simulate_frames(scene):
            for writer in writers:
                writer.write(frames)
    segments = tuple(writer.path for writer in writers)
    association = files.write_association(sim, segments, folder)
    truth = folder / f"{files.root_name(sim)}_truth.ecsv"
    scene.truth.write(truth, format="ascii.ecsv", overwrite=True)
    log.info("wrote %s to %d file(s) in %s", sim.description, len(segments), folder)
    return SimulatedFiles(simulation=sim, segments=segments, association=association, truth=truth)


def simulate_frames(scene: Scene) -> Iterator[SimulatedFrames]:
    """Make the frames of an exposure, a block at a time.

    The numbers of cosmic rays and bad pixels are written to the scene's truth.

    Parameters
    ----------
    scene : Scene
        From `build_scene`.

    Yields
    ------
    SimulatedFrames
        Consecutive frames in order of time.
    """
    sim = scene.simulation
    size = max(1, _BLOCK // (sim.shape[0] * sim.shape[1]))
    fixed = _fixed_bad(sim)
    for block, start in enumerate(range(0, sim.n_int, size)):
        stop = min(start + size, sim.n_int)
        rng = np.random.default_rng([sim.seed, 2, block])
        frames = _frames(scene, fixed, rng, start, stop)
        counts = np.bincount(
            np.asarray(frames.hits["integration"], dtype=int) - 1 - start, minlength=stop - start
        )
        scene.truth["cosmic_rays"][start:stop] = counts
        scene.truth["bad_pixels"][start:stop] = frames.bad_pixels
        yield frames


def _frames(
    scene: Scene, fixed: np.ndarray, rng: np.random.Generator, start: int, stop: int
) -> SimulatedFrames:
    """Make integrations [start, stop): scene, noise, cosmic rays and flags."""
    sim = scene.simulation
    expected = scene.frames(start, stop)
    shape = expected.shape
    hits = _hits(sim, rng, start, stop)

    if sim.noise:
        measured = rng.poisson(np.maximum(expected, 0)).astype(float)
        if sim.excess_noise != 1:
            measured = expected + np.sqrt(sim.excess_noise) * (measured - expected)
        measured += sim.read_noise * rng.standard_normal(shape, dtype=np.float32)
        if sim.row_noise:
            measured += _row_offsets(sim, rng, stop - start)
    else:
        measured = expected.copy() if sim.variance_from == "model" else expected
    where = (hits["integration"] - 1 - start, hits["y"], hits["x"])
    np.add.at(measured, where, hits["electrons"])

    dq = np.broadcast_to(fixed, shape).copy()
    np.bitwise_or.at(dq, where, np.where(hits["flagged"], JUMP_DET, 0).astype(np.uint32))
    bad = _random_bad(sim, rng, dq)

    factor = sim.units_per_electron
    data = (measured * factor).astype(np.float32)
    counted = measured if sim.variance_from == "data" else expected
    var_poisson = np.maximum(counted, 0, out=counted)
    var_poisson *= sim.excess_noise * factor**2
    planes = {
        "data": data,
        "var_poisson": var_poisson.astype(np.float32),
        "var_rnoise": np.full(shape, (sim.read_noise * factor) ** 2, dtype=np.float32),
        "var_flat": np.square(data * scene.flat_error.astype(np.float32)),
    }
    err = planes["var_poisson"] + planes["var_rnoise"]
    err += planes["var_flat"]
    planes["err"] = np.sqrt(err, out=err)
    unusable = np.flatnonzero(dq & DO_NOT_USE)
    for plane in planes.values():
        plane.reshape(-1)[unusable] = np.nan
    return SimulatedFrames(start=start, stop=stop, dq=dq, hits=hits, bad_pixels=bad, **planes)


def _fixed_bad(sim: Simulation) -> np.ndarray:
    """Draw the flags of the pixels that are bad in all integrations, (ny, nx) uint32."""
    rng = np.random.default_rng([sim.seed, 3])
    draw = rng.random(sim.shape)
    dq = np.zeros(sim.shape, dtype=np.uint32)
    dq[draw < sim.bad_fixed] = DO_NOT_USE | DEAD
    dq[draw < sim.bad_fixed / 2] = DO_NOT_USE | HOT
    for x, y in sim.bad_pixels:
        dq[y, x] = DO_NOT_USE | DEAD
    # Flags without DO_NOT_USE.
    dq[(draw > 0.98) & (draw < 0.98 + sim.bad_fixed)] = HOT
    return dq


def _random_bad(sim: Simulation, rng: np.random.Generator, dq: np.ndarray) -> np.ndarray:
    """Flag pixels of single integrations in ``dq``; returns their number per integration."""
    n = len(dq)
    number = rng.poisson(sim.bad_random * dq[0].size, n)
    frame = np.repeat(np.arange(n), number)
    pixel = rng.integers(0, dq[0].size, len(frame))
    bits = np.where(rng.random(len(frame)) < 0.5, JUMP_DET, SATURATED | JUMP_DET)
    flat = dq.reshape(n, -1)
    fresh = (flat[frame, pixel] & DO_NOT_USE) == 0
    frame, pixel, bits = frame[fresh], pixel[fresh], bits[fresh]
    _, first = np.unique(frame * dq[0].size + pixel, return_index=True)
    frame, pixel, bits = frame[first], pixel[first], bits[first]
    flat[frame, pixel] |= (bits | DO_NOT_USE).astype(np.uint32)
    return np.bincount(frame, minlength=n)


def _hits(sim: Simulation, rng: np.random.Generator, start: int, stop: int) -> Table:
    """Draw the cosmic rays that the ramp fit left in single pixels, of which some are flagged."""
    ny, nx = sim.shape
    number = rng.poisson(sim.cosmic_rays, stop - start)
    total = int(number.sum())
    hits = Table()
    hits["integration"] = np.repeat(np.arange(start, stop), number) + 1
    hits["x"] = rng.integers(0, nx, total)
    hits["y"] = rng.integers(0, ny, total)
    hits["electrons"] = sim.cosmic_ray_charge * rng.lognormal(0, 0.7, total)
    hits["flagged"] = rng.random(total) < 0.3
    return hits


def _row_offsets(sim: Simulation, rng: np.random.Generator, n: int) -> np.ndarray:
    """Draw 1/f row noise: offsets common to a row of an amplifier, (n, ny, nx)."""
    ny, nx = sim.shape
    frequency = np.fft.rfftfreq(ny)
    amplitude = np.zeros_like(frequency)
    amplitude[1:] = frequency[1:] ** -0.5
    white = rng.standard_normal((n, sim.amplifiers, ny))
    rows = np.fft.irfft(np.fft.rfft(white) * amplitude, ny)
    full = np.concatenate([amplitude, amplitude[1 : (ny + 1) // 2]])
    rows *= sim.row_noise / np.sqrt(np.mean(full**2))
    which = np.arange(nx) * sim.amplifiers // nx
    return rows.transpose(0, 2, 1)[:, :, which]
