"""Plots of a product (extra ``report``)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tso_level3.flags import Flag
from tso_level3.product.rows import out_of_transit
from tso_level3.product.summary import title
from tso_level3.product.tables import rows_of_events
from tso_level3.utils.atomic import replacing
from tso_level3.utils.stats import mad_std

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tso_level3.product.model import TSOLightCurveModel

__all__ = ["bin_means", "light_curve"]

_BLUE, _ORANGE, _RED, _GREY = "#1f5fa8", "#d97706", "#b91c1c", "#6b7280"
#: Widths of the bins [min], and the minimum number of bins of an exposure.
_BIN_MINUTES, _MIN_BINS = (10.0, 5.0, 2.0, 1.0, 0.5), 12

#: Marked flags, the most serious first; a point is marked once. Flags that hold for whole exposures
#: are not marked.
_MARKED = (
    (Flag.UNREADABLE | Flag.ALL_BAD, "no value", "x", _RED),
    (Flag.PSF_FAILED | Flag.CORRELATION_FAILED | Flag.FAINT, "no centre", "v", _RED),
    (Flag.MISSING_IN_APERTURE, "pixels left out", "s", _RED),
    (Flag.FILLED, "pixels filled", "D", _ORANGE),
    (Flag.OUTLIER, "outlying pixel", "o", _ORANGE),
)


def bin_means(
    time: np.ndarray, values: np.ndarray, errors: np.ndarray, width: float
) -> dict[str, np.ndarray]:
    """Average values in bins of time.

    Parameters
    ----------
    time, values, errors : ndarray, (n,)
        The values; rows that are not finite are left out. Weights are equal.
    width : float
        Width of a bin, in the unit of `time`; the first begins at the first time.

    Returns
    -------
    dict of ndarray, (n_bins,)
        ``time``, ``value`` and ``error`` (the larger of the propagated errors and the scatter in
        the bin) of the bins with two values or more. Values more than 5 robust sigma from the
        median of their bin are left out.
    """
    good = np.isfinite(time) & np.isfinite(values)
    time, values, errors = time[good], values[good], np.nan_to_num(errors[good])
    place = np.floor((time - time.min()) / width).astype(int) if len(time) else np.zeros(0, int)
    rows = []
    for number in np.unique(place):
        here = np.flatnonzero(place == number)
        off = np.abs(values[here] - np.median(values[here]))
        # By the scatter in the bin, which in the ingress is larger than the noise.
        here = here[off <= 5.0 * max(mad_std(off, center=0.0), np.median(errors[here]))]
        if len(here) >= 2:
            formal = np.sqrt(np.sum(errors[here] ** 2)) / len(here)
            spread = np.std(values[here], ddof=1) / np.sqrt(len(here))
            rows.append((time[here].mean(), values[here].mean(), max(formal, spread)))
    found = np.array(rows, dtype=float).reshape(-1, 3)
    return {"time": found[:, 0], "value": found[:, 1], "error": found[:, 2]}


def light_curve(model: TSOLightCurveModel, path: str | os.PathLike | None = None) -> Figure:
    """Plot the primary light curve, and below it centre, background and width.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.
    path : str or path-like, optional
        A file to write, in the format of its ending; an existing one is replaced.

    Returns
    -------
    matplotlib.figure.Figure
        The figure, without a window.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        matplotlib does not write files of this ending.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            "drawing a light curve needs the package matplotlib: "
            'install it with pip install "tso_level3[report]"'
        ) from None
    figure = Figure(figsize=(11.5, 9), layout="constrained")
    grid = figure.add_gridspec(5, 2, width_ratios=(4.2, 1), height_ratios=(3.2, 1, 1, 1, 1))
    axes = [figure.add_subplot(grid[0, 0])]
    axes += [figure.add_subplot(grid[k, 0], sharex=axes[0]) for k in range(1, 5)]
    times, label, minute = _axis_times(model)
    _draw_flux(axes[0], model, times, minute)
    _draw_followed(axes[1:], model, times)
    for axis in axes[:-1]:
        axis.tick_params(labelbottom=False)
    axes[-1].set_xlabel(label)
    _mark_events(axes, model, times)
    _write_overview(figure.add_subplot(grid[0, 1]), model)
    _draw_template(figure.add_subplot(grid[1:3, 1]), model)
    grade = model.record.grade
    suffix = "" if grade == "good" else f"  ({grade})"
    figure.suptitle((title(model) or "light curve") + suffix, fontsize=12)
    figure.align_ylabels(axes)
    if path is not None:
        _save(figure, Path(path))
    return figure


def _save(figure: Figure, path: Path) -> None:
    form = path.suffix.lstrip(".").lower()
    known = figure.canvas.get_supported_filetypes()
    if form not in known:
        raise ValueError(
            f"{path}: ending {path.suffix!r} found, expected one of {', '.join(known)}"
        )
    with replacing(path) as temporary:
        figure.savefig(temporary, format=form, dpi=120)


def _axis_times(model: TSOLightCurveModel) -> tuple[np.ndarray, str, float]:
    """Times from the start of the exposure: values, label of the axis, and units per minute."""
    time = np.asarray(model.light_curve["time"], dtype=float)
    if model.time_scale == "none" or not np.isfinite(time).any():
        return np.asarray(model.light_curve["integration"], dtype=float), "integration", np.nan
    start = np.floor(np.nanmin(time) * 1e4) / 1e4
    scale = model.time_scale.replace("_", " ")
    name, factor = ("hours", 24.0) if np.nanmax(time) - start > 0.03 else ("minutes", 1440.0)
    return (time - start) * factor, f"{name} from {scale} {start:.4f}", factor / 1440.0


def _bin_width(times: np.ndarray, minute: float) -> tuple[float, str]:
    """Width of the bins of the flux, and their label."""
    # Without times, a bin is twenty integrations.
    if not np.isfinite(minute):
        return 20.0, "means of 20"
    span = np.nanmax(times) - np.nanmin(times)
    widths = [width for width in _BIN_MINUTES if width * minute * _MIN_BINS <= span]
    width = widths[0] if widths else _BIN_MINUTES[-1]
    return width * minute, f"{width:g}-minute means"


def _draw_flux(axis: Axes, model: TSOLightCurveModel, times: np.ndarray, minute: float) -> None:
    flux, error = model.flux, model.flux_err
    level = _level(model, flux)
    flux, error = flux / level, error / abs(level)
    size = 3 if len(flux) > 300 else 6
    axis.plot(times, flux, ".", color=_GREY, ms=size, alpha=0.5, label="integrations", zorder=1)
    _typical_error(axis, error)
    width, text = _bin_width(times, minute)
    binned = bin_means(times, flux, error, width)
    # Not for few bins, or bins of few integrations.
    if 3 <= len(binned["time"]) <= np.isfinite(times).sum() / 3:
        axis.errorbar(
            binned["time"],
            binned["value"],
            binned["error"],
            fmt="o",
            color=_BLUE,
            ms=4.5,
            lw=1.2,
            label=text,
            zorder=3,
        )
    _set_limits(axis, flux, error)
    _mark_flags(axis, model, times, flux)
    axis.set_ylabel("relative flux")
    axis.ticklabel_format(axis="y", useOffset=False)
    # Above the axes, where it hides no point.
    axis.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=6, fontsize=8, frameon=False)


def _level(model: TSOLightCurveModel, flux: np.ndarray) -> float:
    """Median of the flux, out of transit where that is known."""
    out = out_of_transit(model)
    for rows in (out, np.ones(len(flux), bool)):
        if rows is not None and np.isfinite(flux[rows]).any():
            return float(np.nanmedian(flux[rows]))
    return 1.0


def _set_limits(axis: Axes, flux: np.ndarray, error: np.ndarray) -> None:
    """Show the light curve; a few wild points do not set the scale."""
    finite = flux[np.isfinite(flux)]
    if not len(finite):
        return
    low, high = np.percentile(finite, [0.5, 99.5])
    margin = max(0.12 * (high - low), 1e-9)
    if np.isfinite(error).any():
        margin = max(margin, 1.5 * np.nanmedian(error))
    axis.set_ylim(low - margin, high + margin)


def _typical_error(axis: Axes, error: np.ndarray) -> None:
    """Draw one error bar in the corner: one for each of thousands of points hides them."""
    if not np.isfinite(error).any():
        return
    from matplotlib.transforms import blended_transform_factory

    size = float(np.nanmedian(error))
    low, high = 0.015, 0.06

    def place(limits: tuple[float, float]) -> float:
        return limits[0] + 0.04 * (limits[1] - limits[0]) + size

    mixed = blended_transform_factory(axis.transAxes, axis.transData)
    bar = axis.errorbar([low], [1.0], [size], color=_GREY, transform=mixed, fmt=".", ms=3, lw=1)
    text = axis.text(high - 0.035, 1.0, f"{size * 1e6:.0f} ppm", transform=mixed, fontsize=8)
    text.set(color=_GREY, va="center")

    def follow(axis: Axes) -> None:
        y = place(axis.get_ylim())
        line, _, (segments,) = bar.lines
        line.set_ydata([y])
        segments.set_segments([[(low, y - size), (low, y + size)]])
        text.set_y(y)

    axis.callbacks.connect("ylim_changed", follow)


def _mark_flags(axis: Axes, model: TSOLightCurveModel, times: np.ndarray, flux: np.ndarray) -> None:
    flags = np.asarray(model.light_curve["flags"]).astype(np.int64)
    low, high = axis.get_ylim()
    edge = 0.02 * (high - low)
    # Points outside the plot, or without a value, are marked at its edge.
    shown = np.clip(np.nan_to_num(flux, nan=low), low + edge, high - edge)
    for beyond, marker in ((flux > high, "^"), (flux < low, "v")):
        if beyond.any():
            text = f"beyond ({beyond.sum()})"
            axis.plot(times[beyond], shown[beyond], marker, color=_GREY, ms=5, label=text)
    marked = np.zeros(len(flags), dtype=bool)
    for bits, text, marker, color in _MARKED:
        here = ((flags & int(bits)) != 0) & ~marked
        marked |= here
        # A flag of nearly all integrations does not tell them apart.
        if here.any() and here.sum() < 0.5 * len(flags):
            axis.plot(
                times[here],
                shown[here],
                marker,
                mec=color,
                mfc="none",
                ms=6,
                ls="none",
                label=f"{text} ({here.sum()})",
                zorder=2,
            )
    settling = (flags & int(Flag.SETTLING)) != 0
    if settling.any() and np.isfinite(times[settling]).any():
        first, last = np.nanmin(times[settling]), np.nanmax(times[settling])
        axis.axvspan(first, last, color=_ORANGE, alpha=0.12, lw=0, label="settling")


def _mark_events(axes: list[Axes], model: TSOLightCurveModel, times: np.ndarray) -> None:
    for event, row in zip(model.events, rows_of_events(model.light_curve, model.events)):
        if event["kind"] == "settling" or row < 0:
            continue
        known = np.isfinite([event["size"], event["size_err"]]).all()
        size = f" {1e6 * event['size']:+.0f} ± {1e6 * event['size_err']:.0f} ppm" if known else ""
        for axis in axes:
            axis.axvline(times[row], color=_RED, lw=1, ls="--", alpha=0.8)
        axes[0].annotate(
            f"{event['kind']}{size}",
            (times[row], 0.95),
            xycoords=("data", "axes fraction"),
            xytext=(4, 0),
            textcoords="offset points",
            fontsize=8,
            color=_RED,
        )


def _draw_followed(axes: list[Axes], model: TSOLightCurveModel, times: np.ndarray) -> None:
    table = model.light_curve
    source = "psf" if np.isfinite(np.asarray(table["psf_x"])).any() else "cc"
    unit = f" [{table['background'].unit}]" if table["background"].unit else ""
    panels = (
        ((f"{source}_x",), f"{source} x [pix]"),
        ((f"{source}_y",), f"{source} y [pix]"),
        (("background",), f"background\n{unit.strip()}"),
        (("gauss_sigma_x", "gauss_sigma_y"), "width\n[pix]"),
    )
    for axis, (names, label) in zip(axes, panels):
        shown = []
        for name, color in zip(names, (_BLUE, _ORANGE)):
            values = np.asarray(table[name], dtype=float)
            size = 2.5 if len(values) > 300 else 6
            axis.plot(times, values, ".", color=color, ms=size, alpha=0.6, label=name[-1])
            shown.append(values[np.isfinite(values)])
        values = np.concatenate(shown)
        if len(values) and np.ptp(values) > 0:
            low, high = np.percentile(values, [0.5, 99.5])
            margin = 0.15 * (high - low) or 1e-6
            axis.set_ylim(low - margin, high + margin)
        axis.set_ylabel(label, fontsize=9)
        axis.tick_params(labelsize=8)
        if len(names) > 1:
            # Beside the axes, so that it covers no point.
            legend = axis.legend(
                loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=8, markerscale=2, frameon=False
            )
            # It fits below the column on the right.
            legend.set_in_layout(False)


def _draw_template(axis: Axes, model: TSOLightCurveModel) -> None:
    from matplotlib.colors import AsinhNorm
    from matplotlib.patches import Circle

    picture = model.template
    image = np.asarray(picture.image, dtype=float)
    ny, nx = image.shape
    x0, y0 = picture.origin_x, picture.origin_y
    finite = image[np.isfinite(image)]
    norm = None
    if len(finite) and np.ptp(finite) > 0:
        low, high = finite.min(), finite.max()
        norm = AsinhNorm(linear_width=0.01 * (high - low), vmin=low, vmax=high)
    axis.imshow(
        image,
        origin="lower",
        cmap="magma",
        norm=norm,
        extent=(x0 - 0.5, x0 + nx - 0.5, y0 - 0.5, y0 + ny - 0.5),
        interpolation="nearest",
    )
    center = (x0 + picture.x, y0 + picture.y)
    axis.plot(*center, "+", color="white", ms=8)
    if np.isfinite(model.chosen_radius):
        axis.add_patch(Circle(center, model.chosen_radius, fill=False, ec="white", lw=1))
    reach = max(3.0 * model.chosen_radius, 12.0) if np.isfinite(model.chosen_radius) else np.inf
    axis.set_xlim(max(x0 - 0.5, center[0] - reach), min(x0 + nx - 0.5, center[0] + reach))
    axis.set_ylim(max(y0 - 0.5, center[1] - reach), min(y0 + ny - 0.5, center[1] + reach))
    axis.set_title("mean image", fontsize=9)
    axis.tick_params(labelsize=8)


def _write_overview(axis: Axes, model: TSOLightCurveModel) -> None:
    axis.axis("off")
    quoted, lines = model.quoted, []
    if quoted.kind == "psf":
        lines.append("flux: fit of the mean image")
    else:
        lines.append(f"aperture: r = {quoted.radius:g} pix")
        if np.isfinite(quoted.radius_inner):
            lines.append(f"annulus: {quoted.radius_inner:g} to {quoted.radius_outer:g} pix")
    lines += [
        f"scatter: {quoted.scatter * 1e6:.0f} ppm",
        f"expected: {quoted.expected * 1e6:.0f} ppm",
        f"ratio: {quoted.ratio:.2f}",
        f"red noise: {quoted.red_noise:.2f}",
        f"integrations: {len(model)}",
    ]
    marked = int(np.bitwise_or.reduce([int(bits) for bits, *_ in _MARKED]))
    flags = np.asarray(model.light_curve["flags"]).astype(np.int64)
    lines.append(f"marked: {int(((flags & marked) != 0).sum())}")
    axis.text(0.0, 0.95, "\n".join(lines), va="top", fontsize=9, transform=axis.transAxes)
