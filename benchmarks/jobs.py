"""The jobs that speed and memory are measured on: simulated files, written once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from tso_level3.config.settings import Settings
from tso_level3.simulate import simulate_files, simulation

#: Chosen before any result was seen.
SEED = 20240612


@dataclasses.dataclass(frozen=True)
class Job:
    """A file, and what is measured on it.

    Attributes
    ----------
    name : str
        Preset of `tso_level3.simulate`.
    n_int : int
        Integrations.
    side : int
        Side of the square frames [pix].
    radii : tuple of float
        Aperture radii [pix].
    annulus : (float, float)
        Background annulus [pix].
    subframe : int
        Side of the box for centring [pix].
    required, aimed : (float, float)
        How many times faster than the official step with all radii: fixed and moving centre.
    """

    name: str
    n_int: int
    side: int
    radii: tuple[float, ...]
    annulus: tuple[float, float]
    subframe: int
    required: tuple[float, float]
    aimed: tuple[float, float]

    @property
    def size(self) -> str:
        """Frames and pixels, in words."""
        return f"{self.n_int} x {self.side} x {self.side}, {len(self.radii)} radii"

    def settings(self, **changes: object) -> Settings:
        """Settings of the job: everything that is on by default is on."""
        own = {
            "radii": self.radii,
            "radius": self.radii[len(self.radii) // 2],
            "radius_inner": self.annulus[0],
            "radius_outer": self.annulus[1],
            "subframe": self.subframe,
        }
        return Settings(**{**own, **changes})

    def file(self, folder: Path) -> Path:
        """Find the job's file in a folder; write it where it is not there yet.

        Missing pixels and cosmic rays are in it at a density of one in 4,000 and in 8,000
        pixels of an integration, so that finding and filling them has something to do.
        """
        own = folder / f"{self.name}_{self.n_int}x{self.side}"
        found = sorted(own.glob("*_calints.fits"))
        if found and (own / "complete").exists():
            return found[0]
        area = self.side**2
        sim = simulation(
            self.name,
            n_int=self.n_int,
            shape=(self.side, self.side),
            pupil="CLEAR",
            flux=3e5,
            read_noise=12.0,
            cosmic_rays=area / 8000,
            bad_random=1 / 4000,
            bad_fixed=1e-3,
            wavefront_rms=67e-9,
            seed=SEED,
        )
        path = simulate_files(sim, own).segments[0]
        (own / "complete").touch()
        return path


def _job(name: str, n_int: int, side: int, radii: tuple, *rest: object) -> Job:
    first, last, count = radii
    return Job(name, n_int, side, tuple(np.linspace(first, last, count).tolist()), *rest)


JOBS = {
    job.name: job
    for job in (
        _job("W1", 10_000, 64, (2, 13, 12), (16.0, 26.0), 21, (200, 150), (300, 200)),
        _job("W2", 2_000, 160, (3, 36, 12), (45.0, 70.0), 31, (80, 60), (115, 85)),
        _job("W3", 500, 400, (3, 72, 24), (80.0, 120.0), 41, (50, 40), (80, 60)),
    )
}


def jobs_of(names: str, fraction: float) -> list[Job]:
    """List jobs by name, with a fraction of their integrations."""
    out = []
    for name in names.split(","):
        if name not in JOBS:
            raise SystemExit(f"jobs: {name!r} found, expected names of {', '.join(JOBS)}")
        job = JOBS[name]
        out.append(dataclasses.replace(job, n_int=max(50, round(job.n_int * fraction))))
    return out
