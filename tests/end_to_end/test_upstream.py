"""jwst's own tests of the step and of its pipeline, with our classes in the place of theirs.

With theirs, and the small cache of these tests, all pass but those of `NEEDS_REFERENCES`; with ours
also those of `ON_PURPOSE` do not. Two things are bridged by `upstream_plugin`: alone, our step
returns a model where theirs returns a table, and our lines stand in our own loggers. The sums are
compared by their tests to 1e-7.
"""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests import small_crds

pytestmark = pytest.mark.slow

STEP, PIPELINE = "test_tso_photometry_step", "test_calwebb_tso3"

#: They need NIRISS reference files, and fail without them with jwst's classes too.
NEEDS_REFERENCES = {
    f"{PIPELINE}::test_niriss_soss",
    f"{PIPELINE}::test_niriss_soss_full",
    f"{PIPELINE}::test_niriss_soss_superstripe",
    f"{PIPELINE}::test_tso3_single_model_input",
    f"{PIPELINE}::test_tso3_model_blender",
}

#: What we do in another way, and why.
ON_PURPOSE = {
    f"{STEP}::test_tsophotometry_step_missing_values[xref]": "the frame's centre is taken",
    f"{STEP}::test_tsophotometry_step_missing_values[yref]": "the frame's centre is taken",
    f"{STEP}::test_tsophotometry_step_missing_values[bunit_data]": "pixels without a unit are used",
    f"{STEP}::test_tsophotometry_step_missing_values[bunit_err]": "ERR has the unit of SCI",
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Name of each test to whether it passed."""
    folder = tmp_path_factory.mktemp("upstream")
    environment = os.environ | small_crds.environment(small_crds.make_cache(folder / "crds"))
    environment |= {
        "TSO_LEVEL3_UPSTREAM": "ours",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    report = folder / "report.xml"
    options = ["-q", "-p", "no:cacheprovider", "-p", "tests.upstream_plugin"]
    options += [f"--junitxml={report}", "-k", "not soss and not single_model and not blender"]
    packages = ["jwst.tso_photometry.tests", "jwst.pipeline.tests.test_calwebb_tso3"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--pyargs", *packages],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert report.exists(), done.stdout[-2000:] + done.stderr[-2000:]
    return {
        f"{case.get('classname').rpartition('.')[2]}::{case.get('name')}": (
            case.find("failure") is None and case.find("error") is None
        )
        for case in ElementTree.parse(report).iter("testcase")
    }


def test_all_of_them_ran(outcomes):
    """Those of jwst 3.0: 21 of the functions, 12 of the step, 3 of the pipeline."""
    assert len(outcomes) >= 36
    assert not NEEDS_REFERENCES & set(outcomes)
    assert set(ON_PURPOSE) < set(outcomes)


def test_they_pass(outcomes):
    assert [
        name for name, passed in outcomes.items() if not passed and name not in ON_PURPOSE
    ] == []


def test_the_list_of_differences_is_up_to_date(outcomes):
    assert [name for name in ON_PURPOSE if outcomes[name]] == []
