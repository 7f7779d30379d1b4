"""The command ``info``: a product in words."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tso_level3.commands.common import CommandParser, say

if TYPE_CHECKING:
    from tso_level3.product import TSOLightCurveModel

__all__ = ["TEXTS", "add_arguments", "describe", "run"]

TEXTS = {
    "description": (
        "Say what is in a product: target, times, the quoted aperture, the noise of every radius,\n"
        "the kernel, flags, events, notes and the parameters that were changed."
    ),
    "epilog": "example:\n  tso-level3 info x_phot.asdf",
}


def add_arguments(parser: CommandParser) -> None:
    """Declare the command's arguments.

    Parameters
    ----------
    parser : CommandParser
        The command's parser.
    """
    parser.add_argument("product", nargs="+", metavar="PRODUCT", help="a _phot.asdf file")


def run(args: argparse.Namespace, parser: CommandParser) -> None:
    """Print what each product holds.

    Parameters
    ----------
    args : argparse.Namespace
        The arguments.
    parser : CommandParser
        The command's parser.
    """
    from tso_level3.product import open as open_product

    width = max(shutil.get_terminal_size((100, 24)).columns, 60)
    for number, path in enumerate(args.product):
        model = open_product(path)
        if number:
            say()
        say(path)
        for line in describe(model, width=width):
            say(line)


def describe(model: TSOLightCurveModel, *, width: int = 100) -> Iterator[str]:
    """Write a product as lines of text.

    Parameters
    ----------
    model : TSOLightCurveModel
        The product.
    width : int
        Characters in a line; tables of numbers may be wider.

    Yields
    ------
    str
        A line.
    """
    from tso_level3.report import rows as words
    from tso_level3.report.facts import facts

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
