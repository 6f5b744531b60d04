"""Attention that knows the group: G completions read one prompt and are blind to each other.

Keys and values have `N` heads, queries `H`; a key/value head serves `H / N` query heads (Ainslie et
al., arXiv:2305.13245). Nothing is repeated: neither heads nor prompts. The result equals plain
causal attention on each prompt followed by one completion, to rounding.
"""

import chex
import jax.numpy as jnp
from jax import Array, lax


def prompt_attention(queries: Array, keys: Array, values: Array) -> Array:
    """Causal attention of the prompts to themselves.

    Prompts are padded on the right, so a real token never sees padding.

    Args:
        queries: `[B, P, H, C]`.
        keys: `[B, N, P, C]`.
        values: `[B, N, P, C]`.

    Returns:
        `[B, P, H, C]`.
    """
    chex.assert_rank([queries, keys, values], 4)
    batch, length, num_heads, width = queries.shape
    num_kv_heads = keys.shape[1]
    grouped = queries.reshape(batch, length, num_kv_heads, num_heads // num_kv_heads, width)
    scores = _scores("bpnrc,bnqc->bnrpq", grouped, keys)
    causal = jnp.tril(jnp.ones((length, length), bool))
    weights, total = _exponentials(jnp.where(causal[None, None, None], scores, -jnp.inf))
    mixed = _mix("bnrpq,bnqc->bnrpc", weights, values) / total
    return mixed.transpose(0, 3, 1, 2, 4).reshape(queries.shape).astype(queries.dtype)


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
        prompt_keys: `[B, N, P, C]`, one copy per group.
        prompt_values: `[B, N, P, C]`.
        keys: `[B, G, N, S, C]`, the completions' own.
        values: `[B, G, N, S, C]`.
        prompt_where: `[B, P]` true on prompt tokens.
        where: `[T, S]` true where query `t` may see its completion's token `s`.

    Returns:
        `[B, G, T, H, C]`.
    """
    chex.assert_rank([queries, keys, values], 5)
    chex.assert_rank([prompt_keys, prompt_values], 4)
    batch, group, length, num_heads, width = queries.shape
    num_kv_heads = keys.shape[2]
    chex.assert_shape(prompt_where, (batch, prompt_keys.shape[2]))
    chex.assert_shape(where, (length, keys.shape[3]))
    ratio = num_heads // num_kv_heads
    grouped = queries.reshape(batch, group, length, num_kv_heads, ratio, width)
    grouped = grouped.transpose(0, 3, 1, 4, 2, 5)  # [B, N, G, R, T, C]

    prompt_scores = _scores("bngrtc,bnpc->bngrtp", grouped, prompt_keys)
    prompt_scores = jnp.where(prompt_where[:, None, None, None, None], prompt_scores, -jnp.inf)
    scores = _scores("bngrtc,bgnsc->bngrts", grouped, keys)
    scores = jnp.where(where[None, None, None, None], scores, -jnp.inf)

    highest = jnp.maximum(
        jnp.max(prompt_scores, axis=-1, keepdims=True), jnp.max(scores, axis=-1, keepdims=True)
    )
    prompt_weights, prompt_total = _exponentials(prompt_scores, highest)
    weights, total = _exponentials(scores, highest)
    mixed = _mix("bngrtp,bnpc->bngrtc", prompt_weights, prompt_values)
    mixed = mixed + _mix("bngrts,bgnsc->bngrtc", weights, values)
    mixed = (mixed / (prompt_total + total)).astype(queries.dtype)
    return mixed.transpose(0, 2, 4, 1, 3, 5).reshape(queries.shape)


def _scores(equation: str, queries: Array, keys: Array) -> Array:
    """Scaled products in float32."""
    queries = queries * (queries.shape[-1] ** -0.5)
    return jnp.einsum(equation, queries, keys, preferred_element_type=jnp.float32)


def _exponentials(scores: Array, highest: Array | None = None) -> tuple[Array, Array]:
    """Unnormalised softmax weights and their sum over the last axis.

    The maximum only guards the exponential against overflow and cancels, so no gradient flows
    through it.
    """
    if highest is None:
        highest = jnp.max(scores, axis=-1, keepdims=True)
    weights = jnp.exp(scores - lax.stop_gradient(highest))
    return weights, jnp.sum(weights, axis=-1, keepdims=True)


def _mix(equation: str, weights: Array, values: Array) -> Array:
    """Weighted sums of the values, accumulated in float32."""
    weights = weights.astype(values.dtype)
    return jnp.einsum(equation, weights, values, preferred_element_type=jnp.float32)
