"""Mean and deviation of each objective over the whole batch, for methods that adapt weights.

They are combined from the statistics of the groups, so that a common offset of the rewards costs no
precision. All are plain reductions over the groups: under jit they are global for any sharding.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from dvaojax import numerics
from dvaojax.aggregators._core import whitening


class BatchStatistics(NamedTuple):
    """Statistics of each objective over all completions of the batch that were scored on it.

    Attributes:
        count: `[K]`, the number of these completions, as a float.
        mean: `[K]`, 0 if the count is 0.
        departures: `[B, K]`, mean of each group minus mean of the batch; 0 if no completion of the
            group was scored.
        deviation: `[K]`, the standard deviation over the batch; 0 for a constant objective.
    """

    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]
    mean: Array
    departures: Array
    deviation: Array


def statistics(objectives: numerics.Moments, *, ddof: int) -> BatchStatistics:
    """Computes the statistics of the batch from those of its groups.

    Args:
        objectives: from `group.statistics` with `ddof = 0`.
        ddof: 0 for the population's standard deviation over the batch, 1 for the sample's.

    Raises:
        ValueError: `ddof` is neither 0 nor 1.
    """
    numerics.require_ddof(ddof)
    is_scored = objectives.count > 0
    count = jnp.sum(objectives.count, axis=0)
    # Differences of pivots: means with a large offset would be rounded before the subtraction.
    anchor = numerics.safe_divide(
        jnp.sum(objectives.pivot, axis=0), jnp.sum(is_scored, axis=0, dtype=count.dtype)
    )
    from_anchor = objectives.pivot - anchor[None, :] + objectives.offset
    to_mean = numerics.safe_divide(jnp.sum(objectives.count * from_anchor, axis=0), count)
    departures = jnp.where(is_scored, from_anchor - to_mean[None, :], 0)
    # The variance over the batch is the variance within groups plus that between groups.
    parts = jnp.concatenate([objectives.deviation, departures])
    counts = jnp.concatenate([objectives.count, objectives.count])
    spread = jax.vmap(whitening.root_mean_square, in_axes=-1)(parts, counts)  # of 2 n parts
    correction = numerics.safe_divide(2 * count, jnp.maximum(count - ddof, 1))
    deviation = spread * numerics.safe_sqrt(correction)
    return BatchStatistics(count, anchor + to_mean, departures, deviation)
