"""Extracts the program from a completion."""

import re

_FENCE = re.compile(r"^[ \t]{0,3}```[ \t]*([\w+-]*)[ \t]*\r?$")
_PYTHON = ("python", "python3", "py")


def extract_program(text: str) -> str | None:
    """The last block of Python after the last `</think>`, or None if there is none.

    A block is enclosed in lines of three backticks. Blocks marked as Python take precedence over
    unmarked ones in any order, because an answer often ends with the program's output; blocks of
    other languages are skipped. A block that was cut off is ignored.

    Args:
        text: a completion.
    """
    blocks: dict[str, str] = {}
    language, lines = None, []
    for line in text.rpartition("</think>")[2].split("\n"):
        fence = _FENCE.match(line)
        if language is None:
            if fence:
                language, lines = fence[1].lower(), []
        elif fence and not fence[1]:
            blocks["python" if language in _PYTHON else language] = "\n".join(lines)
            language = None
        else:
            lines.append(line)
    return blocks.get("python", blocks.get(""))
