"""Simulated exposures with known truth, measured without a file in between."""

from dataclasses import dataclass

import numpy as np

from tso_level3.config.settings import Settings
from tso_level3.core.plan import Measurement, Plan
from tso_level3.datatypes import Exposure, Optics, Segment, Times
from tso_level3.planning.plan_exposure import first_look
from tso_level3.quality.apertures import net_flux
from tso_level3.quality.choice import Wish
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
    wish: Wish
    found: Measurement

    @property
    def flux(self) -> np.ndarray:
        return net_flux(self.found, 0)[0]

    @property
    def error(self) -> np.ndarray:
        return net_flux(self.found, 0)[1]

    def true_flux(self) -> np.ndarray:
        """(n, n_radii): noise-free images through the same weights, less the true background."""
        plan, made = self.plan, self.made
        layout, near, n = plan.layout, plan.layout.n_near, self.exposure.n_int
        out = np.empty((n, len(plan.radii)))
        for start in range(0, n, 50):
            stop = min(start + 50, n)
            images = made.scene.frames(start, stop)[:, layout.rows[:near], layout.columns[:near]]
            if plan.moving:
                x, y = self.found.center[start:stop].T
                out[start:stop] = plan.apertures.sums(images, x, y)[0]
            else:
                out[start:stop] = images @ plan.overlap.T
        return out - self.true_background()[:, None] * self.found.areas

    def true_background(self) -> np.ndarray:
        """(n,): the sky; with the star's wings in the annulus where no kernel knows them."""
        n, plan = self.exposure.n_int, self.plan
        if plan.background.mode == "none":
            return np.zeros(n)
        plain = plan.background.mode == "annulus_clipped"
        if plan.correlator.kernel.kind != "gaussian" and not plain:
            return np.array(self.made.truth["background"])
        layout, ring = plan.layout, plan.background.rings[0]
        rows, columns = layout.rows[ring], layout.columns[ring]
        parts = [
            np.median(self.made.scene.frames(i, min(i + 50, n))[:, rows, columns], axis=1)
            for i in range(0, n, 50)
        ]
        return np.concatenate(parts)


def measured(made: SimulatedExposure, *, errors=True, parts=True, chunk=64, **settings) -> Trial:
    """Measure a simulation."""
    exposure = exposure_of(made, errors=errors, parts=parts)
    plan, wish = first_look(exposure, Settings(**settings))
    found = work(Batch(exposure.segments[0], 0, exposure.n_int), plan=plan, chunk=chunk)
    return Trial(made, exposure, plan, wish, found)


def spoil(made: SimulatedExposure, x: int, y: int, frames: np.ndarray, bits: int = 1) -> None:
    """Make a pixel of some frames bad, in place: what is in it is wild, and only DQ says so."""
    made.data[frames, y, x] *= 1.7
    made.dq[frames, y, x] |= np.uint32(bits)
