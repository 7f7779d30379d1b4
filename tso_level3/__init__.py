"""Light curves from JWST imaging time series.

Importing this package imports nothing else: every public name is fetched when it is first used,
since stpipe and asdf look into every installed package when they start.
"""

from importlib import import_module
from typing import Any

from tso_level3._version import __version__

_NAMES = {
    "DQ_BITS": "flags",
    "Flag": "flags",
    "Settings": "config.settings",
    "TSOLevel3Pipeline": "stpipe.pipeline",
    "TSOLightCurveModel": "product.model",
    "TSOPhotometryStep": "stpipe.step",
    "crlb": "quality.crlb",
    "measure": "run.measure",
    "open": "product.model",
    "parameters": "config.parameter_files",
    "photometry": "run.measure",
    "simulate_files": "simulate",
    "simulation": "simulate",
}

#: Modules that are attributes too.
_MODULES = {
    "columns": "columns",
    "flags": "flags",
    "plots": "report.plots",
    "report": "report",
    "simulate": "simulate",
}

__all__ = ["__version__", *_NAMES, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"tso_level3.{_MODULES[name]}")
    if name not in _NAMES:
        raise AttributeError(f"module 'tso_level3' has no attribute {name!r}")
    value = getattr(import_module(f"tso_level3.{_NAMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES, *_MODULES})
