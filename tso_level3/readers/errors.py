"""Errors of the readers, checks of files, and a filter for the warnings of other libraries."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from astropy.utils.exceptions import AstropyWarning

from tso_level3.utils.threads import catch_warnings

__all__ = [
    "InputError",
    "MissingInput",
    "ProductInput",
    "TablesOnly",
    "brief",
    "check_file",
    "quiet",
]

log = logging.getLogger(__name__)


class InputError(ValueError):
    """An input cannot be used; the message names it, what was found and what was expected."""


class ProductInput(InputError):
    """A product of this package was found where images are expected."""

    def __init__(self, name: object) -> None:
        super().__init__(
            f"{name}: a product (light curve) found, expected images; tso_level3.open reads it"
        )


class TablesOnly(InputError):
    """A file that is not damaged holds tables and no image."""


class MissingInput(FileNotFoundError, InputError):
    """A file does not exist."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def brief(problem: BaseException, *, length: int = 160) -> str:
    """Shorten the message of another library to one line.

    Parameters
    ----------
    problem : BaseException
        The exception.
    length : int
        Largest number of characters.

    Returns
    -------
    str
        The message, or the type of the exception where it has none.
    """
    text = " ".join(str(problem).split()) or type(problem).__name__
    text = text if len(text) <= length else text[: length - 3] + "..."
    return text.rstrip(".")


def check_file(path: Path) -> None:
    """Check that a path is a regular file that is not empty.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    InputError
        It is missing, a broken link, a folder, a device, empty or not readable.
    """
    try:
        if path.is_file():
            if path.stat().st_size == 0:
                raise InputError(f"{path}: an empty file found, expected an image")
            return
        if path.is_dir():
            raise InputError(f"{path}: a folder found, expected a file")
        if path.is_symlink():
            raise MissingInput(f"{path}: a link to a file that does not exist")
        if path.exists():
            raise InputError(f"{path}: neither a file nor a folder, expected a file")
    except (OSError, ValueError) as problem:
        if isinstance(problem, InputError):
            raise
        raise InputError(f"{path}: cannot be read ({brief(problem)})") from problem
    raise MissingInput(f"{path}: no such file")


@contextmanager
def quiet() -> Iterator[None]:
    """Log warnings of astropy and asdf at DEBUG; other warnings are passed on."""
    with catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught or ():
        if issubclass(warning.category, AstropyWarning) or "asdf" in warning.category.__module__:
            log.debug("%s", warning.message)
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
