"""Exposures in memory with known truth, in electrons, for the tests of centres."""

import dataclasses

import numpy as np

from tso_level3.config.settings import Settings
from tso_level3.core.measure import measure
from tso_level3.core.plan import Measurement
from tso_level3.datatypes import Exposure, Optics, Segment, Times
from tso_level3.planning.plan_exposure import first_look
from tso_level3.quality.crlb import crlb
from tso_level3.readers.arrays import ArrayFrames
from tso_level3.simulate import simulate_arrays, simulation


@dataclasses.dataclass(frozen=True, eq=False)
class Star:
    """A simulated exposure, and its truth."""

    exposure: Exposure
    frames: ArrayFrames
    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    kernel: object
    sim: object

    def bound(self):
        """Cramér-Rao bound on all pixels of the true image."""
        x, y, flux = (float(np.median(v)) for v in (self.x, self.y, self.flux))
        star = self.kernel.render(x, y, self.sim.shape, flux=flux)
        variance = np.maximum(star, 0) + self.sim.background + self.sim.read_noise**2
        return crlb(self.kernel, variance, flux=flux, position=(x, y))

    def look(self, **settings):
        """Settle the plan."""
        return first_look(self.exposure, Settings(**settings))[0]

    def measure(self, plan, *, chunk=None, frames=None):
        """Measure all frames with a plan, some at a time."""
        frames = frames or self.frames
        n = len(self.x)
        parts = [
            measure(frames.load(k, min(k + (chunk or n), n), plan.layout.box), plan, 1.0)
            for k in range(0, n, chunk or n)
        ]
        return Measurement.merge(parts)


def star(preset, n_int, *, dq=False, **changes):
    """Simulate an exposure with 67 nm rms of wavefront error that no fit is told of."""
    changes = {"wavefront_rms": 67e-9, "seed": 11, "transit_depth": 0.0, **changes}
    if changes.get("kernel", "jwst") != "jwst":
        changes["wavefront_rms"] = 0.0
    sim = simulation(preset, n_int=n_int, **changes)
    made = simulate_arrays(sim)
    factor = np.float32(1 / sim.units_per_electron)
    frames = ArrayFrames(
        values=made.data * factor,
        errors=made.err * factor,
        dq=made.dq if dq else None,
        var_poisson=made.var_poisson * factor**2,
        var_rnoise=made.var_rnoise * factor**2,
    )
    truth, n = made.truth, n_int
    mjd = np.array(truth["mjd_utc"])
    exposure = Exposure(
        segments=(Segment(frames, n),),
        shape=sim.shape,
        times=Times(mjd, mjd, "given", np.zeros(n, np.uint32)),
        unit="electron",
        optics=Optics(sim.instrument, sim.detector, sim.filter, sim.pupil or ""),
        position=sim.planned_position,
        has_errors=True,
        integration=np.arange(1, n + 1),
        segment=np.ones(n, int),
    )
    x, y, flux = (np.array(truth[k], float) for k in ("x", "y", "flux"))
    return Star(exposure, frames, x, y, flux, made.scene.renderer.kernels[0], sim)


def slope_of(values, truth):
    """Slope of a regression, and its standard error."""
    x = truth - truth.mean()
    slope = x @ values / (x @ x)
    rest = values - values.mean() - slope * x
    return slope, rest.std() / np.sqrt(x @ x)
