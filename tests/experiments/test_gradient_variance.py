"""The measured variance of gradients: the enumerated policy, the measures, and the table."""

import gradient_variance as script
import jax
import numpy as np
import pytest

from dvaojax import aggregators

RNG = np.random.default_rng(0)


def test_every_completion_is_listed_once():
    tokens = script.completions()
    stops = tokens == script.STOP
    length = np.where(stops.any(1), stops.argmax(1) + 1, script.LENGTH)
    distinct = {tuple(row[:n]) for row, n in zip(tokens, length, strict=True)}
    others = script.START - 1  # tokens that do not end a completion
    expected = sum(others**n for n in range(script.LENGTH)) + others**script.LENGTH
    assert len(distinct) == len(tokens) == expected


def test_measures_of_a_sample_equal_those_of_the_distribution():
    """An unbiased estimate: the error is the variance over the squared norm of the gradient."""
    gradient, deviation, groups = np.array([[0.5, -1.0, 0.2]]), 0.7, 200_000
    each = 2.0 * gradient + deviation * RNG.normal(size=(groups, 1, 3))  # twice too long
    total, squares = each.sum(0), np.square(each).sum((0, 2))
    np.testing.assert_allclose(script.variance(total, squares, groups), 3 * deviation**2, rtol=0.01)
    error = script.relative_error(total, squares, groups, gradient=gradient)
    expected = 3 * deviation**2 / 4 / np.square(gradient).sum()
    np.testing.assert_allclose(error, expected, rtol=0.02)


def test_interval_of_a_quotient_covers_it():
    widths, covered = [], 0
    for _ in range(60):
        each = RNG.normal(size=(16, 50, 2, 1, 1)) * np.sqrt([1.0, 3.0])[:, None, None]
        sums = script.Sums(each.sum(1), np.square(each).sum((1, 4)), 50)
        values, width = script.quotients(sums, script.variance, 0)
        covered += abs(values[1, 0] - 3.0) < width[1, 0]
        widths.append(width[1, 0])
        assert (values[0, 0], width[0, 0]) == (1, 0)
    assert covered >= 50
    assert np.mean(widths) < 0.6


def variance_by_position(policy, rewards):
    """That of a baseline per position in groups without end, as loops over completions."""
    baselines = []
    for t in range(script.LENGTH):
        reach = np.flatnonzero(policy.lengths > t)
        weights = [policy.probabilities[m] * policy.proxies[m, : t + 1].sum() for m in reach]
        baselines.append(np.dot(weights, rewards[reach]) / np.sum(weights))
    estimates = [
        sum((r - b) * gradient for b, gradient in zip(baselines, gradients, strict=True))
        for r, gradients in zip(rewards, policy.gradients.astype(float), strict=True)
    ]
    mean = policy.probabilities @ estimates
    return policy.probabilities @ np.square(estimates).sum(1) - np.square(mean).sum()


@pytest.mark.nightly
def test_gradients_and_advantages_of_the_enumerated_policy(monkeypatch):
    monkeypatch.setattr(script, "LENGTH", 4)
    policy = jax.tree.map(np.asarray, script.enumerate_policy())
    np.testing.assert_allclose(policy.probabilities.sum(), 1, rtol=1e-5)
    # The expected gradient of a log-probability is 0.
    mean = np.einsum("m,mtn->tn", policy.probabilities, policy.gradients)
    assert np.abs(mean).max() < 1e-4 * np.abs(policy.gradients).max()
    drawn = jax.tree.map(lambda x: x[RNG.integers(0, len(policy.lengths), (3, 4))], policy)
    computed = script.advantages(drawn)
    rewards, norms = drawn.rewards[..., 1:2], np.square(drawn.gradients.sum(-2)).sum(-1)
    expected = [
        aggregators.rloo(rewards, np.ones(1)),
        aggregators.opo(rewards, np.ones(1), drawn.lengths),
        aggregators.oblr_po(rewards, np.ones(1), norms),
        aggregators.oblr_po(rewards, np.ones(1), drawn.proxies.sum(-1)),
    ]
    for one, other in zip(computed[:-1, 1], expected, strict=True):
        np.testing.assert_allclose(one, np.repeat(other[..., None], 4, axis=-1), rtol=1e-5)
    where = np.arange(4) < drawn.lengths[..., None]
    tokens = aggregators.optimal_token_baseline(rewards, np.ones(1), drawn.proxies, where)
    np.testing.assert_allclose(computed[-1, 1], tokens, rtol=1e-5, atol=1e-6)
    # In the limit the baseline by exact norms is the best of all constants.
    limits = script.limits(policy)
    assert np.all(limits[2] <= limits[:4].min(0) + 1e-9)
    assert np.all(limits[0] > 1.004 * limits[2])
    assert limits[4, 1] == pytest.approx(variance_by_position(policy, policy.rewards[:, 1]))
    sums = script.measure(jax.tree.map(jax.numpy.asarray, policy), 4, groups=8)
    assert script.table(policy, {4: sums}).count("±") == 9 * len(script.REWARDS)
