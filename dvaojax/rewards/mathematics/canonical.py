"""Canonical spelling of answers, so that equal answers can be counted in a vote."""

from dvaojax.rewards.mathematics.exact import NumberTooLarge, UndefinedValue, exact_value
from dvaojax.rewards.mathematics.expressions import (
    UnsupportedExpression,
    degrees_dropped,
    parse_expression,
)
from dvaojax.rewards.mathematics.normalisation import LONGEST_ANSWER, normalised

LONGEST_NUMBER = 200
"""In characters; a longer answer is not evaluated."""

MOST_BITS = 4_000
"""Largest size of a number that is printed; Python does not print thousands of digits."""


def canonical(answer: str) -> str:
    r"""The answer's exact number as a fraction, or else its text without units and spaces.

    `0.5`, `\frac12` and `1/2` have one spelling, and so have `025` and `25`. Expressions with
    letters have the same spelling only if they are written the same way. Not every pair that
    `equivalence.equivalent` accepts has one spelling.

    Args:
        answer: the content of a box.
    """
    if len(answer) > LONGEST_ANSWER:
        return "".join(answer.split())
    plain = normalised(answer)
    written = "".join(plain.split())
    if len(plain) > LONGEST_NUMBER:
        return written
    try:
        number = exact_value(degrees_dropped(parse_expression(plain.replace("%", ""))))
    except (UnsupportedExpression, NumberTooLarge, UndefinedValue):
        return written
    if number is None or max(map(int.bit_length, number.as_integer_ratio())) > MOST_BITS:
        return written
    return f"{number}%" if plain.endswith("%") else str(number)
