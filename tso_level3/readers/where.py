"""Select inputs by conditions on the keywords of their headers (the parameter ``where``)."""

from __future__ import annotations

import difflib
import fnmatch
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tso_level3.readers.errors import InputError, MissingInput
from tso_level3.readers.fits.cards import value
from tso_level3.readers.fits.scan import scan
from tso_level3.readers.metadata import KEYWORDS, get

__all__ = ["Selector"]

_PLACES = {keyword: place for place, keyword in KEYWORDS.items()}


@dataclass(frozen=True, eq=False)
class Selector:
    """Accepts inputs that fulfil all conditions, and collects the values it found for an error.

    Attributes
    ----------
    conditions : sequence of str
        Conditions ``KEYWORD=VALUE``. Case does not matter, numbers are compared as numbers, and
        ``*`` and ``?`` in a value stand for any text and any character.
    """

    conditions: Sequence[str]
    _found: dict[str, Counter] = field(default_factory=dict)
    _keywords: set[str] = field(default_factory=set)

    def accepts(self, path: Path | None, tree: Mapping[str, Any] | None = None) -> bool:
        """Whether an input fulfils all conditions.

        Parameters
        ----------
        path : Path or None
            A FITS file, of which the headers of all HDUs are read.
        tree : mapping, optional
            Metadata of an input that is not a FITS file.

        Returns
        -------
        bool
            True where there are no conditions.
        """
        if not self.conditions:
            return True
        headers: list[Mapping[str, Any]]
        if path is not None:
            headers = [hdu.header for hdu in scan(path).hdus]
        else:
            headers = [{key: get(tree or {}, place) for key, place in _PLACES.items()}]
        self._keywords.update(*headers)
        good = True
        for condition in self.conditions:
            key, _, pattern = condition.partition("=")
            key = key.strip().upper()
            held = next((v for v in (value(h, key) for h in headers) if v is not None), None)
            self._found.setdefault(key, Counter())[held] += 1
            good = good and _matches(held, pattern.strip())
        return good

    def error(self) -> InputError:
        """Make the error for the case that no input was accepted."""
        words = []
        for key, held in self._found.items():
            known = [f"{v} ({n})" for v, n in held.most_common(8) if v is not None]
            near = difflib.get_close_matches(key, self._keywords - {key}, 1)
            hint = f", perhaps {near[0]}" if near and not known else ""
            words.append(f"{key} is {', '.join(known)}" if known else f"no {key} there{hint}")
        shown = ", ".join(self.conditions)
        return MissingInput(f"where: {shown} found in none of the inputs ({'; '.join(words)})")


def _matches(held: Any, pattern: str) -> bool:
    if held is None:
        return False
    try:
        return float(held) == float(pattern)
    except ValueError:
        words = {True: ("t", "true"), False: ("f", "false")}.get(held, (str(held).lower(),))
        return any(fnmatch.fnmatchcase(word, pattern.lower()) for word in words)
