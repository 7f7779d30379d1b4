"""The page on the product says what the product holds."""

import re
from pathlib import Path

import pytest

from tso_level3.columns import APERTURES, EVENTS, GRID, LIGHT_CURVE
from tso_level3.flags import DESCRIPTIONS, Flag
from tso_level3.product.model import FORMAT_VERSION

PAGE = Path(__file__).parents[3] / "spec" / "product.md"
TABLES = {"light_curve": LIGHT_CURVE, "apertures": APERTURES, "grid": GRID, "events": EVENTS}


def expected_rows(items):
    """The rows of a table of columns."""
    keyed = any(item.key for item in items)
    for item in items:
        kind = {"f8": "float", "i4": "int", "u4": "uint32", "?": "bool"}.get(item.dtype, "text")
        cells = [f"`{item.name}`", item.unit, kind + (f" x {item.shape}" if item.shape else "")]
        cells.append(item.description)
        if keyed:
            cells.append(", ".join(part for part in item.key if part) if item.key else "")
        yield "| " + " | ".join(cells) + " |"


def expected_flags():
    """The rows of the table of flags."""
    for flag in Flag:
        yield f"| {int(flag).bit_length() - 1} | `{flag.name}` | {DESCRIPTIONS[flag]} |"


def rows_under(heading):
    """The rows of the table under a heading of the page."""
    text = PAGE.read_text(encoding="utf-8")
    section = re.search(rf"^### {heading}\n(.*?)(?=^#|\Z)", text, re.M | re.S).group(1)
    return [line for line in section.splitlines() if line.startswith("|")][2:]


@pytest.mark.parametrize("name", list(TABLES))
def test_columns(name):
    assert rows_under(f"`{name}`") == list(expected_rows(TABLES[name]))


def test_flags():
    assert rows_under("Flags") == list(expected_flags())


def test_format_version():
    assert f"Format version: **{FORMAT_VERSION}**" in PAGE.read_text(encoding="utf-8")
