"""Time a run from file to product, side by side with other ways to do it.

    python benchmarks/speed.py [--jobs W1,W2,W3] [--fraction 1] [--repeats 5] [--stages]

Everything runs on one thread, interleaved, so that a busy machine slows all alike; figures are
medians of processor time. The files (5 GB at full size) are written once, into ``--folder``.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from jobs import Job, jobs_of
from peers import PEERS, Frames, installed, open_cube_model, silence
from stages import Stages

from tso_level3.product import model as product
from tso_level3.readers.open import open_exposure
from tso_level3.run import batches
from tso_level3.run import measure as run

OWN = {"fixed centre": {}, "moving centre": {"moving_centroid": True}}
ALL = "official step, all radii"
#: What is done once a run, and what these parts are called in `tso_level3.run.measure`.
ONCE = {"first look": "first_look", "integrations": "_measure_all", "judge": "judge"}


class Clock:
    """Adds up processor and wall time by name."""

    def __init__(self) -> None:
        self.cpu: dict[str, float] = defaultdict(float)
        self.wall: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time what is done inside the context."""
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            yield
        finally:
            self.cpu[name] += time.process_time() - cpu
            self.wall[name] += time.perf_counter() - wall


@contextlib.contextmanager
def _watched(clock: Clock) -> Iterator[None]:
    """Time the parts of a run from outside."""
    kept = {name: getattr(run, name) for name in ONCE.values()}

    def timed(title: str, function: Any) -> Any:
        def inner(*args: Any, **options: Any) -> Any:
            with clock(title):
                return function(*args, **options)

        return inner

    for title, name in ONCE.items():
        setattr(run, name, timed(title, kept[name]))
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(run, name, function)


def _forget() -> None:
    """Empty all caches, so that every run makes its kernel as the first of a process does."""
    for name, module in list(sys.modules.items()):
        if name.startswith("tso_level3"):
            for item in list(vars(module).values()):
                if hasattr(item, "cache_clear"):
                    item.cache_clear()


def own_run(path: Path, job: Job, changes: dict[str, Any]) -> Clock:
    """Measure a file and save the product."""
    _forget()
    gc.collect()
    clock, settings = Clock(), job.settings(**changes)
    with tempfile.TemporaryDirectory() as folder, clock("all"), _watched(clock):
        with clock("open"):
            exposure = open_exposure(str(path), settings)
        with clock("run"):
            result = run.run(exposure, settings)
        with clock("build"):
            model = product.build(result)
        with clock("save"):
            model.save(str(Path(folder) / "own_phot.asdf"))
    for times in (clock.cpu, clock.wall):
        times["once"] = times["all"] - times["integrations"]
        times["layout"] = times.pop("run") - sum(times[title] for title in ONCE)
    return clock


def peer_run(name: str, path: Path, job: Job, turn: int, count: int) -> float:
    """Run a peer on some frames, others each turn: processor seconds an integration."""
    count = min(count, job.n_int)
    start = (turn * count) % max(job.n_int - count, 1)
    loop = PEERS[name][0](Frames(path, job, start, start + count))
    gc.collect()
    began = time.process_time()
    loop()
    return (time.process_time() - began) / count


def opening(path: Path, job: Job) -> float:
    """Open the whole file as a data model: processor seconds an integration."""
    began = time.process_time()
    model = open_cube_model(path)
    took = (time.process_time() - began) / job.n_int
    model.close()
    return took


def compare(job: Job, path: Path, repeats: int, peers: list[str]) -> dict[str, Any]:
    """Run everything on a job, in turns."""
    own: dict[str, list[Clock]] = {name: [] for name in OWN}
    others: dict[str, list[float]] = {name: [] for name in peers}
    for name in peers:
        peer_run(name, path, job, 0, 2)
    own_run(path, job, {})
    opened = []
    for turn in range(repeats):
        for name, changes in OWN.items():
            own[name].append(own_run(path, job, changes))
        for name in peers:
            others[name].append(peer_run(name, path, job, turn, PEERS[name][1]))
        if peers:
            opened.append(opening(path, job))
    out: dict[str, Any] = {"job": job.size, "own": {}, "peers": {}}
    for name, values in others.items():
        out["peers"][name] = 1e3 * statistics.median(values)
    if opened:
        out["peers"]["opening as CubeModel"] = 1e3 * statistics.median(opened)
    for name, clocks in own.items():
        out["own"][name] = _summary(clocks, job, others.get(ALL))
    return out


def _summary(clocks: list[Clock], job: Job, official: list[float] | None) -> dict[str, Any]:
    pace = [clock.cpu["integrations"] / job.n_int for clock in clocks]
    whole = [clock.cpu["all"] / job.n_int for clock in clocks]
    titles = ("open", "first look", "judge", "layout", "build", "save", "once")
    out = {
        "ms": 1e3 * statistics.median(pace),
        "wall_ms": 1e3
        * statistics.median(clock.wall["integrations"] / job.n_int for clock in clocks),
        "ms_with_once": 1e3 * statistics.median(whole),
        "once_s": {
            title: statistics.median(clock.cpu[title] for clock in clocks) for title in titles
        },
    }
    if official:
        # Turn by turn: both ran on the same machine in the same seconds.
        out["ratio"] = statistics.median(o / p for o, p in zip(official, pace, strict=True))
        out["ratio_with_once"] = statistics.median(
            o / p for o, p in zip(official, whole, strict=True)
        )
    return out


def table(name: str, job: Job, found: dict[str, Any]) -> str:
    """Lay out what was found."""
    lines = [
        f"{name}: {found['job']}",
        f"{'':34s}{'ms/integration':>15s}{'faster':>9s}{'needed':>8s}",
    ]
    base = found["peers"].get(ALL)
    for title, value in found["peers"].items():
        lines.append(f"{title:36s}{value:15.4f}" + (f"{base / value:9.2f}" if base else ""))
    for k, (title, own) in enumerate(found["own"].items()):
        ratio = f"{own['ratio']:9.0f}{job.required[k]:8d}" if "ratio" in own else ""
        lines.append(f"{'this package, ' + title:36s}{own['ms']:15.4f}{ratio}")
        once = ", ".join(f"{part} {seconds:.2f}" for part, seconds in own["once_s"].items())
        lines.append(f"    once a run [s]: {once}; with them {own['ms_with_once']:.4f} ms")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", default="W1,W2,W3", help="which, separated by commas")
    parser.add_argument("--fraction", type=float, default=1.0, help="of the integrations")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the files are kept; else temporary")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--stages", action="store_true", help="show where the time goes instead")
    parser.add_argument("--no-peers", action="store_true", help="this package alone")
    options = parser.parse_args()
    silence()
    peers = [] if options.no_peers else [name for name in PEERS if installed(name)]
    out: dict[str, Any] = {"machine": platform.machine(), "numpy": np.__version__}
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for job in jobs_of(options.jobs, options.fraction):
            path = job.file(folder)
            path.read_bytes()  # into the page cache
            if options.stages:
                for title, changes in OWN.items():
                    own_run(path, job, changes)
                    with Stages() as stages:
                        clock = own_run(path, job, changes)
                    pace = 1e3 * clock.cpu["integrations"] / job.n_int
                    shares = stages.table(job.n_int, batches.work.__qualname__)
                    print(f"{job.name}, {title}: {pace:.4f} ms an integration\n{shares}\n")
                continue
            out[job.name] = compare(job, path, options.repeats, peers)
            print(table(job.name, job, out[job.name]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
