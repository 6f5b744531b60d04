"""Masked sums and means; every guard and epsilon of the package stands here.

Padding may hold anything, NaN and infinity included. A value that does not count is therefore
replaced *before* it enters any arithmetic: an infinity that a `where` hides afterwards comes back
as NaN in the gradient.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array


class Mean(NamedTuple):
    """A mean in two halves, so that shards, micro-batches and hosts can be added before dividing.

    Attributes:
        total: the sum of what counts.
        count: how much of it counts, as a float.
    """

    total: Array
    count: Array

    @property
    def value(self) -> Array:
        """The mean; 0 where nothing counts."""
        return safe_divide(self.total, self.count)


def safe_divide(numerator: Array, denominator: Array) -> Array:
    """`numerator / denominator`, and exactly 0 with zero gradient where the denominator is 0."""
    is_zero = denominator == 0
    return jnp.where(is_zero, 0, numerator / jnp.where(is_zero, 1, denominator))


def masked_sum(values: Array, where: Array, *, axis: int | tuple[int, ...] | None = None) -> Array:
    """Sum of `values` where `where` is true; NaN and infinity elsewhere do not leak, nor do their
    gradients. `where` has the shape of `values`."""
    return jnp.sum(jnp.where(where, values, 0), axis=axis)


def masked_mean(values: Array, where: Array) -> Mean:
    """Mean of `values` over all axes where `where` is true, kept as sum and count."""
    return Mean(masked_sum(values, where), jnp.sum(where, dtype=values.dtype))
