"""Advantage combination: normalise each reward, then sum (the baseline AC of arXiv 2605.25604)."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group


def advantage_combination(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    ddof: int = 0,
    epsilon: float = 0.0,
) -> Array:
    r"""The weighted sum of the objectives' z-scores within the group.

    $$ A_i = \sum_k w_k \frac{r_{ik} - \mu_k}{\sigma_k} $$

    An objective that is constant in a group contributes 0, and the advantages shrink by its weight.
    The result does not depend on the scale and the offset of any single objective.

    **MO-GRPO** (Ichihara et al., arXiv 2509.22047) is this method with all weights 1 and the
    sample's deviation, `ddof=1`, and has no file of its own.

    Not to be confused with: `gdpo`, which adds a last step, the whitening over the batch. `dvao`
    with the weights `w_k / sigma_k` equals this method divided by the sum of the weights. Unlike
    `dvao`, this method can prefer another completion than `reward_combination` does, and its
    advantages can exceed those of `reward_combination`.

    Args:
        rewards: `[..., G, K]`, as the reward functions return them.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        ddof: 0 for the population's standard deviation, which the paper's propositions need; 1 for
            the sample's.
        epsilon: added to each objective's standard deviation; the paper has none.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight is negative.
    """
    batch = group.prepare_batch(rewards, weights, mask)
    objectives = group.statistics(batch, ddof=ddof)
    # Divide the weights once per group instead of each reward.
    weights = numerics.safe_divide(
        jnp.broadcast_to(batch.weights, objectives.deviation.shape), objectives.deviation + epsilon
    )
    advantages = group.weighted_sum(objectives.centred, weights)
    return advantages.reshape(jnp.shape(rewards)[:-1])
