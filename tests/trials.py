"""Simulated exposures with known truth, measured without a file in between."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from photutils.aperture import CircularAperture

from tso_level3.config.settings import Settings
from tso_level3.core.plan import Measurement, Plan
from tso_level3.datatypes import Exposure, Optics, Segment, Times
from tso_level3.planning.plan_exposure import first_look
from tso_level3.quality.apertures import net_flux
from tso_level3.quality.choice import AperturePreference
from tso_level3.readers.arrays import ArrayFrames
from tso_level3.run.batches import Batch, work
from tso_level3.simulate import SimulatedExposure, simulate_arrays, simulation

BITS = {"DO_NOT_USE": 1, "SATURATED": 2, "JUMP_DET": 4}


def simulated(preset: str, **changes) -> SimulatedExposure:
    """Simulate; the seed is fixed unless one is given."""
    return simulate_arrays(simulation(preset, **{"seed": 11, **changes}))


def exposure_of(made: SimulatedExposure, *, errors: bool = True, parts: bool = True) -> Exposure:
    """Make an exposure in electrons; without errors, or with total errors alone."""
    sim, n = made.simulation, made.simulation.n_int
    planes = (made.var_poisson, made.var_rnoise, made.var_flat) if parts and errors else ()
    frames = ArrayFrames(made.data, made.err if errors else None, made.dq, *planes)
    truth = made.truth
    times = Times(
        np.array(truth["mjd_utc"]), np.array(truth["bmjd_tdb"]), "given", np.zeros(n, np.uint32)
    )
    return Exposure(
        segments=(Segment(frames, n, "", float(truth.meta["electrons_per_unit"])),),
        shape=sim.shape,
        times=times,
        unit="electron",
        optics=Optics(sim.instrument, sim.detector, sim.filter, sim.pupil or ""),
        position=sim.planned_position,
        has_errors=errors,
        integration=np.arange(1, n + 1),
        segment=np.ones(n, int),
    )


@dataclass(frozen=True, eq=False)
class Trial:
    """A measured simulation."""

    made: SimulatedExposure
    exposure: Exposure
    plan: Plan
    preference: AperturePreference
    found: Measurement

    @property
    def flux(self) -> np.ndarray:
        return net_flux(self.found, 0)[0]

    @property
    def error(self) -> np.ndarray:
        return net_flux(self.found, 0)[1]

    def true_flux(self) -> np.ndarray:
        """(n, n_radii): the simulated star alone in photutils' apertures at the stated centres."""
        scene, radii = self.made.scene, tuple(self.plan.radii)
        rows = []
        for i, (x, y) in enumerate(self.found.center):
            star = scene.frames(i, i + 1, star_only=True)[0]
            rows.append(np.tensordot(circles(float(x), float(y), radii, star.shape), star, axes=2))
        return np.array(rows)

    def true_background(self) -> np.ndarray:
        """(n,): the simulated sky."""
        return np.array(self.made.truth["background"])


@lru_cache(maxsize=4)
def circles(x: float, y: float, radii: tuple, shape: tuple) -> np.ndarray:
    """(n_radii, ny, nx): fraction of each pixel inside circles."""
    masks = [CircularAperture((x, y), radius).to_mask(method="exact") for radius in radii]
    return np.array([mask.to_image(shape) for mask in masks])


def measured(made: SimulatedExposure, *, errors=True, parts=True, chunk=64, **settings) -> Trial:
    """Measure a simulation."""
    exposure = exposure_of(made, errors=errors, parts=parts)
    plan, preference = first_look(exposure, Settings(**settings))
    found = work(Batch(exposure.segments[0], 0, exposure.n_int), plan=plan, chunk=chunk)
    return Trial(made, exposure, plan, preference, found)


def spoil(made: SimulatedExposure, x: int, y: int, frames: np.ndarray, bits: int = 1) -> None:
    """Make a pixel of some frames bad, in place: what is in it is wild, and only DQ says so."""
    made.data[frames, y, x] *= 1.7
    made.dq[frames, y, x] |= np.uint32(bits)
