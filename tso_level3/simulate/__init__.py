"""Synthetic exposures with known truth, as arrays and as Level-2 files."""

from tso_level3.simulate.exposure import (
    SimulatedExposure,
    SimulatedFiles,
    SimulatedFrames,
    simulate_arrays,
    simulate_files,
    simulate_frames,
)
from tso_level3.simulate.images import Renderer
from tso_level3.simulate.scene import Scene, build_scene
from tso_level3.simulate.settings import PRESETS, Simulation, Tilt, simulation
from tso_level3.simulate.visits import timeline, visit

__all__ = [
    "PRESETS",
    "Renderer",
    "Scene",
    "SimulatedExposure",
    "SimulatedFiles",
    "SimulatedFrames",
    "Simulation",
    "Tilt",
    "build_scene",
    "simulate_arrays",
    "simulate_files",
    "simulate_frames",
    "simulation",
    "timeline",
    "visit",
]
