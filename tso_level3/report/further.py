"""The further products that the settings ask for: catalog, FITS tables and plot."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tso_level3.config.settings import Settings
from tso_level3.product import catalog

if TYPE_CHECKING:
    from astropy.table import QTable

    from tso_level3.product.model import TSOLightCurveModel

__all__ = ["ENDINGS", "check_packages", "save_further"]

#: Ending of the file of each setting.
ENDINGS = {"save_catalog": "ecsv", "save_fits": "fits", "save_plots": "png"}


def check_packages(settings: Settings) -> None:
    """Check, before a run, that the packages for the further products are installed.

    Parameters
    ----------
    settings : Settings
        The settings in effect.

    Raises
    ------
    ImportError
        A package is missing.
    """
    if settings.save_plots and importlib.util.find_spec("matplotlib") is None:
        raise ImportError(
            "save_plots: matplotlib not found, expected it for plots; "
            'install it with pip install "tso_level3[report]"'
        )


def save_further(
    model: TSOLightCurveModel,
    settings: Settings,
    path_of: Callable[[str], str | None],
    *,
    table: QTable | None = None,
) -> Iterator[tuple[str, str]]:
    """Save the further products.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.
    settings : Settings
        With ``save_catalog``, ``save_fits`` and ``save_plots``.
    path_of : callable
        Returns the file for a setting; None to leave it out.
    table : astropy.table.QTable, optional
        The catalog; by default that of the product.

    Yields
    ------
    (str, str)
        The setting and the file that was written.
    """
    for name in ENDINGS:
        path = path_of(name) if getattr(settings, name) else None
        if path is None:
            continue
        if name == "save_catalog":
            catalog.write(model.to_qtable() if table is None else table, path)
        elif name == "save_fits":
            model.to_fits(path)
        else:
            from tso_level3.report.plots import light_curve

            light_curve(model, path)
        yield name, path
