"""DVAO (arXiv 2605.25604) for noisy rewards: a spread that is noise buys no weight; ours."""

from typing import NamedTuple

import chex
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group
from dvaojax.aggregators._core.aggregator import PerObjective, per_objective


def dvao_denoised(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    noise: PerObjective = 0.0,
    ddof: int = 0,
    epsilon: float = 0.0,
) -> Array:
    r"""Z-scores of the objectives, each weighted by how much its *signal* varies in this group.

    A reward that is a signal and independent noise of variance $v_k$ has in the mean the sample
    variance $E[s_k^2] = \tau_k^2 + v_k$. DVAO weighs by $\sigma_k$, and so a judge that rolls dice
    buys weight with its dice. Here the weight is bought by what is left of the variance:

    $$ \hat\tau_k = \sigma_k \sqrt{\max(0, 1 - v_k / s_k^2)}, \qquad
       \tilde w_k = \frac{w_k \hat\tau_k}{\sum_l w_l \hat\tau_l}, \qquad
       A_i = \sum_k \tilde w_k \frac{r_{ik} - \mu_k}{\sigma_k} $$

    The z-scores stay those of what was observed, so that the weights lie on the simplex, no
    advantage exceeds `sqrt(G - 1)`, and with v = 0 this is `dvao`. Written as one sum, each
    objective counts with the root of its reliability $R_k = 1 - v_k / s_k^2$. Where an objective's
    spread is no larger than its noise, it drops out of the group.

    Does it help? The cosine with the advantages that DVAO would give the signals alone, two
    objectives, 200 batches of 64 groups whose signals have deviations of 0.2 to 1.5; first `dvao`,
    then this:

        deviation of the noise    0 and 0.5     0 and 1       0 and 2       0.5 and 0.5
        G = 4                     0.89  0.89    0.74  0.77    0.51  0.65    0.82  0.79
        G = 8                     0.90  0.91    0.75  0.79    0.51  0.66    0.83  0.82
        G = 16                    0.91  0.92    0.75  0.81    0.51  0.67    0.84  0.84

    With noise on one objective of two it helps from about the size of its signal on, more in larger
    groups; where both are equally noisy there is nothing to weigh, and the uncertainty of R costs a
    little. The best linear estimate of the signal would weigh by R instead of its root, and gains
    another hundredth or two; dividing the plain sum by the signals' spread, which looks like the
    same idea, loses at any noise, for it enlarges the groups that are mostly noise.

    What it is confused with. Inverse-variance weighting, which would give the least varied reward
    the most weight. `dvao_shrunk`, whose noise is that of few completions, not of the judge.

    Args:
        rewards: `[..., G, K]`, as the reward functions return them.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        noise: v, the variance of the noise in a reward as it arrives here, in squared units of the
            reward: of the mean, where several scores were averaged. See `dvao_of_repeats`.
        ddof: 0 for the population's standard deviation, 1 for the sample's.
        epsilon: added to the denominator.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant, or no more than noise.

    Raises:
        AssertionError: the shapes do not fit.
        ValueError: outside jit, a reward that counts is not finite, or a weight is negative; there
            are neither one nor K numbers of noise, or one is negative.
    """
    numerics.require_range(least=0, noise=noise)
    batch = group.open_batch(rewards, weights, mask)
    variances = per_objective(noise, jnp.zeros(batch.rewards.shape[-1], batch.rewards.dtype))
    return _denoised(batch, variances[None], ddof, epsilon).reshape(jnp.shape(rewards)[:-1])


class Averages(NamedTuple):
    """What several scores of each completion come to.

    Attributes:
        rewards: `[..., G, K]` their means; 0 where there is none.
        mask: `[..., G, K]` bool, true where there is one.
        noise: `[B, K]` the variance that those means still have from the noise.
    """

    rewards: Array
    mask: Array
    noise: Array


def dvao_of_repeats(
    scores: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    ddof: int = 0,
    epsilon: float = 0.0,
) -> Array:
    """`dvao_denoised` of rewards that were scored several times, which says how noisy they are.

    It takes another array than the aggregators of a run, and so is in no table of theirs.

    Args:
        scores: `[..., G, K, M]`, M scores of one completion on one objective. One that is not
            noisy gives the same number each time, or one number with the rest masked.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K, M]` bool, false where there is no score.
        ddof: see `dvao_denoised`.
        epsilon: see `dvao_denoised`.

    Returns:
        `[..., G]`, as `dvao_denoised`.

    Raises:
        AssertionError: the shapes do not fit.
        ValueError: outside jit, a score that counts is not finite, or a weight is negative.
    """
    averages = average_repeats(scores, mask=mask)
    batch = group.open_batch(averages.rewards, weights, averages.mask)
    advantages = _denoised(batch, averages.noise, ddof, epsilon)
    return advantages.reshape(averages.rewards.shape[:-1])


def average_repeats(scores: ArrayLike, *, mask: ArrayLike | None = None) -> Averages:
    r"""The means of repeated scores, and how noisy these are.

    One variance of a single score per objective, for the whole batch:
    $v_k = \sum (x - \bar x)^2 / \sum (m - 1)$ over all completions with m scores each, which is
    unbiased. A mean of m scores has $v_k / m$ of it, and a group the mean of that over its
    completions. Where nothing was scored twice, no noise is known of, and none is removed.

    Args:
        scores: `[..., G, K, M]`.
        mask: `[..., G, K, M]` bool, false where there is no score.

    Raises:
        AssertionError: the shapes do not fit.
        ValueError: outside jit, a score that counts is not finite.
    """
    scores = jnp.asarray(scores)
    chex.assert_rank(scores, set(range(3, 10)))
    *leading, num_objectives, num_repeats = scores.shape
    columns = num_objectives * num_repeats
    flat_mask = None
    if mask is not None:
        chex.assert_shape(mask, scores.shape)
        flat_mask = jnp.asarray(mask).reshape(*leading, columns)
    flat = group.open_batch(scores.reshape(*leading, columns), jnp.ones(columns), flat_mask)
    shape = (*flat.rewards.shape[:2], num_objectives, num_repeats)
    values, where = flat.rewards.reshape(shape), flat.where.reshape(shape)

    count = jnp.sum(where, axis=-1, dtype=values.dtype)
    mean = numerics.safe_divide(numerics.masked_sum(values, where, axis=-1), count)
    squares = jnp.where(where, jnp.square(values - mean[..., None]), 0)
    degrees = jnp.sum(jnp.maximum(count - 1, 0), axis=(0, 1))
    variance = numerics.safe_divide(jnp.sum(squares, axis=(0, 1, 3)), degrees)
    inverse = numerics.safe_divide(jnp.ones_like(count), count)
    num_scored = jnp.sum(count > 0, axis=1, dtype=values.dtype)
    share = numerics.safe_divide(jnp.sum(inverse, axis=1), num_scored)
    return Averages(
        rewards=mean.reshape(*leading, num_objectives),
        mask=(count > 0).reshape(*leading, num_objectives),
        noise=variance[None] * share,
    )


def _denoised(batch: group.Batch, noise: Array, ddof: int, epsilon: float) -> Array:
    """`[B, G]` with noise of the variance `[B, K]` or `[1, K]`."""
    objectives = group.statistics(batch, ddof=ddof)
    sample = jnp.square(group.statistics(batch, ddof=1).deviation)
    is_noise = noise >= sample
    reliability = jnp.where(is_noise, 0, 1 - noise / jnp.where(is_noise, 1, sample))
    root = numerics.safe_sqrt(reliability)
    weights = batch.weights if batch.weights.ndim == 2 else batch.weights[None]
    counted = jnp.broadcast_to(weights, root.shape) * root
    total = group.weighted_sum(objectives.centred, counted)
    scale = group.weighted_sum(objectives.deviation, counted)
    return numerics.safe_divide(total, (scale + epsilon)[:, None])
