"""The command ``info``: prints a summary of products."""

from __future__ import annotations

import argparse

from tso_level3.commands.common import CommandParser, say

__all__ = ["TEXTS", "add_arguments", "run"]

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
    """Print the summary of each product.

    Parameters
    ----------
    args : argparse.Namespace
        The arguments.
    parser : CommandParser
        The command's parser.
    """
    from tso_level3.product.model import open as open_product
    from tso_level3.product.summary import summary_lines

    for number, path in enumerate(args.product):
        model = open_product(path)
        if number:
            say()
        say(path)
        for line in summary_lines(model):
            say(line)
