"""The table of parameters in the documents is that of the code."""

from pathlib import Path

from tso_level3.config.fields import expected
from tso_level3.config.settings import fields_of

PAGE = Path(__file__).parents[3] / "spec" / "parameters.md"


def table():
    """Write the table as it must stand on the page."""
    lines = [
        "| parameter | default | unit | allowed | meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    for item in fields_of():
        default = item.default
        if isinstance(default, tuple):
            default = ", ".join(str(value) for value in default)
        shown = "" if default is None else f"`{default}`"
        text = item.metadata["help"].replace("|", "/")
        lines.append(
            f"| `{item.name}` | {shown} | {item.metadata['unit']} | {expected(item)} | {text} |"
        )
    return "\n".join(lines)


def test_the_page_lists_every_parameter_as_it_is():
    assert table() in PAGE.read_text()


def test_no_help_has_a_percent_sign():
    assert not any("%" in item.metadata["help"] for item in fields_of())
