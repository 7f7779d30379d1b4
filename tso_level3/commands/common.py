"""Shared by the commands: parser of the command line, messages, log and output files."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

__all__ = [
    "ENDINGS",
    "NAME",
    "CommandParser",
    "add_output_dir",
    "check_target",
    "output_path",
    "pixels",
    "ppm",
    "say",
    "set_up_log",
    "warn_user",
    "write_each",
]

NAME = "tso-level3"

#: Endings of the files that `tso_level3.product.exports.write` makes.
ENDINGS = (".asdf", ".fits", ".ecsv", ".csv", ".parquet", ".h5")


class CommandParser(argparse.ArgumentParser):
    """A parser with errors of one line and examples that are printed as written.

    Parameters
    ----------
    quiet : bool
        Whether to add the options of every command.
    **kwargs
        As for `argparse.ArgumentParser`.
    """

    def __init__(self, *, quiet: bool = True, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        #: Options that take several values, and the function that tells a value from an input.
        self.lists: dict[str, Callable[[str], bool]] = {}
        # A new option can make an abbreviation ambiguous.
        super().__init__(allow_abbrev=False, **kwargs)
        if quiet:
            self.add_argument("-v", "--verbose", action="store_true", help="show the log")
            self.add_argument(
                "--debug", action="store_true", help="show the log, and where an error happened"
            )

    def error(self, message: str) -> NoReturn:
        """End the process with an error of the command line.

        Parameters
        ----------
        message : str
            The error.
        """
        before, unknown, names = message.partition("unrecognized arguments: ")
        if unknown:
            from tso_level3.config.fields import nearest  # NumPy comes with it

            words = [word for word in names.split() if word.startswith("-")][:1]
            meant = [nearest(word.partition("=")[0], self._option_string_actions) for word in words]
            message = f"{before}{unknown}{names}{''.join(meant)}"
        self.exit(2, f"{NAME}: error: {message} (see {self.prog} --help)\n")

    def join_lists(self, arguments: Sequence[str]) -> list[str]:
        """Join the values of options that take several: ``--radii 3 4 5`` to ``--radii=3,4,5``.

        Otherwise they would be taken for inputs.

        Parameters
        ----------
        arguments : sequence of str
            The arguments.

        Returns
        -------
        list of str
            The arguments with joined values.
        """
        out: list[str] = []
        rest = list(arguments)
        while rest:
            argument = rest.pop(0)
            name, equal, first = argument.partition("=")
            if name not in self.lists or not (equal or rest):
                out.append(argument)
                continue
            values = [first if equal else rest.pop(0)]
            while rest and self.lists[name](rest[0]):
                values.append(rest.pop(0))
            out.append(f"{name}={','.join(value.strip().strip(',') for value in values)}")
        return out


def say(text: str = "") -> None:
    """Write a line to standard output.

    Parameters
    ----------
    text : str
        The line.
    """
    try:
        sys.stdout.write(f"{text}\n")
    except UnicodeEncodeError:  # a file name that the terminal's encoding does not have
        sys.stdout.write(f"{text.encode('ascii', 'backslashreplace').decode('ascii')}\n")


def warn_user(text: str, *, after_bar: bool = False) -> None:
    """Write a line to standard error, after the command's name.

    Parameters
    ----------
    text : str
        The line.
    after_bar : bool
        Whether a terminal may be in the middle of a line: after an unfinished progress bar, or
        the ``^C`` that it shows.
    """
    if after_bar and sys.stderr.isatty():
        sys.stderr.write("\n")
    sys.stderr.write(f"{NAME}: {text.encode('utf-8', 'backslashreplace').decode('utf-8')}\n")


class _LogHandler(logging.Handler):
    """Writes above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            if "tqdm" in sys.modules:
                sys.modules["tqdm"].tqdm.write(line, file=sys.stderr)
            else:
                sys.stderr.write(f"{line}\n")
        except Exception:
            self.handleError(record)


def set_up_log(*, verbose: bool) -> None:
    """Send the log to standard error.

    Parameters
    ----------
    verbose : bool
        Whether all of it is shown, with its times and the warnings of other packages, or only
        what this package warns of.
    """
    handler = _LogHandler()
    if verbose:
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
    else:
        handler.setFormatter(_Short())
    root = logging.getLogger()
    for old in [item for item in root.handlers if isinstance(item, _LogHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    logging.getLogger("tso_level3").setLevel(logging.INFO if verbose else logging.WARNING)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").setLevel(logging.WARNING if verbose else logging.ERROR)


class _Short(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{NAME}: {record.levelname.lower()}: {record.getMessage()}"


def check_target(path: Path, endings: tuple[str, ...] = (), *, option: str = "--output") -> Path:
    """Check that a file can be written, before the measurement.

    Parameters
    ----------
    path : Path
        The file.
    endings : tuple of str
        Endings that its name may have; any where empty.
    option : str
        The option that gave it, for errors.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        Its ending is none of these.
    OSError
        Its folder does not exist, or it is a folder itself.
    """
    if endings and path.suffix.lower() not in endings:
        found = f"ending {path.suffix!r}" if path.suffix else "no ending"
        raise ValueError(f"{option}: {path}: {found} found, expected one of {', '.join(endings)}")
    if path.is_dir():
        raise IsADirectoryError(f"{option}: {path}: a folder found, expected a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{option}: {path}: no folder {path.parent} found to write it to")
    return path


def add_output_dir(parser: CommandParser) -> None:
    """Declare ``--output-dir``.

    Parameters
    ----------
    parser : CommandParser
        The command's parser.
    """
    parser.add_argument(
        "--output-dir",
        metavar="DIR",
        help="the folder of what is written; made if it does not exist (default: here)",
    )


def output_path(args: argparse.Namespace, name: str, parser: CommandParser) -> Path:
    """Join ``--output-dir``, which is made if it does not exist, and ``--output``.

    Parameters
    ----------
    args : argparse.Namespace
        Its ``output`` and ``output_dir``.
    name : str
        Name of the file where ``output`` is not given.
    parser : CommandParser
        The command's parser, for errors.

    Returns
    -------
    Path
        The file, or a folder for it.
    """
    path = Path(args.output or name).expanduser()
    if args.output_dir is None:
        return path
    if args.output and path.name != args.output:
        parser.error(f"--output: {args.output} found beside --output-dir, expected a name alone")
    folder = Path(args.output_dir).expanduser()
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--output-dir: {folder}: a file found, expected a folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / path


def ppm(value: float) -> str:
    """Write a relative number in parts per million.

    Parameters
    ----------
    value : float
        The number.

    Returns
    -------
    str
        Such as ``213 ppm``.
    """
    return f"{1e6 * float(value):.0f} ppm" if value == value else "unknown"


def pixels(value: float) -> str:
    """Write a number of pixels.

    Parameters
    ----------
    value : float
        The number.

    Returns
    -------
    str
        Such as ``4.5``.
    """
    return f"{float(value):.4g}"


def write_each(
    args: argparse.Namespace,
    parser: CommandParser,
    write: Callable[[Any, Path], Any],
    ending: str,
    endings: tuple[str, ...] = (),
) -> None:
    """Write one file for each product that a command names.

    Parameters
    ----------
    args : argparse.Namespace
        Its ``product``, a list of names, and ``output``, for one product alone.
    parser : CommandParser
        The command's parser.
    write : callable
        Takes a product and the path to write.
    ending : str
        Ending of a file that was not named.
    endings : tuple of str
        Endings that a named file may have; any where empty.
    """
    from tso_level3.product.model import open as open_product

    if args.output and len(args.product) > 1:
        parser.error(f"--output: one name found for {len(args.product)} products, expected none")
    for product in args.product:
        path = output_path(args, f"{Path(product).stem}{ending}", parser)
        check_target(path, endings)
        model = open_product(product)
        existed = path.exists()
        write(model, path)
        say(f"{'replaced' if existed else 'wrote'} {path}")
