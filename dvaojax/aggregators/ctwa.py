"""CTWA: covariance-targeted weight adaptation (Lu and Jiang, arXiv 2602.06869)."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group
from dvaojax.aggregators._core.aggregator import Aggregator, PerObjective, per_objective, stateful


class Adaptation(NamedTuple):
    """State of `ctwa`.

    Attributes:
        steps: `[K]` int32, number of steps in which each objective was scored.
        covariance: `[K]`, running mean of each reward's covariance with the advantage.
        log_factor: `[K]`, logarithm of the factor of each weight.
    """

    steps: Array
    covariance: Array
    log_factor: Array


def ctwa(
    weights: ArrayLike,
    *,
    target: PerObjective = 0.05,
    cap: PerObjective = 0.95,
    rate: float = 0.02,
    smoothing: float = 0.1,
    ddof: int = 1,
    epsilon: float = numerics.VERL_EPSILON,
) -> Aggregator:
    r"""GRPO whose weights grow for objectives that have too small a covariance with the advantage.

    $$ A = \operatorname{grpo}(r, w_k e^{u_k}), \qquad
       c_k = \operatorname{mean}_{groups} \operatorname{Cov}(r_k, A), \qquad
       m_k \leftarrow (1 - \tau) m_k + \tau c_k $$
    $$ u_k \leftarrow u_k + \eta \max(0, c^*_k - m_k) \, [\bar r_k < b_k] $$

    To first order, an update along A changes the mean of a reward by its covariance with A; a
    negative covariance means that the reward is being traded for the others. m is initialised with
    the first c. Weights only grow and are not renormalised. The defaults are those of the official
    code (yining610/ctwa@e387891), which uses a target of 0.1 and a cap of 1 for accuracy.

    Simplifications: The official code takes the covariance with each completion's mean of
    `A * ratio * [not clipped]` over its tokens, under the policy *after* the update. An aggregator
    runs before the update, where the ratio is 1 and nothing is clipped, so that this mean is A
    itself. The official script clips nothing, so only the drift of the ratio within a step is
    lost. Its removal of completions with more than a hundred times the median weight is left out,
    because a GRPO advantage is never that large. Its script whitens the sum over the batch
    (REINFORCE++); here it is `grpo`.

    Not to be confused with: `saw_grpo`, which weighs by the variation of a reward, not by the
    effect of training on it. Covariances have the unit of the rewards; the default targets are for
    rewards in [0, 1].

    Args:
        weights: `[K]`, not negative, the initial weights; a weight of 0 stays 0.
        target: c*, the covariance below which a weight grows.
        cap: b, the mean reward above which a weight stops growing; infinity for no cap.
        rate: eta, growth of the log weight per step and per unit of missing covariance.
        smoothing: tau, weight of the current step in the running mean.
        ddof: see `grpo`.
        epsilon: see `grpo`.

    Returns:
        An aggregator whose state is `Adaptation`.

    Raises:
        ValueError: the number of targets or caps is neither one nor K, the rate is negative, or
            smoothing is not in [0, 1].
    """
    if rate < 0 or not 0 <= smoothing <= 1:
        raise ValueError(
            f"rate={rate} must not be negative and smoothing={smoothing} must lie in [0, 1]"
        )

    def begin(weights: Array) -> Adaptation:
        zeros = jnp.zeros_like(weights)
        return Adaptation(jnp.zeros(weights.shape, jnp.int32), zeros, zeros)

    def step(
        rewards: Array, weights: Array, state: Adaptation, /, *, mask: Array | None
    ) -> tuple[Array, Adaptation]:
        batch = group.prepare_batch(rewards, weights, mask)
        grown = batch.weights * jnp.exp(state.log_factor)
        advantages = group.standardised_sum(
            batch._replace(weights=grown), ddof=ddof, epsilon=epsilon
        )
        covariance, is_known = covariances(batch, advantages)
        share = jnp.where(state.steps == 0, 1.0, smoothing).astype(covariance.dtype)
        running = jnp.where(
            is_known, (1 - share) * state.covariance + share * covariance, state.covariance
        )
        mean = group.batch_mean(batch).value
        targets, caps = (per_objective(value, batch.weights) for value in (target, cap))
        missing = jnp.where(is_known & (mean < caps), jnp.maximum(targets - running, 0), 0)
        after = Adaptation(
            state.steps + is_known.astype(jnp.int32), running, state.log_factor + rate * missing
        )
        return advantages.reshape(jnp.shape(rewards)[:-1]), after

    return stateful(begin, step, weights=weights)


def covariances(batch: group.GroupedRewards, advantages: Array) -> tuple[Array, Array]:
    """Each objective's covariance with the advantages within a group, averaged over the groups.

    Args:
        batch: the rewards.
        advantages: `[B, G]`.

    Returns:
        `[K]`, population covariances, averaged over the groups where at least two completions were
        scored on the objective, including those where it is constant; and `[K]` bool, whether there
        is such a group.
    """
    objectives = group.statistics(batch, ddof=0)
    # The centred rewards sum to 0, so the advantages need not be centred too.
    products = jnp.sum(objectives.centred * advantages[..., None], axis=1)
    within = numerics.safe_divide(products, objectives.count)
    counts = objectives.count >= 2
    num_groups = jnp.sum(counts, axis=0, dtype=within.dtype)
    total = numerics.masked_sum(within, counts, axis=0)
    return numerics.safe_divide(total, num_groups), num_groups > 0
