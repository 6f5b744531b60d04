"""The questions of math-verify's process, answered in this process."""

import pytest

from dvaojax.rewards.mathematics import math_verify_worker as worker
from dvaojax.rewards.mathematics.expressions import parse_expression


def tree(latex):
    """The tree of an expression, as the client sends it."""
    parsed = parse_expression(latex)
    assert parsed is not None, latex
    return _lists(parsed)


def _lists(parsed):
    return [_lists(part) if isinstance(part, tuple) else part for part in parsed]


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("x+1", "1+x", True),
        ("2x", "3x", False),
        (r"\sqrt{8}", r"2\sqrt{2}", True),
        (r"\sqrt{x^2}", "|x|", True),
        ("t-2", "|t-2|", False),
        (r"\cos(x)^2", r"1-\sin(x)^2", True),
        (r"\frac{5!}{10}", r"\binom{12}{1}", True),
        (r"\lfloor m \rfloor", "m", False),
        (r"\sqrt[3]{-8}", "-2", True),
        (r"e^{-300}", "0", False),
    ],
)
def test_expressions(answer, gold, expected):
    assert worker.equal_expressions(tree(answer), tree(gold)) == expected


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        (("2x+4", "2y"), ("x-y", "-2"), True),
        (("x+1", "y"), ("x-1", "y"), False),
        (("x", "y"), ("x", "z"), False),
        ((r"\sin(x)", "y"), ("2y", r"2\sin(x)"), True),
    ],
)
def test_equations(answer, gold, expected):
    sides = [[tree(side) for side in equation] for equation in (answer, gold)]
    assert worker.equal_equations(*sides) == expected


def test_rounding_needs_an_irrational_number_and_every_digit():
    assert worker.rounded("1.4142", 4, tree(r"\sqrt{2}"))
    assert not worker.rounded("1.4143", 4, tree(r"\sqrt{2}"))
    assert not worker.rounded("0.33", 2, tree(r"\frac{1}{3}"))
    assert not worker.rounded("1.0", 1, tree("x"))


def test_texts():
    assert worker.equal_latex(r"\frac{1}{2}", "0.5")
    assert not worker.equal_latex("1", "2")
    assert worker.score(r"So it is $\boxed{34}$.", "34")
    assert not worker.score(r"So it is $\boxed{35}$.", "34")
