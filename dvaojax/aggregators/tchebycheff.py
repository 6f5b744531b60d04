"""Augmented Tchebycheff scalarisation (Steuer and Choo, Mathematical Programming 1983), with GRPO.

In reinforcement learning of language models it is one of the aggregations of Panacea (Zhong et al.,
arXiv 2402.02030), there without the augmentation.
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
    r"""GRPO on minus the largest weighted distance from the ideal, and a little of the sum.

    $$ t_i = -\max_k w_k (z^*_k - r_{ik}) + \rho \sum_k w_k r_{ik}, \qquad
       A_i = \frac{t_i - \operatorname{mean}(t)}{\operatorname{std}(t) + \epsilon} $$

    Scalarised first, then normalised within the group: the maximum compares rewards in their own
    units, and z-scores would have moved each group's ideal to wherever its mean happens to be. Only
    the objective that lags most teaches, the others by $\rho$ of their weight. Every Pareto-optimal
    policy is the best for some weights, those of a front that is not convex included, which no
    weighted sum reaches.

    What it is confused with. `rvpo` takes a (soft) minimum too, but of z-scores: there each
    objective is compared with its group, here with the ideal. A masked reward counts as its group's
    mean; an objective of weight 0, or that nobody in the group was scored on, is no candidate for
    the maximum.

    Args:
        rewards: `[..., G, K]`, as the reward functions return them.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        ideal: the reward that nothing exceeds, `[]` or `[K]`.
        augmentation: rho, positive and small, against ties and weakly optimal policies.
        ddof: 1 for the sample's standard deviation, 0 for the population's.
        epsilon: added to the standard deviation.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not fit.
        ValueError: outside jit, a reward that counts is not finite, or a weight or the augmentation
            is negative.
    """
    numerics.require_range(least=0, augmentation=augmentation)
    batch = group.open_batch(rewards, weights, mask)
    objectives = group.statistics(batch, ddof=0)
    values = scalarised(batch, objectives, ideal=ideal, augmentation=augmentation)
    scale = group.weighted_sum(objectives.deviation, batch.weights)
    advantages = group.standardised(values, batch.scored, scale, ddof=ddof, epsilon=epsilon)
    return advantages.reshape(jnp.shape(rewards)[:-1])


def scalarised(
    batch: group.Batch,
    objectives: numerics.Moments,
    *,
    ideal: PerObjective,
    augmentation: ArrayLike,
) -> Array:
    """`[B, G]` t, up to a constant in each group.

    Distances are taken from the largest mean distance of the group, so that an offset of the
    rewards costs no digits.
    """
    candidates = (objectives.count > 0) & (batch.group_weights > 0)
    ideals = per_objective(ideal, jnp.zeros(batch.rewards.shape[-1], batch.rewards.dtype))
    distance = batch.group_weights * (ideals[None, :] - objectives.pivot - objectives.offset)
    lag = distance - _largest(distance, candidates)[:, None]
    weighted = objectives.centred * batch.group_weights[:, None, :]
    lags = lag[:, None, :] - weighted
    worst = _largest(lags, jnp.broadcast_to(candidates[:, None, :], lags.shape))
    return -worst + augmentation * jnp.sum(weighted, axis=-1)


def _largest(values: Array, where: Array) -> Array:
    """The largest along the last axis, 0 where there is none.

    By its place: the gradient of `jnp.max` compares with the maximum, and is NaN where a compiler
    rounds the two computations of it differently.
    """
    place = jnp.argmax(jnp.where(where, values, -jnp.inf), axis=-1)
    places = jax.lax.broadcasted_iota(place.dtype, values.shape, values.ndim - 1)
    return jnp.sum(jnp.where((places == place[..., None]) & where, values, 0), axis=-1)
