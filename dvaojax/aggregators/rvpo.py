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

    and then the whitening of `gdpo`. A completion is worth about as much as its worst objective.
    The paper has no weights; here $\bar w = w / \sum w$ stands for its $1/M$, and equal weights
    give its formula. It states neither the deviation nor epsilon: the defaults are those of verl's
    GDPO, its pipeline. It raises k from 0.5 to 2 where there are many rubrics; 1 is usual for two
    rewards.

    What it is confused with. The variance is that *between the objectives of one completion*, not
    the variance within the group that `dvao` weighs by. An objective that is constant in the group
    stays in the sum as a 0, and so caps what the others can gain at `-ln(its weights) / k`; in a
    group where all are, the advantage is exactly 0, without the shift of the whitening.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        sharpness: k, a scalar; 0 is the mean (then this is GDPO), infinity would be the minimum. It
            may be traced, for a schedule.
        ddof: 1 for the sample's standard deviations, 0 for the population's.
        epsilon: added to each objective's standard deviation and to the batch's.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not fit.
        ValueError: outside jit, a reward that counts is not finite, or a weight or the sharpness is
            negative.
    """
    numerics.require_range(least=0, sharpness=sharpness)

    def combine(scores: Array, shares: Array) -> Array:
        return soft_minimum(scores, shares, sharpness=sharpness)

    return _whitened(combine, rewards, weights, mask, ddof=ddof, epsilon=epsilon)


class Annealing(NamedTuple):
    """What `rvpo_annealed` remembers.

    Attributes:
        steps: `[]` int32, steps done.
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
    r"""`rvpo` whose sharpness rises in equal parts over the run, as the paper has it for rubrics.

    $$ k_t = k_1 + (k_T - k_1) \min\Bigl(1, \frac{t - 1}{T - 1}\Bigr), \qquad t = 1, 2, \dots $$

    The paper's reason: begun sharply, training collapses. On HealthBench its 7B policy with a
    constant k of 5 peaked at 0.241 and ended at 0.095, and this one at 0.230 and 0.204.

    What it is confused with. A schedule over training, not over the tokens of a completion; and
    not a temperature, which would fall.

    Args:
        weights: `[K]`, not negative.
        first: k of the first step.
        last: k of step `num_steps` and of every later one.
        num_steps: T, at least 2: those of the run, for the paper's schedule.
        ddof: see `rvpo`.
        epsilon: see `rvpo`.

    Returns:
        An aggregator whose state is `Annealing`.

    Raises:
        ValueError: `num_steps` is below 2, or a sharpness negative.
    """
    if num_steps < 2 or first < 0 or last < 0:
        raise ValueError(
            f"num_steps={num_steps} must be at least 2, and first={first} and last={last} "
            "not negative"
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

    What it is confused with. See `rvpo`.

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
        AssertionError: the shapes do not fit.
        ValueError: outside jit, a reward that counts is not finite, or a weight or the penalty is
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
    # About the mean the logarithm is that of a number above 1, and log1p keeps all its digits;
    # where the exponential might overflow, the largest exponent is taken out first.
    steepest = jax.lax.stop_gradient(jnp.max(exponent, axis=-1))
    pivot = jnp.where(steepest < 30, 0, steepest)
    excess = group.weighted_sum(jnp.expm1(exponent - pivot[..., None]), shares)
    return jnp.where(sharpness > 0, mean - (pivot + jnp.log1p(excess)) / divisor, mean)


def penalised_mean(scores: Array, shares: Array, *, penalty: ArrayLike) -> Array:
    """The mean of `scores` `[B, G, K]` over the objectives minus `penalty` times their variance.

    Args:
        scores: `[B, G, K]`.
        shares: `[B, K]`, not negative, with sum 1: what each objective counts in both.
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
    """Z-scores `[B, G, K]` and shares to one number each by `combine`, then over the batch."""
    batch = group.open_batch(rewards, weights, mask)
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
    advantages = jnp.where(batch.scored & scores.is_alive[:, None], whitened, 0)
    return advantages.reshape(jnp.shape(rewards)[:-1])
