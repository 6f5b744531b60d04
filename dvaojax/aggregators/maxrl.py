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
    r"""The weighted sum of the rewards minus its group's mean, over that mean.

    $$ A_i = \frac{r_i - \operatorname{mean}(r)}{|\operatorname{mean}(r)| + \epsilon}, \qquad
       r_i = \sum_k w_k r_{ik} $$

    For one reward of 0 or 1 with a share p of successes that is `(1 - p) / p` for a success and -1
    for a failure: the gradient of `log p`, the likelihood, where the expected reward has that of p.
    The rarer a success, the more it counts. The paper speaks of rewards of 0 and 1 alone; for
    others the mean's magnitude is taken, so that a negative mean does not turn the order round, and
    the advantage is 0 where the mean is nothing but rounding.

    What it is confused with. `grpo` divides by the deviation, `sqrt(p (1 - p))` here. A mean
    depends on where a reward has its zero: shift a reward and these advantages change, which
    holds for no other method that centres by the group.

    Args:
        rewards: `[..., G, K]`, as the reward functions return them.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        epsilon: added to the mean's magnitude.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not fit.
        ValueError: outside jit, a reward that counts is not finite, or a weight is negative.
    """
    batch = group.open_batch(rewards, weights, mask)
    objectives = group.statistics(batch, ddof=0)
    total = group.weighted_sum(objectives.centred, batch.weights)
    mean, size = mean_and_size(objectives, batch.weights)
    advantages = numerics.standardise(
        total, (mean + epsilon)[:, None], deviation=mean[:, None], scale=size[:, None]
    )
    return advantages.reshape(jnp.shape(rewards)[:-1])


def mean_and_size(objectives: numerics.Moments, weights: Array) -> tuple[Array, Array]:
    """`[B]` the magnitude of the weighted sum's mean, and `[B]` that of the terms it is made of."""
    size = jnp.abs(objectives.mean) + objectives.deviation
    return jnp.abs(group.weighted_sum(objectives.mean, weights)), group.weighted_sum(size, weights)
