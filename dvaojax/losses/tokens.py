"""Masking of padding, the first step of every loss.

It ensures that NaN and infinity in padding reach neither a value nor a gradient, and that sums are
accumulated in float32 or wider.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from dvaojax.numerics import require_shape


def on_tokens(values: Array, where: Array) -> Array:
    """`values` where `where` is true and 0 elsewhere, in float32 or wider.

    Args:
        values: `[..., T]` in any floating-point dtype.
        where: `[..., T]` bool.

    Returns:
        `[..., T]`; the gradient is 0 where `where` is false, also for NaN and infinite values.

    Raises:
        AssertionError: the shapes do not fit.
    """
    require_shape("where", where, jnp.shape(values), axes="[..., T]", like="the values of tokens")
    chex.assert_type([values, where], [float, bool])
    dtype = jnp.float32 if jnp.finfo(values.dtype).bits < 32 else values.dtype
    return jnp.where(where, values.astype(dtype), 0)


def advantages_on_tokens(advantages: Array, where: Array, *, dtype: DTypeLike) -> Array:
    """One advantage per token, without gradient.

    Args:
        advantages: `[...]`, one per sequence, broadcast to its tokens; or `[..., T]`.
        where: `[..., T]` bool, true on sampled tokens.
        dtype: the dtype in which the loss is computed.

    Returns:
        `[..., T]` in `dtype`, 0 where `where` is false.

    Raises:
        AssertionError: the shapes do not fit.
    """
    if advantages.shape != where.shape:
        sequences = where.shape[:-1]
        require_shape("advantages", advantages, sequences, axes="[..., G]", like="where")
        advantages = jnp.broadcast_to(advantages[..., None], where.shape)
    return jax.lax.stop_gradient(on_tokens(advantages, where).astype(dtype))
