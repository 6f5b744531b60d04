"""Lite PPO: mean of the group, deviation of the batch (Liu et al., arXiv 2508.08221)."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import batch as batches
from dvaojax.aggregators._core import group, whitening


def lite_ppo(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    ddof: int = 1,
    epsilon: float = numerics.TRL_EPSILON,
) -> Array:
    r"""The weighted sum of the rewards minus its group's mean, divided by the batch's deviation.

    $$ A_i = \frac{r_i - \operatorname{mean}_{group}(r)}
                  {\operatorname{std}_{batch}(r) + \epsilon}, \qquad r_i = \sum_k w_k r_{ik} $$

    The deviation is that of the *raw* sums of the batch, so the mean square is the share of the
    variance that is within groups, at most 1. The defaults are those of TRL's
    `scale_rewards="batch"` (huggingface/trl@f2cd57710); the paper does not specify ddof. ROLL, the
    framework of its authors, adds an epsilon of 1e-6. In the
    batch's deviation a masked reward counts as its group's mean, or as the batch's mean if no
    completion of the group was scored on the objective.

    Not to be confused with: `grpo`, which divides by the deviation of each group; with a single
    group the two are equal. Whitening, as in `gdpo`, also divides by a deviation over the batch,
    but by that of centred values.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
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
    objectives = group.statistics(batch, ddof=0)
    departures = batches.statistics(objectives, ddof=0).departures
    total = group.weighted_sum(objectives.centred, batch.weights)
    raw = total + group.weighted_sum(departures, batch.weights)[:, None]
    sizes = group.weighted_sum(objectives.deviation + jnp.abs(departures), batch.weights)
    scored = batch.scored.astype(total.dtype)
    deviation = whitening.batch_moments(raw, scored, ddof=ddof).deviation
    advantages = numerics.standardise(
        total,
        deviation + epsilon,
        deviation=deviation,
        scale=whitening.root_mean_square(sizes, jnp.sum(scored, axis=-1)),
    )
    return advantages.reshape(jnp.shape(rewards)[:-1])
