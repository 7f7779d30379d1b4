"""The command ``pars``: lists the parameter files of the observing modes."""

from __future__ import annotations

import argparse
from pathlib import Path

from tso_level3.commands.common import CommandParser, say
from tso_level3.config.parameter_files import parameters

__all__ = ["TEXTS", "add_arguments", "run"]

TEXTS = {
    "description": (
        "List the parameter files that come with the package, or print the path of one, for\n"
        "strun or to make a copy of."
    ),
    "epilog": """\
examples:
  tso-level3 pars
  strun $(tso-level3 pars nircam-wlp8) x_calints.fits
  cp $(tso-level3 pars miri) my_parameters.asdf
""",
}


def add_arguments(parser: CommandParser) -> None:
    """Declare the command's arguments.

    Parameters
    ----------
    parser : CommandParser
        The command's parser.
    """
    parser.add_argument("mode", nargs="?", metavar="MODE", help="print the path of this one alone")


def run(args: argparse.Namespace, parser: CommandParser) -> None:
    """Print the list, or a path.

    Parameters
    ----------
    args : argparse.Namespace
        The arguments.
    parser : CommandParser
        The command's parser.
    """
    if args.mode is not None:
        say(str(parameters(args.mode)))
        return
    import asdf

    files = sorted(parameters("miri").parent.glob("*.asdf"))
    width = max(len(path.stem) for path in files)
    for path in files:
        with asdf.open(path) as file:
            text = file.tree.get("meta", {}).get("description", "")
        say(f"{path.stem:<{width}}  {text}")
    say(f"in {Path(files[0]).parent}")
