"""Extracts the program from a completion."""

import re

from markdown_it import MarkdownIt

_PYTHON = ("python", "python3", "py")
_LANGUAGE = re.compile(r"[{.]*([\w+#-]*)")

# Completions are no HTML: tags around a program, such as <answer>, do not hide it. The content of
# paragraphs, and definitions of links, are not needed.
_MARKDOWN = MarkdownIt("commonmark")
_MARKDOWN.disable(["html_block", "reference", "inline"])


def extract_program(text: str) -> str | None:
    """The last block of Python after the last `</think>`, or None if there is none.

    A block is a fenced code block of CommonMark (https://spec.commonmark.org, section 4.5): three
    or more backticks or tildes, also in a list or a quotation, with the language as the first word
    after the opening ones. Blocks marked as Python take precedence over unmarked ones in any order,
    because an answer often ends with the program's output; blocks of other languages are skipped.
    Unlike in CommonMark, a block that was cut off is ignored, and HTML has no meaning.

    Args:
        text: a completion.
    """
    answer = text.rpartition("</think>")[2]
    if "```" not in answer and "~~~" not in answer:
        return None
    blocks: dict[str, str] = {}
    for token in _MARKDOWN.parse(f"{answer}\n"):
        if token.type != "fence" or token.map is None:
            continue
        first, end = token.map
        if end - first < token.content.count("\n") + 2:  # without a closing line
            continue
        word = _LANGUAGE.match(token.info.strip())
        language = word[1].lower() if word else ""
        blocks["python" if language in _PYTHON else language] = token.content.removesuffix("\n")
    return blocks.get("python", blocks.get(""))
