"""Report of a product as one page of HTML (extra ``report``)."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tso_level3.product.summary import (
    EVENT_HEADINGS,
    NOISE_HEADINGS,
    changed_settings,
    event_note,
    event_rows,
    flag_counts,
    inputs,
    noise_rows,
    overview,
    title,
)
from tso_level3.utils.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tso_level3.product.model import TSOLightCurveModel

__all__ = ["page", "write"]


def page(model: TSOLightCurveModel) -> str:
    """Write a product as one self-contained page of HTML.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    str
        The page.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    from tso_level3.report.plots import light_curve

    figure, noise = light_curve(model), noise_rows(model)
    heading = title(model) or str(model.meta.filename)
    parts = [
        f"<h1>{_text(heading)}</h1>",
        f"<p>{_text(model.meta.filename)}</p>",
        _definitions(overview(model)),
        "<h2>Light curve</h2>",
        _image(figure, "The light curve, and below it the centre, the background and the width"),
        "<h2>Noise</h2>",
        _image(_noise_figure(model), "Noise against radius, and scatter against bin size"),
        _table(NOISE_HEADINGS, [cells for _, cells in noise], [chosen for chosen, _ in noise]),
        "<p>Scatter and noise in parts per million; the primary measurement is marked.</p>",
        "<h2>Flags</h2>",
        _table(("flag", "integrations", "meaning"), flag_counts(model)),
        "<h2>Events</h2>",
        _table(EVENT_HEADINGS, event_rows(model)),
        f"<p>{_text(event_note(model))}</p>",
        "<h2>Notes</h2>",
        _list(model.record.notes),
        "<h2>Inputs</h2>",
        _list(inputs(model)),
        "<h2>Settings</h2>",
        "<p>Those that are not at their defaults:</p>",
        _table(("parameter", "value"), changed_settings(model).items()),
    ]
    return _FRAME.format(title=_text(heading), style=_STYLE, body="\n".join(parts))


def write(model: TSOLightCurveModel, path: str | os.PathLike) -> str:
    """Write the page to a file.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.
    path : str or path-like
        The file; an existing one is replaced.

    Returns
    -------
    str
        The file.
    """
    text = page(model)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return str(Path(path))


def _noise_figure(model: TSOLightCurveModel) -> Figure:
    """Draw noise against radius, and scatter against bin size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    table = model.apertures[np.asarray(model.apertures["kind"]) == "aperture"]
    lines = {
        "scatter": ("measured", "o-", "#1f5fa8"),
        "expected": ("expected", "-", "black"),
        "photon_noise": ("photons", "--", "#6b7280"),
        "read_noise": ("read noise", ":", "#6b7280"),
        "background_noise": ("background", "-.", "#6b7280"),
        "pointing_noise": ("pointing", "--", "#d97706"),
    }
    for name, (label, style, color) in lines.items():
        values = 1e6 * np.asarray(table[name], dtype=float)
        if (values > 0).any():
            left.plot(table["radius"], values, style, color=color, ms=4, label=label)
    chosen = table[np.asarray(table["chosen"], dtype=bool)]
    if len(chosen):
        left.axvline(chosen["radius"][0], color="#b91c1c", lw=0.8, label="quoted")
    left.set(xlabel="radius [pix]", ylabel="noise per integration [ppm]", yscale="log")
    averaging = model.record.averaging
    for series, style, label in (
        (averaging.scatter, "o-", "measured"),
        (averaging.white, "k--", "white noise"),
    ):
        values = 1e6 * np.asarray(series, dtype=float)
        if (values > 0).any():
            right.plot(averaging.size, values, style, ms=4, label=label)
    right.set(xlabel="integrations per bin", ylabel="scatter of bins [ppm]")
    right.set(xscale="log", yscale="log")
    for axis in (left, right):
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8, frameon=False)
    return figure


def _image(figure: Figure, words: str) -> str:
    """Embed a figure in the page."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    code = base64.b64encode(stream.getvalue()).decode("ascii")
    return f'<img alt="{_text(words)}" src="data:image/png;base64,{code}"/>'


def _text(words: object) -> str:
    return html.escape(str(words), quote=True)


def _definitions(pairs: dict[str, str]) -> str:
    rows = "".join(f"<tr><th>{_text(k)}</th><td>{_text(v)}</td></tr>" for k, v in pairs.items())
    return f'<table class="overview">{rows}</table>'


def _table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], chosen: Sequence[bool] | None = None
) -> str:
    """Write rows as a table, some of them marked."""
    rows = list(rows)
    if not rows:
        return "<p>None.</p>"
    lines = ["<tr>" + "".join(f"<th>{_text(name)}</th>" for name in headings) + "</tr>"]
    for k, row in enumerate(rows):
        mark = ' class="chosen"' if chosen is not None and chosen[k] else ""
        lines.append(f"<tr{mark}>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>")
    return f"<table>{''.join(lines)}</table>"


def _list(sentences: Sequence[str]) -> str:
    if not sentences:
        return "<p>None.</p>"
    return f"<ul>{''.join(f'<li>{_text(line)}</li>' for line in sentences)}</ul>"


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2937; background: #fff;
       max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; }
h2 { font-size: 1.15rem; margin-top: 2rem; border-bottom: 1px solid #d1d5db; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums;
        display: block; overflow-x: auto; }
th, td { text-align: left; padding: 0.15rem 0.9rem 0.15rem 0; vertical-align: top; }
th { color: #4b5563; font-weight: 600; }
table.overview th { white-space: nowrap; }
tr.chosen td { background: #e0ecfa; font-weight: 600; }
"""

_FRAME = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
