r"""Rewards for the correct answer to a mathematics problem.

The reference of all of them is the gold answer as text, without a box: `"\\frac{4}{3}"`, `"025"`.
It is never a number, since floats cannot represent integers such as 105263157894736842.
`accuracy_math_verify` uses math-verify (https://github.com/huggingface/Math-Verify), the others are
ours.
"""

import enum
import re

from dvaojax.rewards.mathematics import math_verify_client
from dvaojax.rewards.mathematics.equivalence import equivalent
from dvaojax.rewards.mathematics.extraction import final_answer
from dvaojax.rewards.mathematics.normalisation import LONGEST_ANSWER, normalised
from dvaojax.types import Completion

_INTEGER = re.compile(r"([+-]?) ?([0-9]+)(?:\.0*)?")


class AnswerGrade(enum.Enum):
    """Result of comparing a completion with the gold answer."""

    RIGHT = "right"
    WRONG = "wrong"
    NO_ANSWER = "no answer"


def grade(text: str, gold: str) -> AnswerGrade:
    """Whether the final answer of a text is right, wrong, or missing.

    Args:
        text: a completion; `extraction.final_answer` finds its answer.
        gold: the correct answer; `equivalence.equivalent` compares the two.
    """
    answer = final_answer(text)
    if answer is None:
        return AnswerGrade.NO_ANSWER
    return AnswerGrade.RIGHT if equivalent(answer, gold) else AnswerGrade.WRONG


def accuracy(completion: Completion, reference: str, /) -> float:
    """1 if the final answer is the gold answer, else 0. Recommended.

    Differs from `accuracy_math_verify`: only a stated answer counts, not the last number of the
    prose; of several boxes the last counts, even if they are close together; `fbox` is a box; a
    trailing comma is ignored. A wrong base, a percent sign that the gold does not have, a pair for
    two unordered answers, an answer given twice, several answers for one, and a sum that is not
    carried out are wrong (`equivalence` lists the rules).

    Args:
        completion: the answer, in a box, after `#### ` or on an answer line.
        reference: the gold answer.
    """
    return float(grade(completion.text, reference) is AnswerGrade.RIGHT)


def accuracy_math_verify(completion: Completion, reference: str, /) -> float:
    """1 if math-verify 0.9 finds the gold answer in the completion, else 0.

    Equals verl's `math_verify` (volcengine/verl b178a3cd): the gold is put in a box and read as
    LaTeX, the completion as LaTeX or plain numbers; an error gives 0, and so does a comparison that
    takes longer than five seconds of processor time. Known to accept `52_9` for `52_8` and `34\\%`
    for 34, and to reject the last of two boxes that are close together.

    Args:
        completion: the answer, thoughts included.
        reference: the gold answer.
    """
    return float(math_verify_client.score(completion.text, reference))


def accuracy_integer(completion: Completion, reference: str, /) -> float:
    """1 if the final answer and the gold are the same integer, of any size, else 0.

    For AIME and DAPO, whose answers are integers: `025` is `25`, `27.0` is `27`, `336^\\circ` is
    `336`; an answer not written as an integer (`2^5`) is wrong. Does not use math-verify.

    Args:
        completion: the answer, in a box, after `#### ` or on an answer line.
        reference: the gold answer.

    Raises:
        ValueError: the gold is not an integer.
    """
    gold = _integer(reference)
    if gold is None:
        raise ValueError(f"the gold answer {reference!r} is not an integer")
    answer = final_answer(completion.text)
    return float(answer is not None and _integer(answer) == gold)


def answered(completion: Completion, reference: object, /) -> float:
    """1 if there is a final answer, right or wrong, else 0.

    Args:
        completion: the answer, in a box, after `#### ` or on an answer line.
        reference: not read.
    """
    return float(final_answer(completion.text) is not None)


def _integer(answer: str) -> str | None:
    """One spelling for each integer, as text: Python does not parse thousands of digits."""
    match = _INTEGER.fullmatch(answer)
    if match is None and len(answer) <= LONGEST_ANSWER:
        match = _INTEGER.fullmatch(normalised(answer).rstrip("° "))
    if match is None:
        return None
    digits = match[2].lstrip("0") or "0"
    return f"-{digits}" if match[1] == "-" and digits != "0" else digits
