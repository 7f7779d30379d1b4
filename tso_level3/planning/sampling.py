"""Sample of single frames from a whole exposure, for its planning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tso_level3.core.measure import marked
from tso_level3.datatypes import Box, Exposure, Pixels

__all__ = ["Drawn", "draw", "load_frames", "spread"]

#: Parts of the variance whose means are taken.
_PARTS = ("var_poisson", "var_rnoise")


@dataclass(frozen=True, eq=False)
class Drawn:
    """Sample of frames.

    Attributes
    ----------
    pixels : Pixels
        Their values alone, (n, ny, nx); NaN where a pixel is bad.
    scale : float or ndarray, (ny, nx)
        Factor to the exposure's unit.
    variance : dict of ndarray, (ny, nx)
        Means over the good frames of ``var_poisson, var_rnoise`` and of the squares of
        ``errors``, in the input's unit, squared; those that all frames have.
    """

    pixels: Pixels
    scale: float | np.ndarray
    variance: dict[str, np.ndarray]


def spread(n: int, count: int) -> np.ndarray:
    """Choose frames that are spread over an exposure.

    Parameters
    ----------
    n : int
        Number of frames there are.
    count : int
        Number wanted.

    Returns
    -------
    ndarray, (at most count,), int
        Their rows, the same whether they are counted from the first frame or from the last.
    """
    count = min(n, count)
    if n % 2 == 0 and count % 2 and count > 1:
        # An even number of frames has none in the middle.
        count -= 1
    half = np.linspace(0, n - 1, count)[: (count + 1) // 2].round().astype(int)
    return np.unique(np.concatenate([half, n - 1 - half]))


def draw(
    exposure: Exposure,
    rows: np.ndarray,
    box: Box,
    *,
    dq_mask: int,
    tick: Callable[[int], Any] | None = None,
) -> Drawn:
    """Read single frames from all segments, and means of the parts of their variance.

    Parameters
    ----------
    exposure : Exposure
        The frames.
    rows : ndarray, (n,), int
        Which, in order.
    box : Box
        The rectangle.
    dq_mask : int
        Data-quality bits that make a pixel bad.
    tick : callable, optional
        Called with the number of frames read.

    Returns
    -------
    Drawn
        The frames.
    """
    values: np.ndarray | None = None
    sums: dict[str, np.ndarray] = {}
    counts: dict[str, np.ndarray] = {}
    missing: set[str] = set()
    first: Any = None
    for place, (pixels, scale) in enumerate(_frames(exposure, rows, box, variances=True)):
        first = scale if first is None else first
        ratio = scale / first
        # One frame at a time: errors, flags and variances of all would be five times the values.
        frame = pixels.values[0] if np.all(ratio == 1.0) else pixels.values[0] * ratio
        with np.errstate(invalid="ignore", over="ignore"):
            good = np.isfinite(frame * first) & ~marked(pixels, dq_mask)[0]
        values = _allocated(values, len(rows), frame)
        values[place] = np.where(good, frame, np.nan)
        for name in (*_PARTS, "errors"):
            part = getattr(pixels, name)
            if part is None:
                missing.add(name)
                continue
            part = part[0].astype(float)
            part = (part**2 if name == "errors" else part) * ratio**2
            use = good & np.isfinite(part)
            sums[name] = sums.get(name, 0.0) + np.where(use, part, 0.0)
            counts[name] = counts.get(name, 0) + use
        if tick is not None:
            tick(1)
    variance = {
        name: total / np.where(counts[name] > 0, counts[name], np.nan)
        for name, total in sums.items()
        if name not in missing
    }
    assert values is not None
    return Drawn(Pixels(values), first, variance)


def load_frames(
    exposure: Exposure, rows: np.ndarray, box: Box
) -> tuple[Pixels, float | np.ndarray]:
    """Read single frames from all segments, with errors and flags where all have them.

    Parameters
    ----------
    exposure : Exposure
        The frames.
    rows : ndarray, (n,), int
        Which, in order.
    box : Box
        The rectangle.

    Returns
    -------
    (Pixels, float or ndarray of (ny, nx))
        The frames, and the factor to the exposure's unit.
    """
    planes: dict[str, np.ndarray] = {}
    missing: set[str] = set()
    first: Any = None
    for place, (pixels, scale) in enumerate(_frames(exposure, rows, box, variances=False)):
        first = scale if first is None else first
        ratio = scale / first
        for name in ("values", "errors", "dq"):
            part = getattr(pixels, name)
            if part is None:
                missing.add(name)
            if name in missing:
                continue
            own = part[0] if name == "dq" or np.all(ratio == 1.0) else part[0] * ratio
            # One array from the start: a list of frames and its stack would be twice as much.
            planes[name] = _allocated(planes.get(name), len(rows), own)
            planes[name][place] = own
    found = {name: None if name in missing else planes[name] for name in ("errors", "dq")}
    return Pixels(planes["values"], **found), first


def _allocated(own: np.ndarray | None, n: int, frame: np.ndarray) -> np.ndarray:
    """Allocate an array for all frames, in the precision of the most precise so far."""
    if own is None:
        return np.zeros((n, *frame.shape), frame.dtype)
    return own.astype(frame.dtype) if frame.dtype.itemsize > own.dtype.itemsize else own


def _frames(
    exposure: Exposure, rows: np.ndarray, box: Box, *, variances: bool
) -> Iterator[tuple[Pixels, float | np.ndarray]]:
    """Read frame by frame, with the factor of its segment."""
    first = 0
    for segment in exposure.segments:
        scale = segment.scale
        if isinstance(scale, np.ndarray) and scale.ndim:
            scale = scale[box.slices]
        for row in rows[(rows >= first) & (rows < first + segment.n_frames)] - first:
            yield segment.source.load(int(row), int(row) + 1, box, variances=variances), scale
        first += segment.n_frames
