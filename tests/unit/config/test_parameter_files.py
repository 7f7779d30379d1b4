"""The parameter files of the package: they load, and hold what the modes measure with."""

import asdf
import pytest

from tso_level3.config.modes import mode_of
from tso_level3.config.parameter_files import parameters
from tso_level3.config.settings import fields_of
from tso_level3.datatypes import Optics
from tso_level3.stpipe.step import TSOPhotometryStep

MODES = {
    "nircam-focused": (Optics(instrument="NIRCAM", filter="F210M", pupil="CLEAR"), (64, 64)),
    "nircam-wlp8": (Optics(instrument="NIRCAM", filter="F210M", pupil="WLP8"), (160, 160)),
    "nircam-wlp8-sub64p": (Optics(instrument="NIRCAM", filter="F210M", pupil="WLP8"), (64, 64)),
    "nircam-wlp4": (Optics(instrument="NIRCAM", filter="WLP4", pupil="F212N"), (160, 160)),
    "miri": (Optics(instrument="MIRI", filter="F1500W"), (128, 136)),
}


@pytest.mark.parametrize("mode", MODES)
def test_file_makes_a_step(mode):
    with asdf.open(parameters(mode)) as file:
        written = dict(file["parameters"])
    step = TSOPhotometryStep.from_config_file(str(parameters(mode)))
    settings = step.settings()
    assert written
    for name, value in written.items():
        found = getattr(settings, name)
        assert (list(found) if isinstance(found, tuple) else found) == value
    untouched = {item.name: item.default for item in fields_of() if item.name not in written}
    assert {name: getattr(settings, name) for name in untouched} == untouched


@pytest.mark.parametrize("mode", MODES)
def test_values_are_those_of_the_mode(mode):
    """A file says what its mode takes without one; null leaves it to the mode."""
    optics, shape = MODES[mode]
    defaults = mode_of(optics, 4.4, shape)
    settings = TSOPhotometryStep.from_config_file(str(parameters(mode))).settings()
    assert defaults.name == mode
    assert settings.radius in (None, defaults.radius)
    assert settings.radius_inner in (None, defaults.inner)
    assert settings.radius_outer in (None, defaults.outer)
    assert settings.radii in (None, defaults.radii)
    assert (settings.background == "none") == defaults.fills_frame


def test_there_is_one_for_each_mode():
    assert {path.stem for path in parameters("miri").parent.glob("*.asdf")} == set(MODES)


def test_unknown_mode_is_one_sentence():
    with pytest.raises(ValueError, match="mode: 'nircam' found, expected one of miri, nircam-foc"):
        parameters("nircam")
