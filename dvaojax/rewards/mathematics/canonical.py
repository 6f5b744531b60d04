"""One spelling for answers that are plainly the same, so that they can be counted in a vote."""

from fractions import Fraction

from dvaojax.rewards.mathematics.expressions import UnsupportedExpression, read
from dvaojax.rewards.mathematics.normalisation import normalised
from dvaojax.rewards.mathematics.values import NumberTooLarge, UndefinedValue, letters_in, value

LONGEST_NUMBER = 200
"""Characters; a longer answer is taken as it is written."""

MOST_BITS = 4_000
"""Of a number that is written out; Python refuses to write thousands of digits."""


def canonical(answer: str) -> str:
    r"""An answer's exact number as a fraction, or else what it says without units and spaces.

    `0.5`, `\frac12` and `1/2` have one spelling, as have `025` and `25`. Two expressions with
    letters have one only where they are written alike; `equivalence.equivalent` compares better,
    but not every answer with every other.

    Args:
        answer: as it stands in a box, without it.
    """
    plain = normalised(answer)
    written = "".join(plain.split())
    if len(plain) > LONGEST_NUMBER:
        return written
    try:
        tree = read(plain)
        number = None if letters_in(tree) else value(tree, {})
    except (UnsupportedExpression, NumberTooLarge, UndefinedValue):
        return written
    if (
        not isinstance(number, Fraction)
        or max(map(int.bit_length, number.as_integer_ratio())) > MOST_BITS
    ):
        return written
    return str(number)
