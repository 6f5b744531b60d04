"""Masking of padding, the first step of every loss.

It ensures that NaN and infinity in padding reach neither a value nor a gradient, and that sums are
accumulated in float32 or wider.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from dvaojax.numerics import real_array, require_axes, require_shape


def on_tokens(values: ArrayLike, where: ArrayLike, *, name: str = "values") -> Array:
    """`values` where `where` is true and 0 elsewhere, in float32 or wider.

    Args:
        values: `[..., T]` in any floating-point dtype.
        where: `[..., T]` bool.
        name: of the argument `values`, for errors.

    Returns:
        `[..., T]`; the gradient is 0 where `where` is false, also for NaN and infinite values.

    Raises:
        AssertionError: the shapes do not fit, the values are not floating-point numbers, or `where`
            is not of truth values.
        TypeError: an argument is complex, or no array of numbers.
    """
    values, where = real_array(name, values), real_array("where", where)
    require_axes(name, values, range(1, 9), axes="[..., T]")
    require_shape("where", where, values.shape, axes="[..., T]", like=name)
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise AssertionError(f"{name} is {values.dtype}; it should be floating-point")
    if where.dtype != bool:
        raise AssertionError(f"where is {where.dtype}; it should be bool, true on sampled tokens")
    dtype = jnp.float32 if jnp.finfo(values.dtype).bits < 32 else values.dtype
    return jnp.where(where, values.astype(dtype), 0)


def advantages_on_tokens(advantages: ArrayLike, where: ArrayLike, *, dtype: DTypeLike) -> Array:
    """One advantage per token, without gradient.

    Args:
        advantages: `[...]`, one per sequence, broadcast to its tokens; or `[..., T]`.
        where: `[..., T]` bool, true on sampled tokens.
        dtype: the dtype in which the loss is computed.

    Returns:
        `[..., T]` in `dtype`, 0 where `where` is false.

    Raises:
        AssertionError: the shapes do not fit, or the advantages are not floating-point numbers.
        TypeError: an argument is complex, or no array of numbers.
    """
    advantages, where = real_array("advantages", advantages), real_array("where", where)
    if advantages.shape != where.shape:
        sequences = where.shape[:-1]
        require_shape("advantages", advantages, sequences, axes="[..., G]", like="where")
        advantages = jnp.broadcast_to(advantages[..., None], where.shape)
    return jax.lax.stop_gradient(on_tokens(advantages, where, name="advantages").astype(dtype))
