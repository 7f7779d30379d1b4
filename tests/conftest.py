"""Fixtures that several test files share."""

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# No test may depend on a calibration server, or wait for one.
for name in ("CRDS_PATH", "CRDS_SERVER_URL", "STPIPE_DISABLE_CRDS_STEPPARS"):
    os.environ.pop(name, None)


# A shell has its background jobs ignore Ctrl-C, and what they start ignores it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption(
        "--all-broken-files",
        action="store_true",
        help="try every damaged file of tests/unit/readers/test_broken_files.py, not a sample",
    )


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real images and reference PSFs; the test is skipped where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TSO_LEVEL3_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder}")
    return folder
