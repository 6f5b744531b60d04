"""Focal reward: larger weights for difficult objectives (Huang et al., arXiv 2605.26579).

This is a reconstruction: we could not find the formula of the paper, an inverse projection of the
rewards and a local signal-to-noise ratio. It follows a public implementation, with one minus the
group's mean as the difficulty.
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group


def focal_reward(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    gamma: float = 1.0,
    ddof: int = 1,
    epsilon: float = numerics.VERL_EPSILON,
) -> Array:
    r"""GRPO on a sum of rewards, weighted by the difficulty of each objective in the group.

    $$ A_i = \frac{r_i - \operatorname{mean}(r)}{\operatorname{std}(r) + \epsilon}, \qquad
       r_i = \sum_k f_k r_{ik}, \qquad
       f_k = \frac{w_k (1 - \mu_k)^\gamma}{\sum_l w_l (1 - \mu_l)^\gamma} $$

    for rewards in [0, 1]; $1 - \mu_k$, with the group's mean, is clipped to this range. This is a
    reconstruction, see the module's docstring; the default of gamma is ours. With gamma 0 it is
    `grpo` with weights normalised to sum 1.

    Not to be confused with: the focal loss of object detection, which weighs examples; this method
    weighs rubrics. `sa_mrpo` reduces weights by the mean over the batch and sums z-scores.

    Args:
        rewards: `[..., G, K]`, as the reward functions return them.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        gamma: exponent of the difficulty; not negative.
        ddof: 1 for the sample's standard deviation, 0 for the population's.
        epsilon: added to the standard deviation.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight or gamma is
            negative.
    """
    numerics.require_range(least=0, gamma=gamma)
    batch = group.prepare_batch(rewards, weights, mask)
    adapted = batch._replace(weights=weights_by_difficulty(batch, gamma=gamma))
    advantages = group.standardised_sum(adapted, ddof=ddof, epsilon=epsilon)
    return advantages.reshape(jnp.shape(rewards)[:-1])


def weights_by_difficulty(batch: group.GroupedRewards, *, gamma: ArrayLike) -> Array:
    """Normalised weights `[B, K]` times `(1 - mean) ** gamma`; 0 if all means are at least 1."""
    objectives = group.statistics(batch, ddof=0)
    difficulty = jnp.clip(1 - objectives.mean, 0, 1)
    focused = jnp.where(
        objectives.count > 0, batch.group_weights * numerics.safe_power(difficulty, gamma), 0
    )
    return numerics.safe_divide(focused, jnp.sum(focused, axis=-1, keepdims=True))
