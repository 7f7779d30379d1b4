"""Memory does not grow with the number of frames, but by what the product holds of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import level2

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs /proc to tell a file's pages from memory"
)

# One file stands for many segments: the frames are read from it again and again.
_CODE = """
import dataclasses, json, sys
import numpy as np
import memory
from tso_level3.frames import Times
from tso_level3.readers.front import open_exposure
from tso_level3 import product
from tso_level3.run import run
from tso_level3.settings import Settings

memory._imports()
settings = Settings(radii=(3.0, 5.0, 8.0), radius_inner=14.0, radius_outer=24.0)
short = open_exposure(sys.argv[1], settings)
out = []
for copies in (5, 20):
    n = copies * short.n_int
    times = Times(60000 + np.arange(n) / 86400, np.full(n, np.nan), "given",
                  np.zeros(n, np.uint32))
    exposure = dataclasses.replace(
        short, segments=short.segments * copies, times=times,
        integration=np.arange(1, n + 1), segment=np.ones(n, int))
    with memory.Peak() as peak:
        model = product.build(run(exposure, settings))
    out.append([n, peak.above, memory.size_of(model)])
    del exposure, model, times
print(json.dumps(out))
"""


def test_memory_grows_with_the_product_alone(tmp_path):
    """A thousand frames more are 49 MB of pixels; nothing near that may be held."""
    path = level2.write(tmp_path, n_int=200, bad_random=2e-4, cosmic_rays=0.3).segments[0]
    folders = os.pathsep.join([str(ROOT / "benchmarks"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", _CODE, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": folders, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    (few, first, small), (many, second, large) = json.loads(done.stdout.splitlines()[-1])
    assert (few, many) == (1000, 4000)
    assert first < 100 and second < 100
    # Parts, their merged whole and the product's own columns; allocators round up.
    assert second - first < 4 * (large - small) + 10
