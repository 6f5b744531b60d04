r"""Comparisons of answers as they are written: words, long integers, choices, numerals with a base.

They need no value of an expression, and decide before one is computed.
"""

import re

_INTEGER = re.compile(r"-?[0-9]+")
_NUMERAL = re.compile(r"([0-9A-Za-z]+) ?_ ?(?:(\d+)|\{ ?(\d+) ?\})")
_DOTS = re.compile(r"\\[lc]?dots(?![A-Za-z])|\.\.\.|…")
_CHOICE = re.compile(r"\(?\s*([A-J])\s*\)?\.?")
_CHOICE_WITH_TEXT = re.compile(
    r"\s*(?:\\(?:text|textbf|mathbf|mathrm|textrm|textsf|bf|rm|mbox)\s*\{)?\s*(?:(?:option|choice)\s+)?"
    r"(?:\(\s*([A-J])\s*\)|([A-J])(?=\s*[}):.]|\s*$|\s*\\(?:text|quad|[,;:! ]))"
    r"|([A-J])(?=\s+-))(.*)",
    re.DOTALL | re.IGNORECASE,
)
_ANOTHER_CHOICE = re.compile(
    r"(?:(?<![\w\\])|(?<=\())[A-J](?![\w'])\s*[:).},]|\b(?:or|and)\b\s*\(?[A-J]\b"
)


def without_spaces(text: str) -> str:
    """A normalised answer without spaces and a plus sign in front."""
    return text.replace(" ", "").removeprefix("+")


def same_integer(answer: str, gold: str) -> bool | None:
    """Whether two integers of any size are equal; None if one of the answers is none.

    Python does not parse thousands of digits.
    """
    if _INTEGER.fullmatch(answer) is None or _INTEGER.fullmatch(gold) is None:
        return None
    zero = {"", "-"}
    a, b = (re.sub(r"^(-?)0+", r"\1", text) for text in (answer, gold))
    return a == b or (a in zero and b in zero)


def same_words(answer: str, gold: str) -> bool:
    """Whether two texts are equal up to case, articles and surrounding brackets."""
    answer, gold = (
        re.sub(r"\A(?:the|an?) |[\s()*]", "", text.casefold()) for text in (answer, gold)
    )
    return answer == gold != ""


def same_numeral(answer: str, gold: str) -> bool | None:
    """Compares numerals with the subscript of a base; None if there is none."""
    ours, golds = _NUMERAL.fullmatch(answer), _NUMERAL.fullmatch(gold)
    if golds is not None and golds[1].isalpha():
        return None
    if golds is None:
        if ours is None or ours[1].isalpha():
            return None
        return (ours[2] or ours[3]) == "10" and ours[1].lstrip("0") == gold.lstrip("0")
    if ours is None:
        return answer.strip().lstrip("0") == golds[1].lstrip("0")
    same_base = (ours[2] or ours[3]) == (golds[2] or golds[3])
    return same_base and ours[1].lstrip("0") == golds[1].lstrip("0")


def is_choice_of(answer: str, gold: str) -> bool:
    r"""Whether an answer is the choice of the gold, with or without the text of the choice.

    Args:
        answer: as written: `C: The market clears`, `\textbf{(C)}\ 24`.
        gold: normalised; a letter, or something else, which no answer is a choice of.
    """
    choice = _CHOICE.fullmatch(gold)
    match = _CHOICE_WITH_TEXT.fullmatch(answer.replace("$", "").strip().strip(" *"))
    if choice is None or match is None or _ANOTHER_CHOICE.search(match[4]):
        return False
    return next(letter for letter in match.groups()[:3] if letter).upper() == choice[1]


def marks(answer: str) -> tuple[bool, bool]:
    """Whether an answer has a colon, and dots: math-verify divides at one and drops the others."""
    return ":" in answer, _DOTS.search(answer) is not None
