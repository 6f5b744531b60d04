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
    capacity, columns = cache.values.shape[2], jnp.arange(prompt.values.shape[2], dtype=jnp.int32)
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
        keys: `[B * G, N, C, S]`, of the completions.
        values: `[B * G, N, S, C]`.
        prompt_where: `[B, P]` true on prompt tokens.
        where: `[B, G, T, S]` true where query `t` may attend to token `s` of its completion.

    Returns:
        `[B, G, T, H, C]`.

    Raises:
        AssertionError: the shapes do not fit.
    """
    chex.assert_rank([queries, keys, values, prompt_keys, prompt_values], [5, 4, 4, 4, 4])
    batch, group, length, num_heads, width = queries.shape
    num_kv_heads, capacity = keys.shape[1], keys.shape[-1]
    chex.assert_shape(keys, (batch * group, num_kv_heads, width, capacity))
    chex.assert_shape(values, (batch * group, num_kv_heads, capacity, width))
    chex.assert_shape(prompt_where, (batch, prompt_keys.shape[-1]))
    chex.assert_shape(where, (batch, group, length, capacity))
    grouped = queries.reshape(batch, group, length, num_kv_heads, num_heads // num_kv_heads, width)
    grouped = grouped.transpose(0, 1, 3, 4, 2, 5)  # [B, G, N, R, T, C]

    def flat(x: Array) -> Array:
        """`[B, G, ...]` to `[B * G, ...]`, the order of a completion's own keys and values."""
        return x.reshape(-1, *x.shape[2:])

    def by_group(x: Array) -> Array:
        return x.reshape(batch, group, *x.shape[1:])

    def swapped(x: Array) -> Array:
        """`[B, G, N, ...]` to `[B, N, G, ...]`, the order for the prompt's, and back."""
        return jnp.swapaxes(x, 1, 2)

    prompt_scores = _scores("bngrtc,bncp->bngrtp", swapped(grouped), prompt_keys)
    prompt_scores = jnp.where(prompt_where[:, None, None, None, None], prompt_scores, -jnp.inf)
    scores = _scores("mnrtc,mncs->mnrts", flat(grouped), keys)
    scores = jnp.where(flat(where)[:, None, None], scores, -jnp.inf)

    maximum = jnp.maximum(swapped(_maximum(prompt_scores)), by_group(_maximum(scores)))
    prompt_weights, prompt_total = _exponentials(prompt_scores, swapped(maximum))
    weights, total = _exponentials(scores, flat(maximum))
    output = swapped(_weighted_sum("bngrtp,bnpc->bngrtc", prompt_weights, prompt_values))
    output = output + by_group(_weighted_sum("mnrts,mnsc->mnrtc", weights, values))
    output = (output / (swapped(prompt_total) + by_group(total))).astype(queries.dtype)
    return output.transpose(0, 1, 4, 2, 3, 5).reshape(queries.shape)


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
