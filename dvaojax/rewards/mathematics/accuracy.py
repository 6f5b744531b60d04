r"""Rewards for the right answer to a mathematics problem.

The reference of all of them is the gold answer as text, without a box: `"\\frac{4}{3}"`, `"025"`.
It is never a number: 105263157894736842 has no float. `accuracy_math_verify` is math-verify's
(https://github.com/huggingface/Math-Verify), the others are ours.
"""

import enum
import re

from dvaojax.rewards.mathematics import math_verify_client
from dvaojax.rewards.mathematics.equivalence import equivalent
from dvaojax.rewards.mathematics.extraction import final_answer
from dvaojax.rewards.mathematics.normalisation import normalised
from dvaojax.types import Completion

_INTEGER = re.compile(r"([+-]?) ?([0-9]+)(?:\.0*)?")


class AnswerGrade(enum.Enum):
    """What became of a completion."""

    RIGHT = "right"
    WRONG = "wrong"
    NO_ANSWER = "no answer"


def grade(text: str, gold: str) -> AnswerGrade:
    """Whether the final answer of a text is right, wrong, or not there.

    Args:
        text: a completion; see `extraction.final_answer` for where the answer is looked for.
        gold: the right answer; see `equivalence.equivalent` for how the two are compared.
    """
    answer = final_answer(text)
    if answer is None:
        return AnswerGrade.NO_ANSWER
    return AnswerGrade.RIGHT if equivalent(answer, gold) else AnswerGrade.WRONG


def accuracy(completion: Completion, reference: str, /) -> float:
    """1 where the final answer is the gold answer, else 0. Recommended.

    Differs from `accuracy_math_verify` in that only a stated answer counts, not the last number of
    the prose; of several boxes the last counts, also where they stand close together; `fbox` is a
    box; a trailing comma is forgiven; a wrong base, a percent sign that the gold does not have, a
    pair for two unordered answers and an answer given twice are wrong.

    Args:
        completion: the answer, in a box, after `#### ` or on an answer line.
        reference: the gold answer.
    """
    return float(grade(completion.text, reference) is AnswerGrade.RIGHT)


def accuracy_math_verify(completion: Completion, reference: str, /) -> float:
    """1 where math-verify 0.9 finds the gold answer in the completion, else 0.

    What verl's `math_verify` pays (volcengine/verl b178a3cd): the gold is put in a box and read as
    LaTeX, the completion as LaTeX or plain numbers; an error pays 0, and so does a comparison that
    takes longer than five seconds of processor time. Known to accept `52_9` for `52_8` and `34\\%`
    for 34, and to reject the last of two boxes that stand close together.

    Args:
        completion: the answer, thoughts included.
        reference: the gold answer.

    Raises:
        UserError: math-verify is not installed.
    """
    return float(math_verify_client.score(completion.text, reference))


def accuracy_integer(completion: Completion, reference: str, /) -> float:
    """1 where the final answer and the gold are the same integer, of any size, else 0.

    For AIME and DAPO, whose answers are integers: `025` is `25`, `27.0` is `27`, `336^\\circ` is
    `336`; what is not written as an integer (`2^5`) is wrong. math-verify is never asked.

    Args:
        completion: the answer, in a box, after `#### ` or on an answer line.
        reference: the gold answer.

    Raises:
        ValueError: the gold is no integer.
    """
    gold = _integer(reference)
    if gold is None:
        raise ValueError(f"the gold answer {reference!r} is no integer")
    answer = final_answer(completion.text)
    return float(answer is not None and _integer(answer) == gold)


def answered(completion: Completion, reference: object, /) -> float:
    """1 where there is a final answer, right or wrong, else 0.

    Args:
        completion: the answer, in a box, after `#### ` or on an answer line.
        reference: not read.
    """
    return float(final_answer(completion.text) is not None)


def _integer(answer: str) -> str | None:
    """One spelling for each integer, as text: Python refuses to read thousands of digits."""
    match = _INTEGER.fullmatch(normalised(answer))
    if match is None:
        return None
    digits = match[2].lstrip("0") or "0"
    return f"-{digits}" if match[1] == "-" and digits != "0" else digits
