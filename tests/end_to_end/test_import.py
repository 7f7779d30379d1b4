"""The package's surface: light to import, every public name there."""

import subprocess
import sys

import pytest

import tso_level3

HEAVY = ("numpy", "astropy", "jwst", "stdatamodels", "scipy", "pandas", "matplotlib", "asdf")


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, tso_level3, tso_level3._integration as i; i.get_steps();"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_a_run_loads_nothing_that_it_does_not_use():
    """Used to: the smoothing of the sky took half a second to load all of scipy.signal."""
    heavy = ("scipy.signal", "scipy.stats", "pandas", "matplotlib", "asdf", "jwst", "stdatamodels")
    code = f"import sys, tso_level3.run.measure; print([m for m in {heavy!r} if m in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("name", [name for name in tso_level3.__all__ if name != "__version__"])
def test_every_public_name_is_there(name):
    assert getattr(tso_level3, name).__doc__


def test_a_public_name_is_no_module():
    # used to: a module of the same name took the place of the function
    import tso_level3.config.settings  # noqa: F401

    assert callable(tso_level3.parameters)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tso_level3.nothing


def test_modules_are_attributes():
    """Used to be an attribute error unless something else had loaded the module."""
    code = (
        "import sys, tso_level3; assert 'tso_level3.flags' not in sys.modules;"
        "assert tso_level3.flags.names(16384) == ['MISSING_IN_APERTURE'];"
        "assert callable(tso_level3.plots.light_curve) and callable(tso_level3.report.write);"
        "assert 'plots' in dir(tso_level3); print('matplotlib' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"
