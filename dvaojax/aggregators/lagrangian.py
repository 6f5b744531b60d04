"""Constraints by dual ascent: Constrained GRPO (Girgis et al., arXiv 2602.05863), Safe RLHF.

Both methods use the weights `w + lambda`. `lagrangian` applies them to the rewards, as Safe RLHF
(Dai et al., arXiv 2310.12773) and many others do; `constrained_grpo` applies them to the z-scores,
as Constrained GRPO recommends.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group
from dvaojax.aggregators._core.aggregator import Aggregator, PerObjective, per_objective, stateful


class Multipliers(NamedTuple):
    """State of both methods.

    Attributes:
        multipliers: `[K]`, the Lagrange multipliers lambda; 0 for objectives without a constraint.
    """

    multipliers: Array


def lagrangian(
    weights: ArrayLike,
    *,
    threshold: PerObjective = -math.inf,
    rate: float = 0.05,
    most: float = 10.0,
    ddof: int = 1,
    epsilon: float = numerics.VERL_EPSILON,
) -> Aggregator:
    r"""GRPO on the Lagrangian of maximising the weighted sum, subject to lower bounds on the means.

    $$ r_i = \sum_k w_k r_{ik} - \sum_k \lambda_k (d_k - r_{ik}), \qquad
       \lambda_k \leftarrow \min\bigl(\lambda_{max},
           \max(0, \lambda_k + \eta (d_k - \bar r_k))\bigr) $$

    with the mean $\bar r_k$ over the completions of the step; the multipliers are updated after the
    advantages have been computed. The thresholds are equal for all completions of a group and
    cancel in its advantages, so that they are those of `grpo` with the weights `w + lambda`. An
    objective that is only a constraint has weight 0; while it is satisfied its multiplier falls to
    0. The limit, and 0.05 for the rate, are those of a public implementation (Artessay/Amo@6e7df03)
    in which only the first objective has a weight; Safe RLHF learns the logarithm of its multiplier
    instead.

    Not to be confused with: a penalty of fixed weight, which does not enforce a given bound; and
    `constrained_grpo`. Dividing by the deviation of the sum, as here, multiplies `w_k + lambda_k`
    by the deviation of each objective, so that the effect of a multiplier depends on how much its
    objective varies in the group.

    Args:
        weights: `[K]`, not negative, the weights of the rewards to be maximised.
        threshold: d, the lower bound on the mean reward of an objective; minus infinity for no
            constraint. Without constraints this is `grpo`.
        rate: eta, change of a multiplier per step and per unit of constraint violation.
        most: the largest multiplier, a bound for constraints that cannot be satisfied.
        ddof: see `grpo`.
        epsilon: see `grpo`.

    Returns:
        An aggregator whose state is `Multipliers`, initially 0.

    Raises:
        ValueError: the number of thresholds is neither one nor K, or the rate or the limit is
            negative.
    """

    def combine(batch: group.GroupedRewards) -> Array:
        return group.standardised_sum(batch, ddof=ddof, epsilon=epsilon)

    return _dual_ascent(combine, weights, threshold=threshold, rate=rate, most=most)


def constrained_grpo(
    weights: ArrayLike,
    *,
    threshold: PerObjective = -math.inf,
    rate: float = 0.05,
    most: float = 10.0,
    ddof: int = 1,
    epsilon: float = numerics.VERL_EPSILON,
) -> Aggregator:
    r"""The weighted sum of z-scores, with multipliers added to the weights of constraints.

    $$ A_i = \sum_k (w_k + \lambda_k) \frac{r_{ik} - \mu_k}{\sigma_k + \epsilon} $$

    with the multipliers of `lagrangian`. The effect of a multiplier does not depend on the
    deviations of the objectives here: the paper shows that the deviations within groups change the
    balance of reward and constraints if the rewards are weighted instead. The constraints of the
    paper are costs, indicators of a violation with an upper bound on their rate; here they are
    rewards, `1 - cost`, with a lower bound. We found no values for ddof, epsilon, rate and limit in
    the paper; the defaults are those of `lagrangian`.

    Not to be confused with: `advantage_combination`, which equals this method without thresholds,
    up to ddof and epsilon. There is no whitening: the advantages grow with the multipliers.

    Args:
        weights: `[K]`, not negative, the weights of the rewards to be maximised.
        threshold: see `lagrangian`.
        rate: see `lagrangian`.
        most: see `lagrangian`.
        ddof: 1 for the sample's standard deviation, 0 for the population's.
        epsilon: added to each objective's standard deviation.

    Returns:
        An aggregator whose state is `Multipliers`, initially 0.

    Raises:
        ValueError: the number of thresholds is neither one nor K, or the rate or the limit is
            negative.
    """

    def combine(batch: group.GroupedRewards) -> Array:
        scores = group.standard_scores(batch, ddof=ddof, epsilon=epsilon)
        return group.weighted_sum(scores.values, batch.weights)

    return _dual_ascent(combine, weights, threshold=threshold, rate=rate, most=most)


def ascended(
    multipliers: Array, missing: Array, is_constraint: Array, *, rate: float, most: float
) -> Array:
    """Multipliers `[K]` after one step of projected dual ascent.

    Args:
        multipliers: `[K]`.
        missing: `[K]`, threshold minus mean; any value where `is_constraint` is false.
        is_constraint: `[K]` bool; the other multipliers do not change.
        rate: change of a multiplier per unit of `missing`.
        most: the largest multiplier.
    """
    moved = multipliers + rate * jnp.where(is_constraint, missing, 0)
    return jnp.clip(moved, 0, most)


def _dual_ascent(
    combine: Callable[[group.GroupedRewards], Array],
    weights: ArrayLike,
    *,
    threshold: PerObjective,
    rate: float,
    most: float,
) -> Aggregator:
    """Aggregator that adds the multipliers to the weights and updates them by dual ascent."""
    if rate < 0 or most < 0:
        raise ValueError(f"rate={rate} and most={most} must not be negative")

    def begin(weights: Array) -> Multipliers:
        return Multipliers(jnp.zeros_like(weights))

    def step(
        rewards: Array, weights: Array, state: Multipliers, /, *, mask: Array | None
    ) -> tuple[Array, Multipliers]:
        batch = group.prepare_batch(rewards, weights, mask)
        advantages = combine(batch._replace(weights=batch.weights + state.multipliers))
        thresholds, mean = per_objective(threshold, batch.weights), group.batch_mean(batch)
        is_constraint = (thresholds > -math.inf) & (mean.count > 0)
        after = ascended(
            state.multipliers, thresholds - mean.value, is_constraint, rate=rate, most=most
        )
        return advantages.reshape(jnp.shape(rewards)[:-1]), Multipliers(after)

    return stateful(begin, step, weights=weights)
