"""What is quoted where noise does not decide: the user's, a visit's, or the mode's aperture."""

from __future__ import annotations

import numpy as np

from tso_level3.config.modes import Mode
from tso_level3.config.settings import Settings
from tso_level3.planning.geometry import Geometry
from tso_level3.quality.choice import AperturePreference

__all__ = ["wish_of", "with_aperture_of"]


def with_aperture_of(settings: Settings) -> Settings:
    """Take radius and annulus from another product where the settings say so.

    Parameters
    ----------
    settings : Settings
        The parameters.

    Returns
    -------
    Settings
        The same, or with the other product's aperture in place of a choice.

    Raises
    ------
    ValueError
        The other file is no product.
    """
    if settings.aperture_from is None:
        return settings
    other = _facts(settings.aperture_from)
    quoted = other["quoted"]
    changes = {"choose_aperture": False}
    for name in ("background", "background_stat"):
        changes[name] = other["settings"][name]
    for name in ("radius", "radius_inner", "radius_outer"):
        # The frame as background has no outer radius.
        if quoted.get(name) is not None and np.isfinite(quoted[name]):
            changes[name] = float(quoted[name])
    if settings.radii is None and "radius" in changes:
        changes["radii"] = (changes["radius"],)
    return settings.replace(**changes)


def _facts(path: str) -> dict:
    from tso_level3.product.model import open as open_product

    return dict(open_product(path).meta.tso_level3.instance)


def wish_of(settings: Settings, mode: Mode, geometry: Geometry) -> AperturePreference:
    """Say what is quoted unless noise decides otherwise.

    Parameters
    ----------
    settings : Settings
        The parameters.
    mode : Mode
        The observing mode.
    geometry : Geometry
        Radii and annuli.

    Returns
    -------
    AperturePreference
        Kind and radius, and whether noise may decide.
    """
    kind, reason = "aperture", "radius of the observing mode"
    choose, fixed = settings.choose_aperture, False
    listed = settings.radii is not None
    if settings.aperture_from is not None:
        kind = str(_facts(settings.aperture_from)["quoted"]["kind"])
        reason, choose = "aperture of another product", False
    elif settings.radius is not None:
        reason, fixed = "radius of the settings", True
    elif mode.fills_frame and not geometry.annuli and not listed:
        # A sum of the frame moves with the star across its edges, and there is no sky beside it.
        kind, reason = "psf", "the image fills the frame"
    elif not np.isclose(geometry.radius, mode.radius):
        reason = "radius nearest to that of the observing mode"
    return AperturePreference(kind, geometry.radius, choose, reason, fixed, listed)
