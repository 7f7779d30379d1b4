"""Centres against the Cramér-Rao bound, on simulated frames and on a real image made a truth.

Usage: ``python benchmarks/centres.py [--frames 4000] [--peers 250] [--out build/centres]``

Writes ``centres.md``, ``centres.json`` and ``centres.png``; ends with status 1 where a requirement
does not hold. The seed and the wavefront error are in `common`, chosen before the first run.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from common import (
    MACHINE,
    SEED,
    WAVEFRONT,
    Case,
    data_folder,
    make_case,
    real_star,
    settings_of,
    write_json,
)

from tso_level3.config.settings import Settings
from tso_level3.core.measure import measure
from tso_level3.core.plan import Measurement, Plan
from tso_level3.core.template import Bad, fit_frames
from tso_level3.planning.plan_exposure import first_look
from tso_level3.planning.zero_point import place_kernel
from tso_level3.utils.threads import one_thread

log = logging.getLogger("centres")

# name: preset, changes, limit of the ratio to the bound, limit of |slope - 1|
CASES: dict[str, tuple[str, dict[str, Any], float, float]] = {
    "F210M 3e5": ("F210M", {}, 1.10, 0.003),
    "F210M 2e4": ("F210M", {"flux": 2e4}, 1.10, 0.003),
    "F444W 3e5": ("F444W", {}, 1.10, 0.003),
    "F444W 2e4": ("F444W", {"flux": 2e4}, 1.10, 0.003),
    "F1500W 1e6": ("F1500W", {}, 1.06, 0.003),
    "F1500W 5e4": ("F1500W", {"flux": 5e4}, 1.06, 0.003),
    "WLP8 8e7": ("WLP8", {}, 1.15, 0.01),
    "WLP8 2e6": ("WLP8", {"flux": 2e6}, 1.15, 0.01),
    "WLP8 SUB64P 8e7": ("WLP8-SUB64P", {}, 1.20, 0.01),
    "WLP8 real image 8e7": ("WLP8", {"kernel": "real"}, 1.30, 0.01),
}
KERNEL_ALONE = {"WLP8 real image 8e7": 1.70}
# Where the flat's pattern on a bright sky hides a response of 0.3 %: the same without it.
EVEN = {"F1500W 5e4, even flat": ("F1500W 5e4", {"flat_pattern": False}, 3)}
PEER_CASES = ("F210M 3e5", "F444W 3e5", "F1500W 1e6", "WLP8 8e7", "WLP8 real image 8e7")


def case_of(name: str, n: int, **more: Any) -> Case:
    """Simulate a case."""
    preset, changes, _, _ = CASES[name]
    changes = {**changes, **more}
    if changes.get("kernel") == "real":
        changes |= {"kernel": real_star(), "wavefront_rms": 0.0}
    return make_case(name, settings_of(preset, n, **changes))


def measured(case: Case) -> tuple[Plan, Measurement, dict[str, float]]:
    """Run first look and chunks, and time them."""
    clock = time.process_time
    began = clock()
    plan, _ = first_look(case.exposure, Settings())
    looked = clock()
    box, n = plan.layout.box, len(case.x)
    size = 128 if plan.layout.n_pixels < 6000 else 32
    with one_thread():
        parts = [
            measure(case.frames.load(k, min(k + size, n), box), plan, 1.0)
            for k in range(0, n, size)
        ]
    return plan, Measurement.merge(parts), {"look": looked - began, "chunk": clock() - looked}


def cost(case: Case, plan: Plan) -> dict[str, float]:
    """Time the stages of centring on one chunk, the best of some runs [ms a frame]."""
    size, fit = 128, plan.layout.n_fit
    values = case.frames.load(0, size, plan.layout.box).values
    pixels = np.take(values.reshape(len(values), -1), plan.layout.index[:fit], axis=1).astype(float)
    zero = np.zeros(len(pixels))

    def best(call: Callable[[], Any]) -> float:
        times = []
        for _ in range(15):
            began = time.process_time()
            call()
            times.append(time.process_time() - began)
        return 1e3 * min(times) / len(pixels)

    with one_thread():
        return {
            "psf": best(lambda: fit_frames(plan.template, pixels, Bad.none())),
            "cc": best(lambda: plan.correlator.peaks(pixels, zero, zero)),
        }


def ratios(values: np.ndarray, truth: np.ndarray, bound: float) -> tuple[float, float]:
    """Give the rms about the mean over the bound, and the mean offset; of what is finite."""
    apart = values - truth
    good = np.isfinite(apart)
    if good.sum() < 0.9 * len(apart):
        return np.nan, np.nan
    return float(apart[good].std() / bound), float(apart[good].mean())


def slope_of(values: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Regress measured on true positions: slope and its standard error."""
    good = np.isfinite(values)
    x = truth[good] - truth[good].mean()
    slope = float(x @ values[good] / (x @ x))
    rest = values[good] - values[good].mean() - slope * x
    return slope, float(rest.std() / np.sqrt(x @ x))


def pattern_error(case: Case, plan: Plan, steps: int = 25) -> tuple[float, float]:
    """Standard error of the two slopes from the pattern of the flat alone.

    A pattern that stays on the pixels moves the fitted position by what of it looks like a shift,
    more or less as the star moves on. This takes the best fit there is, that of the true image.
    """
    sim, fit = case.scene.simulation, plan.layout.fit
    if not sim.flat_pattern:
        return 0.0, 0.0
    kernel, flux = case.scene.renderer.kernels[0], float(np.median(case.flux))
    rows = np.argsort(case.x)[np.linspace(0, len(case.x) - 1, steps).round().astype(int)]
    seen = []
    for x, y in zip(case.x[rows], case.y[rows], strict=True):
        u, v = fit.x + np.arange(fit.nx) - x, fit.y + np.arange(fit.ny) - y
        terms = [kernel.evaluate(u, v, *order).ravel() for order in ((0, 0), (1, 0), (0, 1))]
        star = flux * terms[0]
        terms = np.stack([star, -flux * terms[1], -flux * terms[2], np.ones(star.size)])
        weighted = terms / (np.maximum(star, 0) + sim.background + sim.read_noise**2)
        rows_of_fit = np.linalg.solve(weighted @ terms.T, weighted)
        # relative spread of the errors from pixel to pixel: uniform from 0.7 to 1.3 of the mean
        level = sim.flat_error * np.sqrt(1.03) * (star + sim.background)
        seen.append(rows_of_fit[1:3] * level)
    out = []
    for k, place in enumerate((case.x[rows], case.y[rows])):
        apart = place - place.mean()
        slope = np.tensordot(apart, np.stack(seen)[:, k], 1) / (apart @ apart)
        out.append(float(np.sqrt((slope**2).sum())))
    return out[0], out[1]


def judge_case(name: str, n: int, **changes: Any) -> dict[str, Any]:
    """Measure the scatter of one case."""
    case = case_of(name, n, **changes)
    bound = case.bound()
    plan, found, times = measured(case)
    out: dict[str, Any] = {"name": name, "frames": n, "limit": CASES[name][2]}
    out |= {"first_look_s": round(times["look"], 2), "chunk_ms": 1e3 * times["chunk"] / n}
    out["box"] = [plan.layout.fit.ny, plan.layout.fit.nx]
    for k, axis in enumerate("xy"):
        truth, least = getattr(case, axis), getattr(bound, axis)
        values = {"psf": found.psf[:, k], "cc": found.cc[:, k], "gauss": found.gauss[:, 1 + k]}
        out[f"bound_{axis}"] = least
        out[f"quoted_{axis}"] = float(np.nanmedian(found.psf_err[:, k]) / least)
        for method, value in values.items():
            out[f"{method}_{axis}"], out[f"{method}_zero_{axis}"] = ratios(value, truth, least)
    if name == "F210M 3e5":
        out["cost_ms"] = cost(case, plan)
    worst = max(out["psf_x"], out["psf_y"])
    out["holds"] = bool(worst <= out["limit"])
    if name in KERNEL_ALONE:
        out["kernel_limit"] = KERNEL_ALONE[name]
    return out


def response(name: str, n: int, **changes: Any) -> dict[str, Any]:
    """Measure how the position follows known shifts: jitter of 0.1 px, and a drift of 1.5 px."""
    label = name
    if name in EVEN:
        name, own, times = EVEN[name]
        changes, n = {**changes, **own}, times * n
    out: dict[str, Any] = {"name": label, "limit": CASES[name][3], "frames": n, "holds": True}
    for what, more in (
        ("jitter", {"jitter": 0.1, "drift": (0.0, 0.0)}),
        ("drift", {"drift": (1.5, -1.5)}),
    ):
        case = case_of(name, n, **more, **changes)
        plan, found, _ = measured(case)
        pattern = pattern_error(case, plan)
        for k, axis in enumerate("xy"):
            slope, error = slope_of(found.psf[:, k], getattr(case, axis))
            error = float(np.hypot(error, pattern[k]))
            out[f"{what}_{axis}"], out[f"{what}_{axis}_err"] = slope, error
            out[f"{what}_{axis}_pattern"] = pattern[k]
            out["holds"] &= bool(abs(slope - 1) <= out["limit"] + 2 * error)
    return out


def peers(case: Case, plan: Plan) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Measure frames with other tools, each as its own documents propose."""
    frames = np.asarray(case.frames.values, float)
    x, y = float(np.median(case.x)), float(np.median(case.y))
    fit = plan.layout.fit
    cuts = frames[(slice(None), *fit.slices)]
    level = np.median(frames, axis=(1, 2))
    methods = {
        "centre of mass, 41 then 11 px (jwst)": lambda: _upstream(frames, x, y),
        "centroid_2dg (photutils)": lambda: _photutils("centroid_2dg", frames, level, x, y),
        "centroid_quadratic (photutils)": lambda: _photutils(
            "centroid_quadratic", frames, level, x, y
        ),
        "phase_cross_correlation (skimage)": lambda: _skimage(cuts, x, y),
        "chi2_shift (image_registration)": lambda: _registration(cuts, case, x, y),
        "computed kernel alone, weighted fit": lambda: _kernel_alone(cuts, plan),
    }
    out = {}
    for name, call in methods.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                out[name] = call()
            except ImportError as error:
                log.warning("%s is left out: %s", name, error)
    return out


def _upstream(frames: np.ndarray, x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
    from jwst.tso_photometry.tso_photometry import tso_source_centroid

    model = SimpleNamespace(data=frames, dq=np.zeros(frames.shape, np.uint32))
    logging.getLogger("jwst").setLevel(logging.ERROR)
    found = tso_source_centroid(model, x, y)
    return np.asarray(found[0], float), np.asarray(found[1], float)


def _photutils(
    name: str, frames: np.ndarray, level: np.ndarray, x: float, y: float
) -> tuple[np.ndarray, np.ndarray]:
    from photutils import centroids

    x0, y0 = int(round(x)), int(round(y))
    cut = frames[:, y0 - 10 : y0 + 11, x0 - 10 : x0 + 11] - level[:, None, None]
    found = np.array([getattr(centroids, name)(image) for image in cut])
    return found[:, 0] + x0 - 10, found[:, 1] + y0 - 10


def _skimage(cuts: np.ndarray, x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
    from skimage.registration import phase_cross_correlation

    mean = cuts.mean(axis=0)
    found = [
        phase_cross_correlation(cut, mean, upsample_factor=200, normalization=None)[0]
        for cut in cuts
    ]
    shift = np.array(found)
    return x + shift[:, 1], y + shift[:, 0]


def _registration(
    cuts: np.ndarray, case: Case, x: float, y: float
) -> tuple[np.ndarray, np.ndarray]:
    from image_registration import chi2_shift

    mean = cuts.mean(axis=0)
    error = np.sqrt(np.maximum(mean, 1) + case.frames.read**2)
    found = np.array([chi2_shift(mean, cut, error, upsample_factor="auto")[:2] for cut in cuts])
    return x + found[:, 0], y + found[:, 1]


def _kernel_alone(cuts: np.ndarray, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    fit, kernel = plan.layout.fit, plan.correlator.kernel
    weights = plan.weights.reshape(fit.ny, fit.nx)
    begin = plan.template.x, plan.template.y
    found = [place_kernel(cut, weights, kernel, *begin, origin=(fit.x, fit.y)) for cut in cuts]
    return np.array([p.x for p in found]), np.array([p.y for p in found])


def compare(name: str, n: int, **changes: Any) -> dict[str, Any]:
    """Measure a case with all methods."""
    case = case_of(name, n, jitter=0.02, **changes)
    bound = case.bound()
    plan, found, _ = measured(case)
    methods = {
        "psf (tso_level3)": (found.psf[:, 0], found.psf[:, 1]),
        "gauss (tso_level3)": (found.gauss[:, 1], found.gauss[:, 2]),
        "cc (tso_level3)": (found.cc[:, 0], found.cc[:, 1]),
        **peers(case, plan),
    }
    rows = {}
    for method, (x, y) in methods.items():
        ratio = [ratios(x, case.x, bound.x)[0], ratios(y, case.y, bound.y)[0]]
        slopes = [slope_of(x, case.x)[0], slope_of(y, case.y)[0]] if ratio[0] > 0 else [np.nan] * 2
        rows[method] = {"ratio": float(np.sqrt(np.mean(np.square(ratio)))), "slope": slopes}
    return {"name": name, "frames": n, "methods": rows}


def tables(content: dict[str, Any]) -> str:
    """Write the results as Markdown."""
    lines = [
        f"Scatter of x, y in units of the Cramér-Rao bound, {content['frames']} frames a case, "
        f"seed {content['seed']}, wavefront error {content['wavefront_nm']:.0f} nm rms; {MACHINE}.",
        "",
        "| case | bound x, y (mpx) | psf | limit | quoted error / bound | cc | gauss | "
        "zero point of psf x, y (px) | first look (s) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in content["cases"]:
        both = {key: f"{r[key + '_x']:.2f}, {r[key + '_y']:.2f}" for key in ("cc", "gauss")}
        both = {key: text.replace("nan, nan", "none") for key, text in both.items()}
        lines.append(
            f"| {r['name']} | {1e3 * r['bound_x']:.2f}, {1e3 * r['bound_y']:.2f} "
            f"| {r['psf_x']:.3f}, {r['psf_y']:.3f} | {r['limit']:.2f} "
            f"| {r['quoted_x']:.3f}, {r['quoted_y']:.3f} | {both['cc']} | {both['gauss']} "
            f"| {r['psf_zero_x']:+.3f}, {r['psf_zero_y']:+.3f} | {r['first_look_s']:.1f} |"
        )
    lines += ["", "Response of psf to known motion: slope and its standard error, to which the"]
    lines += [
        "pattern of the flat contributes; its share is in brackets where it is most of it.",
        "",
    ]
    lines += ["| case | jitter 0.1 px, x | y | drift 1.5 px, x | y | limit |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for r in content["responses"]:
        cells = [
            f"{r[k]:.4f} ± {r[k + '_err']:.4f}" + _most(r, k)
            for k in ("jitter_x", "jitter_y", "drift_x", "drift_y")
        ]
        lines.append(f"| {r['name']} | {' | '.join(cells)} | {r['limit']:.1%} |")
    lines += [
        "",
        "Methods, rms of both axes over the bound (and slopes of x, y), jitter 0.02 px.",
        "",
    ]
    names = [item["name"] for item in content["compared"]]
    lines += [f"| method | {' | '.join(names)} |", "| --- " * (len(names) + 1) + "|"]
    methods = dict.fromkeys(m for item in content["compared"] for m in item["methods"])
    for method in methods:
        cells = []
        for item in content["compared"]:
            row = item["methods"].get(method)
            known = row is not None and np.isfinite(row["ratio"])
            text = f"{row['ratio']:.3g} ({row['slope'][0]:.2f}, {row['slope'][1]:.2f})"
            cells.append(text if known else "none")
        lines.append(f"| {method} | {' | '.join(cells)} |")
    for r in content["cases"]:
        if "cost_ms" in r:
            c = r["cost_ms"]
            text = f"psf fit {c['psf']:.4f} ms a frame, correlation peak {c['cc']:.4f} ms"
            lines += ["", f"Cost at 64 x 64, box of {r['box'][0]} px, chunk of 128: {text}."]
    return "\n".join(lines) + "\n"


def _most(row: dict[str, Any], key: str) -> str:
    pattern = row.get(key + "_pattern", 0.0)
    return f" ({pattern:.4f})" if pattern > 0.5 * row[key + "_err"] else ""


def figure(content: dict[str, Any], path: Path) -> None:
    """Draw each method's scatter over the bound."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    compared = content["compared"]
    methods = list(dict.fromkeys(m for item in compared for m in item["methods"]))
    fig, ax = plt.subplots(figsize=(8.2, 4.4), constrained_layout=True)
    colors = plt.get_cmap("viridis")(np.linspace(0, 0.92, len(compared)))
    marks = "osD^v"
    for k, (item, color) in enumerate(zip(compared, colors, strict=True)):
        for row, method in enumerate(methods):
            ratio = item["methods"].get(method, {}).get("ratio", np.nan)
            label = item["name"] if row == 0 else None
            at = row + 0.13 * (k - 2)
            ax.plot(ratio, at, marks[k % 5], color=color, label=label, ms=6, mec="white", mew=0.4)
    ax.axvline(1, color="0.3", lw=1)
    ax.set_xscale("log")
    ax.set_xlim(0.8, 60)
    ax.set_xticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    ax.minorticks_off()
    ax.set_yticks(range(len(methods)), methods, fontsize=8)
    ax.set_ylim(len(methods) - 0.5, -0.5)
    ax.grid(axis="x", color="0.92")
    for row in range(len(methods) - 1):
        ax.axhline(row + 0.5, color="0.9", lw=0.6)
    ax.set_axisbelow(True)
    ax.set_xlabel("scatter of the position over the Cramér-Rao bound")
    ax.legend(fontsize=8, loc="lower right", framealpha=1)
    fig.savefig(path, dpi=110)
    plt.close(fig)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=4000)
    parser.add_argument("--response", type=int, default=800)
    parser.add_argument("--peers", type=int, default=250)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", default="", help="part of the names of cases")
    parser.add_argument("--resume", action="store_true", help="keep cases that are in --out")
    parser.add_argument("--out", type=Path, default=Path("build/centres"))
    wish = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("tso_level3").setLevel(logging.ERROR)
    wish.out.mkdir(parents=True, exist_ok=True)
    names = [n for n in CASES if wish.only in n and ("real" not in n or data_folder() is not None)]
    content: dict[str, Any] = {"frames": wish.frames, "seed": wish.seed, "machine": MACHINE}
    content |= {"wavefront_nm": 1e9 * WAVEFRONT, "cases": [], "responses": [], "compared": []}
    if wish.resume and (wish.out / "centres.json").exists():
        content = json.loads((wish.out / "centres.json").read_text(encoding="utf-8"))

    def missing(part: str, name: str) -> bool:
        return all(item["name"] != name for item in content[part])

    for name in names:
        if name in PEER_CASES and missing("compared", name):
            content["compared"].append(compare(name, wish.peers, seed=wish.seed))
        if missing("cases", name):
            content["cases"].append(judge_case(name, wish.frames, seed=wish.seed))
        if missing("responses", name):
            content["responses"].append(response(name, wish.response, seed=wish.seed))
        for even in (key for key, value in EVEN.items() if value[0] == name):
            if missing("responses", even):
                content["responses"].append(response(even, wish.response, seed=wish.seed))
        log.info("%s is done", name)
        write_json(wish.out / "centres.json", content)
    for item in content["compared"]:
        limit = KERNEL_ALONE.get(item["name"])
        if limit is not None:
            alone = item["methods"]["computed kernel alone, weighted fit"]["ratio"]
            item["kernel_holds"] = bool(alone <= limit)
    write_json(wish.out / "centres.json", content)
    (wish.out / "centres.md").write_text(tables(content), encoding="utf-8")
    figure(content, wish.out / "centres.png")
    log.info("%s", tables(content))
    held = all(r["holds"] for r in content["cases"] + content["responses"])
    held &= all(item.get("kernel_holds", True) for item in content["compared"])
    return 0 if held else 1


if __name__ == "__main__":
    raise SystemExit(main())
