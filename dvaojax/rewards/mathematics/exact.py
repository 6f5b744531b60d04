r"""Exact rational values of expressions, and what an answer has to look like to count as a value.

Numbers are fractions throughout: sums, products, quotients, whole powers, factorials and binomials
of rational numbers are rational. Everything else has no exact value here and is left to a computer
algebra system. Extremely large numbers such as `9^{9^{9^9}}` are not computed.
"""

import math
import re
from fractions import Fraction

from dvaojax.rewards.mathematics.expressions import ExpressionTree, contains

FEWEST_DECIMALS = 9
"""A decimal fraction with at least so many decimals may be a rounding."""

_CONSTANTS = ("e", "i", r"\pi")
_LARGEST_BITS = 50_000
_LARGEST_FACTORIAL = 2_000
_DECIMALS = re.compile(r"-? ?\d*\.(\d+)")


class NumberTooLarge(ArithmeticError):
    """A number too large to be computed; it equals no computed number."""


class UndefinedValue(ArithmeticError):
    """A value that does not exist, such as a division by zero."""


def exact_value(tree: ExpressionTree) -> Fraction | None:
    """The value of an expression if it is computed as a rational number here, else None.

    Args:
        tree: see `expressions.parse_expression`.

    Raises:
        NumberTooLarge: a value in it has more than about 15,000 digits.
        UndefinedValue: a value in it does not exist.
    """
    kind = tree[0]
    if kind == "number":
        return Fraction(tree[1])
    if kind in ("letter", "constant"):
        return None
    # All operands are computed, so that a number that is too large is noticed everywhere.
    operands = [exact_value(operand) for operand in tree[1:]]
    operation = _OPERATIONS.get(kind)
    if operation is None or None in operands:
        return None
    try:
        return _bounded(operation(*operands))
    except ZeroDivisionError as error:
        raise UndefinedValue from error


def is_carried_out(tree: ExpressionTree) -> bool:
    """Whether no sum, difference, product or division of two numbers is left to do.

    A fraction need not be in lowest terms; a mixed number, a power of ten in scientific notation,
    a power and a factorial are notations of a number. `347+586` is a problem and not its answer,
    and so is the absolute value, floor or ceiling of a number.

    Args:
        tree: an expression.
    """
    if tree[0] in ("absolute", "floor", "ceiling") and has_no_letters(tree):
        return False
    if tree[0] in ("subtract", "add", "multiply", "quotient"):
        if tree[0] == "subtract" and tree[1] == ("number", "0"):
            return is_carried_out(tree[2])
        if tree[0] == "multiply" and tree[2][0] == "power" and tree[2][1] == ("number", "10"):
            return is_carried_out(tree[1])
        if has_no_letters(tree) and not contains(tree, *_CONSTANTS):
            return False
    return all(is_carried_out(operand) for operand in tree[1:] if isinstance(operand, tuple))


def has_no_letters(tree: ExpressionTree) -> bool:
    """Whether an expression consists of numbers only; `e`, `i` and pi are numbers."""
    if tree[0] == "letter":
        return False
    return all(has_no_letters(operand) for operand in tree[1:] if isinstance(operand, tuple))


def decimals_of_a_rounding(text: str) -> int | None:
    """Number of decimals of a decimal fraction that may be a rounding; None for other texts.

    Args:
        text: a normalised answer.
    """
    match = _DECIMALS.fullmatch(text)
    return len(match[1]) if match is not None and len(match[1]) >= FEWEST_DECIMALS else None


def equal_or_rounded(a: Fraction, b: Fraction, a_text: str, b_text: str) -> bool:
    """Whether two numbers are equal, or one is the other rounded to at least nine decimals.

    Only a number whose decimal expansion does not end may be rounded.

    Args:
        a: a number.
        b: another one.
        a_text: its spelling, which tells the number of decimals.
        b_text: likewise.
    """
    if a == b:
        return True
    for rounded, exact, text in ((a, b, a_text), (b, a, b_text)):
        decimals = decimals_of_a_rounding(text)
        if decimals is None or _terminates(exact):
            continue
        if abs(rounded - exact) <= Fraction(1, 2 * 10**decimals):
            return True
    return False


def _terminates(number: Fraction) -> bool:
    """Whether the decimal expansion of a number ends."""
    denominator = number.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1


def _bounded(number: Fraction | None) -> Fraction | None:
    parts = (0,) if number is None else number.as_integer_ratio()
    if sum(map(int.bit_length, parts)) > _LARGEST_BITS:
        raise NumberTooLarge
    return number


def _power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1:
        return None
    if base not in (-1, 0, 1):
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if bits * abs(exponent) > 2 * _LARGEST_BITS:
            raise NumberTooLarge
    return base ** int(exponent)


def _factorial(number: Fraction) -> Fraction | None:
    if number.denominator != 1 or number < 0:
        return None
    if number > _LARGEST_FACTORIAL:
        raise NumberTooLarge
    return Fraction(math.factorial(int(number)))


def _binomial(n: Fraction, k: Fraction) -> Fraction | None:
    if not n.denominator == k.denominator == 1 or not 0 <= k <= n:
        return None
    if n > _LARGEST_FACTORIAL:
        raise NumberTooLarge
    return Fraction(math.comb(int(n), int(k)))


_OPERATIONS = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "quotient": lambda a, b: a / b,
    "mixed": lambda a, b: a + b,
    "power": _power,
    "factorial": _factorial,
    "binomial": _binomial,
    "absolute": abs,
    "floor": lambda a: Fraction(math.floor(a)),
    "ceiling": lambda a: Fraction(math.ceil(a)),
}
