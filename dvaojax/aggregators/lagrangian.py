"""Constraints by dual ascent: Constrained GRPO (Girgis et al., arXiv 2602.05863), Safe RLHF.

Both methods weigh objectives by `w + lambda` and differ in where they do so: on the rewards, as
Safe RLHF (Dai et al., arXiv 2310.12773) does and many after it, or on the z-scores, as Constrained
GRPO recommends.
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
    """What both methods remember.

    Attributes:
        multipliers: `[K]` lambda, the price of a unit of each objective; 0 where there is no
            constraint.
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
    r"""GRPO on the Lagrangian of "as much of the sum as possible, each mean at least d_k".

    $$ r_i = \sum_k w_k r_{ik} - \sum_k \lambda_k (d_k - r_{ik}), \qquad
       \lambda_k \leftarrow \min\bigl(\lambda_{max},
           \max(0, \lambda_k + \eta (d_k - \bar r_k))\bigr) $$

    with the mean $\bar r_k$ over the completions of the step, after its advantages were computed.
    The thresholds are the same for all completions of a group and drop out of its advantages: what
    is left is `grpo` with the weights `w + lambda`. An objective that is only there to be held
    above its threshold has weight 0; as long as it is, nothing is paid for it. The limit, and 0.05
    for the rate, are those of a public implementation (Artessay/Amo@6e7df03), whose first objective
    alone has a weight; Safe RLHF learns the logarithm of its multiplier instead.

    What it is confused with. A penalty of fixed weight, which buys some amount of a constraint and
    not the amount asked for. And `constrained_grpo`: dividing by the deviation of the sum, as here,
    counts `w_k + lambda_k` in units of each objective's deviation, so that what a multiplier does
    depends on how much its objective varies in the group.

    Args:
        weights: `[K]`, not negative; those of the rewards that are to be large.
        threshold: d, in units of the reward, the mean that is asked of an objective; minus
            infinity asks for none. Without any this is `grpo`.
        rate: eta, by how much a multiplier moves for each unit that is missing, in a step.
        most: the largest multiplier, so that one that cannot be satisfied does not grow for ever.
        ddof: see `grpo`.
        epsilon: see `grpo`.

    Returns:
        An aggregator whose state is `Multipliers`, which begin at 0.

    Raises:
        ValueError: there are neither one nor K thresholds, or the rate or the limit is negative.
    """

    def combine(batch: group.Batch) -> Array:
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
    r"""Weighted z-scores of which those of constraints have multipliers: scalarised advantages.

    $$ A_i = \sum_k (w_k + \lambda_k) \frac{r_{ik} - \mu_k}{\sigma_k + \epsilon} $$

    with the multipliers of `lagrangian`. A multiplier then weighs what it says, whatever the
    deviations of the objectives are: the paper shows that weighing the rewards instead lets the
    within-group deviations reweigh reward and constraints. Its constraints are costs, indicators of
    a violation held below a rate; here they are rewards held above one, `1 - cost`. Where the paper
    says nothing that we could read (ddof, epsilon, rate, limit), the defaults are `lagrangian`'s.

    What it is confused with. `advantage_combination`, which this is without a threshold, up to ddof
    and epsilon. It is not whitened afterwards: as multipliers grow, so do the advantages.

    Args:
        weights: `[K]`, not negative; those of the rewards that are to be large.
        threshold: see `lagrangian`.
        rate: see `lagrangian`.
        most: see `lagrangian`.
        ddof: 1 for the sample's standard deviation, 0 for the population's.
        epsilon: added to each objective's standard deviation.

    Returns:
        An aggregator whose state is `Multipliers`, which begin at 0.

    Raises:
        ValueError: there are neither one nor K thresholds, or the rate or the limit is negative.
    """

    def combine(batch: group.Batch) -> Array:
        scores = group.standard_scores(batch, ddof=ddof, epsilon=epsilon)
        return group.weighted_sum(scores.values, batch.weights)

    return _dual_ascent(combine, weights, threshold=threshold, rate=rate, most=most)


def ascended(
    multipliers: Array, missing: Array, is_constraint: Array, *, rate: float, most: float
) -> Array:
    """Multipliers `[K]` after one step of projected dual ascent.

    Args:
        multipliers: `[K]`.
        missing: `[K]` threshold minus mean; anything where `is_constraint` is false.
        is_constraint: `[K]` bool; the others' multipliers stay as they are.
        rate: by how much a multiplier moves for each unit that is missing.
        most: the largest multiplier.
    """
    moved = multipliers + rate * jnp.where(is_constraint, missing, 0)
    return jnp.clip(moved, 0, most)


def _dual_ascent(
    combine: Callable[[group.Batch], Array],
    weights: ArrayLike,
    *,
    threshold: PerObjective,
    rate: float,
    most: float,
) -> Aggregator:
    if rate < 0 or most < 0:
        raise ValueError(f"rate={rate} and most={most} must not be negative")

    def begin(weights: Array) -> Multipliers:
        return Multipliers(jnp.zeros_like(weights))

    def step(
        rewards: Array, weights: Array, state: Multipliers, /, *, mask: Array | None
    ) -> tuple[Array, Multipliers]:
        batch = group.open_batch(rewards, weights, mask)
        advantages = combine(batch._replace(weights=batch.weights + state.multipliers))
        thresholds, mean = per_objective(threshold, batch.weights), group.batch_mean(batch)
        is_constraint = (thresholds > -math.inf) & (mean.count > 0)
        after = ascended(
            state.multipliers, thresholds - mean.value, is_constraint, rate=rate, most=most
        )
        return advantages.reshape(jnp.shape(rewards)[:-1]), Multipliers(after)

    return stateful(begin, step, weights=weights)
