r"""DAPO's reward for the answer line: `Answer: 34` gives 1, everything else -1."""

import re

from dvaojax.rewards.mathematics.equivalence import equivalent
from dvaojax.rewards.mathematics.extraction import answer_line
from dvaojax.types import Completion

_SEARCHED_CHARACTERS = 300
_LABELLED = re.compile(r"(?i:Answer)\s*:\s*([^\n]+)")
_REPLACED = (
    ("an ", ""),
    ("a ", ""),
    (".$", "$"),
    (r"\$", ""),
    (r"\ ", ""),
    (" ", ""),
    ("mbox", "text"),
    (r",\text{and}", ","),
    (r"\text{and}", ","),
    (r"\text{m}", r"\text{}"),
)
_DROPPED = (
    *("square", "ways", "integers", "dollars", "mph", "inches", "hours", "km", "units", r"\ldots"),
    *("sue", "points", "feet", "minutes", "digits", "cents", "degrees", "cm", "gm", "pounds"),
    *("meters", "meals", "edges", "students", "childrentickets", "multiples"),
    *(r"\text{s}", r"\text{.}", "\\text{\ns}", r"\text{}^2", r"\text{}^3", "\\text{\n}"),
    *(r"\text{}", r"\mathrm{th}", r"^\circ", r"^{\circ}", r"\;", r",\!", "{,}", '"', r"\dots"),
)


def answer_line_dapo(completion: Completion, reference: str, /) -> float:
    r"""1 if the last `Answer:` in the last 300 characters is followed by the gold, else -1.

    Equals verl's `math_dapo` (volcengine/verl b178a3cd): a list of words and marks is removed from
    both sides, which are then compared as text. A bold label, a full stop, `34.0`, a Chinese label
    and a box without a label are wrong. In [-1, 1], not [0, 1].

    Args:
        completion: the answer.
        reference: the gold answer.
    """
    answer = dapo_answer(completion.text)
    return 1.0 if answer == _normalised(reference) else -1.0


def answer_line_lenient(completion: Completion, reference: str, /) -> float:
    r"""1 if the last answer line of the completion is right, else -1. Recommended.

    Ours, based on DAPO's (arXiv 2503.14476). The label may be bold, with a full-width colon, or
    Chinese, as in 3,242 of the 17,290 prompts of DAPO-Math; the line may be anywhere after the
    thoughts; the answer is compared by value (`equivalence.equivalent`), so `34.0` and `034` are
    34.

    Args:
        completion: the answer.
        reference: the gold answer.
    """
    answer = answer_line(completion.text.rpartition("</think>")[2])
    return 1.0 if answer is not None and equivalent(answer, reference) else -1.0


def dapo_answer(text: str) -> str:
    """The answer that verl's `math_dapo` compares; `[INVALID]` if there is none."""
    labelled = _LABELLED.findall(text[-_SEARCHED_CHARACTERS:])
    return _normalised(labelled[-1] if labelled else "[INVALID]")


def _normalised(answer: str) -> str:
    """verl's normal form, including its quirks: `34 units squared` becomes `34d`."""
    answer = answer.rpartition("=")[2]
    for phrase, replacement in _REPLACED:
        answer = answer.replace(phrase, replacement)
    for phrase in _DROPPED:
        answer = answer.replace(phrase, "")
    answer = "\n".join(_first_formula(line) for line in answer.split("\n"))
    for command in ("text", "textbf", "overline"):
        answer = re.sub(rf"\\{command}\{{([^}}\n]*)\}}", r"\1", answer)
    answer = re.sub(r"\\boxed\{(.*)\}", r"\1", answer)
    answer = re.sub(r"frac([^{])(.)", r"frac{\1}{\2}", answer)
    answer = re.sub(r"sqrt([^{])", r"sqrt{\1}", answer)
    answer = answer.replace("$", "")
    digits = answer.replace(",", "")
    return (digits if digits.isdigit() else answer).strip()


def _first_formula(line: str) -> str:
    """The text between the first two dollar signs of a line; without a pair, the whole line."""
    pieces = line.split("$", maxsplit=2)
    return f"${pieces[1]}$" if len(pieces) == 3 else line
