"""What is quoted where noise does not decide: the user's, a visit's, or the mode's aperture."""

from __future__ import annotations

from tso_level3.core.geometry import Geometry
from tso_level3.modes import Mode
from tso_level3.quality.apertures import Wish
from tso_level3.settings import Settings

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
    quoted = _quoted(settings.aperture_from)
    changes = {"choose_aperture": False}
    for name in ("radius", "radius_inner", "radius_outer"):
        if quoted.get(name) is not None:
            changes[name] = float(quoted[name])
    if settings.radii is None and "radius" in changes:
        changes["radii"] = (changes["radius"],)
    return settings.replace(**changes)


def _quoted(path: str) -> dict:
    from tso_level3.product import open as open_product

    return dict(open_product(path).meta.tso_level3.instance["quoted"])


def wish_of(settings: Settings, mode: Mode, geometry: Geometry) -> Wish:
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
    Wish
        Kind and radius, and whether noise may decide.
    """
    kind, reason = "aperture", "radius of the observing mode"
    choose = settings.choose_aperture
    if settings.aperture_from is not None:
        kind = "psf" if _quoted(settings.aperture_from).get("kind") == "psf" else "aperture"
        reason, choose = "aperture of another product", False
    elif settings.radius is not None:
        reason = "radius of the settings"
    elif mode.fills_frame:
        kind, reason = "psf", "the image fills the frame"
    return Wish(kind, geometry.radius, choose, reason)
