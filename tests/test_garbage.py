"""Garbage is looked for when nothing else is done, and files are whole all the same."""

import gc
import subprocess
import sys

import pytest

from tso_level3.garbage import paused


def test_paused_and_again():
    assert gc.isenabled()
    with paused():
        assert not gc.isenabled()
        with paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_who_switched_it_off_keeps_it_off():
    gc.disable()
    try:
        with paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("start", ["from stpipe._cli.strun import main", "def main(): pass"])
@pytest.mark.parametrize("hooks", [[], ["builtins.print"]])
def test_only_a_command_without_hooks_ends_early(tmp_path, start, hooks):
    """Elsewhere it would lose what a script has not yet written to its files."""
    code = (
        f"import atexit; from tso_level3 import garbage, step\n{start}\n"
        "def function(): pass\n"
        "file = open('file', 'w'); file.write('whole')\n"
        f"one = step.TSOPhotometryStep(); one.post_hooks = {hooks}\n"
        "try: one.run('nothing.fits')\n"
        "except (SystemExit, OSError): pass\n"
        "print(garbage.leave_what_stays.cache_info().currsize)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True, text=True
    )
    early = "strun" in start and not hooks
    assert answer.stdout.split()[-1] == str(int(early))
    assert early or (tmp_path / "file").read_text() == "whole"


@pytest.mark.parametrize("start", ["from stpipe._cli.strun import main", "def main(): pass"])
def test_packages_are_left_alone_in_the_command_only(start):
    """In a script of users, what they made before would never be found to be garbage."""
    code = f"import gc, tso_level3\n{start}\ntso_level3.TSOPhotometryStep\n"
    code += "assert gc.isenabled(); print(gc.get_freeze_count())"
    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert (int(answer.stdout) > 1e5) == ("strun" in start)
