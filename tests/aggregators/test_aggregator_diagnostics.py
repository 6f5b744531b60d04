"""Diagnostics against NumPy, and for zero-variance, cancelling and NaN groups."""

import jax
import jax.numpy as jnp
import numpy as np

from dvaojax import aggregators
from dvaojax.aggregators import diagnostics

WEIGHTS = jnp.array([0.5, 0.3, 0.2])
jitted = jax.jit(diagnostics)


def mean_over_groups(groups, value):
    return np.mean([value(group) for group in groups], axis=0)


def test_against_numpy():
    rewards = np.random.default_rng(0).normal(size=(4, 5, 3))
    weights = np.array(WEIGHTS, float)
    d = jitted(jnp.asarray(rewards, jnp.float32), WEIGHTS)
    np.testing.assert_allclose(d.spread.value, rewards.std(1).mean(0), rtol=1e-5)
    effective = rewards.std(1) * weights / (rewards.std(1) @ weights)[:, None]
    np.testing.assert_allclose(d.effective_weight.value, effective.mean(0), rtol=1e-5)
    correlation = mean_over_groups(rewards, lambda r: np.corrcoef(r.T))
    np.testing.assert_allclose(d.correlation.value, correlation, atol=1e-5)
    agreement = (rewards @ weights).std(1) / (rewards.std(1) @ weights)
    np.testing.assert_allclose(d.agreement, agreement, rtol=1e-5)
    np.testing.assert_allclose(d.mean_agreement.value, agreement.mean(), rtol=1e-5)
    assert d.zero_variance_groups.value == 0
    assert d.nonfinite == 0


def test_agreement_is_the_factor_between_rc_and_dvao():
    rewards = jax.random.normal(jax.random.key(0), (2, 5, 3))
    agreement = jitted(rewards, WEIGHTS).agreement
    assert agreement.shape == (2,)
    assert jitted(rewards[0], WEIGHTS).agreement.shape == ()
    np.testing.assert_allclose(
        aggregators.dvao(rewards, WEIGHTS),
        agreement[..., None] * aggregators.reward_combination(rewards, WEIGHTS),
        atol=1e-5,
    )


def test_zero_variance_group_has_only_constant_objectives():
    rewards = jnp.full((3, 4, 3), 0.1).at[1, 0, 2].set(1.0).at[2, 0, :].set(1.0)
    d = jitted(rewards, WEIGHTS)
    np.testing.assert_allclose(d.zero_variance_groups.value, 1 / 3, rtol=1e-6)
    assert d.zero_variance_groups.count == 3
    np.testing.assert_allclose(d.agreement, [0, 1, 1], atol=1e-6)
    np.testing.assert_allclose(d.mean_agreement.value, 1, atol=1e-6)
    np.testing.assert_allclose(d.effective_weight.value, [0.25, 0.15, 0.6], atol=1e-6)
    np.testing.assert_allclose(d.spread.count, 3)
    np.testing.assert_allclose(d.correlation.count, [[1, 1, 1], [1, 1, 1], [1, 1, 2]])


def test_batch_of_zero_variance_groups_is_finite():
    d = jitted(jnp.full((3, 4, 3), 0.7), WEIGHTS)
    assert d.zero_variance_groups.value == 1
    assert d.mean_agreement.value == 0
    np.testing.assert_array_equal(d.effective_weight.value, np.zeros(3))
    np.testing.assert_array_equal(d.correlation.value, np.zeros((3, 3)))


def test_objectives_that_cancel_have_no_agreement():
    first = jnp.array([0.0, 1.0, 1.0, 0.0])
    rewards = jnp.stack([first, 1 - first], axis=-1)
    d = jitted(rewards, jnp.array([0.5, 0.5]))
    assert d.agreement < 1e-6
    np.testing.assert_allclose(d.correlation.value, [[1, -1], [-1, 1]], atol=1e-6)
    assert d.zero_variance_groups.value == 0, "each objective varies, only their sum does not"


def test_nonfinite_rewards_are_counted_and_masked():
    rewards = jax.random.normal(jax.random.key(0), (2, 5, 3))
    mask = jnp.ones((2, 5, 3), bool).at[0, 1, 1].set(False).at[1, 2, 0].set(False)
    expected = jitted(rewards, WEIGHTS, mask=mask)
    poisoned = rewards.at[0, 1, 1].set(jnp.nan).at[1, 2, 0].set(jnp.inf)
    assert expected.nonfinite == 0
    assert jitted(poisoned, WEIGHTS, mask=mask).nonfinite == 0
    known = jax.jit(lambda: diagnostics(poisoned, WEIGHTS))()  # an aggregator rejects these
    for d in (known, jitted(poisoned, WEIGHTS)):
        assert d.nonfinite == 2
        same = jax.tree.map(
            lambda x, y: np.allclose(x, y, atol=1e-6),
            d._replace(nonfinite=0),
            expected._replace(nonfinite=0),
        )
        assert all(jax.tree.leaves(same))


def test_shards_add_up():
    rewards = jax.random.normal(jax.random.key(0), (4, 5, 3)).at[0].set(1.0)
    whole = jitted(rewards, WEIGHTS)
    halves = [jitted(rewards[:2], WEIGHTS), jitted(rewards[2:], WEIGHTS)]
    for field in (
        "spread",
        "effective_weight",
        "correlation",
        "zero_variance_groups",
        "mean_agreement",
    ):
        one, other = (getattr(half, field) for half in halves)
        added = type(one)(one.total + other.total, one.count + other.count)
        np.testing.assert_allclose(added.value, getattr(whole, field).value, atol=1e-6)
