"""GRPO: group-relative policy optimisation (Shao et al., DeepSeekMath, arXiv 2402.03300)."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group


def grpo(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    ddof: int = 1,
    epsilon: float = numerics.VERL_EPSILON,
) -> Array:
    r"""The z-score of the weighted sum of the rewards within its group.

    $$ A_i = \frac{r_i - \operatorname{mean}(r)}{\operatorname{std}(r) + \epsilon}, \qquad
       r_i = \sum_k w_k r_{ik} $$

    The defaults are verl's (verl-project/verl@1dda039b9): the sample's standard deviation and an
    epsilon of 1e-6; TRL's is 1e-4 (huggingface/trl@f2cd57710). In a group of one, verl returns the
    raw reward; here the advantage is 0.

    Not to be confused with: `reward_combination`, the same formula with the population's deviation
    and no epsilon, so that its mean square is exactly 1; and `dr_grpo`, which does not divide by
    the deviation. "GRPO" in the tables of multi-reward papers is often trained on the first reward
    only, which corresponds to weights of 0 for the others.

    Args:
        rewards: `[..., G, K]`, as the reward functions return them.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        ddof: 1 for the sample's standard deviation, 0 for the population's.
        epsilon: added to the standard deviation.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight is negative.
    """
    batch = group.prepare_batch(rewards, weights, mask)
    advantages = group.standardised_sum(batch, ddof=ddof, epsilon=epsilon)
    return advantages.reshape(jnp.shape(rewards)[:-1])
