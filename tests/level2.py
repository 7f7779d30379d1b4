"""Level-2 files for the tests of step and pipeline: small, quick, of known truth."""

from tso_level3.simulate import simulate_files, simulation

N_INT = 24
FLUX = 3e5


def write(folder, **changes):
    """Write a focused NIRCam exposure of 24 integrations."""
    return simulate_files(sim(**changes), folder)


def sim(**changes):
    """Its settings."""
    return simulation("F210M", **{"n_int": N_INT, "flux": FLUX, "transit_depth": 0.0, **changes})


def in_jy(files):
    """Flux of the star [Jy], from the settings of the simulation."""
    return files.simulation.flux * files.simulation.jy_per_electron
