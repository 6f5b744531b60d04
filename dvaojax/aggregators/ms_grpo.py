"""MS-GRPO: the reward of the whole episode for every turn (Dilkes et al., arXiv 2508.10839)."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group


def ms_grpo(
    turn_rewards: ArrayLike,
    is_turn: ArrayLike,
    *,
    ddof: int = 1,
    epsilon: float = numerics.VERL_EPSILON,
) -> Array:
    r"""The z-score of the total reward of an episode within its group, for all its turns.

    $$ R_i = \sum_t r_{it}, \qquad
       A_{it} = \frac{R_i - \operatorname{mean}(R)}{\operatorname{std}(R) + \epsilon} $$

    A turn is credited with earlier rewards as well as with later ones. We did not find the
    constants of the normalisation; the defaults are those of GRPO in verl.

    Not to be confused with: `gtpo`, which credits a turn with later rewards only. MS-GRPO also
    samples the episodes of an update with a probability proportional to |A|; without importance
    weights each episode then counts as A |A|. This is not implemented here.

    Args:
        turn_rewards: `[..., G, S]`, the reward of each turn; any value where there is no turn.
        is_turn: `[..., G, S]` bool, false after the last turn of an episode.
        ddof: 1 for the sample's standard deviation, 0 for the population's.
        epsilon: added to the standard deviation.

    Returns:
        `[..., G, S]`; 0 where there is no turn, and in a group whose episodes all have the same
        total reward, up to rounding.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, the reward of a turn is NaN or infinite.
    """
    rewards, is_turn = group.turns(turn_rewards, is_turn)
    # The total reward is a sum of objectives of weight 1, the turns; a missing turn adds 0.
    is_episode = jnp.any(is_turn, axis=-1, keepdims=True)
    batch = group.prepare_batch(
        jnp.where(is_turn, rewards, 0),
        jnp.ones(rewards.shape[-1]),
        jnp.broadcast_to(is_episode, rewards.shape),
    )
    advantages = group.standardised_sum(batch, ddof=ddof, epsilon=epsilon)
    return jnp.where(is_turn, advantages.reshape(*rewards.shape[:-1], 1), 0)
