"""Evaluates an expression: with exact fractions where possible, otherwise with floats.

Fractions remain exact through + - * / and integer powers. Inexact roots, pi and the functions turn
a value into a float or a complex number. Extremely large numbers such as `9^{9^{9^9}}` are not
computed but raise `NumberTooLarge`.
"""

import cmath
import math
from collections.abc import Mapping
from fractions import Fraction

from dvaojax.rewards.mathematics.expressions import ExpressionTree

Number = Fraction | float | complex

_LARGEST_BITS = 50_000
_LARGEST_FACTORIAL = 2_000


class NumberTooLarge(ArithmeticError):
    """A number too large to be computed; it equals no computed number."""


class UndefinedValue(ArithmeticError):
    """A value that does not exist, such as a division by zero or a logarithm of zero."""


def value(tree: ExpressionTree, letters: Mapping[str, Fraction]) -> Number:
    """The value of an expression.

    Args:
        tree: see `expressions.parse_expression`.
        letters: the value of each letter.

    Raises:
        NumberTooLarge: a value in it has more than about 15,000 digits.
        UndefinedValue: a value in it does not exist.
    """
    kind = tree[0]
    if kind == "number":
        return Fraction(tree[1])
    if kind == "letter":
        return letters[tree[1]]
    if kind == "constant":
        return {"e": math.e, "i": 1j, r"\pi": math.pi}[tree[1]]
    operands = [value(operand, letters) for operand in tree[1:]]
    try:
        return _bounded(_OPERATIONS[kind](*operands))
    except OverflowError as error:
        raise NumberTooLarge from error
    except (ZeroDivisionError, ValueError, TypeError) as error:
        raise UndefinedValue from error


def letters_in(tree: ExpressionTree) -> set[str]:
    """The letters of an expression; `e` and `i` are numbers."""
    if tree[0] == "letter":
        return {tree[1]}
    return set().union(*(letters_in(part) for part in tree[1:] if isinstance(part, tuple)))


def operations_in(tree: ExpressionTree) -> set[str]:
    """The names of the operations in an expression."""
    return {tree[0]}.union(*(operations_in(part) for part in tree[1:] if isinstance(part, tuple)))


def _bounded(number: Number) -> Number:
    if isinstance(number, Fraction):
        if number.numerator.bit_length() + number.denominator.bit_length() > _LARGEST_BITS:
            raise NumberTooLarge
        return number
    if not cmath.isfinite(number):
        raise NumberTooLarge
    if isinstance(number, complex) and number.imag == 0:
        return number.real
    return number


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(exponent, Fraction) and exponent.denominator == 1:
        if isinstance(base, Fraction):
            bits = max(base.numerator.bit_length(), base.denominator.bit_length())
            if abs(base) != 1 and base != 0 and bits * abs(exponent) > _LARGEST_BITS:
                raise NumberTooLarge
        return base ** int(exponent)
    if isinstance(exponent, Fraction) and isinstance(base, Fraction):
        return _power(_root(base, Fraction(exponent.denominator)), Fraction(exponent.numerator))
    return _as_float(base) ** _as_float(exponent)


def _root(radicand: Number, degree: Number) -> Number:
    """The root, exact if it is rational; for a negative number the real root if there is one."""
    if isinstance(degree, Fraction) and degree.denominator == 1 and 1 <= degree <= 1_000:
        n = int(degree)
        if isinstance(radicand, Fraction):
            exact = _exact_root(abs(radicand), n)
            if exact is not None and (radicand >= 0 or n % 2):
                return exact if radicand >= 0 else -exact
        number = _as_float(radicand)
        if isinstance(number, float) and number < 0 and n % 2:
            return -((-number) ** (1 / n))
        return number ** (1 / n) if n != 2 else cmath.sqrt(number)
    return _as_float(radicand) ** (1 / _as_float(degree))


def _exact_root(radicand: Fraction, n: int) -> Fraction | None:
    numerator, denominator = (_whole_root(x, n) for x in radicand.as_integer_ratio())
    if numerator is None or denominator is None:
        return None
    return Fraction(numerator, denominator)


def _whole_root(number: int, n: int) -> int | None:
    if n == 2:
        root = math.isqrt(number)
    elif number.bit_length() <= 900:
        root = round(number ** (1 / n))
    else:
        return None
    return root if root**n == number else None


def _logarithm(number: Number, base: Number) -> Number:
    return cmath.log(_as_float(number)) / cmath.log(_as_float(base))


def _factorial(number: Number) -> Number:
    if isinstance(number, Fraction) and number.denominator == 1 and number >= 0:
        if number > _LARGEST_FACTORIAL:
            raise NumberTooLarge
        return Fraction(math.factorial(int(number)))
    if isinstance(number, complex):
        raise UndefinedValue
    return math.gamma(float(number) + 1)


def _binomial(n: Number, k: Number) -> Number:
    if not isinstance(n, Fraction) or not isinstance(k, Fraction):
        raise UndefinedValue
    if n.denominator == k.denominator == 1 and 0 <= k <= n:
        if n > _LARGEST_FACTORIAL:
            raise NumberTooLarge
        return Fraction(math.comb(int(n), int(k)))
    return _factorial(n) / (_factorial(k) * _factorial(n - k))


def _as_float(number: Number) -> float | complex:
    return float(number) if isinstance(number, Fraction) else number


def _real(number: Number) -> Fraction | float:
    if isinstance(number, complex):
        raise UndefinedValue
    return number


_OPERATIONS = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "power": _power,
    "root": _root,
    "factorial": _factorial,
    "binomial": _binomial,
    "logarithm": _logarithm,
    "absolute": abs,
    "floor": lambda a: Fraction(math.floor(_real(a))),
    "ceiling": lambda a: Fraction(math.ceil(_real(a))),
    "sin": lambda a: cmath.sin(a),
    "cos": lambda a: cmath.cos(a),
    "tan": lambda a: cmath.tan(a),
    "cot": lambda a: 1 / cmath.tan(a),
    "sec": lambda a: 1 / cmath.cos(a),
    "csc": lambda a: 1 / cmath.sin(a),
    "arcsin": lambda a: cmath.asin(a),
    "arccos": lambda a: cmath.acos(a),
    "arctan": lambda a: cmath.atan(a),
    "sinh": lambda a: cmath.sinh(a),
    "cosh": lambda a: cmath.cosh(a),
    "tanh": lambda a: cmath.tanh(a),
    "exp": lambda a: cmath.exp(a),
}
