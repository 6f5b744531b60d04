"""What a docstring says, by its parts: the house's docstrings are the one place that explains."""

import inspect
import re
import textwrap
from typing import Any, NamedTuple

_CONFUSED = "What it is confused with."


class Explained(NamedTuple):
    """The parts of a docstring; one that is not there is empty.

    Attributes:
        gist: the first paragraph, on one line.
        equations: each displayed equation, in LaTeX.
        confused: what it is confused with, on one line.
        entries: the text of each argument or attribute by its name, on one line.
    """

    gist: str
    equations: tuple[str, ...]
    confused: str
    entries: dict[str, str]


def explain(documented: Any) -> Explained:
    """The parts of the docstring of a function, a class or a module."""
    text = inspect.getdoc(documented) or ""
    paragraphs = [paragraph.strip() for paragraph in text.split("\n\n")]
    confused = next((one for one in paragraphs if one.startswith(_CONFUSED)), "")
    listed = re.search(r"^(?:Args|Attributes):\n(.*?)(?=^\w|\Z)", text, re.M | re.S)
    body = textwrap.dedent(listed.group(1)) if listed else ""
    return Explained(
        gist=_line(paragraphs[0]),
        equations=tuple(
            textwrap.dedent("   " + found).strip()
            for found in re.findall(r"\$\$(.*?)\$\$", text, re.S)
        ),
        confused=_line(confused.removeprefix(_CONFUSED)),
        entries={
            name: _line(said)
            for name, said in re.findall(r"^(\w+): (.*?)(?=^\w|\Z)", body, re.M | re.S)
        },
    )


def _line(text: str) -> str:
    return " ".join(text.split())
