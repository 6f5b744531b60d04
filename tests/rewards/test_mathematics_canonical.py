"""Canonical spelling: the same for equal answers, different for different ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvaojax.rewards.mathematics import canonical, equivalent


@pytest.mark.parametrize(
    "answers",
    [
        ("0.5", "\\frac12", "1/2", "\\frac{2}{4}", "$\\dfrac{1}{2}$"),
        ("25", "025", "25.0", "+25", "$25$"),
        ("-3", "- 3", "−3"),
        ("1,080", "1080", "10{,}80".replace("10{,}80", "1{,}080")),
        ("2^{10}", "1024"),
        ("x + 1", "x+1"),
        ("\\text{Evelyn}", "Evelyn"),
    ],
)
def test_equal_answers_have_one_spelling(answers):
    assert len({canonical(answer) for answer in answers}) == 1


@given(st.fractions(max_denominator=10**6), st.fractions(max_denominator=10**6))
def test_numbers_have_one_spelling_exactly_if_equal(first, second):
    spellings = [canonical(f"\\frac{{{x.numerator}}}{{{x.denominator}}}") for x in (first, second)]
    assert (spellings[0] == spellings[1]) == (first == second)
    assert equivalent(spellings[0], str(first))


@pytest.mark.parametrize(
    "text", ["", "\x00", "\ud800", "9^{9^{9^9}}", "2^{40000}", "{" * 10_000, "1" * 100_000]
)
def test_hostile_answers_have_a_spelling(text):
    assert isinstance(canonical(text), str)
