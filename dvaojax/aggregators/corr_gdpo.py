"""CorrGDPO: GDPO divided by correlations over the batch (Hu et al., arXiv 2609.36820, its code)."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group, whitening


def corr_gdpo(
    rewards: ArrayLike,
    weights: ArrayLike,
    lengths: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    ddof: int = 1,
    epsilon: float = numerics.VERL_EPSILON,
    variance_epsilon: float = numerics.VERL_EPSILON,
) -> Array:
    r"""The weighted sum of the z-scores, divided by the root of their correlations over the batch.

    $$ A_i = \frac{S_i - m}{\sqrt{\sum_{kl} C_{kl} + \epsilon_v}}, \qquad
       S_i = \sum_k Z_{ik}, \quad Z_{ik} = w_k \frac{r_{ik} - \mu_k}{\sigma_k + \epsilon}, \quad
       m = \frac{\sum_i L_i S_i}{\sum_i L_i} $$

    with C the correlations of the columns of Z over all completions of the batch, for all pairs,
    including k = l, of objectives that have a weight and vary, and lengths $L_i$ in tokens. It is
    the second estimator of the official code (HKUST-KnowComp/CorrGRPO, commit 3586915), with its
    defaults: sample deviations, 1e-6 on each objective's deviation and on the sum of correlations.
    Two departures: a group in which every objective is constant gets 0, where the code gives -m;
    and where the columns cancel to rounding error all advantages are 0, where the code divides by
    1e-3.

    Not to be confused with: `corr_grpo`, the estimator of the paper, which divides the centred sum
    of the *rewards* by the correlations within each group. `gdpo_token_weighted` divides by the
    deviation of S; the two differ by a factor for the whole batch, the deviation of a sum of
    columns that are all scaled to deviation 1. The advantages here are proportional to a common
    scale of the weights.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
        weights: `[K]` or `[..., K]`, not negative.
        lengths: `[..., G]`, number of tokens of each completion.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        ddof: 1 for the sample's standard deviations, 0 for the population's.
        epsilon: added to each objective's standard deviation.
        variance_epsilon: added to the sum of the correlations.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight is negative.
    """
    group.check_lengths(lengths, rewards)
    batch = group.prepare_batch(rewards, weights, mask)
    scores = group.standard_scores(batch, ddof=ddof, epsilon=epsilon)
    columns = scores.values * batch.group_weights[:, None]
    correlations, num_counted = sum_over_the_batch(columns, batch.scored)
    tokens = jnp.asarray(lengths).astype(columns.dtype).reshape(batch.scored.shape)
    total = whitening.batch_moments(
        jnp.sum(columns, axis=-1), jnp.where(batch.scored, tokens, 0), ddof=0
    )
    advantages = numerics.standardise(
        total.centred,
        numerics.safe_sqrt(correlations + variance_epsilon),
        deviation=numerics.safe_sqrt(correlations),
        scale=num_counted,
    )
    advantages = jnp.where(batch.scored & scores.has_signal[:, None], advantages, 0)
    return advantages.reshape(jnp.shape(rewards)[:-1])


def sum_over_the_batch(columns: Array, scored: Array) -> tuple[Array, Array]:
    """Sum of the correlations of all pairs of columns that vary over the batch.

    Args:
        columns: `[B, G, K]`, 0 where masked.
        scored: `[B, G]` bool, the completions that count.

    Returns:
        `[]` the sum, and `[]` the number of these columns.
    """
    counts = scored.astype(columns.dtype)[..., None]
    mean = numerics.safe_divide(jnp.sum(counts * columns, axis=(0, 1)), jnp.sum(counts))
    centred = counts * (columns - mean[None, None])
    size = jnp.max(jnp.abs(centred), axis=(0, 1), initial=0)
    scaled = numerics.safe_divide(centred, size[None, None])  # so that squares do not underflow
    norm = numerics.safe_sqrt(jnp.sum(jnp.square(scaled), axis=(0, 1)))
    unit_sum = jnp.sum(numerics.safe_divide(scaled, norm[None, None]), axis=-1)
    return jnp.sum(jnp.square(unit_sum)), jnp.sum(norm > 0, dtype=columns.dtype)
