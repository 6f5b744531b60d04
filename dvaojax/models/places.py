"""Which places of a row are which."""

import jax.numpy as jnp
from jax import Array


def columns(count: int) -> Array:
    """`[count]` int32: 0, 1, 2, ..."""
    return jnp.arange(count, dtype=jnp.int32)


def within(lengths: Array, width: int) -> Array:
    """`[B, width]` true on the first `lengths`, `[B]`, columns."""
    return columns(width)[None] < lengths[:, None]
