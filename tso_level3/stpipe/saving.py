"""Saves the files that ``save_catalog``, ``save_fits`` and ``save_plots`` ask for."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tso_level3.utils.atomic import replacing

if TYPE_CHECKING:
    from astropy.table import QTable

    from tso_level3.product.model import TSOLightCurveModel

__all__ = ["check_plots", "save_further", "save_table"]

log = logging.getLogger(__name__)

#: Parameter, ending of its file, and what the log calls it.
_FURTHER = (
    ("save_catalog", ".ecsv", "TSO photometry catalog"),
    ("save_fits", ".fits", "light curve"),
    ("save_plots", ".png", "plot"),
)


def check_plots(parameters: Any, option: str = "save_plots") -> None:
    """Check, before the measurement, that plots can be drawn where they are asked for.

    Parameters
    ----------
    parameters : Settings or step
        Its ``save_plots`` counts.
    option : str
        Name of the parameter in the error.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    if parameters.save_plots and importlib.util.find_spec("matplotlib") is None:
        raise ImportError(
            f"{option}: matplotlib not found, expected it for plots; install it with"
            ' pip install "tso_level3[report]"'
        )


def save_table(table: QTable, path: str | os.PathLike) -> None:
    """Write a table as ECSV, whole or not at all.

    Parameters
    ----------
    table : astropy.table.QTable
        The table.
    path : str or path-like
        The file; one that exists is replaced.
    """
    with replacing(path) as temporary:
        table.write(temporary, format="ascii.ecsv", overwrite=True)


def save_further(
    model: TSOLightCurveModel,
    parameters: Any,
    path_of: Callable[[str], str | os.PathLike | None],
    table: QTable | None = None,
) -> list[Path]:
    """Save the files beside the product that parameters ask for.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.
    parameters : Settings or step
        Its ``save_catalog``, ``save_fits`` and ``save_plots`` count.
    path_of : callable
        Takes the ending of a file and returns its path, or None to leave the file out.
    table : astropy.table.QTable, optional
        The catalog; by default ``model.to_qtable()``.

    Returns
    -------
    list of Path
        The files.
    """
    saved = []
    for name, ending, words in _FURTHER:
        path = path_of(ending) if getattr(parameters, name) else None
        if path is None:
            continue
        if name == "save_catalog":
            save_table(model.to_qtable() if table is None else table, path)
        elif name == "save_fits":
            model.to_fits(path)
        else:
            from tso_level3.report.plots import light_curve

            light_curve(model, path)
        log.info("Wrote %s: %s", words, path)
        saved.append(Path(path))
    return saved
