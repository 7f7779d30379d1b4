"""How many simulated segment tilts are found, how well they are placed, and what is found in vain.

A tilt's strength is its signal-to-noise in the template residuals, summed over 100 integrations on
each side: the root of the sum over the pixels of the subframe of (difference of the mean residual
images)^2 over the variance of that difference, without the part along the template's terms. The
tilt is scaled until it has the strength that is asked for.

    python -m benchmarks.events --preset F210M --tilts 60 --quiet 20
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from concurrent.futures import ProcessPoolExecutor

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from tso_level3.config.settings import Settings
from tso_level3.datatypes import Exposure, Optics, Segment, Times
from tso_level3.product.record import Result
from tso_level3.psf import bands, pupil
from tso_level3.psf.kernel import jwst_kernel
from tso_level3.readers.arrays import ArrayFrames
from tso_level3.run.measure import run
from tso_level3.simulate import Simulation, Tilt, simulate_arrays, simulation

SIDE = 100
#: Side of the subframe that a mode is measured on [pix].
SUBFRAME = {"WLP8": 131, "WLP4": 91, "F1500W": 23}
#: Settings of the simulations: everything that an exposure has, but no event.
QUIET = {
    "jitter": 0.005,
    "drift": (0.03, -0.02),
    "row_noise": 3.0,
    "cosmic_rays": 1.0,
    "bad_random": 1e-3,
    "bad_fixed": 2e-3,
}


@dataclasses.dataclass(frozen=True)
class Trial:
    """What came of one simulated exposure with a tilt.

    Attributes
    ----------
    truth : int
        The first integration with the moved segment.
    found : tuple of int
        Where tilts were found.
    other : tuple of str
        Events of other kinds.
    flux_step : float
        Relative change of the flux in the subframe.
    """

    truth: int
    found: tuple[int, ...]
    other: tuple[str, ...]
    flux_step: float

    @property
    def error(self) -> int:
        """Integrations from the truth to the nearest tilt found; a large number for none."""
        return min((abs(index - self.truth) for index in self.found), default=10**6)


def strength(sim: Simulation, tilt: Tilt, side: int, opd: np.ndarray | None) -> tuple[float, float]:
    """Signal-to-noise of a tilt as defined above, and its relative change of flux.

    Parameters
    ----------
    sim : Simulation
        The exposure.
    tilt : Tilt
        The tilt.
    side : int
        Side of the subframe [pix].
    opd : ndarray or None
        The wavefront error before the tilt.

    Returns
    -------
    (float, float)
        Signal-to-noise, and change of the flux in the subframe.
    """
    rotation = bands.rotation(sim.instrument)
    setup = {name: getattr(sim, name) for name in ("instrument", "filter", "pupil", "detector")}
    setup["half_width"] = max(side / 2 + 4, 24.0)
    moved = pupil.segment_tilt(tilt.segment, tilt.tip, tilt.tilt, tilt.piston, rotation=rotation)
    before = jwst_kernel(**setup, opd=opd)
    after = jwst_kernel(**setup, opd=moved if opd is None else opd + moved)
    grid = np.arange(side) - side // 2
    u, v = grid - sim.offset[0], grid - sim.offset[1]
    orders = [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)]
    terms = [before.evaluate(u, v, *order).ravel() for order in orders] + [np.ones(side**2)]
    sigma = np.sqrt(
        sim.excess_noise * (sim.flux * terms[0] + sim.background)
        + sim.read_noise**2
        + sim.row_noise**2
    )
    basis, _ = np.linalg.qr((np.array(terms) / sigma).T)
    change = after.evaluate(u, v).ravel() - terms[0]
    step = sim.flux * change / sigma
    step -= basis @ (basis.T @ step)
    return float(np.sqrt((step**2).sum() * SIDE / 2)), float(change.sum() / terms[0].sum())


def scaled_tilt(
    sim: Simulation, rng: np.random.Generator, integration: int, target: float, side: int
) -> tuple[Tilt, float]:
    """Draw a segment and a direction, and scale the tilt to a strength.

    Parameters
    ----------
    sim : Simulation
        The exposure.
    rng : numpy.random.Generator
        Draws segment and direction.
    integration : int
        The first that sees it.
    target : float
        Signal-to-noise.
    side : int
        Side of the subframe [pix].

    Returns
    -------
    (Tilt, float)
        The tilt, and its relative change of flux.
    """
    opd = None
    if sim.wavefront_rms:
        seed = sim.seed if sim.wavefront_seed is None else sim.wavefront_seed
        rotation = bands.rotation(sim.instrument)
        opd = pupil.segment_wavefront(seed=seed, rms=sim.wavefront_rms, rotation=rotation)
    angle = rng.uniform(0, 2 * np.pi)
    tilt = Tilt(
        integration=integration,
        segment=int(rng.integers(1, 19)),
        tip=1e-8 * np.sin(angle),
        tilt=1e-8 * np.cos(angle),
    )
    for _ in range(6):
        now, flux = strength(sim, tilt, side, opd)
        if abs(now / target - 1) < 0.01:
            break
        factor = np.clip(target / now, 0.2, 5.0)
        tilt = dataclasses.replace(tilt, tip=tilt.tip * factor, tilt=tilt.tilt * factor)
    return tilt, flux


def measured(sim: Simulation, **settings: object) -> Result:
    """Simulate an exposure and measure it.

    Parameters
    ----------
    sim : Simulation
        The exposure.
    **settings
        Fields of `Settings`.

    Returns
    -------
    Result
        What the package says.
    """
    data = simulate_arrays(sim)
    n, truth = sim.n_int, data.truth
    source = ArrayFrames(
        data.data, data.err, data.dq, data.var_poisson, data.var_rnoise, data.var_flat
    )
    utc, tdb = np.array(truth["mjd_utc"]), np.array(truth["bmjd_tdb"])
    exposure = Exposure(
        segments=(Segment(source, n, "", float(truth.meta["electrons_per_unit"])),),
        shape=sim.shape,
        times=Times(utc, tdb, "given", np.zeros(n, np.uint32)),
        unit="electron",
        optics=Optics(sim.instrument, sim.detector, sim.filter, sim.pupil),
        position=None,
        has_errors=True,
        integration=np.arange(1, n + 1),
        segment=np.ones(n, int),
    )
    return run(exposure, Settings(**settings))


def tilted(task: tuple[str, int, float, int, dict, dict]) -> Trial:
    """Run one trial with a tilt.

    Parameters
    ----------
    task : tuple
        Preset, seed, signal-to-noise, integrations, changes of the simulation, settings.

    Returns
    -------
    Trial
        What was found.
    """
    preset, seed, target, n_int, changes, settings = task
    rng = np.random.default_rng([seed, 77])
    depth = rng.uniform(0.01, 0.03)
    sim = simulation(
        preset, **{**QUIET, "n_int": n_int, "transit_depth": depth, "seed": seed, **changes}
    )
    place = int(rng.integers(SIDE, n_int - SIDE + 1))
    side = settings.get("subframe", SUBFRAME.get(preset, 21))
    tilt, flux = scaled_tilt(sim, rng, place, target, side)
    result = measured(dataclasses.replace(sim, tilts=(tilt,)), **settings)
    events = result.events
    tilts = tuple(
        int(i)
        for i, kind in zip(events["integration"] - 1, events["kind"], strict=True)
        if kind == "tilt"
    )
    other = tuple(str(kind) for kind in events["kind"] if kind != "tilt")
    return Trial(place, tilts, other, flux)


def quiet(task: tuple[str, int, int, dict, dict]) -> tuple[str, ...]:
    """Run one trial without any event.

    Parameters
    ----------
    task : tuple
        Preset, seed, integrations, changes of the simulation, settings.

    Returns
    -------
    tuple of str
        Kind and place of what was found in vain.
    """
    preset, seed, n_int, changes, settings = task
    depth = 0.01 * (1 + seed % 3)
    sim = simulation(
        preset, **{**QUIET, "n_int": n_int, "transit_depth": depth, "seed": seed, **changes}
    )
    events = measured(sim, **settings).events
    return tuple(
        f"{kind}@{i}" for i, kind in zip(events["integration"] - 1, events["kind"], strict=True)
    )


#: What happens to the pointing, as fields of the simulation, and what it is to be called. Offsets
#: in units of the jitter.
MOVES = {
    "jump": lambda first, dx, dy: {"jumps": ((first, dx, dy),)},
    "antenna": lambda first, dx, dy: {"antenna_moves": ((first, 12, dx, dy),)},
    "settling": lambda _, dx, dy: {"settling": (dx, dy), "settling_length": 30.0},
}


def moved(task: tuple[str, int, str, float, int, dict, dict]) -> tuple[bool, int, tuple[str, ...]]:
    """Run one trial in which the pointing moves.

    Parameters
    ----------
    task : tuple
        Preset, seed, kind of the event, size of the move [jitter], integrations, changes of the
        simulation, settings.

    Returns
    -------
    (bool, int, tuple of str)
        Whether an event of that kind was found within 20 integrations, by how many integrations
        it is off, and what else was found.
    """
    preset, seed, kind, size, n_int, changes, settings = task
    rng = np.random.default_rng([seed, 78])
    first = 0 if kind == "settling" else int(rng.integers(SIDE, n_int - SIDE + 1))
    angle = rng.uniform(0, 2 * np.pi)
    size *= changes.get("jitter", QUIET["jitter"])
    move = MOVES[kind](first, size * np.cos(angle), size * np.sin(angle))
    depth = rng.uniform(0.01, 0.03)
    base = {**QUIET, "n_int": n_int, "transit_depth": depth, "seed": seed, **changes, **move}
    events = measured(simulation(preset, **base), **settings).events
    found = list(zip(events["integration"] - 1, events["kind"], strict=True))
    right = [abs(int(i) - first) for i, name in found if name == kind and abs(i - first) <= 20]
    other = tuple(f"{name}@{i}" for i, name in found if name != kind or abs(i - first) > 20)
    return bool(right), min(right, default=10**6), other


def summary(trials: list[Trial]) -> dict[str, float]:
    """Count what was found.

    Parameters
    ----------
    trials : list of Trial
        The trials.

    Returns
    -------
    dict of float
        Fractions: found (a tilt within 20 integrations), and of all tilts those within 5 and 2;
        and the number of tilts and other events beside the true ones.
    """
    errors = np.array([trial.error for trial in trials])
    found = errors <= 20
    return {
        "found": float(found.mean()),
        "within 5": float((errors <= 5).mean()),
        "within 2": float((errors <= 2).mean()),
        "more": float(sum(len(t.found) for t in trials) - found.sum()),
        "other": float(sum(len(t.other) for t in trials)),
    }


def main() -> None:
    """Run the check and write the figures to the terminal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="F210M")
    parser.add_argument("--tilts", type=int, default=60, help="exposures for each strength")
    parser.add_argument("--quiet", type=int, default=20, help="exposures without a tilt")
    parser.add_argument("--n-int", type=int, default=2000)
    parser.add_argument("--n-quiet", type=int, default=2000)
    parser.add_argument("--wavefront", type=float, default=0.0, help="rms wavefront error [nm]")
    parser.add_argument("--strengths", type=float, nargs="*", default=[8.0, 16.0])
    parser.add_argument("--moves", type=int, default=0, help="exposures for each kind of move")
    parser.add_argument("--size", type=float, default=6.0, help="size of the moves [jitter]")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1000)
    args = parser.parse_args()
    changes = {"wavefront_rms": args.wavefront * 1e-9}
    settings: dict = {"choose_aperture": False}
    with ProcessPoolExecutor(args.workers) as pool:
        for target in args.strengths:
            tasks = [
                (args.preset, args.seed + k, target, args.n_int, changes, settings)
                for k in range(args.tilts)
            ]
            trials = list(pool.map(tilted, tasks))
            sizes = [abs(trial.flux_step) for trial in trials]
            figures = ", ".join(f"{k} {v:.3g}" for k, v in summary(trials).items())
            sys.stdout.write(
                f"{args.preset} S/N {target:g}, {len(trials)} tilts: {figures}; "
                f"flux steps {min(sizes):.1e} to {max(sizes):.1e}\n"
            )
            sys.stdout.flush()
        for number, kind in enumerate(MOVES if args.moves else ()):
            tasks = [
                (args.preset, args.seed + 1000 * number + 9000 + k, kind, args.size, args.n_int)
                + (changes, settings)
                for k in range(args.moves)
            ]
            found = list(pool.map(moved, tasks))
            near = sum(error <= 2 for _, error, _ in found)
            others = [event for _, _, other in found for event in other]
            sys.stdout.write(
                f"{args.preset} {kind} of {args.size:g} jitter: {sum(ok for ok, _, _ in found)} of "
                f"{len(found)} found, {near} within 2; others {others}\n"
            )
            sys.stdout.flush()
        tasks = [
            (args.preset, args.seed + 5000 + k, args.n_quiet, changes, settings)
            for k in range(args.quiet)
        ]
        found = [event for events in pool.map(quiet, tasks) for event in events]
        sys.stdout.write(
            f"{args.preset}: {len(found)} events in {args.quiet} quiet exposures: {found}\n"
        )


if __name__ == "__main__":
    main()
