"""Peak anonymous memory of a run, above imports, for exposures of different length.

    python benchmarks/memory.py [--frames 1000,10000] [--folder FOLDER] [--json FILE]

Pages of files do not count: they are the system's to take back. Each figure is from a process of
its own.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"

MB = 1e6


def anonymous() -> int:
    """Anonymous resident memory of this process [byte]; Linux only."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    raise SystemExit("/proc/self/status: no RssAnon found, expected it (Linux 4.5 or later)")


def give_back() -> None:
    """Let the C library give back what it keeps of freed memory, which would hide what is used."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class Peak:
    """Watches the memory from a thread while the context lasts."""

    def __enter__(self) -> Peak:
        give_back()
        self.base = self.peak = anonymous()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._end.wait(0.002):
            self.peak = max(self.peak, anonymous())

    def __exit__(self, *problem: object) -> None:
        self._end.set()
        self._thread.join()
        self.peak = max(self.peak, anonymous())

    @property
    def above(self) -> float:
        """What was needed beyond what was there before [MB]."""
        return (self.peak - self.base) / MB


def size_of(model: Any) -> float:
    """Bytes of the tables and images of a product [MB]."""
    tables = (model.light_curve, model.apertures, model.grid, model.events)
    total = sum(table[name].nbytes for table in tables for name in table.colnames)
    return total / MB


def _imports() -> None:
    """Load what a run loads, libraries of others included."""
    import numpy as np

    import tso_level3
    from tso_level3.config.settings import Settings

    y, x = np.mgrid[:40, :40]
    star = 1e4 * np.exp(-0.5 * ((x - 20) ** 2 + (y - 20) ** 2))
    cube = star + np.random.default_rng(1).normal(size=(8, 40, 40))
    settings = Settings(radii=(3.0,), radius_inner=10.0, radius_outer=18.0)
    with tempfile.TemporaryDirectory() as folder:
        tso_level3.measure(cube, settings).save(str(Path(folder) / "warm_phot.asdf"))


def one(path: str, side: int) -> dict[str, float]:
    """Measure a file by its path and save the product."""
    from jobs import JOBS

    from tso_level3.product import model as product
    from tso_level3.readers.open import open_exposure
    from tso_level3.run.measure import run

    _imports()
    job = JOBS["W1"]
    settings = job.settings() if side == job.side else job.settings(radius_outer=None)
    with Peak() as peak, tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        exposure = open_exposure(path, settings)
        result = run(exposure, settings)
        run_peak = (peak.peak - peak.base) / MB
        model = product.build(result, take=True)
        model.save(str(Path(folder) / "own_phot.asdf"))
        took = time.perf_counter() - began
    product_size = size_of(model)
    return {
        "frames": exposure.n_int,
        "file_mb": Path(path).stat().st_size / MB,
        "run_mb": run_peak,
        "peak_mb": peak.above,
        "product_mb": product_size,
        "seconds": took,
    }


def opened(path: str) -> dict[str, float]:
    """Measure a file that is open as a data model: its arrays must not be copied."""
    from jobs import JOBS
    from peers import open_cube_model

    from tso_level3.readers.open import open_exposure
    from tso_level3.run.measure import run

    _imports()
    model = open_cube_model(Path(path))
    held = (model.data.nbytes + model.err.nbytes + model.dq.nbytes) / MB
    settings = JOBS["W1"].settings()
    with Peak() as peak:
        exposure = open_exposure(model, settings)
        run(exposure, settings)
    return {"frames": exposure.n_int, "arrays_mb": held, "peak_mb": peak.above}


def wide(n_int: int, shape: tuple[int, int]) -> dict[str, float]:
    """Measure a small star in wide frames that are read from a file."""
    import numpy as np
    from astropy.io import fits
    from jobs import JOBS

    from tso_level3.readers.open import open_exposure
    from tso_level3.run.measure import run

    _imports()
    ny, nx = shape
    y, x = np.mgrid[:ny, :nx]
    star = 3e5 / (2 * np.pi) * np.exp(-0.5 * ((x - nx // 3) ** 2 + (y - ny // 2) ** 2)) + 20
    rng = np.random.default_rng(2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wide.fits"
        frames = np.empty((n_int, ny, nx), ">f4")
        for frame in frames:
            frame[:] = star + np.sqrt(star) * rng.normal(size=star.shape)
        images = [fits.PrimaryHDU(), fits.ImageHDU(frames, name="SCI")]
        images.append(fits.ImageHDU(np.sqrt(np.maximum(frames, 1.0)), name="ERR"))
        fits.HDUList(images).writeto(path)
        del frames, images
        settings = JOBS["W1"].settings(position=(nx / 3, ny / 2))
        with Peak() as peak:
            exposure = open_exposure(str(path), settings)
            run(exposure, settings)
        return {
            "frames": n_int,
            "file_mb": path.stat().st_size / MB,
            "frame_mb": 4 * ny * nx / MB,
            "peak_mb": peak.above,
        }


def _apart(kind: str, *arguments: object) -> dict[str, float]:
    """Run one of the cases in a process of its own."""
    code = f"import json, memory; print(json.dumps(memory.{kind}(*{list(arguments)!r})))"
    folder = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([folder, *sys.path])},
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Run the benchmark."""
    from jobs import JOBS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", default="1000,10000", help="integrations, by commas")
    parser.add_argument("--folder", type=Path, help="where the files are kept; else temporary")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    out: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        paths = {}
        for number in map(int, options.frames.split(",")):
            job = dataclasses.replace(JOBS["W1"], n_int=number)
            paths[number] = str(job.file(folder))
            out[f"by path, {number} x 64 x 64"] = _apart("one", paths[number], 64)
        longest = max(paths)
        out[f"open model, {longest} x 64 x 64"] = _apart("opened", paths[longest])
        out["by path, 60 x 256 x 2048"] = _apart("wide", 60, (256, 2048))
    for title, found in out.items():
        print(title + ": " + ", ".join(f"{name} {value:.1f}" for name, value in found.items()))
    if options.json:
        options.json.write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
