"""Dr.GRPO: GRPO without the deviation (Liu et al., arXiv 2503.20783)."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax.aggregators._core import group


def dr_grpo(rewards: ArrayLike, weights: ArrayLike, *, mask: ArrayLike | None = None) -> Array:
    r"""The weighted sum of the rewards minus its group's mean, on the scale of the rewards.

    $$ A_i = r_i - \operatorname{mean}(r), \qquad r_i = \sum_k w_k r_{ik} $$

    Not to be confused with: the whole of Dr.GRPO, which makes two changes to GRPO. This is the one
    in the advantage; the other, a constant divisor in place of the completion's length, is a
    reduction of the loss. `rloo` is the same vector times `G / (G - 1)`.

    Args:
        rewards: `[..., G, K]`, as the reward functions return them.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight is negative.
    """
    batch = group.prepare_batch(rewards, weights, mask)
    objectives = group.statistics(batch, ddof=0)
    advantages = group.weighted_sum(objectives.centred, batch.weights)
    return advantages.reshape(jnp.shape(rewards)[:-1])
