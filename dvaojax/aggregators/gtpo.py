"""GTPO: returns from each turn on, normalised per turn (Ding et al., arXiv 2511.14846)."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group


def gtpo(
    turn_rewards: ArrayLike,
    is_turn: ArrayLike,
    *,
    discount: float = 1.0,
    ddof: int = 1,
    epsilon: float = numerics.VERL_EPSILON,
) -> Array:
    r"""The z-score, within the group and at each turn, of the discounted return from that turn on.

    $$ R_{it} = \sum_{s \ge t} \gamma^{s-t} r_{is}, \qquad
       A_{it} = \frac{R_{it} - \operatorname{mean}_j R_{jt}}{\operatorname{std}_j R_{jt} +
       \epsilon} $$

    This is a reconstruction: the paper compares returns within the group; comparing them at the
    same turn, over the episodes that have this turn, and the kind of deviation are our choice. The
    paper's reward shaping for turns without reward is not included.

    Not to be confused with: `ms_grpo`, which gives every turn the reward of the whole episode. A
    discount below 1 reduces the weight of late rewards; it is not a length penalty.

    Args:
        turn_rewards: `[..., G, S]`, the reward of each turn; any value where there is no turn.
        is_turn: `[..., G, S]` bool, false after the last turn of an episode.
        discount: gamma.
        ddof: 1 for the sample's standard deviation, 0 for the population's.
        epsilon: added to the standard deviation.

    Returns:
        `[..., G, S]`; 0 where there is no turn, and where the returns of a group are equal, up to
        rounding, or there is only one.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, the reward of a turn is NaN or infinite.
    """
    rewards, is_turn = group.turns(turn_rewards, is_turn)
    batch = group.prepare_batch(rewards, jnp.ones(rewards.shape[-1]), is_turn)
    turns = group.statistics(batch, ddof=0)
    # Minus the mean of each turn, which a missing turn lacks: comparisons at a turn do not change.
    departures = jnp.where(batch.where, turns.centred, -turns.mean[:, None, :])
    returns = discounted_returns(departures, discount=discount)
    at_each_turn = jax.vmap(
        partial(group.standardised, ddof=ddof, epsilon=epsilon), in_axes=-1, out_axes=-1
    )
    sizes = _sizes_of_terms(turns, discount=discount)
    return at_each_turn(returns, batch.where, sizes).reshape(rewards.shape)


def _sizes_of_terms(turns: numerics.Moments, *, discount: float) -> Array:
    """`[B, S]`, the size of the terms of the returns that are compared at each turn.

    A later turn adds its deviation over the compared episodes, of which a share has this turn.
    """
    later = turns.count[:, None, :]
    share = jnp.minimum(numerics.safe_divide(later, turns.count[:, :, None]), 1)
    deviation = jnp.sqrt(share) * turns.deviation[:, None, :]
    missing = jnp.sqrt(share * (1 - share)) * jnp.abs(turns.mean)[:, None, :]
    steps = jnp.arange(turns.count.shape[-1])
    ahead = steps[None, :] - steps[:, None]
    factors = jnp.where(
        ahead >= 0, jnp.power(discount, jnp.maximum(ahead, 0).astype(later.dtype)), 0
    )
    return jnp.sum(factors[None] * (deviation + missing), axis=-1)


def discounted_returns(rewards: Array, *, discount: float) -> Array:
    """`sum_{s >= t} discount^(s - t) rewards_s`; input and output are `[..., S]`."""

    def add(later: Array, reward: Array) -> tuple[Array, Array]:
        total = reward + discount * later
        return total, total

    steps = jnp.moveaxis(rewards, -1, 0)
    _, returns = jax.lax.scan(add, jnp.zeros_like(steps[0]), steps, reverse=True)
    return jnp.moveaxis(returns, 0, -1)
