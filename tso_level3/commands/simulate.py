"""The command ``simulate``: writes a synthetic exposure as level-2 files."""

from __future__ import annotations

import argparse
import ast
import dataclasses
from pathlib import Path
from typing import Any

from tso_level3.commands.common import CommandParser, say

__all__ = ["IMPORTANT", "TEXTS", "add_arguments", "parse_field", "run"]

TEXTS = {
    "usage": "tso-level3 simulate [options]",
    "description": (
        "Write a synthetic exposure as calints files, with their association and a table of the\n"
        "truth: four hours with a transit of two, in about 120 MB, where the options say nothing\n"
        "else. The same options give the same pixels."
    ),
    "epilog": """\
examples:
  tso-level3 simulate
  tso-level3 simulate --preset WLP8 --segments 2 --output-dir wlp8
  tso-level3 simulate --n-int 200 --cosmic-rays 0.3 --set bad_random=1e-4 --set drift=0.2,0
  tso-level3 simulate --list
""",
}

#: Fields of `Simulation` that have an option of their own, and their help.
IMPORTANT = {
    "n_int": "number of integrations; by default as many as make 5 million pixels",
    "segments": "number of files the exposure is cut into",
    "flux": "electrons of the star per integration",
    "background": "sky [electron per pixel and integration]",
    "transit_depth": "squared ratio of the radii; 0: no transit",
    "transit_duration": "from first to fourth contact [h]; by default half of the exposure",
    "jitter": "rms of the pointing [pix]",
    "cosmic_rays": "mean number of hits left per integration",
    "ngroups": "groups per integration, which set its length; by default what fills the hours",
    "unit": "MJy/sr or DN/s",
    "seed": "seed of the random numbers",
}

# Fields that are lists, and the number of values in each of their items.
_LISTS = {"companions": 3, "bad_pixels": 2, "jumps": 3, "antenna_moves": 4}


def add_arguments(parser: CommandParser) -> None:
    """Declare the command's arguments.

    Parameters
    ----------
    parser : CommandParser
        The command's parser.
    """
    parser.add_argument(
        "--output-dir", metavar="DIR", default=".", help="made if it does not exist (default: here)"
    )
    parser.add_argument(
        "--preset", metavar="NAME", default="F210M", help="an observing mode (default: F210M)"
    )
    parser.add_argument(
        "--hours",
        metavar="VALUE",
        type=float,
        help="length of the exposure, where --ngroups does not set it (default: 4)",
    )
    for name, text in IMPORTANT.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            metavar="VALUE",
            help=text if "by default" in text else f"{text} (by preset)",
        )
    parser.add_argument(
        "--set",
        dest="others",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="any other field of tso_level3.simulate.Simulation; may be repeated",
    )
    parser.add_argument(
        "--list",
        action="store_true",
        help="list the presets, and all fields as the preset has them, and do nothing",
    )


def run(args: argparse.Namespace, parser: CommandParser) -> None:
    """Write the exposure, and print the names of its files.

    Parameters
    ----------
    args : argparse.Namespace
        The arguments.
    parser : CommandParser
        The command's parser, for errors of the command line.
    """
    from tso_level3.simulate import PRESETS, simulate_files, timeline, visit
    from tso_level3.simulate.visits import HOURS

    if args.list:
        say(f"presets: {', '.join(PRESETS)}")
        try:
            sim = visit(args.preset)
        except ValueError as error:
            parser.error(str(error))
        for name in _defaults():
            say(f"  {name} = {getattr(sim, name)!r}")
        return
    changes = {name: getattr(args, name) for name in IMPORTANT if getattr(args, name) is not None}
    for item in args.others:
        name, equal, value = item.partition("=")
        if not equal:
            parser.error(f"--set: {item!r} found, expected NAME=VALUE")
        changes[name.strip().replace("-", "_")] = value
    try:
        values = {name: parse_field(name, text) for name, text in changes.items()}
        sim = visit(args.preset, hours=HOURS if args.hours is None else args.hours, **values)
    except ValueError as error:
        parser.error(str(error))
    files = simulate_files(sim, args.output_dir)
    say(f"wrote {sim.description}")
    say(f"  {timeline(sim)}")
    for path in (*files.segments, files.association, files.truth):
        say(f"  {_size(path):>7}  {path}")
    say(f"next: tso-level3 measure {files.association}")


def _size(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{max(size / 1e3, 1):.0f} kB"


def _defaults() -> dict[str, Any]:
    from tso_level3.simulate import Simulation

    return {field.name: field.default for field in dataclasses.fields(Simulation)}


def parse_field(name: str, text: str) -> Any:
    """Read the value of a field of `Simulation`.

    Parameters
    ----------
    name : str
        The field.
    text : str
        Its value: a number, a text, true or false, none, numbers with commas, or a list as Python
        writes it.

    Returns
    -------
    object
        The value, of the kind that the field has.

    Raises
    ------
    ValueError
        There is no such field, or the value is of another kind.
    """
    from tso_level3.simulate import Tilt

    defaults = _defaults()
    if name not in defaults:
        raise ValueError(f"{name}: not a field, expected one of {', '.join(defaults)}")
    default = defaults[name]
    if isinstance(default, str):
        return text.strip()
    value = _literal(text)
    if isinstance(default, bool):
        good, expected = isinstance(value, bool), "true or false"
    elif isinstance(default, int):
        value = int(value) if isinstance(value, float) and value == int(value) else value
        good, expected = _number(value) and value == int(value), "a whole number"
    elif isinstance(default, float):
        good, expected = _number(value), "a number"
    elif default is None:
        pair = isinstance(value, tuple) and all(map(_number, value))
        good = value is None or (pair if name == "position" else _number(value))
        expected = "two numbers, or none" if name == "position" else "a number, or none"
    elif name == "tilts":
        tilts = value if isinstance(value, (tuple, list)) else (value,)
        good, expected = all(isinstance(tilt, dict) for tilt in tilts), "a dict, or a list of dicts"
        try:
            value = tuple(Tilt(**tilt) for tilt in tilts) if good else value
        except TypeError:
            good = False
    elif name in _LISTS:
        value = tuple(value) if isinstance(value, (tuple, list)) else (value,)
        value = (value,) if value and all(map(_number, value)) else value
        size = _LISTS[name]
        good = all(isinstance(v, (tuple, list)) and len(v) == size for v in value)
        good = good and all(_number(part) for v in value for part in v)
        expected = f"{size} numbers, or a list of such"
    else:
        good = isinstance(value, (tuple, list)) and len(value) == 2 and all(map(_number, value))
        expected = "two numbers"
    if not good:
        raise ValueError(f"{name}: {text!r} found, expected {expected}")
    return value


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _literal(text: str) -> Any:
    words = {"true": True, "false": False, "none": None, "": None}
    plain = text.strip()
    if plain.lower() in words:
        return words[plain.lower()]
    try:
        return ast.literal_eval(plain)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return plain
