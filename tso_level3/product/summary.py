"""Text summaries of a product: overview, tables, `repr` and HTML for notebooks."""

from __future__ import annotations

import html
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tso_level3.config.settings import Settings, fields_of
from tso_level3.flags import DESCRIPTIONS, Flag
from tso_level3.product.tree import setup_of

if TYPE_CHECKING:
    from tso_level3.product.model import TSOLightCurveModel
    from tso_level3.product.record import RunRecord

__all__ = [
    "EVENT_HEADINGS",
    "NOISE_HEADINGS",
    "brief",
    "changed_settings",
    "event_note",
    "event_rows",
    "flag_counts",
    "html_summary",
    "inputs",
    "noise_rows",
    "overview",
    "summary_lines",
    "title",
]

#: Headings of `event_rows`.
EVENT_HEADINGS = ("integration", "kind", "significance", "size", "error")

#: Headings of `noise_rows`; the noise is in parts per million.
NOISE_HEADINGS = (
    "radius", "annulus", "flux", "scatter", "expected", "ratio", "photon", "read", "backgr.",
    "pointing", "red noise",
)  # fmt: skip

#: The lines of `overview` in the short forms.
_SHORT = ("integrations", "time", "flux", "quoted", "noise", "verdict")
_SHORT_WIDTH = 100


def overview(model: TSOLightCurveModel) -> dict[str, str]:
    """Summarise a product, one line per subject.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    dict of str
        A short name and a line of text each; what is unknown is left out.
    """
    record = model.record
    lines = {
        "target": model.meta.target.catalog_name,
        "taken with": _setup(model),
        "integrations": _integrations(model),
        "time": _time_span(model, record),
        "flux": _flux(model, record),
        "quoted": _quoted(model, record),
        "noise": _noise(model),
        "verdict": str(record.verdict or ""),
        "centre": _center(model, record),
        "background": _background(model, record),
        "kernel": _kernel(record),
        "made by": f"tso_level3 {record.version}, format {record.format_version}",
    }
    return {name: text for name, text in lines.items() if text}


def title(model: TSOLightCurveModel) -> str:
    """Name the target and the set-up.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    str
        Target, instrument, detector, filter and subarray, as far as known.
    """
    parts = [str(model.meta.target.catalog_name or ""), _setup(model)]
    return ", ".join(part for part in parts if part)


def _setup(model: TSOLightCurveModel) -> str:
    setup = setup_of(model.meta)
    if setup["pupil"] in ("CLEAR", "N/A"):
        setup["pupil"] = None
    names = ("instrument", "detector", "filter", "pupil", "subarray")
    return " ".join(str(setup[name]) for name in names if setup[name])


def _integrations(model: TSOLightCurveModel) -> str:
    table = model.light_curve
    text = f"{len(table)}"
    segments = len(np.unique(np.asarray(table["segment"])))
    if segments > 1:
        text += f" from {segments} inputs"
    steps = np.diff(np.asarray(table["time"], dtype=float))
    steps = steps[np.isfinite(steps)]
    if len(steps):
        text += f", one every {86400 * np.median(steps):.4g} s"
    return text


def _time_span(model: TSOLightCurveModel, record: RunRecord) -> str:
    time = np.asarray(model.light_curve["time"], dtype=float)
    time = time[np.isfinite(time)]
    if record.time_scale == "none" or not len(time):
        return "not known"
    text = f"{record.time_scale} {time.min():.5f} to {time.max():.5f} d"
    text += f" ({24 * np.ptp(time):.4g} h)"
    return f"{text}, from {record.time_source}" if record.time_source else text


def _flux(model: TSOLightCurveModel, record: RunRecord) -> str:
    flux = model.flux
    text = f"median {np.nanmedian(flux):.6g}" if np.isfinite(flux).any() else "none"
    text += f" {record.unit or '(unit not known)'}"
    return f"{text}, not aperture-corrected" if record.aperture_corrected is False else text


def _quoted(model: TSOLightCurveModel, record: RunRecord) -> str:
    quoted, reason = model.quoted, record.quoted.reason
    if quoted.kind == "psf":
        text = "fit of the mean image"
    else:
        text = f"aperture of r = {quoted.radius:.4g} pix"
        if quoted.sky:
            text += f", {quoted.sky}"
    return f"{text} ({reason})" if reason else text


def _noise(model: TSOLightCurveModel) -> str:
    quoted = model.quoted
    if not np.isfinite(quoted.scatter):
        return ""
    return (
        f"{1e6 * quoted.scatter:.0f} ppm per integration, {1e6 * quoted.expected:.0f} expected"
        f" (ratio {quoted.ratio:.2f}), red noise {quoted.red_noise:.2f}"
    )


def _center(model: TSOLightCurveModel, record: RunRecord) -> str:
    table, center, bound = model.light_curve, record.aperture_center, record.bound
    x, y = (np.asarray(table[f"aperture_{axis}"], dtype=float) for axis in "xy")
    if not np.isfinite(x).any():
        return "none found"
    text = f"({np.nanmedian(x):.3f}, {np.nanmedian(y):.3f}) from {center.source or '?'}"
    text += ", moving with the star" if center.moving else ", the same for all"
    if np.isfinite([bound.scatter_x, bound.scatter_y]).all():
        text += (
            f"; star moves by {bound.scatter_x:.2g}, {bound.scatter_y:.2g} pix rms"
            f" ({bound.ratio_x:.2f}, {bound.ratio_y:.2f} of the photon limit)"
        )
    return text


def _background(model: TSOLightCurveModel, record: RunRecord) -> str:
    column = model.light_curve["background"]
    values = np.asarray(column, dtype=float)
    if record.setting("background") == "none" or not np.isfinite(values).any():
        return "none subtracted"
    text = f"{np.nanmedian(values):.4g} {column.unit or ''}"
    if record.setting("background_level") != "none":
        return f"{text}, as given"
    region = f"{record.setting('background_stat')} of the {record.setting('background')}"
    text += f", {region.replace('_', ', ')}"
    smoothing = record.background_smooth
    if smoothing.smoothed:
        length = smoothing.length
        over = f"about {length:.0f}" if isinstance(length, int | float) else "all"
        text += f", averaged over {over} integrations"
    return text


def _kernel(record: RunRecord) -> str:
    kernel = record.kernel
    text = str(kernel.get("kind", ""))
    names = ("instrument", "filter", "weak_lens", "path", "name")
    named = [str(kernel[name]) for name in names if kernel.get(name)]
    widths = [f"{kernel[name]:.3g}" for name in ("sigma_x", "sigma_y") if name in kernel]
    text += f" {' '.join(named)}" if named else ""
    text += f", sigma {', '.join(widths)} pix" if widths else ""
    if kernel.get("waves"):
        text += f", {kernel['waves']:.3g} waves"
    correlation = record.acquisition.get("correlation")
    return f"{text}, correlation {correlation:.4f}" if correlation is not None else text


def noise_rows(model: TSOLightCurveModel) -> list[tuple[bool, tuple[str, ...]]]:
    """Format the noise of each radius.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    list of (bool, tuple of str)
        Whether it is the primary measurement, and the cells under `NOISE_HEADINGS`.
    """
    rows = list(model.apertures)
    fitted = [row for row in model.grid if row["kind"] == "psf"]
    if fitted and not any(row["kind"] == "psf" for row in rows):
        rows.append(fitted[0])
    return [(bool(row["chosen"]), _noise_cells(row)) for row in rows]


def _noise_cells(row: Any) -> tuple[str, ...]:
    inner, outer = row["radius_inner"], row["radius_outer"]
    annulus = f"{inner:.4g}-{outer:.4g}" if np.isfinite(outer) else f"> {inner:.4g}"
    parts = ("photon_noise", "read_noise", "background_noise", "pointing_noise")
    return (
        "fit" if row["kind"] == "psf" else f"{row['radius']:.4g}",
        annulus if np.isfinite(inner) else "-",
        f"{row['flux']:.5g}",
        *(_number(1e6 * row[name]) for name in ("scatter", "expected")),
        _number(row["ratio"], 2),
        *(_number(1e6 * row[name]) for name in parts),
        _number(row["red_noise"], 2),
    )


def _number(value: float, digits: int = 0) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "-"


def flag_counts(model: TSOLightCurveModel) -> list[tuple[str, int, str]]:
    """Count the integrations with each flag.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    list of (str, int, str)
        Name, number of integrations and description of the flags that are set.
    """
    flags = np.asarray(model.light_curve["flags"]).astype(np.int64)
    counts = [(flag, int(((flags & int(flag)) != 0).sum())) for flag in Flag]
    return [(str(flag.name), count, DESCRIPTIONS[flag]) for flag, count in counts if count]


def changed_settings(model: TSOLightCurveModel) -> dict[str, str]:
    """List the parameters that are not at their defaults.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    dict of str
        Names and values, as on the command line.
    """
    defaults, record = Settings().as_dict(), model.record
    found = {item.name: record.setting(item.name) for item in fields_of()}
    return {
        name: _as_option(value)
        for name, value in found.items()
        if value != ("none" if defaults[name] is None else defaults[name])
    }


def _as_option(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def event_rows(model: TSOLightCurveModel) -> list[tuple[str, ...]]:
    """Format the events.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    list of tuple of str
        The cells under `EVENT_HEADINGS`; integrations are numbers in the exposure, from 1.
    """
    return [
        (
            str(event["integration"]),
            str(event["kind"]),
            f"{event['significance']:.1f}",
            f"{1e6 * event['size']:+.0f} ppm" if np.isfinite(event["size"]) else "not known",
            f"{1e6 * event['size_err']:.0f} ppm" if np.isfinite(event["size_err"]) else "-",
        )
        for event in model.events
    ]


def event_note(model: TSOLightCurveModel) -> str:
    """Explain what the sizes of the events include.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    str
        A sentence; empty where there are no events.
    """
    if not len(model.events):
        return ""
    if model.record.setting("out_of_transit") == "none":
        return (
            "Sizes include changes of the star itself, such as a transit: out_of_transit was not"
            " given."
        )
    return "Sizes are of the flux out of transit."


def inputs(model: TSOLightCurveModel) -> list[str]:
    """List the inputs.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    list of str
        Name and integrations of each.
    """
    numbers = np.asarray(model.light_curve["integration"])
    lines = []
    for item in model.record.inputs:
        text, frames = str(item.get("name") or "array"), list(item.get("frames", ()))
        if len(frames) == 2 and 1 <= frames[0] <= frames[1] <= len(numbers):
            text += f": integrations {numbers[frames[0] - 1]} to {numbers[frames[1] - 1]}"
        lines.append(text)
    return lines


def summary_lines(model: TSOLightCurveModel, *, width: int | None = None) -> Iterator[str]:
    """Write the whole summary as lines of text.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.
    width : int, optional
        Characters per line; by default the width of the terminal, at least 60. Tables of numbers
        may be wider.

    Yields
    ------
    str
        A line.
    """
    width = width or max(shutil.get_terminal_size((100, 24)).columns, 60)
    for name, text in overview(model).items():
        yield from _wrapped(f"  {name:<14}", text, width)
    yield ""
    yield "noise [ppm] and its parts; * is quoted"
    rows = [("*" if chosen else "", *cells) for chosen, cells in noise_rows(model)]
    yield from _aligned([("", *NOISE_HEADINGS), *rows])
    flags = flag_counts(model)
    yield ""
    yield "flags" if flags else "flags: none"
    for name, count, text in flags:
        yield from _wrapped(f"  {name:<20}{count:>8}  ", text, width)
    events = event_rows(model)
    if events:
        yield ""
        yield "events"
        yield from _aligned([("", *EVENT_HEADINGS), *(("", *row) for row in events)])
        yield from _wrapped("  ", event_note(model), width)
    for heading, lines in (
        ("notes", [str(note) for note in model.record.notes]),
        ("inputs", inputs(model)),
        (
            "settings, where not the default",
            [f"{k} = {v}" for k, v in changed_settings(model).items()],
        ),
    ):
        if lines:
            yield ""
            yield heading
        if len(lines) > 12:
            lines = [*lines[:10], f"... {len(lines) - 11} more ...", lines[-1]]
        for line in lines:
            yield from _wrapped("  ", line, width)


def brief(model: TSOLightCurveModel) -> str:
    """Summarise a product in less than ten lines.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    str
        File, target and set-up, and the main lines of the overview.
    """
    name = str(model.meta.filename or "")
    heading = title(model) or "light curves"
    lines = [f"<{type(model).__name__}{f' {name}' if name else ''}: {heading}>"]
    for key, text in _short(model):
        lines.append(f"  {key:<14}{textwrap.shorten(text, _SHORT_WIDTH - 16, placeholder=' ...')}")
    return "\n".join(lines)


def html_summary(model: TSOLightCurveModel) -> str:
    """Write the short summary for a notebook.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    str
        HTML: a heading, and the main lines of the overview and the flags as a table.
    """
    flags = ", ".join(f"{name} {count}" for name, count, _ in flag_counts(model)) or "none"
    name = str(model.meta.filename or "")
    pairs = [("file", name)] if name else []
    pairs += [*_short(model), ("flags", flags)]
    cells = "".join(
        f'<tr><th style="text-align:left">{html.escape(key)}</th>'
        f'<td style="text-align:left">{html.escape(text)}</td></tr>'
        for key, text in pairs
    )
    heading = html.escape(title(model) or "light curves")
    return f"<div><b>{heading}</b><table>{cells}</table></div>"


def _short(model: TSOLightCurveModel) -> list[tuple[str, str]]:
    try:
        found = overview(model)
    except Exception:  # A debugger shows damaged and unfinished products, too.
        return [("integrations", "none that can be read")]
    return [(name, found[name]) for name in _SHORT if name in found]


def _wrapped(head: str, text: str, width: int) -> list[str]:
    indent = " " * len(head)
    return textwrap.wrap(
        text, width, initial_indent=head, subsequent_indent=indent, break_on_hyphens=False
    ) or [head.rstrip()]


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Align cells in columns, to the right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(f"{cell:>{size}}" for cell, size in zip(row, widths)).rstrip()
