"""Script run by `math_verify_client`: answers questions with math-verify, one JSON line each.

A question is a list of its name, its arguments and the seconds allowed; its answer is `true` or
`false`. Questions are answered by a child of this process, which ends if a question exceeds its
processor time or the memory; the next child is ready at once, because the modules are loaded.

Expressions arrive as the trees of `expressions.parse_expression` and become sympy objects here.
Letters are real numbers.
"""

import contextlib
import functools
import json
import logging
import os
import resource
import signal
import sys

import sympy
from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

_LARGEST_BYTES = 4 * 2**30
_PRECISION = 100
"""Digits to which math-verify evaluates the difference of two numbers; its own default is 15."""


def score(text: str, gold: str) -> bool:
    """verl's call: the gold in a box, read as LaTeX; the text as LaTeX or as a plain number.

    volcengine/verl b178a3cd, `utils/reward_score/math_verify.py`, whose precision of 6 decimals is
    math-verify's own.
    """
    golds = parse(f"\\boxed{{{gold}}}", [LatexExtractionConfig()], parsing_timeout=0)
    answers = parse(text, [ExprExtractionConfig(), LatexExtractionConfig()], parsing_timeout=0)
    return verify(golds, answers, timeout_seconds=0)


def equal_latex(answer: str, gold: str) -> bool:
    """Whether two answers in LaTeX are equal, each put in a box and parsed by math-verify."""
    return verify(_parsed(gold), _parsed(answer), numeric_precision=_PRECISION, timeout_seconds=0)


def equal_expressions(answer: list, gold: list) -> bool:
    """Whether two expressions are equal."""
    ours, golds = _expression(json.dumps(answer)), _expression(json.dumps(gold))
    difference = ours - golds
    zero = _is_zero(difference)
    if zero is not None:
        return zero
    return verify(golds, ours, numeric_precision=_PRECISION, timeout_seconds=0)


def equal_equations(answer: list, gold: list) -> bool:
    """Whether two equations, each a pair of sides, have the same solutions.

    Their differences of sides are equal up to a factor, or math-verify solves both and finds the
    same; equations that it finds no solutions of are not compared in that way. Polynomials are
    compared by their coefficients only.
    """
    ours, golds = (
        [_expression(json.dumps(side)) for side in equation] for equation in (answer, gold)
    )
    difference, gold_difference = ours[0] - ours[1], golds[0] - golds[1]
    letters = difference.free_symbols
    if not letters or letters != gold_difference.free_symbols:
        return False
    if difference.is_polynomial(*letters) and gold_difference.is_polynomial(*letters):
        monic = [sympy.Poly(side, *letters).monic() for side in (difference, gold_difference)]
        return monic[0] == monic[1]
    factor = sympy.simplify(difference / gold_difference)
    if factor.is_number and factor.is_finite and not factor.is_zero:
        return True
    equations = [sympy.Eq(*sides, evaluate=False) for sides in (golds, ours)]
    if not all(sympy.solve(equation, *equation.free_symbols) for equation in equations):
        return False
    return verify(equations[0], equations[1], numeric_precision=_PRECISION, timeout_seconds=0)


def rounded(decimal: str, decimals: int, exact: list) -> bool:
    """Whether a decimal fraction is an irrational number, rounded to its last decimal."""
    value = _expression(json.dumps(exact))
    if not value.is_number or value.is_real is not True or value.is_rational is not False:
        return False
    difference = abs(value - sympy.Rational(decimal)).evalf(decimals + 20)
    return bool(difference <= sympy.Rational(1, 2 * 10**decimals))


def _is_zero(difference: sympy.Expr) -> bool | None:
    """Whether a difference is zero, if that is certain without simplification, else None.

    A polynomial with rational coefficients is zero if these are; sympy knows of some expressions
    that they are not, such as exp(-300); the digits of a number, which it computes reliably, show
    that it is not zero, but never that it is.
    """
    if difference.is_zero is not None:
        return difference.is_zero
    letters = difference.free_symbols
    if letters and difference.is_polynomial(*letters):
        polynomial = sympy.Poly(difference, *letters)
        return polynomial.is_zero if polynomial.domain in (sympy.ZZ, sympy.QQ) else None
    if not letters and abs(difference.evalf(30)).is_positive and abs(difference.evalf(30)) > 1e-9:
        return False
    return None


@functools.lru_cache(maxsize=1_000)
def _parsed(latex: str) -> list:
    boxed = [LatexExtractionConfig(boxed_match_priority=0)]
    return parse(f"\\boxed{{{latex}}}", boxed, parsing_timeout=0)


@functools.lru_cache(maxsize=1_000)
def _expression(tree: str) -> sympy.Expr:
    return _built(json.loads(tree))


def _built(tree: list) -> sympy.Expr:
    kind, *operands = tree
    if kind == "number":
        return sympy.Rational(operands[0])
    if kind == "letter":
        return sympy.Symbol(operands[0], real=True)
    if kind == "constant":
        return {"e": sympy.E, "i": sympy.I, r"\pi": sympy.pi}[operands[0]]
    return _OPERATIONS[kind](*map(_built, operands))


def _power(base: sympy.Expr, exponent: sympy.Expr) -> sympy.Expr:
    """A power; of a negative number with an odd root the real one."""
    if base.is_negative and isinstance(exponent, sympy.Rational) and exponent.q % 2:
        return (-((-base) ** sympy.Rational(1, exponent.q))) ** exponent.p
    return base**exponent


_OPERATIONS = {
    "add": lambda a, b: a + b,
    "mixed": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "quotient": lambda a, b: a / b,
    "power": _power,
    "root": lambda a, n: _power(a, 1 / n),
    "factorial": sympy.factorial,
    "binomial": sympy.binomial,
    "logarithm": sympy.log,
    "absolute": sympy.Abs,
    "floor": sympy.floor,
    "ceiling": sympy.ceiling,
    "arcsin": sympy.asin,
    "arccos": sympy.acos,
    "arctan": sympy.atan,
    **{
        name: getattr(sympy, name)
        for name in (
            "sin",
            "cos",
            "tan",
            "cot",
            "sec",
            "csc",
            "sinh",
            "cosh",
            "tanh",
            "coth",
            "exp",
        )
    },
}
_QUESTIONS = {
    function.__name__: function
    for function in (score, equal_latex, equal_expressions, equal_equations, rounded)
}


def main() -> None:
    """Answers questions until standard input ends, by a child at a time."""
    logging.disable(logging.CRITICAL)
    # Output printed by libraries must not be read as an answer.
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    with contextlib.suppress(ValueError, OSError):  # macOS defines the limit but rejects it.
        resource.setrlimit(resource.RLIMIT_AS, (_LARGEST_BYTES, _LARGEST_BYTES))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The parent may ignore or block the timer's signal, and this process would inherit that:
    # libtpu ignores it in every process that loads it.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
    equal_latex("x+1", r"\sin x")  # loads what sympy loads late
    print("ready", file=answers, flush=True)
    while (child := os.fork()) != 0:
        _, status = os.waitpid(child, 0)
        if status == 0:
            return
        print("false", file=answers, flush=True)
    _answer_questions(answers)


def _answer_questions(answers) -> None:
    for line in iter(sys.stdin.readline, ""):
        question, *arguments, seconds = json.loads(line)
        # No handler: the signal ends the process even inside a loop in C code.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            verdict = _QUESTIONS[question](*arguments)
        except Exception:
            verdict = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        print("true" if verdict else "false", file=answers, flush=True)


if __name__ == "__main__":
    main()
