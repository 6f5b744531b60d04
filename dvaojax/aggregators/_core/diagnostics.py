"""What the rewards of a step look like to an aggregator, for people to watch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group


class Diagnostics(NamedTuple):
    """A step's rewards at a glance; means are kept in halves, so that shards can be added.

    A group is *silent* if every objective is constant in it: it teaches nothing under any method.
    It counts in `spread` and `silent_groups` alone; one whose only varying objectives have weight 0
    counts as silent for `effective_weight` and `mean_agreement` too.

    Attributes:
        spread: `[K]` standard deviation of each objective within its group, over the groups where
            it was scored at all.
        effective_weight: `[K]` DVAO's weights `w_k sigma_k / sum_l w_l sigma_l`, over the groups
            that are not silent; they sum to 1 if there is one.
        correlation: `[K, K]` Pearson's correlation of two objectives within a group, over the
            groups where both vary.
        silent_groups: `[]` the share of groups that are silent.
        agreement: `[...]` of each group, `sigma_sum / sum_k w_k sigma_k`: 1 if its objectives
            agree, 0 if they cancel or the group is silent. It is the factor between reward
            combination and DVAO.
        mean_agreement: `[]` over the groups that are not silent.
        nonfinite: `[]` int32, rewards that should count and are NaN or infinite; they were masked.
    """

    spread: numerics.Mean
    effective_weight: numerics.Mean
    correlation: numerics.Mean
    silent_groups: numerics.Mean
    agreement: Array
    mean_agreement: numerics.Mean
    nonfinite: Array


def diagnostics(
    rewards: ArrayLike, weights: ArrayLike, *, mask: ArrayLike | None = None
) -> Diagnostics:
    """Spread, effective weights, correlation, silence and agreement of a batch of groups.

    All standard deviations are the population's; agreement, effective weights and correlation do
    not depend on that choice. Unlike an aggregator it does not refuse NaN: it counts it.

    Args:
        rewards: `[..., G, K]`, as the reward functions return them.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.

    Raises:
        AssertionError: the shapes do not fit.
    """
    batch = group.mask_nonfinite(rewards, weights, mask)
    objectives = group.statistics(batch, ddof=0)
    total = group.centred_sum(batch, ddof=0)
    weighted = objectives.deviation * jnp.broadcast_to(batch.weights, objectives.deviation.shape)
    effective = numerics.safe_divide(weighted, total.scale[:, None])
    agreement = numerics.safe_divide(total.deviation, total.scale)
    has_signal = total.scale > 0
    is_silent = ~group.is_alive(objectives.deviation)
    return Diagnostics(
        spread=_mean_over_groups(objectives.deviation, objectives.count > 0),
        effective_weight=_mean_over_groups(
            effective, jnp.broadcast_to(has_signal[:, None], effective.shape)
        ),
        correlation=_mean_over_groups(*_correlation(batch, objectives)),
        silent_groups=numerics.masked_mean(
            is_silent.astype(agreement.dtype), jnp.ones_like(is_silent)
        ),
        agreement=agreement.reshape(jnp.shape(rewards)[:-2]),
        mean_agreement=numerics.masked_mean(agreement, has_signal),
        nonfinite=group.count_nonfinite(rewards, mask),
    )


def _correlation(batch: group.Batch, objectives: numerics.Moments) -> tuple[Array, Array]:
    """`[B, K, K]` correlations over the completions scored on both, and where they exist.

    Deviations are taken from each objective's own group mean, which differs from the mean over the
    completions scored on both only where some are masked.
    """
    scores = numerics.safe_divide(objectives.centred, objectives.deviation[:, None, :])
    products = _pairwise(scores, scores)
    squares = _pairwise(jnp.square(scores), batch.where.astype(scores.dtype))
    size = numerics.safe_sqrt(squares * jnp.swapaxes(squares, -1, -2))
    return numerics.safe_divide(products, size), size > 0


def _pairwise(left: Array, right: Array) -> Array:
    """Sum over the group of all products of two objectives: `[B, G, K]` twice to `[B, K, K]`."""
    return jnp.einsum("bgk,bgl->bkl", left, right, precision=jax.lax.Precision.HIGHEST)


def _mean_over_groups(values: Array, where: Array) -> numerics.Mean:
    """Mean over the first axis `[B, ...]`."""
    return numerics.Mean(
        numerics.masked_sum(values, where, axis=0), jnp.sum(where, axis=0, dtype=values.dtype)
    )
