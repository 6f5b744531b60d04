"""Attention over caches: completions see their prompt and themselves."""

import chex
import jax.numpy as jnp
from jax import Array, lax

from dvaojax.models.precision import accumulator


def group_attention(
    queries: Array,
    prompt_keys: Array,
    prompt_values: Array,
    keys: Array,
    values: Array,
    *,
    prompt_where: Array,
    where: Array,
) -> Array:
    """Attention of the completions of a group to their one prompt and each to itself.

    The two blocks of scores share one softmax: their exponentials are taken over a common
    maximum and their sums are added. Decoding is the case of one query, training that of all.

    Args:
        queries: `[B, G, T, H, C]`.
        prompt_keys: `[B, N, C, P]`, one copy per group.
        prompt_values: `[B, N, P, C]`.
        keys: `[B, N, G, C, S]`, the completions' own.
        values: `[B, N, G, S, C]`.
        prompt_where: `[B, P]` true on prompt tokens.
        where: `[T, S]` true where query `t` may see its completion's token `s`.

    Returns:
        `[B, G, T, H, C]`.

    Raises:
        AssertionError: the shapes do not fit.
    """
    chex.assert_rank([queries, keys, values], 5)
    chex.assert_rank([prompt_keys, prompt_values], 4)
    batch, group, length, num_heads, width = queries.shape
    num_kv_heads, seen = keys.shape[1], keys.shape[-1]
    chex.assert_shape(keys, (batch, num_kv_heads, group, width, seen))
    chex.assert_shape(values, (batch, num_kv_heads, group, seen, width))
    chex.assert_shape(prompt_where, (batch, prompt_keys.shape[-1]))
    chex.assert_shape(where, (length, seen))
    grouped = queries.reshape(batch, group, length, num_kv_heads, num_heads // num_kv_heads, width)
    grouped = grouped.transpose(0, 3, 1, 4, 2, 5)  # [B, N, G, R, T, C]

    prompt_scores = _scores("bngrtc,bncp->bngrtp", grouped, prompt_keys)
    prompt_scores = jnp.where(prompt_where[:, None, None, None, None], prompt_scores, -jnp.inf)
    scores = _scores("bngrtc,bngcs->bngrts", grouped, keys)
    scores = jnp.where(where[None, None, None, None], scores, -jnp.inf)

    highest = jnp.maximum(_highest(prompt_scores), _highest(scores))
    prompt_weights, prompt_total = _exponentials(prompt_scores, highest)
    weights, total = _exponentials(scores, highest)
    mixed = _mix("bngrtp,bnpc->bngrtc", prompt_weights, prompt_values)
    mixed = mixed + _mix("bngrts,bngsc->bngrtc", weights, values)
    mixed = (mixed / (prompt_total + total)).astype(queries.dtype)
    return mixed.transpose(0, 2, 4, 1, 3, 5).reshape(queries.shape)


def cache_layout(keys: Array, values: Array) -> tuple[Array, Array]:
    """Keys and values as attention reads them: a head's features by tokens, tokens by features.

    Both products then run along the last axis, and a decoded token transposes nothing: a fifth of
    the time of a step on a CPU.

    Args:
        keys: `[B, S, N, C]` of prompts, or `[B, G, S, N, C]` of completions.
        values: the same.

    Returns:
        `[B, N, C, S]` and `[B, N, S, C]`, or `[B, N, G, C, S]` and `[B, N, G, S, C]`.
    """
    keys, values = jnp.moveaxis(keys, -2, 1), jnp.moveaxis(values, -2, 1)
    return jnp.swapaxes(keys, -1, -2), values


def _scores(equation: str, queries: Array, keys: Array) -> Array:
    """Scaled products, in float32 at least."""
    wide = accumulator(queries.dtype)
    return jnp.einsum(equation, queries, keys, preferred_element_type=wide) * (
        queries.shape[-1] ** -0.5
    )


def _highest(scores: Array) -> Array:
    """The largest score of each query, `-inf` where there is nothing to see.

    It only guards the exponential against overflow and cancels, so no gradient flows through it.
    """
    return lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True, initial=-jnp.inf))


def _exponentials(scores: Array, highest: Array) -> tuple[Array, Array]:
    """Unnormalised softmax weights and their sum over the last axis."""
    weights = jnp.exp(scores - highest)
    return weights, jnp.sum(weights, axis=-1, keepdims=True)


def _mix(equation: str, weights: Array, values: Array) -> Array:
    """Weighted sums of the values, accumulated in float32 at least."""
    wide = accumulator(values.dtype)
    return jnp.einsum(equation, weights.astype(values.dtype), values, preferred_element_type=wide)
