"""The command `tso-level3`: finds the command and runs its module.

A command's module is imported when the command is given, so that ``tso-level3 --help`` takes no
time.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from tso_level3._version import __version__
from tso_level3.commands.common import NAME, CommandParser, set_up_log, warn_user

__all__ = ["COMMANDS", "main"]

#: The commands, each a module of `tso_level3.commands`, and their descriptions.
COMMANDS = {
    "demo": "simulate a transit, measure it, draw it, and compare with the truth",
    "measure": "measure the light curve of a star in a series of images",
    "info": "say what is in a product",
    "plot": "draw the light curve of a product",
    "report": "write a product as one page of HTML, with figures and tables",
    "simulate": "write a synthetic exposure with known truth as level-2 files",
    "pars": "list the parameter files of the observing modes, or say where one is",
}

_EPILOG = f"""\
commands:
{chr(10).join(f"  {name:<10}{text}" for name, text in COMMANDS.items())}

Each has a page of its own: tso-level3 COMMAND --help

examples:
  tso-level3 demo
  tso-level3 measure jw01366002001_04103_00001-seg00*_nrca3_calints.fits --radii 3,4.5,6
  tso-level3 info jw01366002001_04103_00001-seg001_nrca3_phot.asdf

The same measurement is a step of the JWST calibration pipeline:
  strun tso_level3_photometry jw01366002001_04103_00001-seg001_nrca3_calints.fits
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    int
        Exit status: 0; 1 where an input or the work fails; 2 where the command line is wrong
        or the light curve failed; 130 after Ctrl-C. An error is one line on standard error.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except SystemExit as end:  # from argparse
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        warn_user("interrupted", after_bar=True)
        return 130
    except BrokenPipeError:
        # The reader has closed the pipe, as `head` does. Python would report it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if "--debug" in arguments:
            raise
        warn_user(f"error: {_sentence(error)}", after_bar="tqdm" in sys.modules)
        return 1
    return status


def _run(arguments: list[str]) -> int:
    own = [item for item in arguments if not item.startswith("-")][:1]
    place = arguments.index(own[0]) if own else len(arguments)
    parser = _top_parser()
    parser.parse_args(arguments[:place])
    if not own:
        sys.stderr.write(parser.format_help())
        return 2
    name = own[0]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        meant = f", perhaps {near[0]}" if near else ""
        parser.error(f"{name!r} found, expected a command: {', '.join(COMMANDS)}{meant}")
    module = import_module(f"tso_level3.commands.{name}")
    command = CommandParser(prog=f"{NAME} {name}", **module.TEXTS)
    module.add_arguments(command)
    args = command.parse_intermixed_args(command.join_lists(_as_options(arguments[place + 1 :])))
    set_up_log(verbose=args.verbose or args.debug)
    return module.run(args, command) or 0


def _top_parser() -> CommandParser:
    parser = CommandParser(
        prog=NAME,
        usage=f"{NAME} COMMAND [options]",
        description="Light curves from imaging time series of JWST.",
        epilog=_EPILOG,
        quiet=False,
    )
    parser.add_argument("--version", action="version", version=f"{NAME} {__version__}")
    # Accepted before the command too; `main` looks for it in the arguments.
    parser.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)
    return parser


def _as_options(arguments: Sequence[str]) -> list[str]:
    """Convert options in the form of `strun`: ``--radius_inner=5``, ``--fill=false``."""
    taken = []
    for argument in arguments:
        name, equal, value = argument.partition("=")
        if name.startswith("--"):
            name = name.replace("_", "-")
            if value in ("true", "True"):
                equal = value = ""
            elif value in ("false", "False"):
                name, equal, value = f"--no-{name[2:]}", "", ""
        taken.append(name + equal + value)
    return taken


def _sentence(error: Exception) -> str:
    """Write an error in one line."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    else:
        text = " ".join(str(error).split())
    if isinstance(error, (ValueError, OSError, ImportError, RuntimeError)) and text:
        return text
    if isinstance(error, MemoryError):
        return "not enough memory"
    kind = type(error).__name__
    return f"{kind}: {text}; this should not happen, --debug shows where it did"


if __name__ == "__main__":
    sys.exit(main())
