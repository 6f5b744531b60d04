r"""Extracts the final answer of a completion.

In this order: `\boxed{}`, a text that consists of a number only, GSM8K's line `#### N`, a line
`Answer: N` or `answer is N`. Numbers elsewhere in the prose are not answers: a missing answer is
distinguished from a wrong one. Every function is a scan in time linear in the length of the text.
"""

import re

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])[ \t]*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BARE = re.compile(r"[^\s$]+")
_BETWEEN_BOXES = re.compile(r"(?:[\s$,;&{}]|\\quad|\\text|\band\b|\bor\b|[A-Za-z]\s*=)*")
_LABEL = re.compile(
    r"(?:answer[ \t*_`]{0,8}(?:[:\N{FULLWIDTH COLON}=]|[ \t]is\b[ \t]*:?)"
    r"|答案[ \t*_`]{0,8}(?:[:\N{FULLWIDTH COLON}=]|是|为))",
    re.IGNORECASE,
)
_MATHS = re.compile(r"\$\$?([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]")
_NUMBER = re.compile(r"\$?[-+\N{MINUS SIGN}]?[0-9.,/]+\$?")
_SENTENCE_END = re.compile(
    r"[.。](?:\s|$)|[!?;\N{FULLWIDTH EXCLAMATION MARK}\N{FULLWIDTH QUESTION MARK}]"
)


def final_answer(text: str) -> str | None:
    r"""The final answer as written, or None if there is none.

    If there is a `</think>`, only the text after the last one is read.

    The last of several boxes counts, except that boxes with only commas, `and` or `or` between them
    are one answer with several parts (`\boxed{3} and \boxed{5}` is `3, 5`), so that a policy cannot
    hedge between two answers. Empty boxes are ignored. If the last box was cut off before its
    closing brace, the completion has no answer.

    Args:
        text: a completion.
    """
    text = text.rpartition("</think>")[2]
    boxes = _boxes(text)
    if boxes is None:
        return None
    if boxes:
        return _last_box(text, boxes)
    if _NUMBER.fullmatch(text.strip()):
        return text.strip().strip("$")
    return _gsm8k_line(text) or answer_line(text)


def _gsm8k_line(text: str) -> str | None:
    """The text after the last `####`: a number, or any text if it is on the last line.

    In other positions `####` is a Markdown heading.
    """
    _, marker, rest = text.rstrip().rpartition("#### ")
    line, _, more = rest.partition("\n")
    answer = _tidied(line) if marker else None
    return answer if answer and (not more or _NUMBER.fullmatch(answer)) else None


def answer_line(text: str) -> str | None:
    """The text after the last label on its line: `Answer: 34`, `**Answer:** $34$`, `答案是34`.

    The label may be bold, have a full-width colon, and be English or Chinese; the answer ends with
    its formula, its sentence or its line. More lenient than DAPO's own check (`answer_line_dapo`).

    Args:
        text: a completion, without its thoughts.
    """
    labels = list(_LABEL.finditer(text))
    if not labels:
        return None
    line = text[labels[-1].end() :].lstrip(" \t*_`").partition("\n")[0]
    maths = _MATHS.match(line)
    if maths is not None:
        return _tidied(next(inside for inside in maths.groups() if inside is not None))
    return _tidied(_SENTENCE_END.split(line, maxsplit=1)[0])


def _boxes(text: str) -> list[tuple[int, int, str]] | None:
    """Start, end and content of each outermost non-empty box; None if the last one is cut off.

    A cut-off box before the last is skipped.
    """
    commands = list(_BOX.finditer(text))
    if not commands:
        return []
    closing = _closing_braces(text)
    boxes: list[tuple[int, int, str]] = []
    reached = 0
    for command in commands:
        start, opening = command.span()
        if start < reached:
            continue
        content, end = _content(text, opening, closing)
        if content is None:
            if command is commands[-1]:
                return None
            continue
        reached = end
        if content.strip():
            boxes.append((start, end, content))
    return boxes


def _content(text: str, start: int, closing: dict[int, int]) -> tuple[str | None, int]:
    r"""Content and end of a box: its braces, or the next word as in `\boxed 34`."""
    if text.startswith("{", start):
        end = closing.get(start)
        return (None, start) if end is None else (text[start + 1 : end], end + 1)
    word = _BARE.match(text, start)
    return (None, start) if word is None else (word[0], word.end())


def _closing_braces(text: str) -> dict[int, int]:
    """Opening brace -> closing brace, by position, in one pass; escaped braces are text."""
    closing, open_braces = {}, []
    for match in _BRACE.finditer(text):
        if match[0] == "{":
            open_braces.append(match.start())
        elif match[0] == "}" and open_braces:
            closing[open_braces.pop()] = match.start()
    return closing


def _last_box(text: str, boxes: list[tuple[int, int, str]]) -> str:
    """The last box, with preceding boxes that are separated only by a comma or `and`."""
    parts = [boxes[-1][2]]
    for earlier, later in zip(boxes[-2::-1], boxes[:0:-1], strict=True):
        if _BETWEEN_BOXES.fullmatch(text, earlier[1], later[0]) is None:
            break
        if earlier[2] not in parts:
            parts.insert(0, earlier[2])
    # An answer that is itself a box: the outermost box has to contain nothing else.
    inner = _boxes(parts[-1]) if len(parts) == 1 else None
    if inner and len(inner) == 1 and inner[0][:2] == (0, len(parts[0])):
        return inner[0][2]
    return ", ".join(parts)


def _tidied(answer: str) -> str | None:
    """The answer without surrounding Markdown and punctuation; None if nothing is left."""
    return answer.strip(" \t\r*_`").rstrip(".,;:。").strip() or None
