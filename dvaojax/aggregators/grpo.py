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
    r"""The group's z-score of one reward per completion; several are summed with their weights.

    $$ A_i = \frac{r_i - \operatorname{mean}(r)}{\operatorname{std}(r) + \epsilon}, \qquad
       r_i = \sum_k w_k r_{ik} $$

    The defaults are verl's (verl-project/verl@1dda039b9): the sample's standard deviation and an
    epsilon of 1e-6; TRL's is 1e-4 (huggingface/trl@f2cd57710). verl lets the raw reward through in
    a group of one; here such a group teaches nothing.

    What it is confused with. `reward_combination` is the same formula with the population's
    deviation and no epsilon, so that its mean square is exactly 1; `dr_grpo` leaves the deviation
    out. "GRPO" in the tables of multi-reward papers is often trained on the first reward alone:
    here that is a weight of 0 on the others.

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
        AssertionError: the shapes do not fit.
        ValueError: outside jit, a reward that counts is not finite, or a weight is negative.
    """
    batch = group.open_batch(rewards, weights, mask)
    advantages = group.standardised_sum(batch, ddof=ddof, epsilon=epsilon)
    return advantages.reshape(jnp.shape(rewards)[:-1])
