"""GTPO: returns from each turn on, normalised per turn (Ding et al., arXiv 2511.14846)."""

import chex
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics


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
        `[..., G, S]`; 0 where there is no turn, and where the returns of a group are equal or there
        is only one.

    Raises:
        AssertionError: the shapes do not match.
    """
    rewards, is_turn = jnp.asarray(turn_rewards), jnp.asarray(is_turn)
    chex.assert_equal_shape([rewards, is_turn])
    returns = discounted_returns(jnp.where(is_turn, rewards, 0), discount=discount)

    def at_one_turn(values: Array, where: Array) -> Array:
        moments = numerics.moments(values, where, ddof=ddof)
        deviation = jnp.where(moments.deviation > 0, moments.deviation + epsilon, 0)
        return numerics.safe_divide(moments.centred, deviation)

    flat = (-1, *rewards.shape[-2:])
    in_each_group = jax.vmap(jax.vmap(at_one_turn, in_axes=-1, out_axes=-1))
    return in_each_group(returns.reshape(flat), is_turn.reshape(flat)).reshape(rewards.shape)


def discounted_returns(rewards: Array, *, discount: float) -> Array:
    """`sum_{s >= t} discount^(s - t) rewards_s`; input and output are `[..., S]`."""

    def add(later: Array, reward: Array) -> tuple[Array, Array]:
        total = reward + discount * later
        return total, total

    steps = jnp.moveaxis(rewards, -1, 0)
    _, returns = jax.lax.scan(add, jnp.zeros_like(steps[0]), steps, reverse=True)
    return jnp.moveaxis(returns, 0, -1)
