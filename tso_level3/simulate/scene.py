"""Truth of a synthetic exposure: times, flux, pointing, kernels and fixed pattern."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np
from astropy.table import Table

from tso_level3.datatypes import KernelLike
from tso_level3.psf import bands
from tso_level3.psf import kernel as psf_kernel
from tso_level3.psf import pupil as psf_pupil
from tso_level3.simulate.images import Renderer
from tso_level3.simulate.settings import Simulation

__all__ = ["Scene", "barycentric_mjd", "build_scene", "transit_factor"]

_DAY = 86400.0


def transit_factor(
    separation: np.ndarray, ratio: float, limb: tuple[float, float], n_nodes: int = 48
) -> np.ndarray:
    """Compute the relative flux of a limb-darkened star behind a dark disc.

    The light that is missing is integrated over rings about the star's centre, each of which is
    covered over an angle that is known in closed form (Mandel and Agol 2002).

    Parameters
    ----------
    separation : ndarray
        (n,) distances of the two centres, in stellar radii.
    ratio : float
        Radius of the disc in stellar radii, below 1.
    limb : tuple of float
        Quadratic coefficients u1, u2: I = 1 - u1 (1 - mu) - u2 (1 - mu)**2.
    n_nodes : int
        Nodes of the radial integration; 48 reach 1e-9.

    Returns
    -------
    ndarray
        (n,) flux, 1 where nothing is covered.

    References
    ----------
    Mandel and Agol 2002, doi:10.1086/345520
    """
    u1, u2 = limb
    z = np.abs(np.asarray(separation, dtype=float))
    factor = np.ones_like(z)
    covered = z < 1 + ratio
    if ratio <= 0 or not covered.any():
        return factor

    def intensity(r: np.ndarray) -> np.ndarray:
        dim = 1 - np.sqrt(np.clip(1 - r**2, 0, None))
        return 1 - u1 * dim - u2 * dim**2

    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
    # Spacing by sin**2 removes the square roots that the covered angle and mu have at the ends.
    turn = np.pi / 4 * (nodes + 1)
    step, weight = np.sin(turn) ** 2, np.pi / 4 * weights * np.sin(2 * turn)

    def rings(low: np.ndarray, high: np.ndarray, d: np.ndarray | None) -> np.ndarray:
        width = np.clip(high - low, 0, None)[:, None]
        r = low[:, None] + width * step
        if d is None:
            angle = np.pi
        else:
            cosine = (r**2 + d[:, None] ** 2 - ratio**2) / np.maximum(2 * r * d[:, None], 1e-300)
            angle = np.arccos(np.clip(cosine, -1, 1))
        return ((2 * angle * intensity(r) * r) @ weight[:, None] * width)[:, 0]

    d = z[covered]
    missing = rings(np.abs(d - ratio), np.minimum(1.0, d + ratio), d)
    missing += rings(np.zeros_like(d), np.clip(ratio - d, 0, 1), None)
    factor[covered] = 1 - missing / (np.pi * (1 - u1 / 3 - u2 / 6))
    return factor


def barycentric_mjd(mjd_utc: np.ndarray, ra: float, dec: float) -> np.ndarray:
    """Compute times at the solar system's barycentre for an observer at the Earth's centre.

    Parameters
    ----------
    mjd_utc : ndarray
        (n,) MJD UTC [d].
    ra, dec : float
        Direction of the target, ICRS [deg].

    Returns
    -------
    ndarray
        (n,) BJD TDB - 2400000.5 [d].
    """
    from astropy import constants, units
    from astropy.coordinates import get_body_barycentric
    from astropy.time import Time

    mjd = np.asarray(mjd_utc, dtype=float)
    # The correction is smooth over hours: it is computed at 33 times and interpolated.
    coarse = np.linspace(mjd.min() - 0.1, mjd.max() + 0.1, 33)
    times = Time(coarse, format="mjd", scale="utc")
    earth = get_body_barycentric("earth", times, ephemeris="builtin").xyz.to_value(units.m)
    a, d = np.radians([ra, dec])
    towards = np.array([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])
    light = towards @ earth / constants.c.to_value(units.m / units.s) / _DAY
    ahead = (times.tdb.mjd - coarse) + light
    middle, half = mjd.mean(), np.ptp(coarse) / 2
    fit = np.polynomial.chebyshev.chebfit((coarse - middle) / half, ahead, 5)
    return mjd + np.polynomial.chebyshev.chebval((mjd - middle) / half, fit)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """Truth of each integration, and its noise-free images.

    Attributes
    ----------
    simulation : Simulation
        The settings.
    truth : Table
        A row per integration (see `build_scene`).
    renderer : Renderer
        The star's image at each integration's position.
    flat : ndarray
        (ny, nx) fixed pattern that multiplies the scene.
    flat_error : ndarray
        (ny, nx) relative error of the flat, as VAR_FLAT has it.
    """

    simulation: Simulation
    truth: Table
    renderer: Renderer
    flat: np.ndarray
    flat_error: np.ndarray

    def frames(self, start: int, stop: int, *, star_only: bool = False) -> np.ndarray:
        """Compute noise-free images.

        Parameters
        ----------
        start, stop : int
            Run of integrations, 0-based, ``stop`` not included.
        star_only : bool
            Leave out sky and companions.

        Returns
        -------
        ndarray
            (n, ny, nx) float64 electrons, the fixed pattern included.
        """
        sim, truth = self.simulation, self.truth[start:stop]
        star, companions = self.renderer.frames(start, stop)
        star *= np.asarray(truth["flux"])[:, None, None]
        if not star_only:
            if companions is not None:
                companions *= sim.flux
                star += companions
            star += np.asarray(truth["background"])[:, None, None]
        star *= self.flat
        return star


def build_scene(sim: Simulation) -> Scene:
    """Make everything of an exposure but its noise.

    Parameters
    ----------
    sim : Simulation
        The settings.

    Returns
    -------
    Scene
        With a truth of these columns: ``integration`` (1-based), ``segment`` (1-based),
        ``mjd_utc`` and ``bmjd_tdb`` (mid-times) [d], ``flux`` [electron] of the whole star, ``x``
        and ``y`` [pix], ``background`` [electron per pixel], ``transit`` (factor on the flux),
        ``kernel`` (number of tilts so far), ``cosmic_rays`` and ``bad_pixels`` (numbers of hits
        and of pixels bad in this integration alone, 0 until frames are made). Its meta has the
        conversion factors and the transit's parameters.
    """
    index = np.arange(sim.n_int)
    start = sim.start_mjd + index * sim.cadence / _DAY
    mid = start + sim.integration_time / 2 / _DAY
    phase = (index - (sim.n_int - 1) / 2) / max(sim.n_int - 1, 1)  # -1/2 to 1/2

    transit, contacts = _transit(sim, mid)
    rng = np.random.default_rng([sim.seed, 0])
    x0, y0 = sim.planned_position
    motion = sim.jitter * rng.standard_normal((sim.n_int, 2)) + _moves(sim)
    state = np.searchsorted(sorted(t.integration for t in sim.tilts), index, side="right")

    truth = Table()
    truth["integration"] = index + 1
    truth["segment"] = segment_numbers(sim)
    truth["mjd_utc"] = mid
    truth["bmjd_tdb"] = barycentric_mjd(mid, sim.ra, sim.dec)
    truth["flux"] = sim.flux * transit * (1 + sim.flux_slope * phase)
    truth["x"] = x0 + sim.offset[0] + sim.drift[0] * phase + motion[:, 0]
    truth["y"] = y0 + sim.offset[1] + sim.drift[1] * phase + motion[:, 1]
    truth["background"] = sim.background * (1 + sim.background_slope * phase)
    truth["transit"] = transit
    truth["kernel"] = state
    truth["cosmic_rays"] = np.zeros(sim.n_int, dtype=int)
    truth["bad_pixels"] = np.zeros(sim.n_int, dtype=int)
    for name, unit in _UNITS.items():
        truth[name].unit = unit
    truth.meta.update(_truth_meta(sim), **contacts)

    renderer = Renderer(
        kernels=_kernels(sim, truth),
        x=np.asarray(truth["x"]),
        y=np.asarray(truth["y"]),
        state=state,
        shape=sim.shape,
        companions=sim.companions,
    )
    flat, flat_error = _flat(sim)
    return Scene(simulation=sim, truth=truth, renderer=renderer, flat=flat, flat_error=flat_error)


_UNITS = {
    "mjd_utc": "d",
    "bmjd_tdb": "d",
    "flux": "electron",
    "x": "pix",
    "y": "pix",
    "background": "electron / pix",
}


def segment_edges(sim: Simulation) -> np.ndarray:
    """Return the first integration of each segment, and the end, 0-based."""
    return np.linspace(0, sim.n_int, sim.segments + 1).round().astype(int)


def segment_numbers(sim: Simulation) -> np.ndarray:
    """Return the segment of each integration, 1-based."""
    return np.searchsorted(segment_edges(sim), np.arange(sim.n_int), side="right")


def _transit(sim: Simulation, mid: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """Compute the transit factor at the mid-times, and the parameters for the truth's meta."""
    length = sim.n_int * sim.cadence / 3600
    duration = 0.4 * length if sim.transit_duration is None else sim.transit_duration
    middle = length / 2 if sim.transit_mid is None else sim.transit_mid
    at = sim.start_mjd + middle / 24
    ratio = float(np.sqrt(sim.transit_depth))
    # The path is straight, with |z| = 1 + ratio at first and fourth contact.
    half_chord = np.sqrt((1 + ratio) ** 2 - sim.transit_impact**2)
    along = (mid - at) / (duration / 24 / 2) * half_chord
    factor = transit_factor(np.hypot(along, sim.transit_impact), ratio, sim.limb)
    return factor, {
        "transit_depth": sim.transit_depth,
        "transit_duration_hours": duration,
        "transit_mid_mjd_utc": at,
        "transit_mid_bmjd_tdb": float(barycentric_mjd(np.array([at]), sim.ra, sim.dec)[0]),
    }


def _moves(sim: Simulation) -> np.ndarray:
    """Add up jumps, antenna moves and settling of the pointing, (n_int, 2) [px]."""
    rows = np.arange(sim.n_int)
    out = np.exp(-rows / sim.settling_length)[:, None] * np.array(sim.settling)
    for first, dx, dy in sim.jumps:
        out[int(first) :] += dx, dy
    for first, length, dx, dy in sim.antenna_moves:
        out[int(first) : int(first) + int(length)] += dx, dy
    return out


def _truth_meta(sim: Simulation) -> dict[str, Any]:
    """Return the settings, and the factors to compare the truth with the files."""
    settings = {
        field.name: getattr(sim, field.name)
        for field in dataclasses.fields(sim)
        if isinstance(getattr(sim, field.name), (str, int, float, bool, type(None)))
    }
    return {
        "description": sim.description,
        "unit": sim.unit,
        "units_per_electron": sim.units_per_electron,
        "electrons_per_unit": 1 / sim.units_per_electron,
        "jy_per_electron": sim.jy_per_electron,
        "pixel_area_sr": sim.pixel_area,
        "integration_time": sim.integration_time,
        "cadence": sim.cadence,
        "shape": list(sim.shape),
        "position": list(sim.planned_position),
        "settings": settings,
    }


def _kernels(sim: Simulation, truth: Table) -> tuple[KernelLike, ...]:
    """Compute the kernel before the first tilt and after each."""
    if not isinstance(sim.kernel, str):
        return (sim.kernel,)
    if sim.kernel == "gaussian":
        return (psf_kernel.GaussianKernel(*sim.sigma),)
    ny, nx = sim.shape
    reach = [1.0]
    for dx, dy in [(0.0, 0.0)] + [companion[:2] for companion in sim.companions]:
        x, y = np.asarray(truth["x"]) + dx, np.asarray(truth["y"]) + dy
        reach += [x.max(), y.max(), nx - 1 - x.min(), ny - 1 - y.min()]
    make = partial(
        psf_kernel.jwst_kernel,
        instrument=sim.instrument,
        filter=sim.filter,
        pupil=sim.pupil,
        detector=sim.detector,
        # All of the frame, so that no edge of the kernel moves across pixels.
        half_width=float(np.clip(np.ceil(max(reach)) + 2, 24, 1024)),
    )
    rotation = bands.rotation(sim.instrument)
    opd = None
    if sim.wavefront_rms:
        seed = sim.seed if sim.wavefront_seed is None else sim.wavefront_seed
        opd = psf_pupil.segment_wavefront(seed=seed, rms=sim.wavefront_rms, rotation=rotation)
    kernels = [make(opd=opd)]
    for tilt in sorted(sim.tilts, key=lambda t: t.integration):
        moved = psf_pupil.segment_tilt(
            tilt.segment, tilt.tip, tilt.tilt, tilt.piston, rotation=rotation
        )
        opd = moved if opd is None else opd + moved
        kernels.append(make(opd=opd))
    return tuple(kernels)


def _flat(sim: Simulation) -> tuple[np.ndarray, np.ndarray]:
    """Draw the fixed pattern, and the relative error that the flat's file would have for it."""
    rng = np.random.default_rng([sim.seed, 1])
    error = sim.flat_error * rng.uniform(0.7, 1.3, sim.shape)
    pattern = 1 + error * rng.standard_normal(sim.shape)
    # A large error could make the pattern negative.
    return (np.clip(pattern, 0, None) if sim.flat_pattern else np.ones(sim.shape)), error
