"""MS-GRPO: the whole episode's reward for every turn (Dilkes et al., arXiv 2508.10839)."""

import chex
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics


def ms_grpo(
    turn_rewards: ArrayLike,
    is_turn: ArrayLike,
    *,
    ddof: int = 1,
    epsilon: float = numerics.VERL_EPSILON,
) -> Array:
    r"""One advantage for all turns of an episode: the group's z-score of its cumulative reward.

    $$ R_i = \sum_t r_{it}, \qquad
       A_{it} = \frac{R_i - \operatorname{mean}(R)}{\operatorname{std}(R) + \epsilon} $$

    A turn is credited with what came before it as well as with what came after: telling them apart
    is left to the comparison within the group. The constants of the normalisation were not found;
    the defaults are GRPO's in verl.

    What it is confused with. `gtpo` credits a turn with what follows it. MS-GRPO also draws the
    episodes of an update with a probability proportional to |A|; without importance weights that
    weighs each episode like A |A|, and is not done here.

    Args:
        turn_rewards: `[..., G, S]`, the reward of each turn; anything where there is none.
        is_turn: `[..., G, S]` bool, false behind an episode's last turn.
        ddof: 1 for the sample's standard deviation, 0 for the population's.
        epsilon: added to the standard deviation.

    Returns:
        `[..., G, S]`; 0 where there is no turn, in episodes without any, and in a group whose
        episodes earned the same.

    Raises:
        AssertionError: the shapes do not fit.
    """
    rewards, is_turn = jnp.asarray(turn_rewards), jnp.asarray(is_turn)
    chex.assert_equal_shape([rewards, is_turn])
    totals = numerics.masked_sum(rewards, is_turn, axis=-1)
    counts = jnp.any(is_turn, axis=-1)
    flat = (-1, rewards.shape[-2])
    moments = jax.vmap(lambda values, where: numerics.moments(values, where, ddof=ddof))(
        totals.reshape(flat), counts.reshape(flat)
    )
    deviation = jnp.where(moments.deviation > 0, moments.deviation + epsilon, 0)
    of_episodes = numerics.safe_divide(moments.centred, deviation[:, None]).reshape(totals.shape)
    return jnp.where(is_turn, of_episodes[..., None], 0)
