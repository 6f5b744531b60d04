r"""Extracts the final answer of a completion.

In this order: `\boxed{}`, a text that consists of a number only, GSM8K's line `#### N`, a sentence
`Answer: N` or `answer is N`. Numbers elsewhere in the prose are not answers: a missing answer is
distinguished from a wrong one. Candidates in one place are read together (`statement`), a later
place of the same kind supersedes an earlier one. Every function is a scan in time linear in the
length of the text.
"""

import re

from dvaojax.rewards.mathematics.canonical import canonical
from dvaojax.rewards.mathematics.statement import further_candidates, stated_answer

_BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![A-Za-z])\s*(?:\[[^\]\n]{0,20}\]\s*)?(?=\{)")
_BARE_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])[ \t]+([-+]?[0-9][0-9.,/]*)(?=\s|\$|\Z)")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_PLACEHOLDER = re.compile(
    r"(?:\s|\.|…|_|\?|~|\\(?:[lc]?dots|cdots?|quad|ldotp|,|;|text\s*\{)|\{|\}|<|>"
    r"|(?:your |the |final |correct )*answer(?: here)?)*",
    re.IGNORECASE,
)
_BETWEEN_BOXES = re.compile(
    r"(?:[\s$,;&{}]|\\quad|\\text|\b(?:and|or|maybe|perhaps|possibly|also|either|alternatively|"
    r"could|might|may|be|it)\b|或者?|和|[A-Za-z]\s*=|\\\(|\\\)|\\\[|\\\])*"
)
_LABEL = re.compile(
    r"(?:\banswers?[ \t*_`]{0,8}(?:[:\N{FULLWIDTH COLON}=]"
    r"|[ \t](?:to|of|for)\b[^.:\n$]{1,60}?\b(?:is|are)\b[ \t]*:?|[ \t](?:is|are)\b[ \t]*:?)"
    r"|答案[ \t*_`]{0,8}(?:[:\N{FULLWIDTH COLON}=]|是|为|應為|应为))",
    re.IGNORECASE,
)
# `**Final Answer**` on a line of its own, followed by the answer.
_HEADING = re.compile(
    r"^[ \t]*(?:[#*_>]+[ \t]*)*(?:the[ \t]+)?(?:final[ \t]+)?answer[ \t]*[*_#]*[ \t]*\r?\n[\s*_`]*",
    re.IGNORECASE | re.MULTILINE,
)
# "The answer is correct." states no answer.
_REMARK = re.compile(
    r"[ \t*_`]*(?:also |indeed |therefore |now |thus )?(?:correct|right|verified|confirmed|"
    r"consistent|reasonable|helpful|clear|known|unique|in|inside|given|shown|written|below|above|boxed|as)\b",
    re.IGNORECASE,
)
_MOST_PARTS, _LONGEST_SENTENCE = 200, 400
_NUMBER = re.compile(r"\$?[-+\N{MINUS SIGN}]?[0-9.,/]+\$?")


def final_answer(text: str) -> str | None:
    r"""The final answer as written, or None if there is none.

    If there is a `</think>`, only the text after the last one is read.

    The last of several boxes counts, except that boxes with only commas, `and` or `or` between them
    are one answer with several parts (`\boxed{3} and \boxed{5}` is `3, 5`), so that a policy cannot
    hedge between two answers; `\boxed{3} or maybe 5` is `3, 5` too. Empty boxes, placeholders such
    as `\boxed{...}` and the word `\boxed` in prose are ignored. If the last box was cut off before
    its closing brace, the completion has no answer.

    Args:
        text: a completion.
    """
    text = text.rpartition("</think>")[2]
    boxes = _boxes(text)
    if boxes is None:
        return None
    if boxes:
        return _last_box(text, boxes)
    bare = _BARE_BOX.findall(text)
    if bare:
        return bare[-1].rstrip(".,") or None
    if _NUMBER.fullmatch(text.strip()):
        return text.strip().strip("$")
    return _gsm8k_line(text) or answer_line(text)


def _gsm8k_line(text: str) -> str | None:
    """The answer after the last `####`: a number, or any answer if it is on the last line.

    In other positions `####` is a Markdown heading.
    """
    _, marker, rest = text.rstrip().rpartition("#### ")
    line, _, more = rest.partition("\n")
    if not marker or (more and not _NUMBER.fullmatch(line.strip(" \t\r*_`.,:"))):
        return None
    return stated_answer(line)


def answer_line(text: str) -> str | None:
    """The answer after the last label that has one: `Answer: 34`, `**Answer:** $34$`, `答案是34`.

    The label may be bold, have a full-width colon, be English or Chinese, and have the answer on
    the next line; the answer ends with its sentence or its line (`statement.stated_answer`). A
    heading `Final Answer` is a label if a value is on the next line that is not empty. More
    lenient than DAPO's own check (`answer_line_dapo`).

    Args:
        text: a completion, without its thoughts.
    """
    labels = [*_LABEL.finditer(text), *_HEADING.finditer(text)]
    for label in sorted(labels, key=lambda label: label.end(), reverse=True):
        if label.re is _HEADING:
            stated = stated_answer(text[label.end() : label.end() + 4_000], value_only=True)
            if stated is not None:
                return stated
            continue
        if _REMARK.match(text, label.end()) is not None:
            continue
        rest = text[label.end() : label.end() + 4_000].lstrip(" \t*_`:\N{FULLWIDTH COLON}")
        if rest.startswith(("\n", "\r")):
            return stated_answer(rest.lstrip(" \t*_`\r\n"), value_only=True)
        return stated_answer(rest)
    return None


def _boxes(text: str) -> list[tuple[int, int, str]] | None:
    """Start, end and content of each outermost non-empty box; None if the last one is cut off.

    A cut-off box before the last is skipped.
    """
    commands = list(_BOX.finditer(text))
    if not commands:
        return []
    closing = _closing_braces(text, commands[0].start())
    boxes: list[tuple[int, int, str]] = []
    reached = 0
    for command in commands:
        start, opening = command.span()
        if start < reached:
            continue
        end = closing.get(opening)
        if end is None:
            if command is commands[-1]:
                return None
            continue
        reached = end + 1
        content = text[opening + 1 : end]
        if len(content) > 60 or _PLACEHOLDER.fullmatch(content) is None:
            boxes.append((start, reached, content))
    return [box for box in boxes if box[2].strip()]


def _closing_braces(text: str, start: int) -> dict[int, int]:
    """Opening brace -> closing brace, by position, in one pass; escaped braces are text."""
    closing, open_braces = {}, []
    for match in _BRACE.finditer(text, start):
        if match[0] == "{":
            open_braces.append(match.start())
        elif match[0] == "}" and open_braces:
            closing[open_braces.pop()] = match.start()
    return closing


def _last_box(text: str, boxes: list[tuple[int, int, str]]) -> str:
    """The last box, with preceding boxes that are separated only by a comma or `and`."""
    boxes = boxes[-_MOST_PARTS:]
    parts = [boxes[-1][2]]
    values = {canonical(parts[0])}
    for earlier, later in zip(boxes[-2::-1], boxes[:0:-1], strict=True):
        if _BETWEEN_BOXES.fullmatch(text, earlier[1], later[0]) is None:
            break
        if canonical(earlier[2]) not in values:
            values.add(canonical(earlier[2]))
            parts.insert(0, earlier[2])
    following = text[boxes[-1][1] :][:_LONGEST_SENTENCE].partition("\\boxed")[0]
    parts += [more for more in further_candidates(following) if canonical(more) not in values]
    # An answer that is itself a box: the outermost box has to contain nothing else.
    inner = _boxes(parts[-1]) if len(parts) == 1 else None
    if inner and len(inner) == 1 and inner[0][:2] == (0, len(parts[0])):
        return inner[0][2]
    return ", ".join(parts)
