"""No method makes advantages of rounding errors, and none loses a signal to the guard against them.

The rewards are float32 numbers that are computed with in float32 and in float64. Where a sum of the
rewards is constant but for rounding, dividing by its deviation would give advantages of full size
in float32, and other ones in float64.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_aggregator import FAMILIES, every
from slowness import slow_but

from dvaojax import aggregators
from dvaojax.aggregators.gtpo import gtpo
from dvaojax.aggregators.ms_grpo import ms_grpo
from dvaojax.aggregators.tchebycheff import augmented_tchebycheff

B, G, K = 6, 5, 3
WEIGHTS = np.full(K, 0.5, np.float32)


def permuted(offset=0.0, seed=0):
    """`[B, G, K]`, in each group permutations of the same numbers."""
    rng = np.random.default_rng(seed)
    numbers = rng.uniform(size=(B, 1, K)) + offset
    return rng.permuted(np.repeat(numbers, G, axis=1).astype(np.float32), axis=-1)


def in_float64(function, *arrays):
    with jax.enable_x64(True):
        wide = (np.asarray(a, np.float64) if a.dtype == np.float32 else a for a in arrays)
        return jax.tree.map(np.asarray, function(*wide))


@pytest.mark.parametrize("family", slow_but(["first"], FAMILIES))
def test_permuted_sums_give_the_same_advantages_in_float32_and_float64(family):
    mask = np.ones((B, G, K), bool)
    for offset in (0.0, 100.0):
        rewards = permuted(offset)
        narrow = every(family, rewards, WEIGHTS, mask)
        wide = in_float64(partial(every, family), rewards, WEIGHTS, mask)
        for name in FAMILIES[family]:
            # The rewards themselves are known to about 1e-7 times the offset.
            limit = 1e-5 * max(1.0, offset) * max(1.0, np.abs(wide[name]).max())
            assert np.abs(narrow[name] - wide[name]).max() < limit, (name, offset)
    assert not np.any(narrow.get("reward_combination", 0))


@pytest.mark.parametrize("family", slow_but(["first"], FAMILIES))
def test_large_rewards_give_finite_advantages(family):
    mask = np.ones((B, G, K), bool)
    for size in (1e20, 1e30):
        rewards = (np.random.default_rng(0).normal(size=(B, G, K)) * size).astype(np.float32)
        for name, advantages in every(family, rewards, WEIGHTS, mask).items():
            assert np.all(np.isfinite(advantages)), (name, size)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(aggregators.STATEFUL))
def test_large_rewards_leave_a_finite_state(name):
    aggregator = aggregators.STATEFUL[name](jnp.asarray(WEIGHTS))
    rewards = (np.random.default_rng(0).normal(size=(B, G, K)) * 1e30).astype(np.float32)
    state = aggregator.init(K)
    for _ in range(2):
        advantages, state = aggregator.update(jnp.asarray(rewards), None, state, None)
        assert np.all(np.isfinite(advantages))
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state))


def test_turns_in_another_order_give_no_advantages():
    few = np.array([[0.1, 0.7, 0.9], [0.9, 0.7, 0.1], [0.7, 0.1, 0.9], [0.9, 0.1, 0.7]], np.float32)
    numbers = np.random.default_rng(0).uniform(size=(1, 200)).astype(np.float32)
    many = np.random.default_rng(1).permuted(np.repeat(numbers, 6, axis=0), axis=-1)
    for rewards in (few, many, few + np.float32(50)):
        is_turn = np.ones(rewards.shape, bool)
        assert not np.any(jax.jit(ms_grpo)(rewards, is_turn))
        assert not np.any(jax.jit(gtpo)(rewards, is_turn)[:, 0])
    # The order of the turns matters from the second turn on.
    assert np.abs(jax.jit(gtpo)(few, np.ones(few.shape, bool))[:, 1]).max() > 0.5


@pytest.mark.parametrize("method", [ms_grpo, gtpo])
def test_turns_with_an_offset_and_missing_turns_keep_their_signal(method):
    rng = np.random.default_rng(0)
    is_turn = np.arange(6) < rng.integers(1, 7, (20, 5, 1))
    rewards = (1000 + rng.uniform(size=(20, 5, 6))).astype(np.float32)
    narrow = jax.jit(method)(rewards, is_turn)
    np.testing.assert_allclose(narrow, in_float64(method, rewards, is_turn), atol=2e-3)
    assert np.abs(narrow).max() > 0.5


def test_objectives_that_are_not_the_worst_hide_no_signal():
    rewards = np.array([[0, 500], [0.001, 800], [0.002, 200], [0.003, 999]], np.float32)
    advantages = augmented_tchebycheff(
        rewards, np.ones(2, np.float32), ideal=(2000.0, 1000.0), augmentation=0.0, epsilon=0.0
    )
    worst = rewards[:, 0].astype(np.float64)
    np.testing.assert_allclose(advantages, (worst - worst.mean()) / worst.std(ddof=1), atol=1e-3)
