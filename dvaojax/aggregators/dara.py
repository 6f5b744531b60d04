"""DARA: larger weights for objectives that rarely vary (Zheng et al., arXiv 2610.00574)."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group, whitening


def dara_symmetric(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    cap: float = 5.0,
    ddof: int = 1,
    epsilon: float = numerics.TRL_EPSILON,
) -> Array:
    r"""GDPO with weights that compensate for groups in which an objective is constant.

    $$ \hat A = \operatorname{whiten}\Bigl(\sum_k w_k d_k \frac{r_{ik} - \mu_k}
                {\sigma_k + \epsilon}\Bigr), \qquad
       d_k = \min\Bigl(\mathrm{cap}, \sqrt{\pi_{\max} / \pi_k}\Bigr) $$

    where $\pi_k$ is the share of groups in which objective k varies and has a weight. The squared
    z-scores of an objective sum to G - 1 in each such group and to 0 in the others, so that an
    objective that rarely varies contributes little to the batch. With these factors all objectives
    contribute the same, as long as no factor reaches the cap. All defaults but the cap are those of
    `gdpo`; the paper has no weights.

    Not to be confused with: `saw_gdpo`, which depends on the values of a reward; this method only
    depends on the groups in which it varies. An objective that never varies has the factor `cap`,
    but its z-scores are 0.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        cap: the largest factor.
        ddof: 1 for the sample's standard deviations, 0 for the population's.
        epsilon: added to each objective's standard deviation and to the batch's.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight is negative; or the
            cap is below 1.
    """
    numerics.require_range(least=1, cap=cap)
    batch = group.prepare_batch(rewards, weights, mask)
    adapted = batch.group_weights * factors(batch, cap=cap)[None, :]
    advantages = whitening.whitened_sum(batch._replace(weights=adapted), ddof=ddof, epsilon=epsilon)
    return advantages.reshape(jnp.shape(rewards)[:-1])


def dara_asymmetric(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    cap: float = 5.0,
    ddof: int = 1,
    epsilon: float = numerics.TRL_EPSILON,
) -> Array:
    r"""GDPO with the factors of `dara_symmetric` on the positive part of each z-score only.

    $$ \hat A = \operatorname{whiten}\Bigl(\sum_k w_k
                \bigl(A_k + (d_k - 1) [A_k]_+\bigr)\Bigr) $$

    A rare success is reinforced more, but the frequent failures in its group are not punished more.
    The advantages of a group do not sum to 0, neither before nor after the whitening.

    Not to be confused with: `dara_symmetric`; the two are equal if no factor exceeds 1.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        cap: the largest factor.
        ddof: 1 for the sample's standard deviations, 0 for the population's.
        epsilon: added to each objective's standard deviation and to the batch's.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight is negative; or the
            cap is below 1.
    """
    numerics.require_range(least=1, cap=cap)
    batch = group.prepare_batch(rewards, weights, mask)
    scores = group.standard_scores(batch, ddof=ddof, epsilon=epsilon)
    stretched = stretch(scores.values, factors(batch, cap=cap))
    whitened = whitening.whiten(
        group.weighted_sum(stretched, batch.weights),
        group.weighted_sum(jnp.abs(stretched), batch.weights),
        batch.scored.astype(stretched.dtype),
        ddof=ddof,
        epsilon=epsilon,
    )
    advantages = jnp.where(batch.scored & scores.has_signal[:, None], whitened, 0)
    return advantages.reshape(jnp.shape(rewards)[:-1])


def factors(batch: group.GroupedRewards, *, cap: ArrayLike) -> Array:
    """Factors `[K]` from the share of groups in which each objective varies, at most `cap`."""
    varies = group.statistics(batch, ddof=0).deviation > 0
    counts = varies & (batch.group_weights > 0)
    density = jnp.sum(counts, axis=0, dtype=batch.rewards.dtype)
    rarity = numerics.safe_sqrt(numerics.safe_divide(jnp.max(density), density))
    return jnp.where(density > 0, jnp.minimum(rarity, cap), cap)


def stretch(scores: Array, factors: Array) -> Array:
    """Z-scores `[B, G, K]` with their positive parts times the factors `[K]`."""
    return jnp.where(scores > 0, scores * factors[None, None, :], scores)
