"""The summary of a product as lines of text, as a few lines (repr) and as HTML for notebooks."""

from __future__ import annotations

import html
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tso_level3.product.summary import rows as words
from tso_level3.product.summary.facts import facts, setup

if TYPE_CHECKING:
    from tso_level3.product.model import TSOLightCurveModel

__all__ = ["brief", "html_summary", "summary_lines"]

#: What a glance at a product shows, of `facts`.
_GLANCE = ("integrations", "time", "flux", "quoted", "noise", "verdict")
_GLANCE_WIDTH = 100


def summary_lines(model: TSOLightCurveModel, *, width: int | None = None) -> Iterator[str]:
    """Write a product as lines of text.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.
    width : int, optional
        Characters in a line, by default as many as the terminal has, 60 or more; tables of numbers
        may be wider.

    Yields
    ------
    str
        A line.
    """
    width = width or max(shutil.get_terminal_size((100, 24)).columns, 60)
    for name, text in facts(model).items():
        yield from _wrapped(f"  {name:<14}", text, width)
    yield ""
    yield "noise [ppm] and what it is made of; * is quoted"
    rows = [("*" if chosen else "", *cells) for chosen, cells in words.noise_rows(model)]
    yield from _aligned([("", *words.NOISE_HEADINGS), *rows])
    flags = words.flag_counts(model)
    yield ""
    yield "flags" if flags else "flags: none"
    for name, count, text in flags:
        yield from _wrapped(f"  {name:<20}{count:>8}  ", text, width)
    events = words.event_rows(model)
    if events:
        yield ""
        yield "events"
        yield from _aligned([("", *words.EVENT_HEADINGS), *(("", *row) for row in events)])
        yield from _wrapped("  ", words.event_note(model), width)
    for title, lines in (
        ("notes", words.notes(model)),
        ("inputs", words.inputs(model)),
        ("settings", [f"{k} = {v}" for k, v in words.changed_settings(model).items()]),
    ):
        if lines:
            yield ""
            yield title if title != "settings" else "settings, where not the default"
        shown = (
            lines
            if len(lines) <= 12
            else [*lines[:10], f"... {len(lines) - 11} more ...", lines[-1]]
        )
        for line in shown:
            yield from _wrapped("  ", line, width)


def brief(model: TSOLightCurveModel) -> str:
    """Say in less than ten lines what a product holds.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    str
        Its file, target and instrument, and the main facts, a line each.
    """
    name = str(model.meta.filename or "")
    lines = [f"<{type(model).__name__}{f' {name}' if name else ''}: {_title(model)}>"]
    for key, text in _glance(model):
        lines.append(f"  {key:<14}{textwrap.shorten(text, _GLANCE_WIDTH - 16, placeholder=' ...')}")
    return "\n".join(lines)


def html_summary(model: TSOLightCurveModel) -> str:
    """Write the same for a notebook.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.

    Returns
    -------
    str
        A heading, the main facts as a table, and how much is flagged.
    """
    flags = ", ".join(f"{name} {count}" for name, count, _ in words.flag_counts(model)) or "none"
    name = str(model.meta.filename or "")
    pairs = [("file", name)] if name else []
    pairs += [*_glance(model), ("flags", flags)]
    cells = "".join(
        f'<tr><th style="text-align:left">{html.escape(key)}</th>'
        f'<td style="text-align:left">{html.escape(text)}</td></tr>'
        for key, text in pairs
    )
    return f"<div><b>{html.escape(_title(model))}</b><table>{cells}</table></div>"


def _title(model: TSOLightCurveModel) -> str:
    """Name target and instrument."""
    parts = [str(model.meta.target.catalog_name or ""), setup(model)]
    return ", ".join(part for part in parts if part) or "light curves"


def _glance(model: TSOLightCurveModel) -> list[tuple[str, str]]:
    try:
        found = facts(model)
    except Exception:  # A debugger shows products that are damaged or not yet made, too.
        return [("integrations", "none that can be read")]
    return [(name, found[name]) for name in _GLANCE if name in found]


def _wrapped(head: str, text: str, width: int) -> list[str]:
    indent = " " * len(head)
    return textwrap.wrap(
        text, width, initial_indent=head, subsequent_indent=indent, break_on_hyphens=False
    ) or [head.rstrip()]


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Put cells in columns, numbers to the right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(f"{cell:>{size}}" for cell, size in zip(row, widths)).rstrip()
