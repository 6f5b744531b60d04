"""DRO: equal to GRPO without rejections; no rejected completion exceeds an accepted one."""

import functools

import hypothesis.extra.numpy as hnp
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvaojax import aggregators
from dvaojax.aggregators.dro import accepted, dro, dro_of_checks

B, G, K = 2, 5, 3
WEIGHTS = np.array([0.5, 0.3, 0.2], np.float32)


@functools.cache
def jitted(**knobs):
    return jax.jit(functools.partial(dro_of_checks, **knobs))


def call(rewards, passes, mask=None, **knobs):
    mask = np.ones(rewards.shape, bool) if mask is None else mask
    return np.asarray(jitted(**knobs)(np.asarray(rewards, np.float32), WEIGHTS, passes, mask=mask))


@settings(derandomize=True, deadline=None, max_examples=60, database=None)
@given(
    rewards=hnp.arrays(np.float32, (B, G, K), elements=st.floats(-100, 100, width=32)),
    passes=hnp.arrays(bool, (B, G)),
    mask=st.one_of(st.just(np.ones((B, G, K), bool)), hnp.arrays(bool, (B, G, K))),
)
def test_rejected_completion_never_gets_more_than_an_accepted_one(rewards, passes, mask):
    advantages = call(rewards, passes, mask)
    ranked = passes & mask.any(-1)
    for row, is_ranked, is_passed in zip(advantages, ranked, passes, strict=True):
        if is_ranked.any() and not is_passed.all():
            assert row[~is_passed].max() <= row[is_ranked].min()
            assert row[~is_passed].max() <= 1e-5
        if not is_ranked.any():
            assert np.all(row == 0)
        assert np.all(row[is_passed & ~is_ranked] == 0)
        np.testing.assert_allclose(row.sum(), 0, atol=1e-4)


def test_equals_grpo_if_all_are_accepted():
    rewards = np.random.default_rng(0).normal(size=(B, G, K)).astype(np.float32)
    expected = aggregators.grpo(rewards, WEIGHTS)
    np.testing.assert_allclose(call(rewards, np.ones((B, G), bool)), expected, atol=1e-5)


def test_rejected_completion_gets_the_lowest_accepted_reward_for_any_own_reward():
    rewards = np.random.default_rng(1).normal(size=(B, G, K)).astype(np.float32)
    passes = np.ones((B, G), bool)
    passes[:, 2] = False
    advantages = call(rewards, passes)
    totals = rewards.astype(np.float64) @ WEIGHTS
    totals[:, 2] = np.delete(totals, 2, axis=1).min(axis=1)
    centred = totals - totals.mean(1, keepdims=True)
    expected = centred / (totals.std(1, ddof=1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(advantages, expected, atol=1e-5)
    rewards[:, 2] = 1e3
    np.testing.assert_array_equal(call(rewards, passes), advantages)


def test_group_with_too_few_accepted_completions_gets_zero():
    rewards = np.random.default_rng(2).normal(size=(B, G, K))
    passes = np.zeros((B, G), bool)
    passes[0, :2], passes[1, :3] = True, True
    advantages = call(rewards, passes, min_accepted=3)
    assert np.all(advantages[0] == 0)
    assert np.any(advantages[1] != 0)


def test_accepted_needs_every_applicable_check():
    checks = np.array([[1, 1], [1, 0], [0.5, 1], [1, 0]])
    mask = np.array([[True, True], [True, True], [True, True], [True, False]])
    assert accepted(checks).tolist() == [True, False, False, False]
    assert accepted(checks, mask=mask).tolist() == [True, False, False, True]
    assert accepted(checks, threshold=0.5).tolist() == [True, False, True, False]


GATES = (-np.inf, 0.5, -np.inf)


@pytest.mark.parametrize("seed", range(3))
def test_gates_are_objectives_that_accept_and_do_not_rank(seed):
    rng = np.random.default_rng(seed)
    rewards = rng.normal(size=(6, G, K)).astype(np.float32)
    rewards[..., 1] = rng.random((6, G)) < 0.6
    mask = rng.random(rewards.shape) < 0.9
    mask[0, 0], mask[0, 1, [0, 2]] = False, False
    advantages = dro(rewards, WEIGHTS, mask=mask, gates=GATES)
    passes = (rewards[..., 1] >= 0.5) | ~mask[..., 1]
    dense = mask & np.array([True, False, True])
    expected = dro_of_checks(rewards, WEIGHTS, passes, mask=dense)
    np.testing.assert_allclose(advantages, expected, atol=1e-6)
    for b in range(6):  # the loop of the docstring, in float64
        worth = {}
        for g in np.flatnonzero(dense[b].any(-1) & passes[b]):
            means = [rewards[b, dense[b, :, k] & passes[b], k].mean(dtype=float) for k in (0, 2)]
            pairs = zip((0, 2), means, strict=True)
            values = [rewards[b, g, k] if mask[b, g, k] else mean for k, mean in pairs]
            worth[int(g)] = WEIGHTS[0] * values[0] + WEIGHTS[2] * values[1]
        if worth:
            worth |= {int(g): min(worth.values()) for g in np.flatnonzero(~passes[b])}
        values = np.array(list(worth.values()))
        loop = np.zeros(G)
        if len(values) > 1 and np.ptp(values) > 1e-5:
            loop[list(worth)] = (values - values.mean()) / (values.std(ddof=1) + 1e-6)
            np.testing.assert_allclose(advantages[b], loop, atol=1e-4)


def test_weight_of_a_gate_and_its_score_above_the_limit_do_not_matter():
    rewards = np.random.default_rng(4).random((B, G, K)).astype(np.float32)
    base = dro(rewards, WEIGHTS, gates=GATES)
    np.testing.assert_array_equal(dro(rewards, WEIGHTS * [1, 9, 1], gates=GATES), base)
    higher = rewards.copy()
    higher[..., 1] = np.where(rewards[..., 1] >= 0.5, 7.0, rewards[..., 1])
    np.testing.assert_array_equal(dro(higher, WEIGHTS, gates=GATES), base)
    np.testing.assert_allclose(dro(rewards, WEIGHTS), aggregators.grpo(rewards, WEIGHTS), atol=1e-5)


def test_gates_must_leave_an_objective():
    rewards = np.zeros((B, G, K), np.float32)
    for gates in (0.5, (0.5, 0.5, 0.0)):
        with pytest.raises(ValueError, match="leave no objective that ranks"):
            dro(rewards, WEIGHTS, gates=gates)
    with pytest.raises(ValueError, match="of a knob for 3 objectives"):
        dro(rewards, WEIGHTS, gates=(0.5, -np.inf))
