"""Coverage, accuracy and determinism of bootstrap intervals."""

import numpy as np
import pytest

from dvaojax.evaluation import bootstrap_mean


def test_coverage_of_the_true_mean():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        interval = bootstrap_mean(rng.random(60) < 0.7, resamples=300, seed=trial)
        covered += interval.low <= 0.7 <= interval.high
    # 95 % of 200, four standard deviations either way and a point for the few values.
    assert 175 <= covered <= 200


def test_matches_the_normal_interval_for_large_samples():
    values = np.random.default_rng(1).normal(3.0, 2.0, size=4000)
    interval = bootstrap_mean(values)
    half = 1.96 * values.std() / np.sqrt(values.size)
    assert interval.mean == values.mean()
    np.testing.assert_allclose(interval.high - interval.mean, half, rtol=0.1)
    np.testing.assert_allclose(interval.mean - interval.low, half, rtol=0.1)


def test_seed_and_constants():
    values = np.arange(10.0)
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)
    assert bootstrap_mean(np.ones(5)) == (1.0, 1.0, 1.0)
    wide, narrow = bootstrap_mean(values), bootstrap_mean(values, confidence=0.5)
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("values", [[], [1.0, np.nan]])
def test_refuses_empty_or_nan_values(values):
    with pytest.raises(ValueError, match="finite values"):
        bootstrap_mean(np.array(values))
