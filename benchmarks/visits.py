"""Eclipses of real MIRI visits: our components beside those that were published with the data.

Each visit is fitted by least squares with a line, regressors and the shape of the eclipse; errors
are inflated by the red-noise factor at ten minutes. ``python benchmarks/visits.py FOLDER`` with the
folder of visits as `tests/end_to_end/test_real_data.py` expects it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

import tso_level3


@dataclass(frozen=True)
class Depth:
    """Depth of an eclipse and its error, rms of the residuals [ppm], and the red-noise factor."""

    depth: float
    error: float
    rms: float
    red: float


def fitted(
    flux: np.ndarray, time: np.ndarray, eclipse: np.ndarray, regressors: list[np.ndarray]
) -> Depth:
    """Fit a line, regressors and an eclipse.

    Parameters
    ----------
    flux, time, eclipse : ndarray, (n,)
        Relative flux, times [d], and the shape: 0 inside the eclipse, 1 outside.
    regressors : list of ndarray, (n,)
        What the flux may follow linearly.

    Returns
    -------
    Depth
        The eclipse.
    """
    columns = [np.ones(len(flux)), (time - time.mean()) / np.ptp(time), eclipse]
    columns += [(item - np.nanmean(item)) / np.nanstd(item) for item in regressors]
    design = np.stack(columns, axis=1)
    good = np.isfinite(design).all(axis=1) & np.isfinite(flux)
    for _ in range(3):
        solution = np.linalg.lstsq(design[good], flux[good], rcond=None)[0]
        rest = flux - design @ solution
        good &= np.abs(rest) < 4 * np.std(rest[good])
    left = rest[good]
    rms = float(np.std(left, ddof=design.shape[1]))
    size = max(int(round(10 / 1440 / np.median(np.diff(time)))), 1)
    means = left[: len(left) // size * size].reshape(-1, size).mean(axis=1)
    red = max(float(np.std(means, ddof=1)) / rms * np.sqrt(size), 1.0)
    error = rms * red * np.sqrt(np.linalg.inv(design[good].T @ design[good])[2, 2])
    return Depth(1e6 * solution[2], 1e6 * error, 1e6 * rms, red)


def visit(path: Path) -> dict[str, Depth]:
    """Measure a visit and fit its eclipse.

    Parameters
    ----------
    path : pathlib.Path
        File with ``FRAMES`` and ``SERIES``.

    Returns
    -------
    dict of str to Depth
        With the published components, with our first five, and with those that are significant.
    """
    with fits.open(path) as hdus:
        frames, series = hdus["FRAMES"].data.astype(float), hdus["SERIES"].data
        raw, time = (np.array(series[name], float) for name in ("RAW_FLUX", "TIME"))
        eclipse = np.array(series["UNIT_ECLIPSE"], float)
        published = [np.array(series[f"PC{k}"], float) for k in range(1, 6)]
    product = tso_level3.measure(
        frames * raw[:, None, None], times=60000 + time, background="none", find_events=False
    )
    ours = list(np.asarray(product.light_curve["components"], float).T)
    count = int(dict(product.meta.tso_level3.components.instance)["significant"])
    flux = raw / np.median(raw)
    return {
        "published": fitted(flux, time, eclipse, published),
        "five": fitted(flux, time, eclipse, ours[:5]),
        "significant": fitted(flux, time, eclipse, ours[:count]),
    }


def joint(depths: list[Depth]) -> tuple[float, float, float]:
    """Weighted mean of depths, its error, and chi-square a degree of freedom.

    Parameters
    ----------
    depths : list of Depth
        Of several visits.

    Returns
    -------
    (float, float, float)
        The three, depth and error in ppm.
    """
    value, error = (
        np.array([getattr(item, name) for item in depths]) for name in ("depth", "error")
    )
    weight = error**-2.0
    mean = float((weight * value).sum() / weight.sum())
    chi2 = float((weight * (value - mean) ** 2).sum() / (len(value) - 1))
    return mean, float(weight.sum() ** -0.5), chi2


def main(folder: str) -> None:
    """Print a table of all visits, and the joint depth of each star."""
    stars: dict[str, list[dict[str, Depth]]] = {}
    for path in sorted(Path(folder).glob("*.fits")):
        found = visit(path)
        stars.setdefault(path.name.split("_visit")[0], []).append(found)
        for name, it in found.items():
            print(
                f"| {path.stem} | {name} | {it.depth:.0f} +- {it.error:.0f} | {it.rms:.0f} "
                f"| {it.red:.2f} |"
            )
    for star, visits in stars.items():
        for name in visits[0]:
            mean, error, chi2 = joint([item[name] for item in visits])
            print(f"| {star}, joint | {name} | {mean:.0f} +- {error:.0f} | | {chi2:.2f} |")


if __name__ == "__main__":
    main(sys.argv[1])
