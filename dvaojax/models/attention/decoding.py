"""Attention over key/value caches: completions attend to their prompt and to themselves."""

import chex
import jax.numpy as jnp
from jax import Array, lax

from dvaojax.models.attention.decode_cudnn import attend_by_cudnn
from dvaojax.models.attention.decode_kernel import attend_by_kernel
from dvaojax.models.cache import (
    BlockedCompletionCache,
    BlockedPromptCache,
    CompletionCache,
    PromptCache,
)
from dvaojax.models.config import accumulation_dtype


def attend(
    queries: Array,
    prompt: PromptCache | BlockedPromptCache,
    cache: CompletionCache | BlockedCompletionCache,
    *,
    prompt_lengths: Array,
    starts: Array | None,
    ends: Array,
    backend: str,
) -> Array:
    """Attention of the last tokens of each completion to the prompt and to its own tokens.

    Query `w` of `W` belongs to the token in column `ends - W + w` of its completion, and attends to
    the columns from `starts` up to its own.

    Args:
        queries: `[B, G, W, H, C]`, `W` of them for each completion.
        prompt: one copy per group; of the kind that the backend reads.
        cache: of the completions, with the queries' own keys and values; of the same kind.
        prompt_lengths: `[B]`, at least 1.
        starts: `[B, G]` int32, the first column of each completion; None if all begin in column 0.
        ends: `[B, G]` int32, the column after the last one; 0 for a completion that has ended, of
            which a kernel reads nothing.
        backend: from `decode_backend.choose`.

    Returns:
        `[B, G, W, H, C]`; finite and meaningless where `ends` is 0.

    Raises:
        AssertionError: the shapes do not fit.
        ValueError: the backend does not support several queries, or starts.
    """
    chex.assert_rank(queries, 5)
    chex.assert_shape(prompt_lengths, queries.shape[:1])
    chex.assert_shape([ends, *([] if starts is None else [starts])], queries.shape[:2])
    if isinstance(prompt, BlockedPromptCache) and isinstance(cache, BlockedCompletionCache):
        attend = {"pallas": attend_by_kernel, "cudnn": attend_by_cudnn}[backend]
        return attend(queries, prompt, cache, prompt_lengths, starts, ends)
    capacity, columns = cache.values.shape[3], jnp.arange(prompt.values.shape[2], dtype=jnp.int32)
    return group_attention(
        queries,
        *prompt,
        *cache,
        prompt_where=columns[None] < prompt_lengths[:, None],
        where=_visible(starts, ends, num_queries=queries.shape[2], capacity=capacity),
    )


def _visible(starts: Array | None, ends: Array, *, num_queries: int, capacity: int) -> Array:
    """`[B, G, W, capacity]`, true where a query may attend to a column of its completion."""
    columns = jnp.arange(capacity, dtype=jnp.int32)[None, None, None]
    after = ends[..., None] - jnp.arange(num_queries - 1, -1, -1, dtype=jnp.int32)[None, None]
    visible = columns < after[..., None]
    return visible if starts is None else visible & (columns >= starts[..., None, None])


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
    """Attention of each completion of a group to the shared prompt and to its own tokens.

    The two blocks of scores share one softmax, computed with a common maximum. Decoding has one
    query per completion (`T = 1`).

    Args:
        queries: `[B, G, T, H, C]`.
        prompt_keys: `[B, N, C, P]`, one copy per group.
        prompt_values: `[B, N, P, C]`.
        keys: `[B, N, G, C, S]`, of the completions.
        values: `[B, N, G, S, C]`.
        prompt_where: `[B, P]` true on prompt tokens.
        where: `[B, G, T, S]` true where query `t` may attend to token `s` of its completion.

    Returns:
        `[B, G, T, H, C]`.

    Raises:
        AssertionError: the shapes do not fit.
    """
    chex.assert_rank([queries, keys, values], 5)
    chex.assert_rank([prompt_keys, prompt_values], 4)
    batch, group, length, num_heads, width = queries.shape
    num_kv_heads, capacity = keys.shape[1], keys.shape[-1]
    chex.assert_shape(keys, (batch, num_kv_heads, group, width, capacity))
    chex.assert_shape(values, (batch, num_kv_heads, group, capacity, width))
    chex.assert_shape(prompt_where, (batch, prompt_keys.shape[-1]))
    chex.assert_shape(where, (batch, group, length, capacity))
    grouped = queries.reshape(batch, group, length, num_kv_heads, num_heads // num_kv_heads, width)
    grouped = grouped.transpose(0, 3, 1, 4, 2, 5)  # [B, N, G, R, T, C]

    prompt_scores = _scores("bngrtc,bncp->bngrtp", grouped, prompt_keys)
    prompt_scores = jnp.where(prompt_where[:, None, None, None, None], prompt_scores, -jnp.inf)
    scores = _scores("bngrtc,bngcs->bngrts", grouped, keys)
    scores = jnp.where(where[:, None, :, None], scores, -jnp.inf)

    maximum = jnp.maximum(_maximum(prompt_scores), _maximum(scores))
    prompt_weights, prompt_total = _exponentials(prompt_scores, maximum)
    weights, total = _exponentials(scores, maximum)
    output = _weighted_sum("bngrtp,bnpc->bngrtc", prompt_weights, prompt_values)
    output = output + _weighted_sum("bngrts,bngsc->bngrtc", weights, values)
    output = (output / (prompt_total + total)).astype(queries.dtype)
    return output.transpose(0, 2, 4, 1, 3, 5).reshape(queries.shape)


def _scores(equation: str, queries: Array, keys: Array) -> Array:
    """Scaled attention scores, in float32 at least."""
    wide = accumulation_dtype(queries.dtype)
    return jnp.einsum(equation, queries, keys, preferred_element_type=wide) * (
        queries.shape[-1] ** -0.5
    )


def _maximum(scores: Array) -> Array:
    """The largest score of each query, `-inf` if the query attends to nothing.

    It prevents overflow of the exponential and cancels in the softmax, so its gradient is stopped.
    """
    return lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True, initial=-jnp.inf))


def _exponentials(scores: Array, maximum: Array) -> tuple[Array, Array]:
    """Unnormalised softmax weights and their sum over the last axis."""
    weights = jnp.exp(scores - maximum)
    return weights, jnp.sum(weights, axis=-1, keepdims=True)


def _weighted_sum(equation: str, weights: Array, values: Array) -> Array:
    """Weighted sums of the values, accumulated in float32 at least."""
    wide = accumulation_dtype(values.dtype)
    return jnp.einsum(equation, weights.astype(values.dtype), values, preferred_element_type=wide)
