"""GD2PO: drops completions whose objectives conflict (Liu et al., arXiv 2606.16771)."""

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
    r"""GDPO over the completions whose z-scores all have the same sign.

    $$ \hat A_i = \operatorname{whiten}_{kept}\Bigl(\rho \sum_k w_k A_{ik}\Bigr) $$

    A completion is in conflict if, among the objectives that have a weight, one of its z-scores
    $A_{ik}$ is positive and another negative. Its advantage is 0. The sums of the other completions
    are multiplied by the share $\rho$ of their group that was kept and whitened over the kept
    completions of the batch. The official code (Qwen-Applications/GD2PO@f1ad765) has no weights,
    treats scores below 1e-8 as 0, which is below the rounding error of float32, and whitens over
    tokens. Here scores below `sqrt(machine epsilon)` are treated as 0, every completion counts
    once, as in `gdpo`, and a zero-variance group gets exactly 0, where whitening would give it the
    distance of 0 from the batch's mean.

    Not to be confused with: masking completions from the loss. An advantage of 0 still counts in a
    mean over completions or tokens. The advantages of a group do not sum to 0, and with many
    objectives few completions are kept: with three independent ones, a quarter.

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
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight is negative.
    """
    batch = group.prepare_batch(rewards, weights, mask)
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
    r"""`gd2po_hard`, but a completion in conflict is kept if one sign clearly dominates.

    $$ q_i = \frac{\sum_k w_k A_{ik}}{\sum_k w_k |A_{ik}|}, \qquad
       \text{dropped where in conflict and } |q_i| < \mathrm{threshold} $$

    `|q|` is 1 exactly where there is no conflict, so that a threshold of 1 is `gd2po_hard` and one
    of 0 drops no completion. The default is that of the official scripts; the code's own is 0.2.

    Not to be confused with: a signal-to-noise ratio of mean to deviation over completions; q is
    computed from the scores of one completion.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        threshold: completions in conflict with a smaller magnitude of q are dropped.
        ddof: 1 for the sample's standard deviations, 0 for the population's.
        epsilon: added to each objective's standard deviation and to the batch's.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight is negative; or the
            threshold is not in [0, 1].
    """
    numerics.require_range(least=0, most=1, threshold=threshold)
    batch = group.prepare_batch(rewards, weights, mask)
    scores = group.standard_scores(batch, ddof=ddof, epsilon=epsilon)
    is_weak = jnp.abs(consensus(scores.values, batch.weights)) < threshold
    is_kept = batch.scored & ~(in_conflict(scores.values, batch.weights) & is_weak)
    advantages = _whitened_over_kept(batch, scores, is_kept, ddof=ddof, epsilon=epsilon)
    return advantages.reshape(jnp.shape(rewards)[:-1])


def in_conflict(scores: Array, weights: Array) -> Array:
    """`[B, G]` bool, whether two z-scores `[B, G, K]` that have a weight have opposite signs."""
    rounding = jnp.finfo(scores.dtype).eps ** 0.5
    counts = jnp.broadcast_to(jnp.expand_dims(weights > 0, -2), scores.shape)
    is_positive = jnp.any((scores > rounding) & counts, axis=-1)
    is_negative = jnp.any((scores < -rounding) & counts, axis=-1)
    return is_positive & is_negative


def consensus(scores: Array, weights: Array) -> Array:
    """`[B, G]`, `sum_k w_k A_k / sum_k w_k |A_k|` in [-1, 1]; 0 where there is no signal."""
    return numerics.safe_divide(
        group.weighted_sum(scores, weights), group.weighted_sum(jnp.abs(scores), weights)
    )


def _whitened_over_kept(
    batch: group.GroupedRewards, scores: group.ZScores, is_kept: Array, *, ddof: int, epsilon: float
) -> Array:
    """Weighted sums times the kept share of their group, whitened over the kept completions."""
    kept, scored = (jnp.sum(x, axis=-1, dtype=scores.values.dtype) for x in (is_kept, batch.scored))
    share = numerics.safe_divide(kept, scored)[:, None]
    whitened = whitening.whiten(
        share * group.weighted_sum(scores.values, batch.weights),
        share * group.weighted_sum(jnp.abs(scores.values), batch.weights),
        is_kept.astype(scores.values.dtype),
        ddof=ddof,
        epsilon=epsilon,
    )
    return jnp.where(is_kept & scores.has_signal[:, None], whitened, 0)
