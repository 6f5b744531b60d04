"""Student's t-test against SciPy, Holm's method against its definition and by simulation."""

import itertools

import numpy as np
import pytest
from scipy import stats

from dvaojax.evaluation.comparisons import holm, paired_p_value


def test_p_value_matches_scipy():
    rng = np.random.default_rng(0)
    for count in (2, 5, 40):
        values = rng.normal(0.3, 1.0, count)
        expected = stats.ttest_1samp(values, 0.0).pvalue
        assert paired_p_value(values) == pytest.approx(expected, rel=1e-12)
    assert paired_p_value(np.zeros(4)) == 1.0
    assert paired_p_value(np.ones(1)) == 1.0
    assert paired_p_value(np.ones(4)) == 0.0
    with pytest.raises(ValueError, match="finite"):
        paired_p_value(np.array([1.0, np.nan]))


def closed_testing(p_values):
    """A hypothesis's adjusted value is the largest Bonferroni value of all sets that contain it."""
    adjusted = np.zeros(len(p_values))
    for size in range(1, len(p_values) + 1):
        for some in itertools.combinations(range(len(p_values)), size):
            bound = min(1.0, size * min(p_values[i] for i in some))
            for i in some:
                adjusted[i] = max(adjusted[i], bound)
    return adjusted


def test_holm_is_closed_testing_with_bonferroni():
    rng = np.random.default_rng(1)
    for count in (1, 2, 3, 6):
        p_values = rng.uniform(size=count) ** 3
        np.testing.assert_allclose(holm(p_values), closed_testing(p_values), rtol=1e-12)
    np.testing.assert_array_equal(holm([0.02, 0.02, 0.9]), [0.06, 0.06, 0.9])
    assert holm([]).size == 0


def test_holm_bounds_the_probability_of_a_false_rejection():
    rng = np.random.default_rng(2)
    false = [holm(rng.uniform(size=50)).min() < 0.05 for _ in range(4000)]
    assert np.mean(false) == pytest.approx(0.05, abs=0.012)
