"""Radii of apertures and annuli, and the subframe of the fits."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from tso_level3.config.modes import Mode, ladder_around
from tso_level3.config.settings import Settings
from tso_level3.core.plan import Annulus
from tso_level3.datatypes import Box

__all__ = ["Geometry", "fit_box", "geometry_of"]

log = logging.getLogger(__name__)

_LEAST_PIXELS = 200
_LEAST_SIDE = 12
# An annulus with fewer of its pixels than this in the frame is made wider, up to this factor.
_WHOLE = 0.95
_FARTHEST = 1.5
# Widths of the annuli of the grid over those of the default one: nearer, and wider.
_GRID = ((0.75, 0.85), (1.0, 1.35))


@dataclass(frozen=True, eq=False)
class Geometry:
    """Radii and annuli.

    Attributes
    ----------
    radii : ndarray, (n_radii,)
        Aperture radii, ascending [pix].
    radius : float
        Preferred radius [pix].
    annuli : tuple of Annulus
        The first is the default; empty without a background annulus.
    notes : tuple of str
        Changes, in sentences.
    """

    radii: np.ndarray
    radius: float
    annuli: tuple[Annulus, ...]
    notes: tuple[str, ...]


def fit_box(settings: Settings, mode: Mode, x: float, y: float, shape: tuple[int, int]) -> Box:
    """Settle the subframe of the fits.

    Parameters
    ----------
    settings : Settings
        Its `subframe` wins; `fit_box_width` is the least side otherwise.
    mode : Mode
        Gives the default.
    x, y : float
        The star.
    shape : (int, int)
        (ny, nx) of the frame.

    Returns
    -------
    Box
        The subframe, as far as it is inside the frame.

    Raises
    ------
    ValueError
        Fewer than 5 x 5 pixels of it are inside.
    """
    if settings.subframe is not None:
        side = settings.subframe
        ny, nx = side if isinstance(side, tuple) else (side, side)
    else:
        ny = nx = max(mode.box, settings.fit_box_width or 0)
    box = Box.around(x, y, ((ny - 1) / 2, (nx - 1) / 2), shape)
    if box.nx < 5 or box.ny < 5:
        raise ValueError(
            f"position: the subframe around ({x:.1f}, {y:.1f}) has {box.nx} x {box.ny} pixels "
            f"inside the frame of {shape[1]} x {shape[0]}, expected 5 x 5 or more"
        )
    return box


def geometry_of(
    settings: Settings,
    mode: Mode,
    x: float,
    y: float,
    shape: tuple[int, int],
    good: np.ndarray | None = None,
) -> Geometry:
    """Settle radii and annuli.

    Parameters
    ----------
    settings : Settings
        The parameters.
    mode : Mode
        Defaults.
    x, y : float
        The star.
    shape : (int, int)
        (ny, nx) of the frame.
    good : ndarray, (ny, nx), bool, optional
        Pixels that are not dead.

    Returns
    -------
    Geometry
        Radii and annuli.

    Raises
    ------
    ValueError
        The annulus lies inside the aperture or wholly outside the frame, or an aperture has no
        pixel in the frame.
    """
    notes: list[str] = []
    inner, outer = _asked_annulus(settings, mode)
    given = settings.radius_inner is not None or settings.radius_outer is not None
    radius, radii = _asked_radii(settings, mode, inner, given)
    radius, radii = _in_frame(radius, radii, settings, mode, (x, y), shape, notes)
    _check_aperture(x, y, float(radii.min()), shape)
    if settings.background == "none" or settings.background_level is not None:
        return Geometry(radii, radius, (), ())
    if settings.background == "frame":
        start = max(inner, float(radii.max())) if not given else inner
        return Geometry(radii, radius, (Annulus(start, np.inf),), ())
    annulus: Annulus | None
    if given:
        _check_annulus(inner, outer, radius, (x, y), shape, good, settings)
        annulus = Annulus(inner, outer)
    else:
        annulus, radii = _free_annulus(
            inner, outer, radius, radii, (x, y), shape, good, settings, notes
        )
        radius = min(radius, float(radii[-1]))
        if annulus is None:
            notes.append("no annulus fits into the frame; no background is subtracted")
            log.warning("No annulus fits into the frame: no background is subtracted.")
            return Geometry(radii, radius, (), tuple(notes))
    annuli: tuple[Annulus, ...] = (annulus,)
    if settings.choose_aperture and not given:
        annuli += _others(x, y, annulus, shape, good)
    limit = max(item.inner for item in annuli)
    kept = radii[radii <= limit]
    if kept.size < radii.size:
        why = f"the annulus begins at {limit:g}"
        _dropped(radii[radii > limit], notes, why, asked=settings.radii is not None)
    if kept.size == 0:
        raise ValueError(
            f"radii: all from {radii.min():g} overlap the annulus that begins at {limit:g}, "
            "expected one inside it or more"
        )
    if radius > limit:
        radius = float(kept[-1])
    return Geometry(kept, radius, annuli, tuple(notes))


def _check_annulus(
    inner: float,
    outer: float,
    radius: float,
    place: tuple[float, float],
    shape: tuple[int, int],
    good: np.ndarray | None,
    settings: Settings,
) -> None:
    """Refuse an annulus of the settings inside the aperture or outside the frame."""
    if radius > inner:
        found = f"radius_inner: {inner:g} found"
        if settings.radius_inner is None:
            found = f"radius_outer: {outer:g} found, for an annulus from {inner:.3g}"
        raise ValueError(
            f"{found}, expected one from the radius of the aperture ({radius:g}) outwards"
        )
    if _pixels(*place, inner, outer, shape, good).size == 0:
        raise ValueError(
            f"radius_inner, radius_outer: the annulus {inner:g} to {outer:g} around "
            f"({place[0]:.1f}, {place[1]:.1f}) lies outside the frame of {shape[1]} x {shape[0]} "
            "pixels"
        )


def _free_annulus(
    inner: float,
    outer: float,
    radius: float,
    radii: np.ndarray,
    place: tuple[float, float],
    shape: tuple[int, int],
    good: np.ndarray | None,
    settings: Settings,
    notes: list[str],
) -> tuple[Annulus | None, np.ndarray]:
    """Fit the annulus of the mode into the frame; returns it and the radii that it leaves."""
    width = outer - inner
    if settings.radius is not None:
        # The radius that was asked for is measured; the annulus makes room for it.
        inner = max(inner, 1.1 * settings.radius)
    asked = settings.radii is not None

    def beside(largest: float, notes: list[str] | None) -> Annulus | None:
        start = max(inner, 1.1 * largest) if asked else inner
        least = largest if asked else radii[0]
        if settings.radius is not None:
            least = max(least, settings.radius)
        return _shrunk(*place, Annulus(start, start + width), least, shape, good, notes)

    for last in range(len(radii) if asked else 1, 0, -1):
        annulus = beside(radii[last - 1], notes)
        if annulus is not None or (settings.radius is not None and radii[last - 1] <= radius):
            break
    if annulus is None:
        return None, radii
    if asked and last < len(radii):
        limit, over = radii[last - 1], radii[last]
        while over - limit > 0.1:
            middle = 0.5 * (limit + over)
            limit, over = (limit, middle) if beside(middle, None) is None else (middle, over)
        _dropped(radii[last:], notes, f"no annulus fits beside more than {limit:.1f}")
        radii = radii[:last]
    return _widened(*place, annulus, shape, good), radii


def _dropped(radii: np.ndarray, notes: list[str], why: str, *, asked: bool = True) -> None:
    named = ", ".join(f"{value:g}" for value in radii)
    notes.append(f"radii: {named} left out: {why}")
    log.log(logging.WARNING if asked else logging.INFO, "%s.", notes[-1])


def _in_frame(
    radius: float,
    radii: np.ndarray,
    settings: Settings,
    mode: Mode,
    place: tuple[float, float],
    shape: tuple[int, int],
    notes: list[str],
) -> tuple[float, np.ndarray]:
    """Leave out radii that were asked for and hold more than the whole frame."""
    if settings.radii is None and settings.radius is None:
        return radius, radii
    # A weak lens fills small frames, and its aperture is as large as the image, not the frame.
    limit = float(np.hypot(*shape))
    if not mode.fills_frame:
        x, y = (max(c + 0.5, n - 0.5 - c) for c, n in zip(place, shape[::-1], strict=True))
        limit = float(np.hypot(x, y))
    fits = radii < limit
    if settings.radius is not None and radius >= limit or not fits.any():
        name = "radius" if settings.radius is not None and radius >= limit else "radii"
        found = radius if name == "radius" else radii.min()
        raise ValueError(
            f"{name}: {found:g} found, expected less than {limit:.1f}, at which the aperture holds "
            f"the whole frame of {shape[1]} x {shape[0]} pixels"
        )
    if not fits.all():
        if settings.radii is not None:
            why = f"from {limit:.1f} on an aperture holds the whole frame"
            _dropped(radii[~fits], notes, why)
        radii = radii[fits]
        radius = min(radius, float(radii[-1]))
    return radius, radii


def _asked_annulus(settings: Settings, mode: Mode) -> tuple[float, float]:
    inner, outer = settings.radius_inner, settings.radius_outer
    if inner is None and outer is None:
        return mode.inner, mode.outer
    if inner is None and outer is not None:
        inner = mode.inner * outer / mode.outer
    assert inner is not None
    if outer is None:
        outer = inner + (mode.outer - mode.inner)
    return float(inner), float(outer)


def _asked_radii(
    settings: Settings, mode: Mode, inner: float, given: bool
) -> tuple[float, np.ndarray]:
    if settings.radii is not None:
        asked = set(settings.radii) | ({settings.radius} if settings.radius else set())
        radii = np.array(sorted(asked), float)
        return float(settings.radius or radii[np.argmin(np.abs(radii - mode.radius))]), radii
    if settings.radius is not None:
        limit = inner if given else np.inf
        return float(settings.radius), np.array(ladder_around(settings.radius, limit))
    radii = np.array(mode.radii)
    if given and (radii <= inner).any():
        radii = radii[radii <= inner]
    return float(radii[np.argmin(np.abs(radii - mode.radius))]), radii


def _check_aperture(x: float, y: float, radius: float, shape: tuple[int, int]) -> None:
    away_x = max(-0.5 - x, x - (shape[1] - 0.5), 0.0)
    away_y = max(-0.5 - y, y - (shape[0] - 0.5), 0.0)
    if np.hypot(away_x, away_y) >= radius:
        raise ValueError(
            f"position: the aperture of radius {radius:g} at ({x:.1f}, {y:.1f}) lies outside the "
            f"frame of {shape[1]} x {shape[0]} pixels"
        )


def _pixels(
    x: float, y: float, inner: float, outer: float, shape: tuple, good: np.ndarray | None
) -> np.ndarray:
    """Give the side of the star (0 to 3) of each good pixel of a ring."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    dx, dy = columns - x, rows - y
    ring = (dx**2 + dy**2 >= inner**2) & (dx**2 + dy**2 < outer**2)
    if good is not None:
        ring &= good
    dx, dy = dx[ring], dy[ring]
    return np.where(np.abs(dx) > np.abs(dy), np.where(dx > 0, 0, 1), np.where(dy > 0, 2, 3))


def _enough(x: float, y: float, ring: Annulus, shape: tuple, good: np.ndarray | None) -> bool:
    sides = np.bincount(_pixels(x, y, ring.inner, ring.outer, shape, good), minlength=4)
    return sides.sum() >= _LEAST_PIXELS and (sides >= _LEAST_SIDE).sum() >= 2


def _shrunk(
    x: float,
    y: float,
    wanted: Annulus,
    least: float,
    shape: tuple,
    good: np.ndarray | None,
    notes: list[str] | None,
) -> Annulus | None:
    """Shrink an annulus until it holds enough pixels; None where that never is.

    One that begins inside the smallest aperture, of radius ``least``, would lie in the star.
    """
    inner, outer = wanted.inner, wanted.outer
    for step in range(14):
        factor = 0.95**step
        annulus = Annulus(round(inner * factor, 2), round(outer * factor, 2))
        if step and annulus.inner < least:
            return None
        if _enough(x, y, annulus, shape, good):
            if step and notes is not None:
                text = (
                    f"annulus shrunk from {inner:g}-{outer:g} to {annulus.inner:g}-"
                    f"{annulus.outer:g}: too few good pixels in the frame"
                )
                notes.append(text)
                log.info("The %s.", text)
            return annulus
    return None


def _widened(
    x: float, y: float, annulus: Annulus, shape: tuple, good: np.ndarray | None
) -> Annulus:
    """Move the outer edge outwards until the annulus holds what the frame cut off, or no more is.

    The background of a large aperture is as uncertain as its pixels are few: corners count.
    """
    wanted = np.pi * (annulus.outer**2 - annulus.inner**2)
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    distance = np.hypot(columns - x, rows - y)
    use = (distance >= annulus.inner) & (distance < _FARTHEST * annulus.outer)
    if good is not None:
        use &= good
    distance = np.sort(distance[use])
    inside = int(np.searchsorted(distance, annulus.outer))
    if inside > _WHOLE * wanted or inside == distance.size:
        return annulus
    last = distance[min(int(wanted), distance.size - 1)]
    outer = max(round(float(last) + 0.01, 2), annulus.outer)
    log.info("The frame cuts the annulus: it reaches to %g instead of %g.", outer, annulus.outer)
    return Annulus(annulus.inner, outer)


def _others(
    x: float, y: float, annulus: Annulus, shape: tuple, good: np.ndarray | None
) -> tuple[Annulus, ...]:
    """Make the other annuli of the grid, where they hold enough pixels and differ."""
    default = _pixels(x, y, annulus.inner, annulus.outer, shape, good).size
    out = []
    for first, last in _GRID:
        other = Annulus(round(annulus.inner * first, 2), round(annulus.outer * last, 2))
        count = _pixels(x, y, other.inner, other.outer, shape, good).size
        if _enough(x, y, other, shape, good) and abs(count - default) > 0.1 * default:
            out.append(other)
    return tuple(out)
