"""Simulates a transit, measures it as `strun` does, and compares with the truth."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table

from tso_level3.product.model import TSOLightCurveModel
from tso_level3.product.model import open as open_product
from tso_level3.quality.detrend import detrend
from tso_level3.simulate import SimulatedFiles, Simulation, simulate_files, timeline, visit

__all__ = ["Check", "Demo", "compare", "demo", "exposure", "measure_by_step", "options"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """A measured quantity and its true value.

    Attributes
    ----------
    name : str
        The quantity.
    found, truth : str
        The values, with their units.
    verdict : str
        The difference.
    """

    name: str
    found: str
    truth: str
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Files and comparison of a demonstration.

    Attributes
    ----------
    files : SimulatedFiles
        The synthetic exposure.
    product : Path
        The light curve.
    picture : Path or None
        Its plot; None where matplotlib is not installed.
    checks : tuple of Check
        Measured and true values.
    """

    files: SimulatedFiles
    product: Path
    picture: Path | None
    checks: tuple[Check, ...]


def exposure(preset: str = "F210M", *, n_int: int | None = None, seed: int = 1) -> Simulation:
    """Make the settings of an exposure of a transit that lasts hours and is a small file.

    Parameters
    ----------
    preset : str
        A key of `tso_level3.simulate.PRESETS`.
    n_int : int, optional
        Number of integrations; by default as many as `tso_level3.simulate.visit` has.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    Simulation
        The settings. Integrations are as long as it takes to fill four hours.

    Raises
    ------
    ValueError
        There is no such preset, or the number is out of bounds.
    """
    number = {} if n_int is None else {"n_int": n_int}
    return visit(
        preset,
        **number,
        segments=2 if n_int is None else min(2, n_int),
        transit_depth=0.015,
        # A few cosmic rays and bad pixels near the star, as a real exposure has.
        cosmic_rays=0.02,
        bad_random=5e-6,
        background_slope=0.05,
        seed=seed,
    )


def options(files: SimulatedFiles, folder: Path) -> list[str]:
    """Make the arguments of ``strun tso_level3_photometry``.

    Parameters
    ----------
    files : SimulatedFiles
        The exposure.
    folder : Path
        Folder of the product.

    Returns
    -------
    list of str
        The association, the folder, and the times out of transit, so that the transit does not
        count as noise.
    """
    meta = Table.read(files.truth, format="ascii.ecsv").meta
    half = meta["transit_duration_hours"] / 48
    middle, reach = meta["transit_mid_bmjd_tdb"], 1.0
    edges = (middle - reach, middle - half, middle + half, middle + reach)
    windows = ",".join(f"{edge:.4f}" for edge in edges)
    return [str(files.association), f"--output_dir={folder}", f"--out_of_transit={windows}"]


def measure_by_step(files: SimulatedFiles, folder: Path, *, log_level: str = "WARNING") -> Path:
    """Run the step on the association, as ``strun tso_level3_photometry`` does.

    Parameters
    ----------
    files : SimulatedFiles
        The exposure.
    folder : Path
        Folder of the product.
    log_level : str
        Lowest level of the log that is shown.

    Returns
    -------
    Path
        The product.

    Raises
    ------
    RuntimeError
        The step wrote no product.
    """
    from stpipe import Step

    Step.from_cmdline(
        [
            "tso_level3.TSOPhotometryStep",
            *options(files, folder),
            f"--log-level={log_level}",
        ]
    )
    name = json.loads(files.association.read_text())["products"][0]["name"]
    product = folder / f"{name}_phot.asdf"
    if not product.is_file():
        raise RuntimeError(f"{product}: not found, expected the step to write it")
    return product


def demo(
    folder: str | os.PathLike,
    preset: str = "F210M",
    *,
    n_int: int | None = None,
    seed: int = 1,
    log_level: str = "WARNING",
    tell: Callable[[str], object] = lambda line: None,
) -> Demo:
    """Simulate, measure, draw and compare.

    Parameters
    ----------
    folder : str or path-like
        Folder of all files; made if it does not exist.
    preset, n_int, seed
        As for `exposure`.
    log_level : str
        Lowest level of the step's log that is shown.
    tell : callable
        Called with a line of text at each stage.

    Returns
    -------
    Demo
        Files and comparison.

    Raises
    ------
    ValueError
        There is no such preset, or a number is out of bounds.
    """
    folder = Path(folder)
    sim = exposure(preset, n_int=n_int, seed=seed)
    tell(f"simulating {sim.description}: {timeline(sim)}")
    files = simulate_files(sim, folder)
    tell(f"strun tso_level3_photometry {shlex.join(options(files, folder))}")
    product = measure_by_step(files, folder, log_level=log_level)
    model = open_product(product)
    picture = None
    if importlib.util.find_spec("matplotlib") is not None:
        from tso_level3.report.plots import light_curve

        picture = product.with_suffix(".png")
        light_curve(model, picture)
    truth = Table.read(files.truth, format="ascii.ecsv")
    return Demo(files=files, product=product, picture=picture, checks=compare(model, truth))


def compare(model: TSOLightCurveModel, truth: Table) -> tuple[Check, ...]:
    """Compare a product with the truth of its exposure.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.
    truth : astropy.table.Table
        The table of `tso_level3.simulate.build_scene`; a row per integration.

    Returns
    -------
    tuple of Check
        The depth of the transit, fitted with its true shape; the scatter about that fit; the
        centres; the times.
    """
    table = model.light_curve
    columns = {name: np.asarray(table[name], dtype=float) for name in ("time", "psf_x", "psf_y")}
    shape = np.asarray(truth["transit"], dtype=float) - 1.0
    vectors = {"transit": shape, "psf_x": columns["psf_x"], "psf_y": columns["psf_y"]}
    fit = detrend(columns["time"], model.flux, model.flux_err, vectors, window=())
    checks = []
    if np.ptp(shape) > 0:
        k = fit.names.index("transit")
        # The fit's coefficient is relative to the flux at the vector's mean, not out of transit.
        share = 1.0 - fit.coefficients[k] * np.mean(shape[fit.used])
        depth = truth.meta["transit_depth"]
        found = depth * fit.coefficients[k] / share
        error = depth * fit.errors[k] / share**2
        checks.append(
            Check(
                name="transit depth",
                found=f"{1e6 * found:.0f} +- {1e6 * error:.0f} ppm",
                truth=f"{1e6 * depth:.0f} ppm",
                verdict=f"{abs(found - depth) / error:.1f} sigma apart",
            )
        )
    rows = [row for part in (model.apertures, model.grid) for row in part if row["chosen"]]
    expected = float(rows[0]["expected"]) if rows else np.nan
    checks.append(
        Check(
            name="scatter",
            found=f"{1e6 * fit.scatter_after:.0f} ppm",
            truth=f"{1e6 * expected:.0f} ppm expected",
            verdict=f"ratio {fit.scatter_after / expected:.2f}",
        )
    )
    checks += [_centre(model, truth, axis) for axis in "xy"]
    late = 86400e3 * (columns["time"] - np.asarray(truth["bmjd_tdb"], dtype=float))
    checks.append(
        Check(
            name="mid-times",
            found=model.time_scale,
            truth="BMJD_TDB",
            verdict=f"within {np.nanmax(np.abs(late)):.2g} ms",
        )
    )
    return tuple(checks)


def _centre(model: TSOLightCurveModel, truth: Table, axis: str) -> Check:
    table = model.light_curve
    off = np.asarray(table[f"psf_{axis}"], dtype=float) - np.asarray(truth[axis], dtype=float)
    limit = float(np.nanmedian(np.asarray(table[f"psf_{axis}_err"], dtype=float)))
    return Check(
        name=f"centre in {axis}",
        found=f"{np.nanstd(off):.4f} pix rms",
        truth=f"{limit:.4f} pix photon limit",
        verdict=f"ratio {np.nanstd(off) / limit:.2f}, mean {np.nanmean(off):+.4f} pix",
    )
