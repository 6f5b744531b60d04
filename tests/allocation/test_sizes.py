"""Sizes: exact sums, bounds, and optimality by exhaustive search."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvaojax.allocation import allocate
from dvaojax.allocation.sizes import largest_remainder

property_test = settings(derandomize=True, deadline=None, max_examples=200, database=None)
ANY = st.floats(0, 1e300, allow_subnormal=True) | st.sampled_from([0.0, 1.0, 5e-324, 1e-200])


@st.composite
def problems(draw, scores=ANY, largest=12):
    """Scores with a compatible budget, floor and cap."""
    values = draw(st.lists(scores, min_size=1, max_size=largest))
    floor = draw(st.integers(0, 5))
    cap = floor + draw(st.integers(0, 9))
    budget = draw(st.integers(len(values) * floor, len(values) * cap))
    return np.array(values), budget, floor, cap


@property_test
@given(problems())
def test_sizes_sum_to_the_budget_and_keep_the_bounds(problem):
    """Invariant 62."""
    scores, budget, floor, cap = problem
    sizes = allocate(scores, budget, floor=floor, cap=cap)
    assert sizes.dtype == np.int64
    assert sizes.sum() == budget
    assert ((floor <= sizes) & (sizes <= cap)).all()


@property_test
@given(problems(st.floats(1e-3, 1e3)), st.floats(1e-3, 1e3), st.randoms())
def test_only_ratios_of_scores_matter_and_sizes_are_monotone(problem, factor, chance):
    scores, budget, floor, cap = problem
    sizes = allocate(scores, budget, floor=floor, cap=cap)
    larger = scores[:, None] > scores[None, :]
    assert (sizes[:, None] >= sizes[None, :])[larger].all()
    # Ties between fractions may be broken differently after rounding.
    scaled = allocate(scores * factor, budget, floor=floor, cap=cap)
    assert np.abs(sizes - scaled).max() <= 1
    order = chance.sample(range(len(scores)), len(scores))
    moved = allocate(scores[order], budget, floor=floor, cap=cap)
    assert np.abs(np.sort(moved) - np.sort(sizes)).max() <= 1


def test_exact_shares_are_kept_and_the_rest_goes_to_the_largest_fractions():
    assert allocate(np.array([1.0, 2.0, 3.0]), 12, floor=0, cap=12).tolist() == [2, 4, 6]
    # Shares 2.5, 3.75, 3.75: rounded down 2, 3, 3, and the two left go to the larger fractions.
    assert allocate(np.array([2.0, 3.0, 3.0]), 10, floor=0, cap=10).tolist() == [2, 4, 4]
    # Equal fractions: the first ones first.
    assert allocate(np.ones(3), 11, floor=0, cap=9).tolist() == [4, 4, 3]


def test_the_remainder_beyond_a_bound_is_divided_in_proportion():
    # In proportion 8, 1, 1 of 10; the cap of 5 leaves 5 for two equals.
    assert allocate(np.array([8.0, 1.0, 1.0]), 10, floor=0, cap=5).tolist() == [5, 3, 2]
    # In proportion 7.1, 4.7 and 0.2 of 12; the floor of 2 leaves 10 for the other two.
    assert allocate(np.array([3.0, 2.0, 0.1]), 12, floor=2, cap=12).tolist() == [6, 4, 2]


def test_score_zero_gets_the_floor_until_all_others_have_the_cap():
    assert allocate(np.array([0.0, 1.0, 0.0]), 10, floor=1, cap=8).tolist() == [1, 8, 1]
    assert allocate(np.array([0.0, 1.0, 0.0]), 14, floor=1, cap=8).tolist() == [3, 8, 3]
    assert allocate(np.zeros(3), 8, floor=1, cap=8).tolist() == [3, 3, 2]


@property_test
@given(problems(st.floats(0.05, 1.0), largest=4))
def test_variance_is_near_the_minimum_over_all_sizes(problem):
    """Invariant 62, by exhaustive search: rounding costs little."""
    deviations, budget, floor, cap = problem
    floor = max(floor, 1)
    if not len(deviations) * floor <= budget:
        return

    def variance(sizes):
        return (deviations**2 / sizes).sum()

    count = len(deviations)
    heads = itertools.product(range(floor, cap + 1), repeat=count - 1)
    every = [(*sizes, budget - sum(sizes)) for sizes in heads]
    best = min(variance(np.array(s)) for s in every if floor <= s[-1] <= cap)
    variance_of_result = variance(allocate(deviations, budget, floor=floor, cap=cap))
    assert best * (1 - 1e-12) <= variance_of_result <= 1.2 * best


def test_integer_shares_reach_the_theoretical_minimum():
    """Invariant 62."""
    deviations, budget = np.array([0.1, 0.2, 0.3, 0.4]), 100
    sizes = allocate(deviations, budget, floor=1, cap=100)
    np.testing.assert_allclose((deviations**2 / sizes).sum(), deviations.sum() ** 2 / budget)


@pytest.mark.parametrize(
    ("scores", "budget", "floor", "cap"),
    [
        ([1.0, -1.0], 4, 1, 3),
        ([1.0, np.nan], 4, 1, 3),
        ([1.0, np.inf], 4, 1, 3),
        ([1.0, 1.0], 7, 1, 3),
        ([1.0, 1.0], 1, 1, 3),
        ([1.0, 1.0], 4, 3, 1),
        ([1.0, 1.0], 0, -1, 3),
    ],
)
def test_rejects_invalid_scores_and_budgets(scores, budget, floor, cap):
    with pytest.raises(ValueError, match=r"scores must be|cannot be divided"):
        allocate(np.array(scores), budget, floor=floor, cap=cap)


def test_remainders_never_exceed_the_cap():
    assert largest_remainder(np.array([3.0, 2.4, 2.6]), 8, cap=3).tolist() == [3, 2, 3]
