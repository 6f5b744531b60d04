"""GD2PO: completions whose objectives conflict are dropped (Liu et al., arXiv 2606.16771)."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group, whitening


def gd2po_hard(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    ddof: int = 1,
    epsilon: float = numerics.VERL_EPSILON,
) -> Array:
    r"""GDPO over the completions on which all objectives pull the same way.

    $$ \hat A_i = \operatorname{whiten}_{kept}\Bigl(\rho \sum_k w_k A_{ik}\Bigr) $$

    A completion is in conflict if one of its z-scores $A_{ik}$ is positive and another negative,
    among the objectives that have a weight. It gets 0. What is kept is multiplied by the share
    $\rho$ of its group that was kept, and whitened over what was kept in the batch. The official
    code (Qwen-Applications/GD2PO@f1ad765) has no weights, takes a score for 0 below 1e-8, which
    float32 cannot tell from rounding, and whitens over tokens: here a score is 0 where half its
    digits are, `sqrt(machine epsilon)`, and every completion counts once, as in `gdpo`.

    What it is confused with. A dropped completion is not masked from the loss: an advantage of 0
    still counts in a mean over completions or tokens. The groups' sums are not 0, and with many
    objectives hardly anything is kept: of three that are independent, a quarter.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        ddof: 1 for the sample's standard deviations, 0 for the population's.
        epsilon: added to each objective's standard deviation and to the batch's.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not fit.
        ValueError: outside jit, a reward that counts is not finite, or a weight is negative.
    """
    batch = group.open_batch(rewards, weights, mask)
    scores = group.standard_scores(batch, ddof=ddof, epsilon=epsilon)
    is_kept = batch.scored & ~in_conflict(scores.values, batch.weights)
    advantages = _whitened_over_kept(batch, scores, is_kept, ddof=ddof, epsilon=epsilon)
    return advantages.reshape(jnp.shape(rewards)[:-1])


def gd2po_snr(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    threshold: float = 0.8,
    ddof: int = 1,
    epsilon: float = numerics.VERL_EPSILON,
) -> Array:
    r"""`gd2po_hard`, but a completion in conflict stays if one side clearly prevails.

    $$ q_i = \frac{\sum_k w_k A_{ik}}{\sum_k w_k |A_{ik}|}, \qquad
       \text{dropped where in conflict and } |q_i| < \mathrm{threshold} $$

    `|q|` is 1 exactly where there is no conflict, so a threshold of 1 is `gd2po_hard` and one of 0
    drops nothing. The default is that of the official scripts; the code's own is 0.2.

    What it is confused with. The ratio is that of one completion's scores, no ratio of a mean to a
    deviation over completions.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        threshold: below which magnitude of q a completion in conflict is dropped.
        ddof: 1 for the sample's standard deviations, 0 for the population's.
        epsilon: added to each objective's standard deviation and to the batch's.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not fit.
        ValueError: outside jit, a reward that counts is not finite, or a weight is negative; or the
            threshold is not in [0, 1].
    """
    numerics.require_range(least=0, most=1, threshold=threshold)
    batch = group.open_batch(rewards, weights, mask)
    scores = group.standard_scores(batch, ddof=ddof, epsilon=epsilon)
    is_weak = jnp.abs(consensus(scores.values, batch.weights)) < threshold
    is_kept = batch.scored & ~(in_conflict(scores.values, batch.weights) & is_weak)
    advantages = _whitened_over_kept(batch, scores, is_kept, ddof=ddof, epsilon=epsilon)
    return advantages.reshape(jnp.shape(rewards)[:-1])


def in_conflict(scores: Array, weights: Array) -> Array:
    """`[B, G]` bool, whether of the z-scores `[B, G, K]` with a weight two have opposite signs."""
    rounding = jnp.finfo(scores.dtype).eps ** 0.5
    counts = jnp.broadcast_to(jnp.expand_dims(weights > 0, -2), scores.shape)
    is_positive = jnp.any((scores > rounding) & counts, axis=-1)
    is_negative = jnp.any((scores < -rounding) & counts, axis=-1)
    return is_positive & is_negative


def consensus(scores: Array, weights: Array) -> Array:
    """`[B, G]` `sum_k w_k A_k / sum_k w_k |A_k|`, in [-1, 1]; 0 where there is no signal."""
    return numerics.safe_divide(
        group.weighted_sum(scores, weights), group.weighted_sum(jnp.abs(scores), weights)
    )


def _whitened_over_kept(
    batch: group.Batch, scores: group.Scores, is_kept: Array, *, ddof: int, epsilon: float
) -> Array:
    """The weighted sums times the kept share of their group, whitened over what is kept."""
    kept, scored = (jnp.sum(x, axis=-1, dtype=scores.values.dtype) for x in (is_kept, batch.scored))
    share = numerics.safe_divide(kept, scored)[:, None]
    whitened = whitening.whiten(
        share * group.weighted_sum(scores.values, batch.weights),
        share * group.weighted_sum(jnp.abs(scores.values), batch.weights),
        is_kept.astype(scores.values.dtype),
        ddof=ddof,
        epsilon=epsilon,
    )
    return jnp.where(is_kept & scores.is_alive[:, None], whitened, 0)
