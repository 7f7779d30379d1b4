"""Primary aperture to use unless noise decides otherwise: of the user, a product or the mode."""

from __future__ import annotations

import numpy as np

from tso_level3.config.modes import Mode
from tso_level3.config.settings import Settings
from tso_level3.planning.geometry import Geometry
from tso_level3.quality.choice import AperturePreference

__all__ = ["preference_of"]


def preference_of(
    settings: Settings, mode: Mode, geometry: Geometry, *, lent_kind: str | None = None
) -> AperturePreference:
    """Give the primary aperture, and whether noise may decide otherwise.

    Parameters
    ----------
    settings : Settings
        The parameters.
    mode : Mode
        The observing mode.
    geometry : Geometry
        Radii and annuli.
    lent_kind : str, optional
        Kind of the primary light curve of the product that `aperture_from` names.

    Returns
    -------
    AperturePreference
        Kind, radius and reason.
    """
    kind, reason = "aperture", "radius of the observing mode"
    listed = settings.radii is not None
    if lent_kind is not None:
        kind, reason = lent_kind, "aperture of another product"
    elif settings.radius is not None:
        reason = "radius of the settings"
    elif mode.fills_frame and not geometry.annuli and not listed:
        # A sum of the frame moves with the star across its edges, and there is no sky beside it.
        kind, reason = "psf", "the image fills the frame"
    elif not np.isclose(geometry.radius, mode.radius):
        reason = "radius nearest to that of the observing mode"
    return AperturePreference(
        kind=kind,
        radius=geometry.radius,
        choose=settings.choose_aperture,
        reason=reason,
        fixed=settings.radius is not None and lent_kind is None,
        listed=listed,
    )
