"""Ticks are equidistant round numbers with exact labels; formatting of numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvaojax.report import axes
from dvaojax.report.numbers import duration, label, number, size, spaced, ticks

ends = st.floats(-1e9, 1e9).filter(lambda x: x == 0.0 or abs(x) > 1e-9)


@given(ends, ends)
def test_ticks_are_round_and_cover_the_values(a, b):
    low, high = min(a, b), max(a, b)
    marks = ticks(low, high)
    slack = 1e-8 * max(abs(low), abs(high)) + 1e-3 * (marks[1] - marks[0])
    assert marks[0] <= low + slack
    assert marks[-1] >= high - slack
    assert 2 <= len(marks) <= 8
    steps = np.diff(marks)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    mantissa = steps[0] / 10.0 ** math.floor(math.log10(steps[0]) + 1e-9)
    assert min(abs(mantissa - m) for m in (1.0, 2.0, 2.5, 5.0)) < 1e-5


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.2, 0.9), (-3, 3), (0.0231, 0.0249), (0, 12345), (7, 7), (0, 0)]
)
def test_labels_equal_ticks(low, high):
    marks = ticks(low, high)
    labelled = [float(label(mark, marks[1] - marks[0]).replace(",", "")) for mark in marks]
    np.testing.assert_allclose(labelled, marks, atol=1e-12)


def test_limits_include_zero_if_it_is_near():
    assert axes.limits([np.array([0.2, np.nan]), np.array([0.9])]) == (0.0, 0.9)
    assert axes.limits([np.array([0.8, 0.9])]) == (0.8, 0.9)
    assert axes.limits([np.array([-0.9, -0.2])]) == (-0.9, 0.0)


def test_figures_share_limits_unless_one_would_be_too_flat():
    assert axes.shared([(0.0, 1.0), (0.5, 1.0), (1.0, 1.0)]) == [(0.0, 1.0)] * 3
    different = [(0.0, 1.0), (0.0, 1000.0)]
    assert axes.shared(different) == different


def test_spaced_indices_are_even_and_include_both_ends():
    assert spaced(5, at_most=9).tolist() == [0, 1, 2, 3, 4]
    chosen = spaced(1000, at_most=12)
    assert (len(chosen), chosen[0], chosen[-1]) == (12, 0, 999)
    assert set(np.diff(chosen)) <= {90, 91}


def test_formatting_of_numbers():
    written = [number(x) for x in (0.986328, 12345.6, 5.96e-14, 0.0, -0.25, None, math.nan)]
    assert written == ["0.9863", "12,346", "5.96e-14", "0", "-0.25", "—", "—"]
    assert [duration(x) for x in (0.446, 48.2, 171.4, 11100, None)] == [
        *("0.45 s", "48 s", "2 min 51 s", "3 h 5 min", "—")
    ]
    assert [size(x) for x in (812, 79372, 3_100_000)] == ["812 B", "79 kB", "3.1 MB"]
