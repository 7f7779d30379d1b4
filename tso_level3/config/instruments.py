"""Pixel scales, detector names and weak lenses of JWST's imagers."""

from __future__ import annotations

__all__ = ["DETECTOR_SCALES", "PIXEL_SCALES", "WEAK_LENSES", "detector_name"]

#: Nominal pixel scale [arcsec] of an instrument, for NIRCam of a channel.
PIXEL_SCALES = {
    "NIRCAM_SHORT": 0.0312,
    "NIRCAM_LONG": 0.0629,
    "MIRI": 0.1109,
    "NIRISS": 0.0656,
    "FGS": 0.0698,
}

#: Pixel scales [arcsec] of a detector along x and y, as its apertures are defined in flight.
DETECTOR_SCALES = {
    "NRCA1": (0.031133, 0.031319),
    "NRCA2": (0.030727, 0.030828),
    "NRCA3": (0.031277, 0.031453),
    "NRCA4": (0.030866, 0.030955),
    "NRCA5": (0.062755, 0.063059),
    "NRCB1": (0.030699, 0.030794),
    "NRCB2": (0.031106, 0.031287),
    "NRCB3": (0.030830, 0.030917),
    "NRCB4": (0.031239, 0.031416),
    "NRCB5": (0.062854, 0.063149),
    "MIRIMAGE": (0.110495, 0.111339),
}

#: Defocus of NIRCam's weak lenses in waves of 2.12 um; the sign is that of the computed image,
#: seen on NRCA3.
WEAK_LENSES = {"WLP8": 8.03, "WLM8": -8.0, "WLP4": 4.0}


def detector_name(name: str | None) -> str:
    """Return one name for each detector: NRCA5 for NRCALONG, MIRIMAGE for MIRIM, '' for None."""
    key = "" if name is None else str(name).strip().upper()
    return "MIRIMAGE" if key == "MIRIM" else key.replace("LONG", "5")
