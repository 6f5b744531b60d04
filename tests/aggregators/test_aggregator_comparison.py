"""Comparison of two aggregators: against plain loops and the weights that the papers state."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dvaojax import aggregators
from dvaojax.aggregators._core import comparison

pytestmark = pytest.mark.slow

compare, effective_weights = map(jax.jit, (comparison.compare, comparison.effective_weights))

B, G, K = 6, 8, 3
WEIGHTS = np.array([0.5, 0.3, 0.2])


def random_rewards(seed=0, *, masked=0.0):
    rng = np.random.default_rng(seed)
    rewards = rng.normal(size=(B, G, K)) * np.array([1.0, 3.0, 0.2])
    return jnp.asarray(rewards, jnp.float32), rng.random((B, G, K)) >= masked


def mean(pair):
    return np.asarray(pair.total) / np.asarray(pair.count)


def test_cosine_signs_and_mean_square_equal_a_loop():
    rewards, mask = random_rewards(masked=0.1)
    rewards = rewards.at[0].set(1.0)  # zero variance
    used = aggregators.dvao(rewards, WEIGHTS, mask=mask)
    other = aggregators.rvpo(rewards, WEIGHTS, mask=mask)
    result = compare(used, other, rewards, WEIGHTS, mask=mask)

    pairs = list(zip(np.ravel(used).tolist(), np.ravel(other).tolist(), strict=True))
    dot = math.fsum(a * b for a, b in pairs)
    sizes = math.fsum(a * a for a, _ in pairs) * math.fsum(b * b for _, b in pairs)
    nonzero = [(a, b) for a, b in pairs if a or b]
    agree = sum((a > 0) == (b > 0) and (a < 0) == (b < 0) for a, b in nonzero)
    np.testing.assert_allclose(mean(result.cosine), dot / math.sqrt(sizes), rtol=1e-5)
    assert 0.5 < mean(result.cosine) < 1
    assert 0 < agree < len(nonzero) < len(pairs)
    np.testing.assert_allclose(mean(result.sign_agreement), agree / len(nonzero), rtol=1e-6)
    expected = math.fsum(b * b for _, b in pairs) / len(pairs)
    np.testing.assert_allclose(mean(result.mean_square), expected, rtol=1e-5)


def test_multiple_and_opposite_advantages():
    rewards, _ = random_rewards()
    advantages = aggregators.dvao(rewards, WEIGHTS)
    for factor, sign in ((3.0, 1.0), (-0.1, -1.0)):
        result = compare(advantages, factor * advantages, rewards, WEIGHTS)
        np.testing.assert_allclose(mean(result.cosine), sign, rtol=1e-6)
        assert mean(result.sign_agreement) == (sign > 0)
        size = factor**2 * np.square(advantages).mean()
        np.testing.assert_allclose(mean(result.mean_square), size, rtol=1e-5)


def test_counts_are_zero_without_advantages():
    rewards, _ = random_rewards()
    result = compare(jnp.zeros((B, G)), jnp.zeros((B, G)), rewards, WEIGHTS)
    assert result.cosine.count == result.sign_agreement.count == 0
    assert mean(result.mean_square) == 0
    np.testing.assert_array_equal(result.effective_weight.count, 0)
    one_sided = compare(aggregators.dvao(rewards, WEIGHTS), jnp.zeros((B, G)), rewards, WEIGHTS)
    assert one_sided.cosine.count == 0
    assert mean(one_sided.sign_agreement) == 0


CENTRED_SUM = ("dvao", "reward_combination", "grpo", "dr_grpo", "rloo", "lite_ppo")


@pytest.mark.parametrize("name", CENTRED_SUM)
def test_the_centred_sum_family_has_dvaos_weights(name):
    rewards, _ = random_rewards()
    deviation = np.std(np.asarray(rewards, np.float64), axis=1)
    expected = WEIGHTS * deviation / (deviation @ WEIGHTS)[:, None]
    advantages = aggregators.BY_NAME[name](rewards, WEIGHTS)
    actual = effective_weights(advantages, rewards, WEIGHTS)
    np.testing.assert_allclose(actual, expected, atol=2e-3)
    result = compare(advantages, advantages, rewards, WEIGHTS)
    np.testing.assert_allclose(mean(result.effective_weight), expected.mean(0), atol=2e-3)
    expected_mean = aggregators.diagnostics(rewards, WEIGHTS).effective_weight
    np.testing.assert_allclose(mean(result.effective_weight), mean(expected_mean), atol=2e-3)


@pytest.mark.parametrize("name", ["advantage_combination", "gdpo"])
def test_combined_scores_have_the_configured_weights_of_varying_objectives(name):
    rewards, _ = random_rewards()
    rewards = rewards.at[0, :, 0].set(0.7)
    actual = effective_weights(aggregators.BY_NAME[name](rewards, WEIGHTS), rewards, WEIGHTS)
    np.testing.assert_allclose(actual[0], [0, 0.6, 0.4], atol=2e-3)
    np.testing.assert_allclose(actual[1:], np.broadcast_to(WEIGHTS, (B - 1, K)), atol=2e-3)


def test_any_advantages_have_the_weights_of_their_least_squares_fit():
    """Compared with NumPy's least squares on z-scores in float64."""
    rewards, _ = random_rewards()
    advantages = np.random.default_rng(5).normal(size=(B, G)).astype(np.float32)
    actual = effective_weights(advantages, rewards, WEIGHTS)
    values = np.asarray(rewards, np.float64)
    scores = (values - values.mean(1, keepdims=True)) / values.std(1, keepdims=True)
    for b in range(B):
        fit = np.linalg.lstsq(scores[b], advantages[b], rcond=None)[0]
        np.testing.assert_allclose(actual[b], fit / np.abs(fit).sum(), atol=5e-3)
    assert (np.asarray(actual) < 0).any()


def test_identical_objectives_share_by_weight_and_weight_zero_gets_zero():
    rewards, _ = random_rewards()
    twins = rewards.at[..., 1].set(rewards[..., 0])
    actual = effective_weights(aggregators.dvao(twins, WEIGHTS), twins, WEIGHTS)
    np.testing.assert_allclose(actual[:, 0] / actual[:, 1], WEIGHTS[0] / WEIGHTS[1], rtol=1e-2)
    without = np.array([0.5, 0.0, 0.5])
    actual = effective_weights(aggregators.dvao(rewards, without), rewards, without)
    np.testing.assert_array_equal(actual[:, 1], 0)
    np.testing.assert_allclose(np.abs(actual).sum(-1), 1, rtol=1e-5)


def test_more_objectives_than_completions_and_masks_give_finite_weights():
    rng = np.random.default_rng(1)
    rewards = jnp.asarray(rng.integers(0, 2, (B, 3, 17)), jnp.float32)
    mask, weights = rng.random((B, 3, 17)) > 0.3, jnp.full(17, 1 / 17)
    advantages = aggregators.advantage_combination(rewards, weights, mask=mask)
    actual = effective_weights(advantages, rewards.at[0, 0, 0].set(jnp.nan), weights, mask=mask)
    assert np.isfinite(actual).all()
    np.testing.assert_allclose(np.abs(actual).sum(-1), np.any(advantages != 0, -1), rtol=1e-5)


def test_rejects_shapes_that_do_not_match():
    rewards, _ = random_rewards()
    with pytest.raises(AssertionError):
        compare(jnp.zeros((B, G)), jnp.zeros((B, G + 1)), rewards, WEIGHTS)
