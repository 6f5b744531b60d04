"""Axes are marked with round numbers, at even distances, that say what they stand for."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvaojax.report import axes
from dvaojax.report.numbers import duration, label, number, size, spaced, ticks

ends = st.floats(-1e9, 1e9).filter(lambda x: x == 0.0 or abs(x) > 1e-9)


@given(ends, ends)
def test_ticks_are_round_and_hold_the_values_between_them(a, b):
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
def test_labels_say_what_ticks_are(low, high):
    marks = ticks(low, high)
    told = [float(label(mark, marks[1] - marks[0]).replace(",", "")) for mark in marks]
    np.testing.assert_allclose(told, marks, atol=1e-12)


def test_zero_belongs_to_what_is_near_it():
    assert axes.limits([np.array([0.2, np.nan]), np.array([0.9])]) == (0.0, 0.9)
    assert axes.limits([np.array([0.8, 0.9])]) == (0.8, 0.9)
    assert axes.limits([np.array([-0.9, -0.2])]) == (-0.9, 0.0)


def test_pictures_share_an_axis_unless_that_squashes_one():
    assert axes.shared([(0.0, 1.0), (0.5, 1.0), (1.0, 1.0)]) == [(0.0, 1.0)] * 3
    apart = [(0.0, 1.0), (0.0, 1000.0)]
    assert axes.shared(apart) == apart


def test_places_are_spaced_evenly_and_hold_both_ends():
    assert spaced(5, at_most=9).tolist() == [0, 1, 2, 3, 4]
    some = spaced(1000, at_most=12)
    assert (len(some), some[0], some[-1]) == (12, 0, 999)
    assert set(np.diff(some)) <= {90, 91}


def test_numbers_as_people_write_them():
    written = [number(x) for x in (0.986328, 12345.6, 5.96e-14, 0.0, -0.25, None, math.nan)]
    assert written == ["0.9863", "12,346", "5.96e-14", "0", "-0.25", "—", "—"]
    assert [duration(x) for x in (0.446, 48.2, 171.4, 11100, None)] == [
        *("0.45 s", "48 s", "2 min 51 s", "3 h 5 min", "—")
    ]
    assert [size(x) for x in (812, 79372, 3_100_000)] == ["812 B", "79 kB", "3.1 MB"]
