"""The command ``measure``: measures images and writes the product."""

from __future__ import annotations

import argparse
import importlib.util
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tso_level3.commands.common import (
    ENDINGS,
    CommandParser,
    add_output_dir,
    check_target,
    output_path,
    pixels,
    ppm,
    say,
)
from tso_level3.config.settings import Settings, fields_of, from_strings
from tso_level3.flags import DQ_BITS

if TYPE_CHECKING:
    import dataclasses

    from tso_level3.product.model import TSOLightCurveModel

__all__ = ["GROUPS", "TEXTS", "add_arguments", "default_name", "run"]

TEXTS = {
    "usage": "tso-level3 measure SOURCE [SOURCE ...] [options]",
    "description": (
        "Measure the light curve of a star in a series of images, with many apertures at once,\n"
        "and write times, centres, shapes, background, fluxes and their errors to one file.\n\n"
        "No calibration server is asked. Data in DN or DN/s need --gain to come out in\nelectrons."
    ),
    "epilog": """\
examples:
  One exposure of NIRCam, with what its observing mode asks for:
    tso-level3 measure x_calints.fits
  Three segments, own radii, the star near x = 31.2, y = 30.8, a box of 21 x 21 for centring:
    tso-level3 measure x-seg00*_calints.fits --radii 3 4 5 --position 31.2 30.8 --subframe 21
  A folder of images from the ground, those through one filter alone:
    tso-level3 measure night1/ --kernel gaussian --position 82 90 --where FILTER=R
  The parameters of an observing mode (see tso-level3 pars), one of them changed:
    tso-level3 measure x_calints.fits --parameters nircam-wlp8 --radius 55
""",
}

#: The first parameter of each group, as `Settings` orders them, and the group's title.
GROUPS = {
    "radii": "what is measured",
    "position": "where the star is",
    "background": "background",
    "fill": "missing pixels",
    "unit": "units",
    "choose_aperture": "choice and quality",
    "where": "reading",
    "chunk": "running",
    "save_catalog": "products beside the main one",
}

_METAVARS = {
    "float": "R",
    "floats": "R [R ...]",
    "int": "N",
    "size": "N [N]",
    "strs": "A [A ...]",
    "conditions": "KEY=VALUE [...]",
}
_NAMED = {"position": "X Y", "gain": "G|FILE", "unit": "UNIT", "out_of_transit": "T0 T1 [...]"}


def add_arguments(parser: CommandParser) -> None:
    """Declare the command's arguments: an option for every field of `Settings`.

    Parameters
    ----------
    parser : CommandParser
        The command's parser.
    """
    parser.add_argument(
        "source",
        nargs="+",
        metavar="SOURCE",
        help="files (calints, rateints, plain FITS, ncdhas), a folder, a pattern in quotes, a"
        " text listing, or an association; several are measured as one exposure",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help=f"the file to write, or a folder for it; its ending ({', '.join(ENDINGS)}) says"
        " in which form; one that exists is replaced (default: ROOT_phot.asdf here, where ROOT"
        " is the name of the input, as strun names it)",
    )
    add_output_dir(parser)
    parser.add_argument(
        "-p",
        "--parameters",
        metavar="FILE|MODE",
        help="a parameter file as strun takes it, or an observing mode (see tso-level3 pars);"
        " the command line wins over it",
    )
    group: Any = parser
    for item in fields_of():
        if item.name in GROUPS:
            group = parser.add_argument_group(GROUPS[item.name])
        _add_option(group, item)
        if item.metadata["kind"] in _VALUES:
            parser.lists[f"--{item.name.replace('_', '-')}"] = _VALUES[item.metadata["kind"]]


def _is_number(word: str) -> bool:
    try:
        return bool([float(part) for part in word.strip("[](), ").split(",")])
    except ValueError:
        return False


def _is_bit(word: str) -> bool:
    return all(part.isdigit() or part.upper() in DQ_BITS for part in word.strip(",").split(","))


#: Functions that tell a further value of an option from an input, by kind of parameter.
_VALUES = {
    "floats": _is_number,
    "size": _is_number,
    "strs": _is_bit,
    "conditions": lambda word: "=" in word and not word.startswith("-"),
}


def _add_option(group: Any, item: dataclasses.Field) -> None:
    meta = item.metadata
    unit = f" [{meta['unit']}]" if meta["unit"] else ""
    options: dict[str, Any] = {"dest": item.name, "default": argparse.SUPPRESS}
    text = meta["help"]
    if meta["kind"] == "bool":
        options["action"] = argparse.BooleanOptionalAction
        default = f" (default: {'yes' if item.default else 'no'})"
    else:
        options["metavar"] = _NAMED.get(item.name) or (
            "|".join(meta["choices"]) if meta["choices"] else _METAVARS.get(meta["kind"], "TEXT")
        )
        shown = item.default
        shown = ",".join(map(str, shown)) if isinstance(shown, tuple) else shown
        # The help says what None means.
        default = f" (default: {shown})" if shown is not None else ""
    group.add_argument(
        f"--{item.name.replace('_', '-')}",
        help=(text + unit + default).replace("%", "%%"),
        **options,
    )


def run(args: argparse.Namespace, parser: CommandParser) -> int:
    """Measure, write, and print a line about it.

    Parameters
    ----------
    args : argparse.Namespace
        The arguments.
    parser : CommandParser
        The command's parser, for errors of the command line.
    """
    began = time.perf_counter()
    settings = _settings_of(args, parser)
    output = output_path(args, ".", parser)
    named = not output.is_dir()
    if named:
        check_target(output, ENDINGS)
        _check_form(output)
        _check_inputs(output, args.source)

    from tso_level3.report.further import check_packages
    from tso_level3.run.measure import measure
    from tso_level3.utils.progress import progress

    check_packages(settings)
    source = args.source[0] if len(args.source) == 1 else args.source
    model = measure(source, settings, progress=progress)
    if not named:
        output = output / default_name(source, model.record.inputs)
        _check_inputs(output, args.source)
    existed = output.exists()
    model.write(output)
    others = _write_further(model, settings, output)
    seconds = time.perf_counter() - began
    verb = "replaced" if existed else "wrote"
    beside = f" and {', '.join(others)}" if others else ""
    say(f"{verb} {output}{beside}: {_summary(model)}, {seconds:.1f} s")
    return 2 if model.record.grade == "failed" else 0


def _settings_of(args: argparse.Namespace, parser: CommandParser) -> Settings:
    """Make the settings of the command line and, below it, of the parameter file."""
    from tso_level3.commands.parameter_file import read_parameters

    given = {item.name: getattr(args, item.name) for item in fields_of() if item.name in args}
    try:
        from_strings(given)
    except ValueError as error:
        parser.error(str(error))
    values = read_parameters(args.parameters) if args.parameters else {}
    return from_strings(values | given)


def _check_form(output: Path) -> None:
    """Check, before the measurement, that the packages for a form of file are installed."""
    from tso_level3.product.exports import OPTIONAL

    module, extra = OPTIONAL.get(output.suffix.lower(), (None, None))
    if module is not None and importlib.util.find_spec(module) is None:
        raise ImportError(
            f"--output: {module} not found, expected it for {output.suffix}; "
            f'install it with pip install "tso_level3[{extra}]"'
        )


def _check_inputs(output: Path, sources: list[str]) -> None:
    """Check that no input is replaced by the product."""
    from tso_level3.readers.listings import files_of
    from tso_level3.readers.open import is_product

    if not output.exists():
        return
    for name in sources:
        members = [item for item in files_of(name).items if isinstance(item, str | Path)]
        for path in [Path(name), *map(Path, members)]:
            # A product of an earlier run in a folder of inputs is no input.
            if path.exists() and output.samefile(path) and not is_product(path):
                raise ValueError(f"--output: {output} is an input, expected another name")


def default_name(source: str | list[str], inputs: Sequence[Mapping[str, Any]]) -> str:
    """Name a product as `strun` does.

    Parameters
    ----------
    source : str or list of str
        The inputs of the command.
    inputs : sequence of mapping
        The inputs in the record of the product.

    Returns
    -------
    str
        ``<root>_phot.asdf``: after an association's product, else after the file, folder or
        listing, without the suffix of a level-2 product; of several the first.
    """
    from jwst.lib.suffix import remove_suffix

    from tso_level3.stpipe.inputs import root_name

    base = Path(root_name(source, inputs) or "light_curve").name
    root, _ = remove_suffix(Path(base).stem)
    return f"{root}_phot.asdf"


def _write_further(model: TSOLightCurveModel, settings: Settings, output: Path) -> list[str]:
    """Write the further products under the product's name; returns their names."""
    from tso_level3.report.further import ENDINGS, save_further

    def path_of(name: str) -> str | None:
        path = output.with_suffix(f".{ENDINGS[name]}")
        if path != output:
            return str(path)
        # The light curve itself has that name.
        catalog = output.with_name(f"{output.stem}_catalog{output.suffix}")
        return None if name == "save_fits" else str(catalog)

    return [path for _, path in save_further(model, settings, path_of)]


def _summary(model: TSOLightCurveModel) -> str:
    quoted = model.quoted
    count = len(model.light_curve)
    parts = [f"{count} integration{'s' if count != 1 else ''}"]
    if quoted.kind == "psf":
        parts.append("fit of the mean image")
    else:
        parts.append(f"r = {pixels(quoted.radius)} pix")
        if quoted.sky:
            parts.append(quoted.sky)
    if math.isfinite(quoted.scatter):
        parts.append(f"scatter {ppm(quoted.scatter)} (expected {ppm(quoted.expected)})")
    grade = model.record.grade
    return ", ".join(parts if grade == "good" else [*parts, grade])
