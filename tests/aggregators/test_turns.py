"""Advantages per turn: MS-GRPO and GTPO against plain Python loops."""

import math
from functools import partial

import jax
import numpy as np
import pytest

from dvaojax.aggregators.gtpo import discounted_returns, gtpo
from dvaojax.aggregators.ms_grpo import ms_grpo

SHAPE = B, G, S = 3, 4, 5


def episodes(seed=0):
    """Rewards of episodes with one to five turns, NaN after the last turn; and the mask."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, S + 1, (B, G))
    is_turn = np.arange(S) < lengths[..., None]
    rewards = rng.normal(size=SHAPE)
    return np.where(is_turn, rewards, np.nan).astype(np.float32), is_turn


def scores(values, ddof=1, epsilon=1e-6):
    """Z-scores of the values that are not None."""
    present = [v for v in values if v is not None]
    mean = math.fsum(present) / max(len(present), 1)
    variance = math.fsum((v - mean) ** 2 for v in present) / max(len(present) - ddof, 1)
    return [
        0.0 if v is None or variance == 0 else (v - mean) / (math.sqrt(variance) + epsilon)
        for v in values
    ]


def test_ms_grpo_uses_the_total_reward_for_every_turn():
    rewards, is_turn = episodes()
    advantages = np.asarray(jax.jit(ms_grpo)(rewards, is_turn))
    for b in range(B):
        totals = [math.fsum(rewards[b, g][is_turn[b, g]].tolist()) for g in range(G)]
        expected = np.array(scores(totals))[:, None] * is_turn[b]
        np.testing.assert_allclose(advantages[b], expected, atol=1e-5)
    assert np.abs(advantages).max() > 0.5


@pytest.mark.parametrize("discount", [1.0, 0.5])
def test_gtpo_compares_returns_at_the_same_turn(discount):
    rewards, is_turn = episodes()
    advantages = np.asarray(jax.jit(partial(gtpo, discount=discount))(rewards, is_turn))
    for b in range(B):
        for t in range(S):
            returns = [
                math.fsum(
                    discount ** (s - t) * float(rewards[b, g, s])
                    for s in range(t, S)
                    if is_turn[b, g, s]
                )
                if is_turn[b, g, t]
                else None
                for g in range(G)
            ]
            np.testing.assert_allclose(advantages[b, :, t], scores(returns), atol=1e-5)
    assert np.abs(advantages).max() > 0.5


def test_without_discount_the_first_return_is_the_total_reward():
    rewards, is_turn = episodes()
    first = discounted_returns(np.where(is_turn, rewards, 0), discount=1.0)[..., 0]
    np.testing.assert_allclose(first, np.nansum(rewards, axis=-1), atol=1e-5)
    np.testing.assert_allclose(
        jax.jit(gtpo)(rewards, is_turn)[..., 0],
        jax.jit(ms_grpo)(rewards, is_turn)[..., 0],
        atol=1e-5,
    )


@pytest.mark.slow
def test_equal_episodes_and_single_turns_get_zero():
    same = np.full(SHAPE, 0.1, np.float32)
    assert np.all(np.asarray(ms_grpo(same, np.ones(SHAPE, bool))) == 0)
    assert np.all(np.asarray(gtpo(same, np.ones(SHAPE, bool))) == 0)
    rewards, is_turn = episodes()
    is_turn[:, 1:, -1], is_turn[:, 0, -1] = False, True
    assert np.all(np.asarray(gtpo(np.nan_to_num(rewards), is_turn))[..., -1] == 0)
