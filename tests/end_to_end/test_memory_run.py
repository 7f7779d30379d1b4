"""Memory does not grow with the number of frames, but by what the product holds of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import level2

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs /proc to tell a file's pages from memory"
)

# One file stands for many segments: the frames are read from it again and again.
_REPEATED = """
import dataclasses, json, sys
import numpy as np
import memory
from tso_level3.product import model as product
from tso_level3.run import measure as runs
from tso_level3.datatypes import Times
from tso_level3.readers.open import open_exposure
from tso_level3.config.settings import Settings

memory._imports()
settings = Settings(radii=tuple(range(2, 14)), radius_inner=16.0, radius_outer=26.0)
short = open_exposure(sys.argv[1], settings)

def of(n):
    copies = n // short.n_int
    times = Times(60000 + np.arange(n) / 86400, np.full(n, np.nan), "given",
                  np.zeros(n, np.uint32))
    return dataclasses.replace(
        short, segments=short.segments * copies, times=times,
        integration=np.arange(1, n + 1), segment=np.ones(n, int))

def peak_of(exposure):
    with memory.Peak() as peak:
        model = product.build(runs.run(exposure, settings), take=True)
    return peak.above, memory.size_of(model)

whole = peak_of(of(1000))
# The first look is the same for all; without it the rest shows how it grows.
found = runs.first_look(short, settings)
runs.first_look = lambda *args, **options: found
print(json.dumps([whole, peak_of(of(8000)), peak_of(of(40000))]))
"""

_WIDE = """
import json, sys
import memory
from tso_level3.product import model as product
from tso_level3.readers.open import open_exposure
from tso_level3.run.measure import run
from tso_level3.config.settings import Settings

memory._imports()
settings = Settings(radii=(3.0, 20.0, 70.0), radius_inner=80.0, radius_outer=118.0, subframe=41)
with memory.Peak() as peak:
    product.build(run(open_exposure(sys.argv[1], settings), settings))
print(json.dumps(peak.above))
"""


def _measured(code, path):
    """What a process of its own prints."""
    folders = os.pathsep.join([str(ROOT / "benchmarks"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, "PYTHONPATH": folders, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_memory_grows_with_the_product_alone(tmp_path):
    """Used to need 591 MB for 100,000 integrations: growth is what tells, not a short run."""
    path = level2.write(tmp_path, n_int=200, bad_random=2e-4, cosmic_rays=0.3).segments[0]
    (whole, _), (few, small), (many, large) = _measured(_REPEATED, path)
    assert whole < 100
    size = (large - small) / 32_000
    growth = (many - few) / 32_000
    assert few + growth * 92_000 < 100 + size * 100_000


def test_a_large_box_is_looked_at_in_little_memory(tmp_path):
    """Used to need 262 MB: the sample in six planes, and several copies of it."""
    path = level2.write(
        tmp_path, n_int=60, shape=(240, 240), bad_random=2e-4, cosmic_rays=5.0
    ).segments[0]
    assert _measured(_WIDE, path) < 110
