"""The command ``plot``: draws the light curve of products."""

from __future__ import annotations

import argparse

from tso_level3.commands.common import CommandParser, add_output_dir, write_each

__all__ = ["TEXTS", "add_arguments", "run"]

TEXTS = {
    "description": (
        "Draw the quoted light curve of a product, with the star's motion, the background and the\n"
        'width below it. Needs matplotlib: pip install "tso_level3[report]".'
    ),
    "epilog": """\
examples:
  tso-level3 plot x_phot.asdf
  tso-level3 plot x_phot.asdf --output figure.pdf
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
        help="the file to write; its ending (.png, .pdf, .svg, ...) says in which form; one that"
        " exists is replaced (default: the product's name with .png, here)",
    )
    add_output_dir(parser)


def run(args: argparse.Namespace, parser: CommandParser) -> None:
    """Draw the product.

    Parameters
    ----------
    args : argparse.Namespace
        The arguments.
    parser : CommandParser
        The command's parser.
    """
    from tso_level3.report.plots import light_curve

    write_each(args, parser, light_curve, ".png")
