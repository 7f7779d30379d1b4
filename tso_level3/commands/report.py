"""The command ``report``: writes products as pages of HTML."""

from __future__ import annotations

import argparse

from tso_level3.commands.common import CommandParser, add_output_dir, write_each

__all__ = ["TEXTS", "add_arguments", "run"]

TEXTS = {
    "description": (
        "Write a product as one page of HTML that needs no other file: figures, noise of every\n"
        "radius, flags, events, notes, inputs and settings. Needs matplotlib:\n"
        'pip install "tso_level3[report]".'
    ),
    "epilog": """\
example:
  tso-level3 report x_phot.asdf --output x.html
""",
}


def add_arguments(parser: CommandParser) -> None:
    """Declare the command's arguments.

    Parameters
    ----------
    parser : CommandParser
        The command's parser.
    """
    parser.add_argument("product", nargs="+", metavar="PRODUCT", help="a _phot.asdf file")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="the file to write, ending in .html; one that exists is replaced (default: the"
        " product's name with .html, here)",
    )
    add_output_dir(parser)


def run(args: argparse.Namespace, parser: CommandParser) -> None:
    """Write the page.

    Parameters
    ----------
    args : argparse.Namespace
        The arguments.
    parser : CommandParser
        The command's parser.
    """
    from tso_level3 import report

    write_each(args, parser, report.write, ".html", (".html", ".htm"))
