"""What each objective looks like over the whole batch, for methods that weigh by it.

Put together from the statistics of the groups, so that an offset that all rewards share costs no
digits. Plain reductions over the groups: under jit they are global, however the batch is sharded.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from dvaojax import numerics
from dvaojax.aggregators._core import whitening


class Statistics(NamedTuple):
    """Each objective over all completions of the batch that were scored on it.

    Attributes:
        count: `[K]` how many there are, as a float.
        mean: `[K]` 0 where nobody was scored.
        departures: `[B, K]` from the batch's mean to each group's; 0 where nobody in the group was
            scored.
        deviation: `[K]` the standard deviation over the batch; 0 for an objective that is constant
            in it.
    """

    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]
    mean: Array
    departures: Array
    deviation: Array


def statistics(objectives: numerics.Moments, *, ddof: int) -> Statistics:
    """Statistics of the batch from those of its groups.

    Args:
        objectives: what `group.statistics` returned for `ddof = 0`.
        ddof: 0 for the population's standard deviation over the batch, 1 for the sample's.

    Raises:
        ValueError: `ddof` is neither 0 nor 1.
    """
    numerics.require_ddof(ddof)
    is_scored = objectives.count > 0
    count = jnp.sum(objectives.count, axis=0)
    # From pivot to pivot: means on a large offset would be rounded before they are compared.
    anchor = numerics.safe_divide(
        jnp.sum(objectives.pivot, axis=0), jnp.sum(is_scored, axis=0, dtype=count.dtype)
    )
    from_anchor = objectives.pivot - anchor[None, :] + objectives.offset
    to_mean = numerics.safe_divide(jnp.sum(objectives.count * from_anchor, axis=0), count)
    departures = jnp.where(is_scored, from_anchor - to_mean[None, :], 0)
    # The variance over the batch is that within the groups plus that between them.
    parts = jnp.concatenate([objectives.deviation, departures])
    counts = jnp.concatenate([objectives.count, objectives.count])
    spread = jax.vmap(whitening.root_mean_square, in_axes=-1)(parts, counts)  # of 2 n parts
    correction = numerics.safe_divide(2 * count, jnp.maximum(count - ddof, 1))
    return Statistics(count, anchor + to_mean, departures, spread * numerics.safe_sqrt(correction))
