"""SAW: weights from the coefficient of variation over the batch (He et al., arXiv 2606.07705)."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import batch as batches
from dvaojax.aggregators._core import group, whitening
from dvaojax.aggregators._core.aggregator import PerObjective, per_objective


def saw_grpo(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    lower: PerObjective = 0.0,
    delta: float = numerics.SAW_EPSILON,
    ddof: int = 1,
    epsilon: float = numerics.VERL_EPSILON,
) -> Array:
    r"""GRPO on a sum of rewards, weighted by the coefficients of variation over the batch.

    $$ A_i = \frac{r_i - \operatorname{mean}(r)}{\operatorname{std}(r) + \epsilon}, \qquad
       r_i = \sum_k w_k K \omega_k r_{ik}, \qquad
       \omega_k = \frac{\mathrm{CV}_k}{\sum_l \mathrm{CV}_l}, \qquad
       \mathrm{CV}_k = \frac{\operatorname{std}_{batch}(r_k)}
                            {|\operatorname{mean}_{batch}(r_k) - \mathrm{lower}| + \delta} $$

    Rare rewards count more: a binary reward with mean p has the coefficient `sqrt((1 - p) / p)`.
    The paper has no configured weights; here they multiply the adaptive ones. Deviations, defaults
    and the factor K are those of the official code (Zhaolutuan/SAW@119951f), which adds 3 to a
    reward in [-3, 3]; this corresponds to `lower=-3`. `lower` must be the smallest possible value
    of a reward, not the smallest in the batch.

    Not to be confused with: `dvao`, which weighs by the deviation within the group, not by the
    coefficient of variation over the batch. The adaptive weights do not depend on the scale of an
    objective, but on its offset; the weighted sum does depend on the scale.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        lower: the smallest possible reward, `[]` or `[K]`.
        delta: added to the mean minus `lower`.
        ddof: 1 for the sample's standard deviations, 0 for the population's.
        epsilon: added to the group's standard deviation.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight or delta is
            negative.
    """
    numerics.require_range(least=0, delta=delta)
    batch = group.prepare_batch(rewards, weights, mask)
    adapted = weights_by_variation(batch, lower=lower, delta=delta, ddof=ddof)
    advantages = group.standardised_sum(batch._replace(weights=adapted), ddof=ddof, epsilon=epsilon)
    return advantages.reshape(jnp.shape(rewards)[:-1])


def saw_gdpo(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    lower: PerObjective = 0.0,
    delta: float = numerics.SAW_EPSILON,
    ddof: int = 1,
    epsilon: float = numerics.TRL_EPSILON,
) -> Array:
    r"""GDPO with the weights of `saw_grpo`.

    $$ \hat A = \operatorname{whiten}\Bigl(\sum_k w_k K \omega_k
                \frac{r_{ik} - \mu_k}{\sigma_k + \epsilon}\Bigr) $$

    The official code whitens over tokens; here, as in `gdpo`, every completion counts once.

    Not to be confused with: `saw_grpo`, which sums raw rewards. Here the scale of an objective does
    not matter, if `lower` is scaled with it.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        lower: the smallest possible reward, `[]` or `[K]`.
        delta: added to the mean minus `lower`.
        ddof: 1 for the sample's standard deviations, 0 for the population's.
        epsilon: added to each objective's standard deviation and to the batch's.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight or delta is
            negative.
    """
    numerics.require_range(least=0, delta=delta)
    batch = group.prepare_batch(rewards, weights, mask)
    adapted = weights_by_variation(batch, lower=lower, delta=delta, ddof=ddof)
    advantages = whitening.whitened_sum(batch._replace(weights=adapted), ddof=ddof, epsilon=epsilon)
    return advantages.reshape(jnp.shape(rewards)[:-1])


def weights_by_variation(
    batch: group.GroupedRewards, *, lower: PerObjective, delta: ArrayLike, ddof: int
) -> Array:
    """Weights `[B, K]` times K times each objective's share of the sum of all coefficients of
    variation; times 1 if no objective varies."""
    overall = batches.statistics(group.statistics(batch, ddof=0), ddof=ddof)
    above = jnp.abs(overall.mean - per_objective(lower, overall.mean))
    variation = numerics.safe_divide(overall.deviation, above + delta)
    total = jnp.sum(variation)
    share = jnp.where(total > 0, len(variation) * numerics.safe_divide(variation, total), 1)
    return batch.group_weights * share[None, :]
