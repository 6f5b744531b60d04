"""Statistics of the rewards of a step, for monitoring."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group


class Diagnostics(NamedTuple):
    """Statistics of the rewards of a step; means are (sum, count) pairs, to be added over shards.

    A *zero-variance group* is one in which every objective is constant; its advantages are 0 under
    nearly all methods. Such groups enter `spread` and `zero_variance_groups` only. A group whose
    varying objectives all have weight 0 is left out of `effective_weight` and `mean_agreement` too.

    Attributes:
        spread: `[K]`, standard deviation of each objective within a group, averaged over the groups
            where it was scored.
        effective_weight: `[K]`, DVAO's weights `w_k sigma_k / sum_l w_l sigma_l`, averaged over the
            groups with signal; they sum to 1 if there is such a group.
        correlation: `[K, K]`, Pearson correlation of two objectives within a group, averaged over
            the groups where both vary.
        zero_variance_groups: `[]`, the share of zero-variance groups.
        agreement: `[...]`, `sigma_sum / sum_k w_k sigma_k` of each group: 1 if its objectives are
            perfectly correlated, 0 if they cancel or do not vary. DVAO is reward combination times
            this factor.
        mean_agreement: `[]`, averaged over the groups with signal.
        nonfinite: `[]` int32, number of unmasked rewards that are NaN or infinite; they were
            masked.
    """

    spread: numerics.Mean
    effective_weight: numerics.Mean
    correlation: numerics.Mean
    zero_variance_groups: numerics.Mean
    agreement: Array
    mean_agreement: numerics.Mean
    nonfinite: Array


def diagnostics(
    rewards: ArrayLike, weights: ArrayLike, *, mask: ArrayLike | None = None
) -> Diagnostics:
    """Computes spread, effective weights, correlation and agreement of a batch of groups.

    All standard deviations are the population's; agreement, effective weights and correlation do
    not depend on that choice. Unlike an aggregator, this counts NaN instead of rejecting it.

    Args:
        rewards: `[..., G, K]`, as the reward functions return them.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.

    Raises:
        AssertionError: the shapes do not match.
    """
    batch = group.mask_nonfinite(rewards, weights, mask)
    objectives = group.statistics(batch, ddof=0)
    total = group.centred_sum(batch, ddof=0)
    weighted = objectives.deviation * jnp.broadcast_to(batch.weights, objectives.deviation.shape)
    effective = numerics.safe_divide(weighted, total.scale[:, None])
    agreement = numerics.safe_divide(total.deviation, total.scale)
    has_signal = total.scale > 0
    is_constant = ~group.has_signal(objectives.deviation)
    return Diagnostics(
        spread=_mean_over_groups(objectives.deviation, objectives.count > 0),
        effective_weight=_mean_over_groups(
            effective, jnp.broadcast_to(has_signal[:, None], effective.shape)
        ),
        correlation=_mean_over_groups(*_correlation(batch, objectives)),
        zero_variance_groups=numerics.masked_mean(
            is_constant.astype(agreement.dtype), jnp.ones_like(is_constant)
        ),
        agreement=agreement.reshape(jnp.shape(rewards)[:-2]),
        mean_agreement=numerics.masked_mean(agreement, has_signal),
        nonfinite=group.count_nonfinite(rewards, mask),
    )


def _correlation(batch: group.GroupedRewards, objectives: numerics.Moments) -> tuple[Array, Array]:
    """`[B, K, K]` correlations over the completions scored on both objectives, and their validity.

    Differences are from each objective's own group mean, which differs from the mean over the
    completions scored on both only where some are masked.
    """
    scores = numerics.safe_divide(objectives.centred, objectives.deviation[:, None, :])
    products = _pairwise(scores, scores)
    squares = _pairwise(jnp.square(scores), batch.where.astype(scores.dtype))
    size = numerics.safe_sqrt(squares * jnp.swapaxes(squares, -1, -2))
    return numerics.safe_divide(products, size), size > 0


def _pairwise(left: Array, right: Array) -> Array:
    """Sum over the group of the products of all pairs of objectives, `[B, K, K]`."""
    return jnp.einsum("bgk,bgl->bkl", left, right, precision=jax.lax.Precision.HIGHEST)


def _mean_over_groups(values: Array, where: Array) -> numerics.Mean:
    """Mean over the first axis `[B, ...]`."""
    return numerics.Mean(
        numerics.masked_sum(values, where, axis=0), jnp.sum(where, axis=0, dtype=values.dtype)
    )
