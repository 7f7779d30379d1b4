"""The command ``demo``: simulates a transit, measures it and compares with the truth."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tso_level3.commands.common import CommandParser, say

__all__ = ["TEXTS", "add_arguments", "run"]

TEXTS = {
    "description": (
        "Simulate a transit of some hours, measure it with the step as strun runs it, draw the\n"
        "light curve, and print how near the truth it came. It takes less than a minute and no\n"
        "network."
    ),
    "epilog": """\
examples:
  tso-level3 demo
  tso-level3 demo --preset WLP8 --output-dir /tmp/weak_lens
""",
}


def add_arguments(parser: CommandParser) -> None:
    """Declare the command's arguments.

    Parameters
    ----------
    parser : CommandParser
        The command's parser.
    """
    parser.add_argument(
        "--output-dir",
        metavar="DIR",
        default="tso_level3_demo",
        help="made if it does not exist (default: tso_level3_demo)",
    )
    parser.add_argument(
        "--preset",
        metavar="NAME",
        default="F210M",
        help="F210M, F444W, WLP8, WLP8-SUB64P, WLP4 or F1500W (default: F210M)",
    )
    parser.add_argument(
        "--n-int", metavar="N", type=int, help="integrations (default: by the size of a frame)"
    )
    parser.add_argument(
        "--seed", metavar="N", type=int, default=1, help="seed of the random numbers (default: 1)"
    )


def run(args: argparse.Namespace, parser: CommandParser) -> None:
    """Run the demonstration, and print the comparison.

    Parameters
    ----------
    args : argparse.Namespace
        The arguments.
    parser : CommandParser
        The command's parser, for errors of the command line.
    """
    from tso_level3.commands.demonstration import demo, exposure

    try:
        exposure(args.preset, n_int=args.n_int, seed=args.seed)
    except ValueError as error:
        parser.error(str(error))
    began = time.perf_counter()
    level = "INFO" if args.verbose or args.debug else "WARNING"
    folder = Path(args.output_dir).expanduser()
    done = demo(
        folder, args.preset, n_int=args.n_int, seed=args.seed, log_level=level, tell=_announce
    )
    say()
    sizes = [max(len(getattr(check, name)) for check in done.checks) for name in _COLUMNS]
    for check in done.checks:
        cells = [f"{getattr(check, name):<{size}}" for name, size in zip(_COLUMNS, sizes)]
        say(f"  {cells[0]}  {cells[1]}  truth: {cells[2]}  {cells[3]}".rstrip())
    say()
    say(f"light curve  {done.product}")
    if done.picture is not None:
        say(f"picture      {done.picture}")
    else:
        say('picture      none: install matplotlib with pip install "tso_level3[report]"')
    say(f"simulated    {', '.join(path.name for path in done.files.segments)}")
    say(f"truth        {done.files.truth}")
    say(f"{time.perf_counter() - began:.0f} s; next: tso-level3 info {done.product}")


_COLUMNS = ("name", "found", "truth", "verdict")


def _announce(line: str) -> None:
    say(line)
    sys.stdout.flush()
