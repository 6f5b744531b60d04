"""Attention of decoded tokens to their caches on NVIDIA GPUs, by two calls of cuDNN.

One call attends to the prompts, with the queries of a group as one sequence, so that the prompt is
read once per group, and one to the completions' own tokens. The two results are merged by the
logarithms of their softmax's totals, which JAX's public function does not return in float32.
"""

import jax
import jax.numpy as jnp
from jax import Array

from dvaojax import sharding
from dvaojax.models.attention.fused import PRIMITIVE_OPTIONS, cudnn, cudnn_arguments
from dvaojax.models.cache import BlockedCompletionCache, BlockedPromptCache


def attend_by_cudnn(
    queries: Array,
    prompt: BlockedPromptCache,
    cache: BlockedCompletionCache,
    prompt_lengths: Array,
    starts: Array | None,
    ends: Array,
) -> Array:
    """Attention of the last token of each completion, see `decoding.attend`.

    Each device attends for its groups and heads. A completion that has ended costs one token.

    Args:
        queries: `[B, G, 1, H, C]`.
        prompt: of the groups.
        cache: of the completions.
        prompt_lengths: `[B]`.
        starts: None instead of `[B, G]`: every completion begins in column 0.
        ends: `[B, G]`.

    Returns:
        `[B, G, 1, H, C]`.

    Raises:
        ValueError: there are several queries for each completion, or completions that begin in
            other columns, which cuDNN's lengths cannot express.
    """
    if queries.shape[2] != 1 or starts is not None:
        raise ValueError(
            "model.decode_attention='cudnn' takes one token at a time, in caches that begin in "
            "column 0; use 'einsum'"
        )
    by_head = ("group", None, None, "heads", None)
    prompt_axes, axes = ("group", "kv_heads", None, None), ("group", None, "kv_heads", None, None)
    in_axes = (by_head, prompt_axes, prompt_axes, axes, axes, ("group",), ("group", None))
    mapped = sharding.on_every_device(_attend, in_axes, by_head)
    return mapped(queries, *prompt, *cache, prompt_lengths, ends)


def _attend(
    queries: Array,
    prompt_keys: Array,
    prompt_values: Array,
    keys: Array,
    values: Array,
    prompt_lengths: Array,
    ends: Array,
) -> Array:
    batch, group, _, num_heads, width = queries.shape
    num_kv_heads = keys.shape[2]
    ratio = num_heads // num_kv_heads
    by_head = queries.reshape(batch, group, num_kv_heads, ratio, width)

    # The queries that share a key/value head are a sequence, so that its keys are read once.
    own, own_total = partial_attention(
        by_head.reshape(-1, *by_head.shape[2:]),
        keys.reshape(-1, *keys.shape[2:]),
        values.reshape(-1, *values.shape[2:]),
        jnp.maximum(ends, 1).reshape(-1),
    )
    shared, shared_total = partial_attention(
        by_head.transpose(0, 2, 1, 3, 4).reshape(batch, num_kv_heads, -1, width),
        prompt_keys,
        prompt_values,
        prompt_lengths,
    )
    own, own_total = own.reshape(by_head.shape), own_total.reshape(by_head.shape[:-1])
    shared = shared.reshape(batch, num_kv_heads, group, ratio, width).transpose(0, 2, 1, 3, 4)
    shared_total = shared_total.reshape(batch, num_kv_heads, group, ratio).transpose(0, 2, 1, 3)
    weight = jax.nn.sigmoid(own_total - shared_total)[..., None]
    merged = own.astype(jnp.float32) * weight + shared.astype(jnp.float32) * (1.0 - weight)
    return merged.astype(queries.dtype).reshape(queries.shape)


def partial_attention(
    queries: Array, keys: Array, values: Array, lengths: Array
) -> tuple[Array, Array]:
    """Attention of all queries of a sequence to its first `lengths` keys.

    Args:
        queries: `[X, N, Q, C]` bfloat16.
        keys: `[X, N, S, C]`.
        values: `[X, N, S, C]`.
        lengths: `[X]`, at least 1.

    Returns:
        The results, `[X, N, Q, C]`, and the logarithms of the softmax's totals, `[X, N, Q]`
        float32.
    """
    arguments, options = cudnn_arguments(
        queries, keys, values, lengths.astype(jnp.int32), layout="BNTH"
    )
    # Not the primitive that training uses, which splits itself over devices: each has its part.
    bind = cudnn._dot_product_attention_fwd_p.bind
    # While training, it returns the totals too.
    attended, totals = bind(*arguments, **options, **PRIMITIVE_OPTIONS, is_training=True)
    return attended, totals
