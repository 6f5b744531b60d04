"""Whitening over the batch: the last step of GDPO and related methods, over all groups of a step.

All are plain reductions over the leading axes: under jit they are global for any sharding.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from dvaojax import numerics
from dvaojax.aggregators._core import group


class BatchMoments(NamedTuple):
    """Centred values and standard deviation over a whole batch.

    Attributes:
        centred: `[B, G]`, values minus the mean of the batch.
        deviation: `[]`, their standard deviation.
    """

    centred: Array
    deviation: Array


def batch_moments(values: Array, counts: Array, *, ddof: int) -> BatchMoments:
    """Moments of `values` `[B, G]`, each counted `counts` `[B, G]` times (0 excludes it).

    Raises:
        ValueError: `ddof` is neither 0 nor 1.
    """
    numerics.require_ddof(ddof)
    total = jnp.sum(counts)
    centred = values - numerics.safe_divide(jnp.sum(counts * values), total)
    correction = numerics.safe_sqrt(numerics.safe_divide(total, jnp.maximum(total - ddof, 1)))
    return BatchMoments(centred, root_mean_square(centred, counts) * correction)


def root_mean_square(values: Array, counts: Array) -> Array:
    """Root mean square `[]` of `values`, each counted `counts` times, of the same shape.

    Computed in units of the largest value, so that squares neither overflow nor underflow.
    """
    size = jax.lax.stop_gradient(jnp.max(jnp.where(counts > 0, jnp.abs(values), 0), initial=0))
    squares = jnp.square(numerics.safe_divide(values, size))
    mean_square = numerics.safe_divide(jnp.sum(counts * squares), jnp.sum(counts))
    return size * numerics.safe_sqrt(mean_square)


def whiten(
    values: Array,
    magnitudes: Array,
    counts: Array,
    *,
    ddof: int,
    epsilon: float = 0.0,
    variance_epsilon: float = 0.0,
) -> Array:
    """`(values - mean) / (sqrt(variance + variance_epsilon) + epsilon)` over the whole batch.

    Args:
        values: `[B, G]`, one number per completion.
        magnitudes: `[B, G]`, the size of the terms that each value is the sum of; if the values are
            only rounding error of such terms, the result is exactly 0.
        counts: `[B, G]`, how often each value counts in the mean and the variance: 0 or 1 per
            completion, or its length in tokens.
        ddof: 0 for the population's variance, 1 for the sample's.
        epsilon: added to the standard deviation.
        variance_epsilon: added to the variance.

    Returns:
        `[B, G]`.
    """
    batch = batch_moments(values, counts, ddof=ddof)
    return numerics.standardise(
        batch.centred,
        numerics.safe_sqrt(batch.deviation**2 + variance_epsilon) + epsilon,
        deviation=batch.deviation,
        scale=root_mean_square(magnitudes, counts),
    )


def whitened_sum(batch: group.GroupedRewards, *, ddof: int, epsilon: float) -> Array:
    """The weighted sum of the z-scores, whitened over the completions of the batch, as in GDPO.

    Args:
        batch: from `group.prepare_batch`; its weights may have been adapted.
        ddof: 1 for the sample's standard deviations, 0 for the population's.
        epsilon: added to each objective's standard deviation and to the batch's.

    Returns:
        `[B, G]`; 0 for completions that were not scored and in zero-variance groups, which are
        included in the batch's mean and deviation nevertheless.
    """
    scores = group.standard_scores(batch, ddof=ddof, epsilon=epsilon)
    whitened = whiten(
        group.weighted_sum(scores.values, batch.weights),
        group.weighted_sum(jnp.abs(scores.values), batch.weights),
        batch.scored.astype(scores.values.dtype),
        ddof=ddof,
        epsilon=epsilon,
    )
    return jnp.where(batch.scored & scores.has_signal[:, None], whitened, 0)
