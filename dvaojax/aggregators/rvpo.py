"""RVPO: reward-variance policy optimisation (Montero, Jurczyk and Dhingra, arXiv 2605.05750)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group, whitening
from dvaojax.aggregators._core.aggregator import Aggregator, stateful


def rvpo(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    sharpness: ArrayLike = 1.0,
    ddof: int = 1,
    epsilon: float = numerics.VERL_EPSILON,
) -> Array:
    r"""A soft minimum over the objectives' z-scores, whitened over the batch.

    $$ A_i = -\frac{1}{k} \ln \sum_j \bar w_j e^{-k Z_{ij}}, \qquad
       Z_{ij} = \frac{r_{ij} - \mu_j}{\sigma_j + \epsilon} $$

    and then the whitening of `gdpo`. The value of a completion is close to its worst z-score. The
    paper has no weights; $\bar w = w / \sum w$ replaces its $1/M$, so that equal weights give its
    formula. It states neither ddof nor epsilon: the defaults are those of GDPO in verl, which it is
    built on. It increases k from 0.5 to 2 for many rubrics; 1 is usual for two rewards.

    Not to be confused with: the variance within the group, which `dvao` weighs by. The variance of
    RVPO is that *between the objectives of one completion*. An objective that is constant in the
    group remains in the sum with a z-score of 0, which bounds the value by `-ln(its weight) / k`.
    In a zero-variance group the advantage is exactly 0, without the shift of the whitening.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        sharpness: k, a scalar; 0 gives the mean, that is GDPO; for k to infinity it approaches the
            minimum. It may be traced, for a schedule.
        ddof: 1 for the sample's standard deviations, 0 for the population's.
        epsilon: added to each objective's standard deviation and to the batch's.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight or the sharpness is
            negative.
    """
    numerics.require_range(least=0, sharpness=sharpness)

    def combine(scores: Array, shares: Array) -> Array:
        return soft_minimum(scores, shares, sharpness=sharpness)

    return _whitened(combine, rewards, weights, mask, ddof=ddof, epsilon=epsilon)


class Annealing(NamedTuple):
    """State of `rvpo_annealed`.

    Attributes:
        steps: `[]` int32, number of steps done.
    """

    steps: Array


def rvpo_annealed(
    weights: ArrayLike,
    *,
    first: float = 0.5,
    last: float = 2.0,
    num_steps: int = 100,
    ddof: int = 1,
    epsilon: float = numerics.VERL_EPSILON,
) -> Aggregator:
    r"""`rvpo` with a linearly increasing sharpness, the schedule of the paper for rubrics.

    $$ k_t = k_1 + (k_T - k_1) \min\Bigl(1, \frac{t - 1}{T - 1}\Bigr), \qquad t = 1, 2, \dots $$

    According to the paper, training collapses if k is large from the beginning: on HealthBench its
    7B policy peaked at 0.241 and ended at 0.095 with a constant k of 5, and peaked at 0.230 and
    ended at 0.204 with this schedule.

    Not to be confused with: a temperature, which would decrease. The schedule is over training
    steps, not over the tokens of a completion.

    Args:
        weights: `[K]`, not negative.
        first: k of the first step.
        last: k of step `num_steps` and of all later steps.
        num_steps: T, at least 2; the length of the run in the paper's schedule.
        ddof: see `rvpo`.
        epsilon: see `rvpo`.

    Returns:
        An aggregator whose state is `Annealing`.

    Raises:
        ValueError: `num_steps` is below 2, or a sharpness negative.
    """
    if num_steps < 2 or first < 0 or last < 0:
        raise ValueError(
            f"num_steps={num_steps} must be at least 2, and first={first} and last={last} must "
            "not be negative"
        )

    def begin(weights: Array) -> Annealing:
        del weights
        return Annealing(jnp.zeros((), jnp.int32))

    def step(
        rewards: Array, weights: Array, state: Annealing, /, *, mask: Array | None
    ) -> tuple[Array, Annealing]:
        share = jnp.minimum(state.steps / (num_steps - 1), 1)
        sharpness = (1 - share) * first + share * last
        advantages = rvpo(
            rewards, weights, mask=mask, sharpness=sharpness, ddof=ddof, epsilon=epsilon
        )
        return advantages, Annealing(state.steps + 1)

    return stateful(begin, step, weights=weights)


def rvpo_variance_penalty(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    penalty: ArrayLike = 0.5,
    ddof: int = 1,
    epsilon: float = numerics.VERL_EPSILON,
) -> Array:
    r"""The mean of the objectives' z-scores minus their variance, whitened over the batch.

    $$ A_i = \sum_j \bar w_j Z_{ij} - \beta \sum_j \bar w_j \Bigl(Z_{ij} - \sum_l \bar w_l
       Z_{il}\Bigr)^2 $$

    The explicit form of `rvpo`, and its second-order expansion for $\beta = k / 2$. Unlike the soft
    minimum it is not monotone: raising one objective alone far enough lowers the advantage.

    Not to be confused with: the variance within the group, see `rvpo`.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        penalty: beta, a scalar; the default corresponds to `rvpo`'s.
        ddof: 1 for the sample's standard deviations within the group and over the batch, 0 for the
            population's; the variance between objectives is always the population's.
        epsilon: added to each objective's standard deviation and to the batch's.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight or the penalty is
            negative.
    """
    numerics.require_range(least=0, penalty=penalty)

    def combine(scores: Array, shares: Array) -> Array:
        return penalised_mean(scores, shares, penalty=penalty)

    return _whitened(combine, rewards, weights, mask, ddof=ddof, epsilon=epsilon)


def soft_minimum(scores: Array, shares: Array, *, sharpness: ArrayLike) -> Array:
    """`-ln(sum_k shares_k exp(-sharpness scores_k)) / sharpness`; the mean where sharpness is 0.

    Args:
        scores: `[B, G, K]`.
        shares: `[B, K]`, not negative, with sum 1.
        sharpness: `[]`, not negative.

    Returns:
        `[B, G]`.
    """
    sharpness = jnp.asarray(sharpness, scores.dtype)
    divisor = jnp.where(sharpness > 0, sharpness, 1)
    mean = group.weighted_sum(scores, shares)
    exponent = jnp.where(shares[:, None, :] > 0, divisor * (mean[..., None] - scores), 0)
    # Relative to the mean, log1p keeps full precision. Where the exponential might overflow, the
    # largest exponent is factored out first.
    largest = jax.lax.stop_gradient(jnp.max(exponent, axis=-1))
    pivot = jnp.where(largest < 30, 0, largest)
    excess = group.weighted_sum(jnp.expm1(exponent - pivot[..., None]), shares)
    return jnp.where(sharpness > 0, mean - (pivot + jnp.log1p(excess)) / divisor, mean)


def penalised_mean(scores: Array, shares: Array, *, penalty: ArrayLike) -> Array:
    """The mean of `scores` `[B, G, K]` over the objectives minus `penalty` times their variance.

    Args:
        scores: `[B, G, K]`.
        shares: `[B, K]`, not negative, with sum 1, the weights in the mean and the variance.
        penalty: `[]`.
    """
    mean = group.weighted_sum(scores, shares)
    variance = group.weighted_sum(jnp.square(scores - mean[..., None]), shares)
    return mean - jnp.asarray(penalty, scores.dtype) * variance


def _whitened(
    combine: Callable[[Array, Array], Array],
    rewards: ArrayLike,
    weights: ArrayLike,
    mask: ArrayLike | None,
    *,
    ddof: int,
    epsilon: float,
) -> Array:
    """Combines z-scores `[B, G, K]` to `[B, G]` by `combine` and whitens them over the batch."""
    batch = group.prepare_batch(rewards, weights, mask)
    scores = group.standard_scores(batch, ddof=ddof, epsilon=epsilon)
    shares = numerics.safe_divide(batch.weights, jnp.sum(batch.weights, axis=-1, keepdims=True))
    shares = jnp.broadcast_to(shares, (len(scores.values), shares.shape[-1]))
    whitened = whitening.whiten(
        combine(scores.values, shares),
        group.weighted_sum(jnp.abs(scores.values), shares),
        batch.scored.astype(scores.values.dtype),
        ddof=ddof,
        epsilon=epsilon,
    )
    advantages = jnp.where(batch.scored & scores.has_signal[:, None], whitened, 0)
    return advantages.reshape(jnp.shape(rewards)[:-1])
