"""Light curves of this package beside those of its peers, on the same simulated exposures.

Usage: ``python benchmarks/side_by_side.py [--frames N] [--peers N] [--only TEXT] [--json FILE]``

For every exposure and every tool: the scatter of the light curve over its limit, and the depth of
a fitted transit with its error and bias. The limit is the square root of the summed squared
weights times photon and read variance at the radius that is quoted; the estimate of the sky has no
part in it. The shape of the transit is known to the fit, its depth is not.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from common import MACHINE, Case, make_case, settings_of, write_json

from tso_level3.config.settings import Settings
from tso_level3.core.aperture import overlap
from tso_level3.quality.detrend import detrend
from tso_level3.run.measure import run
from tso_level3.simulate import Tilt
from tso_level3.utils.stats import mad_std

DEPTH = 0.01
#: The official step's own defaults where no parameter reference is found.
OFFICIAL = (3.0, 4.0, 5.0)


@dataclasses.dataclass(frozen=True)
class Trial:
    """An exposure, and the aperture that all tools are given.

    Attributes
    ----------
    name : str
        What it is.
    preset : str
        Preset of `tso_level3.simulate`.
    changes : dict
        What is different.
    radius : (float, float, float)
        Radius and annulus of the peers [pix].
    settings : dict
        Settings of this package; its defaults otherwise.
    required : float or None
        Scatter over the limit that is required of this package.
    """

    name: str
    preset: str
    changes: dict[str, Any]
    radius: tuple[float, float, float] | None
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    required: float | None = None


FOCUS, LENS, MIRI = (5.0, 16.0, 26.0), (65.0, 75.0, 95.0), (5.2, 16.6, 47.8)
BAD = {"bad_random": 3e-3, "bad_fixed": 1e-3, "cosmic_rays": 1.0}
TILT = {"tilts": (Tilt(integration=10**9, segment=5, tip=3e-8),)}


def trials() -> list[Trial]:
    """List the exposures: three modes in seven conditions, and the lens in the small frame."""
    out = []
    modes = (("F210M", FOCUS), ("WLP8", LENS), ("F1500W", MIRI))
    for preset, radius in modes:
        # With so bright a weak lens a correction is not to make it worse; in focus it restores.
        wanted = None if preset == "WLP8" else 1.15
        conditions = (
            ("quiet", {"jitter": 0.01}, {}, 1.03),
            ("jitter 0.05", {"jitter": 0.05}, {}, 1.08),
            ("bad pixels", {"jitter": 0.01, **BAD}, {}, 1.10),
            ("row noise", {"jitter": 0.01, "row_noise": 8.0}, {}, None),
            ("row noise, auto", {"jitter": 0.01, "row_noise": 8.0}, {"flicker": "auto"}, wanted),
            ("drift 0.3", {"jitter": 0.01, "drift": (0.3, -0.2)}, {}, None),
            ("tilt", {"jitter": 0.01, **TILT}, {}, None),
        )
        for name, changes, settings, required in conditions:
            out.append(Trial(f"{preset}, {name}", preset, changes, radius, settings, required))
    bright = {"flux": 1e7}
    out.append(Trial("F210M 1e7 e-, quiet", "F210M", {"jitter": 0.01, **bright}, FOCUS, {}, 1.03))
    out.append(
        Trial("F210M 1e7 e-, jitter 0.05", "F210M", {"jitter": 0.05, **bright}, FOCUS, {}, 1.08)
    )
    for name, jitter in (("quiet", 0.01), ("jitter 0.05", 0.05)):
        out.append(
            Trial(f"WLP8 on SUB64P, {name}", "WLP8-SUB64P", {"jitter": jitter}, None, {}, 1.05)
        )
    return out


def simulate(trial: Trial, n: int) -> Case:
    """Make the exposure; a tilt happens a third of the way through."""
    changes = dict(trial.changes)
    if "tilts" in changes:
        tilts = changes["tilts"]
        changes["tilts"] = tuple(dataclasses.replace(t, integration=n // 3) for t in tilts)
    sim = settings_of(trial.preset, n, transit_depth=DEPTH, **changes)
    return make_case(trial.name, sim, dq=True)


def limit_of(case: Case, radius: float, center: tuple[float, float]) -> float:
    """Relative scatter by photon and read noise alone in an aperture."""
    sim = case.scene.simulation
    image = case.scene.frames(0, 1)[0]
    star = case.scene.frames(0, 1, star_only=True)[0]
    ny, nx = sim.shape
    weight = overlap(*center, np.array([radius]), np.arange(nx), np.arange(ny))[0]
    variance = np.sum(weight**2 * (np.maximum(image, 0.0) + sim.read_noise**2))
    return float(np.sqrt(variance) / np.sum(weight * star))


@dataclasses.dataclass(frozen=True)
class Judged:
    """What a light curve is worth.

    Attributes
    ----------
    scatter, detrended : float
        Scatter about the truth over the limit: as measured, and after a regression on the tool's
        own centres, their squares and a line in time outside the transit.
    ppm : float
        The scatter itself [1e-6].
    bias, error : float
        Of the depth of the transit, in its standard errors at the limit, and the formal error in
        the same unit, both fitted together with the centres and a line in time.
    """

    scatter: float
    detrended: float
    ppm: float
    bias: float
    error: float


def judged(
    case: Case, rows: slice, flux: np.ndarray, x: np.ndarray, y: np.ndarray, limit: float
) -> Judged:
    """Compare a light curve with the truth."""
    truth = case.scene.truth[rows]
    light = np.array(truth["flux"]) / np.median(np.array(truth["flux"]) / truth["transit"])
    ratio = flux / light
    ratio /= np.nanmedian(ratio)
    inside = np.array(truth["transit"]) < 1 - 1e-9
    vectors = {}
    for name, values in (("x", x), ("y", y)):
        if np.isfinite(values).all() and np.ptp(values) > 0:
            vectors[name] = values - values.mean()
            vectors[f"{name}^2"] = vectors[name] ** 2
    times = np.array(truth["mjd_utc"])
    window = (times[inside].min(), times[inside].max())
    after = detrend(times, flux, None, vectors, order=1, window=window)
    # The known shape of the transit, one free depth, and the same vectors, all at once.
    shape = -(1.0 - np.array(truth["transit"])) / DEPTH
    phase = np.linspace(-0.5, 0.5, len(flux))
    design = np.stack([np.ones_like(phase), shape, phase, *vectors.values()], axis=1)
    relative = flux / np.nanmedian(flux[~inside])
    good = np.isfinite(relative)
    good &= np.abs(ratio - 1.0) < 5 * mad_std(ratio)
    solution, *_ = np.linalg.lstsq(design[good], relative[good], rcond=None)
    residual = relative[good] - design[good] @ solution
    covariance = np.linalg.inv(design[good].T @ design[good])
    alone = np.linalg.inv(design[:, :2].T @ design[:, :2])
    best = limit * np.sqrt(alone[1, 1])
    error = float(residual.std() * np.sqrt(covariance[1, 1]))
    out = ~inside
    return Judged(
        scatter=clipped_scatter(ratio) / limit,
        detrended=clipped_scatter(after.flux[out]) / limit,
        ppm=1e6 * clipped_scatter(ratio),
        bias=float((solution[1] / solution[0] - DEPTH) / best),
        error=float(error / best),
    )


def clipped_scatter(values: np.ndarray) -> float:
    """Standard deviation without what is more than 5 robust ones from the median."""
    values = values[np.isfinite(values)]
    return float(values[np.abs(values - np.median(values)) < 5 * mad_std(values)].std())


def own(trial: Trial, case: Case) -> tuple[Judged, str]:
    """Measure with this package, by its defaults."""
    result = run(case.exposure, Settings(**trial.settings))
    curve, quoted = result.light_curve, result.record.quoted
    center = (float(np.nanmedian(curve["psf_x"])), float(np.nanmedian(curve["psf_y"])))
    radius = quoted.radius or (trial.radius or (200.0,))[0]
    flux = curve["psf_flux"]
    if quoted.kind == "aperture":
        flux = curve["aperture_flux"][:, int(np.argmin(np.abs(result.radii - radius)))]
    limit = limit_of(case, radius, center)
    what = "psf" if quoted.kind == "psf" else f"r {radius:g}"
    return judged(case, slice(None), flux, curve["psf_x"], curve["psf_y"], limit), what


def official(
    case: Case, count: int, radius: float, inner: float, outer: float, source: float
) -> Judged:
    """Measure with the functions of the official step."""
    from jwst.tso_photometry import tso_photometry
    from stdatamodels.jwst.datamodels import CubeModel

    from tso_level3.simulate.header import world_coordinates

    rows = _spread(case, count)
    values, errors, bits = _planes(case, rows)
    sim = case.scene.simulation
    model = CubeModel(data=values, err=errors, dq=bits)
    model.meta.bunit_data = model.meta.bunit_err = "electron"
    model.meta.instrument.pupil, model.meta.subarray.name = sim.pupil, sim.subarray
    model.meta.wcs = world_coordinates(sim)
    times = np.zeros(len(values), dtype=model.get_dtype("int_times"))
    times["integration_number"] = np.arange(1, len(values) + 1)
    times["int_mid_MJD_UTC"] = case.exposure.times.mjd_utc[rows]
    times["int_mid_BJD_TDB"] = case.exposure.times.bmjd_tdb[rows]
    model.int_times = times
    x0, y0 = case.exposure.position
    found = tso_photometry.tso_source_centroid(model, x0, y0, source_radius=source)
    x, y = found[0], found[1]
    center = (float(np.nanmedian(x)), float(np.nanmedian(y)))
    table = tso_photometry.tso_aperture_photometry(model, *center, radius, inner, outer, x, y)
    flux = np.array(table["net_aperture_sum"].value, float)
    return judged(case, rows, flux, np.array(x), np.array(y), limit_of(case, radius, center))


def loop(case: Case, count: int, radius: float, inner: float, outer: float) -> Judged:
    """Measure with a plain loop of photutils: centre of mass, clipped annulus, one aperture."""
    from astropy.stats import sigma_clipped_stats
    from photutils.aperture import ApertureStats, CircularAnnulus, CircularAperture
    from photutils.centroids import centroid_com

    rows = _spread(case, count)
    values, _, bits = _planes(case, rows)
    x0, y0 = (round(value) for value in case.exposure.position)
    half = 10 if radius < 20 else 60
    half = min(half, x0, y0)
    ring = CircularAnnulus(case.exposure.position, inner, outer).to_mask("center")
    centers, fluxes = [], []
    for image, bit in zip(values, bits, strict=True):
        mask = ((bit & 1) != 0) | ~np.isfinite(image)
        sky_pixels = ring.get_values(np.where(mask, np.nan, image))
        sky = 0.0
        if np.isfinite(sky_pixels).sum() > 100:
            sky = sigma_clipped_stats(sky_pixels[np.isfinite(sky_pixels)])[1]
        cut = np.s_[y0 - half : y0 + half + 1, x0 - half : x0 + half + 1]
        net = np.where(mask, 0.0, image)[cut] - sky
        x, y = centroid_com(net, mask=mask[cut])
        centers.append((x + x0 - half, y + y0 - half))
    centers = np.array(centers)
    center = tuple(np.median(centers, axis=0))
    for image, bit in zip(values, bits, strict=True):
        mask = ((bit & 1) != 0) | ~np.isfinite(image)
        sky_pixels = ring.get_values(np.where(mask, np.nan, image))
        sky = 0.0
        if np.isfinite(sky_pixels).sum() > 100:
            sky = sigma_clipped_stats(sky_pixels[np.isfinite(sky_pixels)])[1]
        stats = ApertureStats(image, CircularAperture(center, radius), mask=mask, local_bkg=sky)
        fluxes.append(float(stats.sum))
    limit = limit_of(case, radius, center)
    return judged(case, rows, np.array(fluxes), *centers.T, limit)


def _spread(case: Case, count: int) -> slice:
    """Take every n-th frame, so that the transit stays where it is."""
    return slice(None, None, max(case.exposure.n_int // count, 1))


def _planes(case: Case, rows: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values = case.frames.values[rows].astype(np.float32)
    errors = np.sqrt(np.maximum(values, 0.0) + case.frames.read**2).astype(np.float32)
    return values, errors, case.frames.dq[rows].copy()


def tools(trial: Trial, case: Case, count: int) -> dict[str, tuple[Judged | None, str, float]]:
    """Measure with every tool: what came out, which aperture, seconds an integration."""
    radius, inner, outer = trial.radius or (200.0, 300.0, 400.0)
    jobs = {"tso_level3": lambda: own(trial, case)}
    if trial.radius is None:
        # There the official step sums the frame.
        jobs["official"] = lambda: (official(case, count, 200.0, 300.0, 400.0, 20.0), "frame")
    else:
        jobs["official, its defaults"] = lambda: (official(case, count, *OFFICIAL, 4.0), "r 3")
        jobs["official, same aperture"] = lambda: (
            official(case, count, radius, inner, outer, inner),
            f"r {radius:g}",
        )
    jobs["photutils loop"] = lambda: (
        loop(case, count, radius, inner, outer),
        f"r {radius:g}" if trial.radius else "frame",
    )
    out = {}
    for name, job in jobs.items():
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                judged_, what = job()
            except Exception as error:
                out[name] = (None, f"{type(error).__name__}: {error}", np.nan)
                continue
        n = case.exposure.n_int if name == "tso_level3" else min(count, case.exposure.n_int)
        out[name] = (judged_, what, (time.perf_counter() - began) / n)
    return out


def main() -> int:
    """Measure, print a table, and say whether what is required was met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--frames",
        type=int,
        default=2500,
        help="integrations (half of them with WLP8 and at F1500W)",
    )
    parser.add_argument("--peers", type=int, default=200, help="integrations given to the peers")
    parser.add_argument("--only", default="", help="exposures whose name has this in it")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    print(f"{MACHINE}; {options.frames} integrations, peers {options.peers}")
    titles = "exposure, tool, aperture, ppm, over limit, decorrelated, depth bias, error".split(
        ", "
    )
    print("|", " | ".join(titles), "|")
    print("|", " | ".join(["---"] * len(titles)), "|")
    kept, missed = {}, []
    for trial in trials():
        if options.only not in trial.name:
            continue
        share = {"WLP8": 2, "F1500W": 2}.get(trial.preset, 1)
        case = simulate(trial, options.frames // share)
        found = tools(trial, case, options.peers)
        for name, (value, what, _) in found.items():
            if value is None:
                print(f"| {trial.name} | {name} | {what} | | | | | |", flush=True)
                continue
            print(
                f"| {trial.name} | {name} | {what} | {value.ppm:.0f} | {value.scatter:.2f} "
                f"| {value.detrended:.2f} | {value.bias:+.1f} | {value.error:.2f} |",
                flush=True,
            )
        mine = found["tso_level3"][0]
        level = None if mine is None else min(mine.scatter, mine.detrended)
        before = f"{trial.preset}, quiet"
        if mine is not None and trial.name.endswith("auto") and before in kept:
            # Row noise is compared with the scatter before it was added.
            level = mine.ppm / kept[before]["tso_level3"][0]["ppm"]
        if level is None or (trial.required and level > trial.required):
            missed.append(f"{trial.name}: {level}, required {trial.required}")
        kept[trial.name] = {
            name: [dataclasses.asdict(value) if value else None, what, seconds]
            for name, (value, what, seconds) in found.items()
        }
    if options.json:
        write_json(options.json, kept)
    for line in missed:
        print("missed:", line)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
