"""`invariants.check` catches aggregators that violate what the papers prove."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dvaojax import aggregators
from dvaojax.aggregators import invariants

REWARDS = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 3)), jnp.float32)
WEIGHTS = jnp.asarray([0.5, 0.3, 0.2], jnp.float32)


def _inverse_variance(rewards, weights):
    """DVAO as described, wrongly, in one summary of the paper."""
    z = aggregators.advantage_combination(rewards, weights[None] / jnp.var(rewards, axis=1))
    return z / jnp.sum(weights[None] / jnp.var(rewards, axis=1), axis=-1)[:, None]


BROKEN = {
    "inverse variance": ("dvao", _inverse_variance),
    "population instead of sample": ("dvao", functools.partial(aggregators.dvao, ddof=1)),
    "only the first completion": ("grpo", lambda r, w: aggregators.grpo(r, w).at[:, 1:].set(0)),
    "weights ignored": (
        "advantage_combination",
        lambda r, w: aggregators.advantage_combination(r, w * 0 + 1),
    ),
    "no whitening": ("gdpo", aggregators.advantage_combination),
    "a deviation per group": ("lite_ppo", aggregators.grpo),
    "a baseline that includes the completion": ("rloo", aggregators.dr_grpo),
    "rolled groups": ("dr_grpo", lambda r, w: jnp.roll(aggregators.dr_grpo(r, w), 1, axis=0)),
    "mean instead of minimum": ("rvpo", aggregators.gdpo),
    "NaN": ("reward_combination", lambda r, w: aggregators.grpo(r, w) * jnp.nan),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_aggregator_is_caught(fault):
    name, broken = BROKEN[fault]
    check = chex.chexify(
        jax.jit(functools.partial(invariants.check, name, REWARDS, WEIGHTS)), async_check=False
    )
    check(aggregators.BY_NAME[name](REWARDS, WEIGHTS))
    with pytest.raises(ValueError, match=r"invariant \d+ .* violated in (group \d+|the batch) by"):
        check(broken(REWARDS, WEIGHTS))


@pytest.mark.parametrize("group", [0, 1])
def test_message_names_invariant_and_group_without_jit(group):
    advantages = aggregators.dvao(REWARDS, WEIGHTS).at[group].add(0.02)
    with pytest.raises(
        ValueError, match=rf"invariant 10 \(each group sums to 0\).*group {group} by 0.0\d+"
    ):
        invariants.check("dvao", REWARDS, WEIGHTS, advantages)
