"""GTPO: returns from each turn on, compared turn by turn (Ding et al., arXiv 2511.14846)."""

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
    r"""The group's z-score, at each turn, of the discounted reward from that turn on.

    $$ R_{it} = \sum_{s \ge t} \gamma^{s-t} r_{is}, \qquad
       A_{it} = \frac{R_{it} - \operatorname{mean}_j R_{jt}}{\operatorname{std}_j R_{jt} +
       \epsilon} $$

    A reconstruction: that returns are compared within the group is the paper's, that this is done
    at the same turn, over the episodes that have one, and by which deviation, is not. Its shaping
    of turns without reward from the code of peers is not here.

    What it is confused with. `ms_grpo` gives every turn the whole episode's reward. A discount
    below 1 weighs what comes late less, and is no length penalty.

    Args:
        turn_rewards: `[..., G, S]`, the reward of each turn; anything where there is none.
        is_turn: `[..., G, S]` bool, false behind an episode's last turn.
        discount: gamma.
        ddof: 1 for the sample's standard deviation, 0 for the population's.
        epsilon: added to the standard deviation.

    Returns:
        `[..., G, S]`; 0 where there is no turn, and where a group's returns are the same or are
        but one.

    Raises:
        AssertionError: the shapes do not fit.
    """
    rewards, is_turn = jnp.asarray(turn_rewards), jnp.asarray(is_turn)
    chex.assert_equal_shape([rewards, is_turn])
    returns = discounted_returns(jnp.where(is_turn, rewards, 0), discount=discount)

    def at_one_turn(values: Array, where: Array) -> Array:
        moments = numerics.moments(values, where, ddof=ddof)
        deviation = jnp.where(moments.deviation > 0, moments.deviation + epsilon, 0)
        return numerics.safe_divide(moments.centred, deviation)

    flat = (-1, *rewards.shape[-2:])
    of_group = jax.vmap(jax.vmap(at_one_turn, in_axes=-1, out_axes=-1))
    return of_group(returns.reshape(flat), is_turn.reshape(flat)).reshape(rewards.shape)


def discounted_returns(rewards: Array, *, discount: float) -> Array:
    """`sum_{s >= t} discount^(s - t) rewards_s`, `[..., S]` to the same shape."""

    def add(later: Array, reward: Array) -> tuple[Array, Array]:
        total = reward + discount * later
        return total, total

    steps = jnp.moveaxis(rewards, -1, 0)
    _, returns = jax.lax.scan(add, jnp.zeros_like(steps[0]), steps, reverse=True)
    return jnp.moveaxis(returns, 0, -1)
