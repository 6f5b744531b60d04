"""MaxRL: maximum likelihood reinforcement learning (Tajwar et al., arXiv 2602.02710)."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group


def maxrl(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    epsilon: float = numerics.VERL_EPSILON,
) -> Array:
    r"""The weighted sum of the rewards minus its group's mean, divided by this mean.

    $$ A_i = \frac{r_i - \operatorname{mean}(r)}{|\operatorname{mean}(r)| + \epsilon}, \qquad
       r_i = \sum_k w_k r_{ik} $$

    For one binary reward with a share p of successes the advantage is `(1 - p) / p` for a success
    and -1 for a failure. This estimates the gradient of the log-likelihood `log p` instead of that
    of the expected reward p; rare successes count more. The paper defines it for binary rewards
    only. For others the magnitude of the mean is used, so that a negative mean does not reverse the
    order, and the advantage is 0 where the mean is only rounding error.

    Not to be confused with: `grpo`, which divides by the deviation, `sqrt(p (1 - p))` in this
    example. Unlike all other methods that subtract the group's mean, this one is not invariant to a
    shift of the rewards.

    Args:
        rewards: `[..., G, K]`, as the reward functions return them.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        epsilon: added to the mean's magnitude.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight is negative.
    """
    batch = group.prepare_batch(rewards, weights, mask)
    objectives = group.statistics(batch, ddof=0)
    total = group.weighted_sum(objectives.centred, batch.weights)
    mean, size = mean_and_size(objectives, batch.weights)
    advantages = numerics.standardise(
        total, (mean + epsilon)[:, None], deviation=mean[:, None], scale=size[:, None]
    )
    return advantages.reshape(jnp.shape(rewards)[:-1])


def mean_and_size(objectives: numerics.Moments, weights: Array) -> tuple[Array, Array]:
    """Magnitude `[B]` of the mean of the weighted sum, and `[B]` of the terms that it sums."""
    size = jnp.abs(objectives.mean) + objectives.deviation
    return jnp.abs(group.weighted_sum(objectives.mean, weights)), group.weighted_sum(size, weights)
