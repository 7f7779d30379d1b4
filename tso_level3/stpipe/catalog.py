"""Makes the table of the official product, with celestial positions from the input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tso_level3.readers.jwst import sky_position

if TYPE_CHECKING:
    from astropy.table import QTable

    from tso_level3.datatypes import Exposure
    from tso_level3.product.model import TSOLightCurveModel

__all__ = ["for_stacking", "official_table"]


def official_table(model: TSOLightCurveModel, exposure: Exposure) -> QTable:
    """Make the table that jwst's step writes.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product; it has no world coordinates.
    exposure : Exposure
        The measured exposure, for its world coordinates.

    Returns
    -------
    astropy.table.QTable
        ``model.to_qtable()`` with the celestial position of the apertures.
    """
    table = model.to_qtable()
    ra, dec = table["aperture_ra_icrs"], table["aperture_dec_icrs"]
    if np.isfinite(ra).any():
        return table
    x, y = (np.array(table[f"aperture_{axis}"].value, dtype=float) for axis in "xy")
    found = np.isfinite(x) & np.isfinite(y)
    if not found.any():
        return table
    middle = float(np.median(x[found])), float(np.median(y[found]))
    sky = [
        sky_position(exposure, middle[0] + right, middle[1] + up)
        for right, up in ((0, 0), (1, 0), (0, 1))
    ]
    if None in sky:
        return table
    # Over the star's motion of parts of a pixel, distortion is far below a micro-arcsecond.
    origin, along_x, along_y = np.array(sky)
    steps = np.stack([along_x - origin, along_y - origin])
    steps[:, 0] = (steps[:, 0] + 180.0) % 360.0 - 180.0
    places = origin + np.column_stack([x - middle[0], y - middle[1]]) @ steps
    table["aperture_ra_icrs"] = (places[:, 0] % 360.0) << ra.unit
    table["aperture_dec_icrs"] = places[:, 1] << dec.unit
    return table


def for_stacking(table: QTable) -> QTable:
    """Prepare a table for `astropy.table.vstack`: plain metadata, equal units.

    Parameters
    ----------
    table : astropy.table.QTable
        The table of one segment; it is changed.

    Returns
    -------
    astropy.table.QTable
        The same table.
    """
    plain = (str, int, float, bool, type(None))
    table.meta = {key: value for key, value in table.meta.items() if isinstance(value, plain)}
    for name in ("annulus_sum", "annulus_mean", "aperture_bkg"):
        for column in (name, f"{name}_err"):
            # It has none in a segment whose primary aperture is the fit.
            if table[column].unit is None:
                table[column] = np.asarray(table[column]) << table["net_aperture_sum"].unit
    return table
