"""Convert pixels to Jy or electron, where unit, pixel area, integration time and gain allow it."""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tso_level3.readers.errors import InputError, MissingInput
from tso_level3.readers.fits.cards import value
from tso_level3.readers.fits.scan import scan
from tso_level3.readers.metadata import number

__all__ = ["Conversion", "conversion", "gain_of", "given_unit", "normal_unit"]

log = logging.getLogger(__name__)

_NAMES = {
    "e-": "electron",
    "e": "electron",
    "electrons": "electron",
    "electron": "electron",
    "dn/s": "DN/s",
    "dn s-1": "DN/s",
    "dn / s": "DN/s",
    "dn": "DN",
    "adu": "DN",
    "adu/s": "DN/s",
    "adu / s": "DN/s",
    "adu s-1": "DN/s",
    "ct": "ct",
    "count": "ct",
    "counts": "ct",
    "ct/s": "ct/s",
    "ct / s": "ct/s",
    "count/s": "ct/s",
    "counts/s": "ct/s",
    "counts / s": "ct/s",
    "mjy/sr": "MJy/sr",
    "mjy / sr": "MJy/sr",
    "mjy sr-1": "MJy/sr",
    "jy": "Jy",
    "jansky": "Jy",
}


_SLOPES = ("DN/s", "ct/s")
_COUNTS = ("DN", "ct", "")


@dataclass(frozen=True, eq=False)
class Conversion:
    """Factor from the unit of an input to that of the exposure.

    Attributes
    ----------
    unit : str
        Unit after the conversion.
    scale : float or ndarray, (ny, nx)
        Factor.
    note : str
        What could not be converted, or was assumed; '' where nothing.
    """

    unit: str
    scale: float | np.ndarray = 1.0
    note: str = ""


def normal_unit(unit: Any) -> str:
    """Return the usual spelling of a unit."""
    text = " ".join(str(unit or "").split())
    # MJy and mJy differ in case alone.
    if text.startswith("mJ"):
        return text
    return _NAMES.get(text.lower(), text)


def given_unit(unit: str) -> str:
    """Interpret the setting ``unit``.

    Parameters
    ----------
    unit : str
        A name that this package or astropy knows.

    Returns
    -------
    str
        Its usual spelling.

    Raises
    ------
    InputError
        Neither this package nor astropy knows it.
    """
    if " ".join(unit.split()).lower() in _NAMES:
        return normal_unit(unit)
    from astropy.units import Unit

    try:
        return normal_unit(Unit(unit).to_string())
    except (ValueError, TypeError) as problem:
        near = difflib.get_close_matches(unit.lower(), _NAMES, 1)
        meant = f", perhaps {_NAMES[near[0]]}" if near else ""
        raise InputError(
            f"unit: {unit!r} found, expected a unit that astropy knows, such as electron, DN,"
            f" DN/s or MJy/sr{meant}"
        ) from problem


def conversion(
    name: str,
    unit: str,
    tree: Mapping[str, Any],
    shape: tuple[int, int],
    gain: float | np.ndarray | None,
    seconds: float = math.nan,
) -> Conversion:
    """Compute the factor from the unit of an input to Jy or electron.

    Parameters
    ----------
    name : str
        Name of the input in error messages.
    unit : str
        Its unit.
    tree : mapping
        Its metadata, for pixel area and integration time.
    shape : (int, int)
        (ny, nx) of a frame.
    gain : float, ndarray (ny, nx) or None
        Gain [electron/DN].
    seconds : float
        Integration time, where the metadata have none.

    Returns
    -------
    Conversion
        MJy/sr to Jy, DN/s to electron, with a gain DN too; anything else stays. Pixels without a
        unit are taken as DN where a gain is given.

    Raises
    ------
    InputError
        The gain has another shape than the frames.
    """
    unit = normal_unit(unit)
    if unit in _SLOPES:
        known = number(tree, "exposure.integration_time")
        return _from_slopes(name, unit, known if known > 0 else seconds, shape, gain)
    if gain is not None and unit in _COUNTS:
        note = "" if unit else f"The unit of the pixels is not known; with gain={_shown(gain)}"
        return Conversion(
            "electron", _factor(name, shape, gain), f"{note} they were taken as DN." if note else ""
        )
    idle = ""
    if gain is not None:
        idle = f" gain={_shown(gain)} is not used: the pixels are in {unit}, not in DN or DN/s."
    if unit == "MJy/sr":
        area = number(tree, "photometry.pixelarea_steradians")
        if area > 0:
            return Conversion("Jy", 1e6 * area, idle.strip())
        return Conversion(unit, 1.0, f"No pixel area is known; the pixels stay in MJy/sr.{idle}")
    note = "" if unit in ("Jy", "electron") else _stays(unit)
    return Conversion(unit, 1.0, f"{note}{idle}".strip())


def _shown(gain: float | np.ndarray) -> str:
    return f"{float(gain):g}" if np.ndim(gain) == 0 else "a file"


def _stays(unit: str) -> str:
    if not unit:
        return "The unit of the pixels is not known; fluxes are in the input's own."
    return f"The pixels stay in {unit}."


def _from_slopes(
    name: str,
    unit: str,
    seconds: float,
    shape: tuple[int, int],
    gain: float | np.ndarray | None,
) -> Conversion:
    if gain is None:
        return Conversion(unit, 1.0, f"No gain is known; the pixels stay in {unit}.")
    factor = _factor(name, shape, gain)
    if not seconds > 0:
        return Conversion(
            unit,
            1.0,
            f"gain={_shown(gain)} is not used: no integration time is known; the pixels stay in"
            f" {unit}.",
        )
    return Conversion("electron", factor * seconds)


def _factor(name: str, shape: tuple[int, int], gain: float | np.ndarray) -> float | np.ndarray:
    """Check a gain; it is set to NaN where it is not positive."""
    factor = np.asarray(gain, dtype=float)
    if factor.ndim and factor.shape != tuple(shape):
        raise InputError(f"gain: shape {factor.shape} found, expected {tuple(shape)} as in {name}")
    if factor.ndim == 0:
        if not (math.isfinite(factor) and factor > 0):
            raise InputError(f"gain: {float(factor)} found, expected a positive number")
        return float(factor)
    with np.errstate(invalid="ignore"):
        return np.where(factor > 0, factor, np.nan)


def gain_of(
    setting: Any, tree: Mapping[str, Any], shape: tuple[int, int]
) -> float | np.ndarray | None:
    """Interpret the setting ``gain``.

    Parameters
    ----------
    setting : float, str, path, GainModel or None
        Electrons per DN, or a reference (FITS or ASDF file, or open) of the whole detector or a
        subarray.
    tree : mapping
        Metadata of the data, for the place of the subarray.
    shape : (int, int)
        (ny, nx) of a frame.

    Returns
    -------
    float, ndarray (ny, nx) or None
        The gain; None where the setting is None.

    Raises
    ------
    InputError
        It is neither a positive number nor a file with a gain for these pixels.
    """
    if setting is None:
        return None
    if hasattr(setting, "meta"):
        corner = setting.meta.subarray
        place = (int(corner.ystart or 1), int(corner.xstart or 1))
        return _cut(np.array(setting.data, float), place, setting.meta.filename, tree, shape)
    try:
        factor = float(setting)
    except (TypeError, ValueError):
        path = Path(str(setting)).expanduser()
        if not path.exists():
            raise MissingInput(
                f"gain: {setting}: no such file, expected a positive number or a file"
            ) from None
        image, place = _read_asdf(path) if path.suffix == ".asdf" else _read_fits(path)
        return _cut(np.asarray(image, dtype=float), place, path, tree, shape)
    if not (math.isfinite(factor) and factor > 0):
        raise InputError(f"gain: {setting} found, expected a positive number or a file")
    return factor


def _cut(
    image: np.ndarray,
    corner: tuple[int, int],
    path: object,
    tree: Mapping[str, Any],
    shape: tuple[int, int],
) -> np.ndarray:
    """Cut the pixels of a frame out of a gain image, whose first pixel is at a corner (y, x)."""
    if image.ndim != 2:
        raise InputError(f"gain: {path} holds {image.ndim} dimensions, expected an image")
    if image.shape == tuple(shape):
        return image
    start = [number(tree, f"subarray.{axis}start") for axis in "yx"]
    if not all(math.isfinite(s) for s in start):
        raise InputError(
            f"gain: {path} has shape {image.shape}, expected {tuple(shape)} as the frames, whose"
            " place on the detector is not known"
        )
    y, x = (int(s) - int(c) for s, c in zip(start, corner))
    cut = image[y : y + shape[0], x : x + shape[1]] if min(y, x) >= 0 else image[:0]
    if cut.shape != tuple(shape):
        raise InputError(
            f"gain: {path} has shape {image.shape}, which does not cover the subarray of shape"
            f" {tuple(shape)} at x = {start[1]:.0f}, y = {start[0]:.0f}"
        )
    return cut


def _read_fits(path: Path) -> tuple[np.ndarray, tuple[int, int]]:
    from tso_level3.readers.fits.hdus import whole_image

    file = scan(path)
    hdu = file.find("SCI") or next((h for h in file.hdus if h.is_image), None)
    if hdu is None:
        raise InputError(f"gain: {path} holds no image, expected one")
    y, x = (int(value(file.primary, key, 1) or 1) for key in ("SUBSTRT2", "SUBSTRT1"))
    return whole_image(file, hdu), (y, x)


def _read_asdf(path: Path) -> tuple[np.ndarray, tuple[int, int]]:
    import asdf

    from tso_level3.readers.errors import brief, check_file, quiet

    check_file(path)
    try:
        with quiet(), asdf.open(path, lazy_tree=True) as file:
            root = file.tree.get("roman", file.tree)
            subarray = root.get("meta", {}).get("subarray", {}) or {}
            corner = (int(subarray.get("ystart", 1)), int(subarray.get("xstart", 1)))
            return np.array(root["data"]), corner
    except Exception as problem:
        raise InputError(f"gain: {path} cannot be read ({brief(problem)})") from problem
