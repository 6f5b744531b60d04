"""Augmented Tchebycheff scalarisation (Steuer and Choo, Mathematical Programming 1983), with GRPO.

For language models it is one of the aggregations of Panacea (Zhong et al., arXiv 2402.02030), there
without the augmentation.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group
from dvaojax.aggregators._core.aggregator import PerObjective, per_objective


def augmented_tchebycheff(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    ideal: PerObjective = 1.0,
    augmentation: float = 0.05,
    ddof: int = 1,
    epsilon: float = numerics.VERL_EPSILON,
) -> Array:
    r"""GRPO on minus the largest weighted distance from the ideal, plus a small part of the sum.

    $$ t_i = -\max_k w_k (z^*_k - r_{ik}) + \rho \sum_k w_k r_{ik}, \qquad
       A_i = \frac{t_i - \operatorname{mean}(t)}{\operatorname{std}(t) + \epsilon} $$

    The rewards are scalarised first and then normalised within the group: the maximum compares
    rewards in their own units; with z-scores the ideal of each group would depend on its mean. Only
    the objective with the largest distance is optimised with its full weight, the others with
    $\rho$ times their weight. Every Pareto-optimal policy is optimal for some weights, including
    those on a non-convex front, which no weighted sum reaches. A masked reward counts as its
    group's mean; objectives of weight 0, or on which no completion of the group was scored, are
    left out of the maximum.

    Not to be confused with: `rvpo`, which takes a (soft) minimum of z-scores: it compares each
    objective with its group, this method with the ideal.

    Args:
        rewards: `[..., G, K]`, as the reward functions return them.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        ideal: upper bound of each reward, `[]` or `[K]`.
        augmentation: rho, positive and small; avoids ties and weakly optimal policies.
        ddof: 1 for the sample's standard deviation, 0 for the population's.
        epsilon: added to the standard deviation.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight or the augmentation
            is negative.
    """
    numerics.require_range(least=0, augmentation=augmentation)
    batch = group.prepare_batch(rewards, weights, mask)
    objectives = group.statistics(batch, ddof=0)
    values, scale = scalarised(batch, objectives, ideal=ideal, augmentation=augmentation)
    advantages = group.standardised(values, batch.scored, scale, ddof=ddof, epsilon=epsilon)
    return advantages.reshape(jnp.shape(rewards)[:-1])


def scalarised(
    batch: group.GroupedRewards,
    objectives: numerics.Moments,
    *,
    ideal: PerObjective,
    augmentation: ArrayLike,
) -> tuple[Array, Array]:
    """Scalarised rewards, up to a constant in each group, and the mean size of their terms.

    Distances are relative to the largest mean distance of the group, so that an offset of the
    rewards costs no precision. An objective that is not the worst of a completion counts in the
    size only by its augmentation, as in the sum.

    Args:
        batch: from `group.prepare_batch`.
        objectives: from `group.statistics` with `ddof = 0`.
        ideal: upper bound of each reward, `[]` or `[K]`.
        augmentation: rho, a scalar.

    Returns:
        `[B, G]` the rewards, and `[B]` the size of the terms, the scale of `group.standardised`.
    """
    candidates = (objectives.count > 0) & (batch.group_weights > 0)
    ideals = per_objective(ideal, jnp.zeros(batch.rewards.shape[-1], batch.rewards.dtype))
    distance = batch.group_weights * (ideals[None, :] - objectives.pivot - objectives.offset)
    mean_lag = (distance - _picked(distance, _largest(distance, candidates))[:, None])[:, None, :]
    weighted = objectives.centred * batch.group_weights[:, None, :]
    lags = mean_lag - weighted
    worst = _largest(lags, jnp.broadcast_to(candidates[:, None, :], lags.shape))
    values = -_picked(lags, worst) + augmentation * jnp.sum(weighted, axis=-1)
    magnitudes = jnp.abs(mean_lag) + jnp.abs(weighted)
    sizes = _picked(magnitudes, worst) + augmentation * jnp.sum(jnp.abs(weighted), axis=-1)
    return values, jax.vmap(numerics.masked_mean)(sizes, batch.scored).value


def _largest(values: Array, where: Array) -> Array:
    """Where the largest unmasked value along the last axis is, bool; nowhere if all are masked.

    It is selected by index: the gradient of `jnp.max` compares with the maximum, and is NaN if the
    compiler rounds the two computations of it differently.
    """
    largest = jnp.argmax(jnp.where(where, values, -jnp.inf), axis=-1)
    index = jax.lax.broadcasted_iota(largest.dtype, values.shape, values.ndim - 1)
    return (index == largest[..., None]) & where


def _picked(values: Array, where: Array) -> Array:
    """The value of the last axis where `where` is true, 0 where it is false."""
    return numerics.masked_sum(values, where, axis=-1)
