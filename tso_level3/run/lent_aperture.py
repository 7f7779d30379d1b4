"""Aperture and background of another product, in place of those of the settings."""

from __future__ import annotations

from typing import Any

import numpy as np

from tso_level3.config.settings import Settings

__all__ = ["with_lent_aperture"]


def with_lent_aperture(settings: Settings) -> tuple[Settings, str | None]:
    """Take radius, annulus and background from the product that `aperture_from` names.

    Parameters
    ----------
    settings : Settings
        The parameters.

    Returns
    -------
    (Settings, str or None)
        The settings in effect, and the kind of that product's primary light curve (aperture or
        psf); as they are, and None, without `aperture_from`.

    Raises
    ------
    ValueError
        The file is no product.
    """
    if settings.aperture_from is None:
        return settings, None
    from tso_level3.product.model import open as open_product

    record = open_product(settings.aperture_from).record
    primary = record.quoted
    changes: dict[str, Any] = {"choose_aperture": False}
    for name in ("background", "background_stat"):
        changes[name] = record.setting(name)
    for name in ("radius", "radius_inner", "radius_outer"):
        length = getattr(primary, name)
        # The frame as background has no outer radius.
        if length is not None and np.isfinite(length):
            changes[name] = float(length)
    if settings.radii is None and "radius" in changes:
        changes["radii"] = (changes["radius"],)
    return settings.replace(**changes), primary.kind
