"""The parts of a docstring, for help pages."""

import inspect
import re
import textwrap
from typing import Any, NamedTuple

_NOT_TO_BE_CONFUSED = "Not to be confused with:"


class DocstringParts(NamedTuple):
    """The parts of a docstring; absent parts are empty.

    Attributes:
        summary: the first paragraph, on one line.
        equations: each displayed equation, in LaTeX.
        similar: similar methods and the differences from them, on one line.
        entries: the text of each argument or attribute by its name, on one line.
    """

    summary: str
    equations: tuple[str, ...]
    similar: str
    entries: dict[str, str]


def parse(documented: Any) -> DocstringParts:
    """The parts of the docstring of a function, a class or a module."""
    text = inspect.getdoc(documented) or ""
    paragraphs = [paragraph.strip() for paragraph in text.split("\n\n")]
    similar = next((p for p in paragraphs if p.startswith(_NOT_TO_BE_CONFUSED)), "")
    arguments = re.search(r"^(?:Args|Attributes):\n(.*?)(?=^\w|\Z)", text, re.M | re.S)
    body = textwrap.dedent(arguments.group(1)) if arguments else ""
    return DocstringParts(
        summary=_line(paragraphs[0]),
        equations=tuple(
            textwrap.dedent("   " + equation).strip()
            for equation in re.findall(r"\$\$(.*?)\$\$", text, re.S)
        ),
        similar=_line(similar.removeprefix(_NOT_TO_BE_CONFUSED)),
        entries={
            name: _line(description)
            for name, description in re.findall(r"^(\w+): (.*?)(?=^\w|\Z)", body, re.M | re.S)
        },
    )


def _line(text: str) -> str:
    return " ".join(text.split())
