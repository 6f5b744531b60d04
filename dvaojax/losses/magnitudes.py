"""Quantiles of magnitudes over the tokens of a step, from counts that micro-batches can add.

Quantiles of parts do not combine to that of the whole. Counts in classes do, and classes of equal
width in the logarithm have the same relative error for every magnitude.
"""

import jax.numpy as jnp
from jax import Array

from dvaojax.numerics import Mean, require_shape

_PER_DECADE, _LOWEST, _HIGHEST = 20, -24, 4


def histogram(values: Array, where: Array) -> Mean:
    """The number of tokens in each class of magnitudes, to be added over micro-batches.

    Twenty classes for each power of ten from 1e-24 to 1e4; smaller and larger magnitudes are in the
    first and the last class.

    Args:
        values: `[..., T]`, of either sign.
        where: `[..., T]` bool, true on the tokens that count.

    Returns:
        `[S]`, the tokens in each of the S classes; and `[S]`, each the number of all tokens.

    Raises:
        AssertionError: the shapes do not match.
    """
    require_shape("where", where, values.shape, axes="[..., T]", like="values")
    size = (_HIGHEST - _LOWEST) * _PER_DECADE
    exponents = jnp.log10(jnp.abs(values)) - _LOWEST
    classes = jnp.nan_to_num(jnp.floor(exponents * _PER_DECADE), nan=size, posinf=size, neginf=0)
    index = jnp.clip(classes, 0, size - 1).astype(jnp.int32)
    is_counted = where.reshape(-1).astype(jnp.float32)
    counts = jnp.zeros(size, jnp.float32).at[index.reshape(-1)].add(is_counted)
    return Mean(counts, jnp.full(size, jnp.sum(is_counted)))


def quantile(counted: Mean, share: float) -> Mean:
    """The magnitude below which a share of the tokens is, to 6 %; 0 if it is in the lowest class.

    Args:
        counted: of `histogram`, `[S]` each.
        share: in (0, 1).

    Returns:
        The scalar quantile with count 1; with count 0 if no token was counted.
    """
    tokens = counted.count[0]
    below = jnp.cumsum(counted.total)
    index = jnp.sum(below < share * tokens)
    middle = 10.0 ** (_LOWEST + (index.astype(jnp.float32) + 0.5) / _PER_DECADE)
    has_tokens = (tokens > 0).astype(jnp.float32)
    return Mean(jnp.where(index == 0, 0, middle) * has_tokens, has_tokens)
