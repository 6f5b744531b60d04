"""pass@k and the majority against enumeration, and their invariants."""

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvaojax.evaluation.estimators import majority, pass_at_k

COUNTS = st.integers(1, 300).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))
)


def test_pass_at_k_equals_enumeration_of_subsets():
    for n in range(1, 9):
        for c, k in itertools.product(range(n + 1), range(1, n + 1)):
            subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
            share = sum(map(any, subsets)) / len(subsets)
            assert pass_at_k(n, c, k=k) == pytest.approx(share, abs=1e-12)


@given(COUNTS)
def test_pass_at_k_equals_exact_binomials(counts):
    n, c, k = counts
    exact = 1 - Fraction(math.comb(n - c, k), math.comb(n, k))
    assert pass_at_k(n, c, k=k) == pytest.approx(float(exact), abs=1e-12)


@given(COUNTS)
def test_pass_at_k_bounds_and_monotonicity(counts):
    n, c, k = counts
    value = pass_at_k(n, c, k=k)
    assert c / n - 1e-12 <= value <= 1.0
    assert pass_at_k(n, c, k=1) == pytest.approx(c / n)
    if k < n:
        assert value <= pass_at_k(n, c, k=k + 1) + 1e-12
    if c < n:
        assert value <= pass_at_k(n, c + 1, k=k) + 1e-12
    assert (value == 0.0) == (c == 0)
    assert pass_at_k(n, c, k=n) == float(c > 0)


def test_pass_at_k_does_not_overflow():
    exact = 1 - Fraction(math.comb(9_000, 4_000), math.comb(10_000, 4_000))
    assert pass_at_k(10_000, 1_000, k=4_000) == float(exact)
    assert pass_at_k(10**6, 1, k=10**5) == pytest.approx(0.1)


@pytest.mark.parametrize(("n", "c", "k"), [(4, 2, 5), (4, 2, 0), (4, 5, 2), (4, -1, 2), (0, 0, 1)])
def test_pass_at_k_refuses_invalid_counts(n, c, k):
    with pytest.raises(ValueError, match="is not defined for"):
        pass_at_k(n, c, k=k)


def test_majority_counts_answers_not_verdicts():
    # Three different wrong answers; the right answer is given twice.
    assert majority(["7", "8", "9", "4", "4"], [False, False, False, True, True]) == 1.0
    assert majority(["7", "7", "4"], [False, False, True]) == 0.0


def test_completions_without_answer_do_not_vote():
    assert majority([None, None, None, "4"], [False, False, False, True]) == 1.0
    assert majority([None, None], [True, True]) == 0.0
    assert majority([], []) == 0.0


@given(st.lists(st.sampled_from(["a", "b", "c", "d", None]), max_size=7), st.randoms())
def test_tied_answers_count_in_equal_shares(answers, random):
    right = "b"
    passed = [answer == right for answer in answers]
    given_answers = [answer for answer in answers if answer is not None]
    most = max((given_answers.count(a) for a in given_answers), default=0)
    tied = [a for a in sorted(set(given_answers)) if given_answers.count(a) == most]
    expected = sum(a == right for a in tied) / len(tied) if tied else 0.0
    assert majority(answers, passed) == pytest.approx(expected)
    order = random.sample(range(len(answers)), len(answers))
    again = majority([answers[i] for i in order], [passed[i] for i in order])
    assert again == pytest.approx(expected)


def test_equal_answers_with_different_verdicts():
    assert majority(["4", "4", "4", "5"], [True, False, True, False]) == pytest.approx(2 / 3)
