"""CorrGRPO: correlation-normalised GRPO (Hu et al., arXiv 2609.36820)."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group


def corr_grpo(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    variance_epsilon: float = numerics.VERL_EPSILON,
) -> Array:
    r"""The centred weighted sum, divided by the root of the sum of all correlations.

    $$ A_i = \frac{\sum_k w_k (r_{ik} - \mu_k)}{\sqrt{\sum_{kl} \rho_{kl} + \epsilon}} $$

    The sum is over all pairs, including k = l, of objectives that have a weight and vary in the
    group; GRPO has $\sum_{kl} w_k w_l \sigma_k \sigma_l \rho_{kl}$ in its place. The epsilon is
    inside the root, as in the official code (HKUST-KnowComp/CorrGRPO), not outside as in the paper.
    There is no `ddof`, because it cancels in a correlation. A masked reward counts as its group's
    mean. Where the z-scores cancel to rounding error the advantage is exactly 0; the official code
    divides by 1e-3 there.

    Not to be confused with: `reward_combination` and `dvao`, whose advantages do not depend on a
    common scale of the rewards. Those of this method are proportional to it: rewards ten times as
    large give advantages ten times as large. It is `reward_combination` times a positive number per
    group, `sigma_sum / sqrt(sum rho)`, and ranks the completions of a group in the same order. K
    copies of one reward, each of weight 1, give the reward minus its mean. Splitting an objective
    into two halves changes the correlations, and so the result.

    Args:
        rewards: `[..., G, K]`, as the reward functions return them.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        variance_epsilon: added to the sum of the correlations.

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
    correlations, num_counted = sum_of_correlations(objectives, batch.weights)
    advantages = numerics.standardise(
        total,
        numerics.safe_sqrt(correlations + variance_epsilon)[:, None],
        deviation=numerics.safe_sqrt(correlations)[:, None],
        scale=num_counted[:, None],
    )
    return advantages.reshape(jnp.shape(rewards)[:-1])


def sum_of_correlations(objectives: numerics.Moments, weights: Array) -> tuple[Array, Array]:
    """Sum of the correlations of all pairs of objectives that vary and have a weight.

    Args:
        objectives: from `group.statistics` with `ddof = 0`.
        weights: `[K]` or `[B, K]`.

    Returns:
        `[B]` the sums, and `[B]` the number of these objectives.
    """
    norm = objectives.deviation * jnp.sqrt(objectives.count)
    is_counted = (norm > 0) & (jnp.broadcast_to(weights, norm.shape) > 0)
    inverse = jnp.where(is_counted, numerics.safe_divide(jnp.ones_like(norm), norm), 0)
    # The sum of all correlations is the squared norm of the sum of the normalised columns.
    unit_sum = group.weighted_sum(objectives.centred, inverse)
    return jnp.sum(jnp.square(unit_sum), axis=-1), jnp.sum(is_counted, axis=-1, dtype=norm.dtype)
