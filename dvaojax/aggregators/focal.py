"""Focal reward: weight goes to what the group has not yet learnt (Huang et al., arXiv 2605.26579).

A reconstruction: the paper's own formula, an inverse projection of the rewards and a local
signal-to-noise ratio, was not found. This is what a public implementation does, with the difficulty
taken for one minus the group's mean.
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
    r"""GRPO on a sum whose weights follow how difficult each objective is to the group.

    $$ A_i = \frac{r_i - \operatorname{mean}(r)}{\operatorname{std}(r) + \epsilon}, \qquad
       r_i = \sum_k f_k r_{ik}, \qquad
       f_k = \frac{w_k (1 - \mu_k)^\gamma}{\sum_l w_l (1 - \mu_l)^\gamma} $$

    for rewards in [0, 1]: $1 - \mu_k$, with the group's mean, is held there. Reconstructed, as the
    head of the file says; the value of gamma is ours.

    What it is confused with. The focal loss of detection weighs examples, this weighs rubrics.
    `sa_mrpo` fades objectives by their mean over the batch, and sums z-scores. With gamma 0 it is
    `grpo`, on weights that sum to 1.

    Args:
        rewards: `[..., G, K]`, as the reward functions return them.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        gamma: how fast the weight fades; not negative.
        ddof: 1 for the sample's standard deviation, 0 for the population's.
        epsilon: added to the standard deviation.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not fit.
        ValueError: outside jit, a reward that counts is not finite, or a weight or gamma is
            negative.
    """
    numerics.require_range(least=0, gamma=gamma)
    batch = group.open_batch(rewards, weights, mask)
    adapted = batch._replace(weights=weights_by_difficulty(batch, gamma=gamma))
    advantages = group.standardised_sum(adapted, ddof=ddof, epsilon=epsilon)
    return advantages.reshape(jnp.shape(rewards)[:-1])


def weights_by_difficulty(batch: group.Batch, *, gamma: ArrayLike) -> Array:
    """`[B, K]` shares of the weights times `(1 - mean) ** gamma`; 0 where all is saturated."""
    objectives = group.statistics(batch, ddof=0)
    difficulty = jnp.clip(1 - objectives.mean, 0, 1)
    focused = jnp.where(
        objectives.count > 0, batch.group_weights * numerics.safe_power(difficulty, gamma), 0
    )
    return numerics.safe_divide(focused, jnp.sum(focused, axis=-1, keepdims=True))
