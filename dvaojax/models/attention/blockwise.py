"""Blockwise training attention: for every platform, every float dtype and any length.

A row has a prompt followed by its completions. Attention has three parts: prompts to themselves,
completions to their prompt, and each completion to itself; the last two share a softmax. Blocks of
scores that are masked entirely are skipped, and the scores of a row are never all in memory.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name

from dvaojax.models.attention import online_softmax
from dvaojax.models.attention.online_softmax import BackwardInputs, ColumnRange, PartialAttention

# Causal attention in n blocks computes (n + 1) / 2n of the square; each block is compiled
# separately.
MAX_BLOCKS = 8
# Smaller blocks cost more than they skip.
MIN_BLOCK_TOKENS = 64


class BlockwiseLayout(NamedTuple):
    """Layout of the tokens of a row, known at compile time.

    Attributes:
        prompt: `P`, tokens of the prompt with its padding.
        sequences: number of sequences of `S` tokens after the prompt that do not attend to each
            other: `G` for completions of one length, 1 for packed completions.
        longest: upper bound of the length of a completion.
        max_scores: maximal number of scores in memory.
    """

    prompt: int
    sequences: int
    longest: int
    max_scores: int


class VisibleColumns(NamedTuple):
    """The columns that every token attends to.

    Attributes:
        prompts: columns of the prompt, for its own tokens; `[1, 1, P]`.
        shared: columns of the prompt, for the tokens of completions; `[B, 1, sequences * S]`.
        own: columns of a completion's sequence, for its own tokens; `[1, 1, 1, S]` or
            `[B, 1, 1, S]`.
    """

    prompts: ColumnRange
    shared: ColumnRange
    own: ColumnRange


def attend_in_blocks(
    queries: Array, keys: Array, values: Array, visible: VisibleColumns, layout: BlockwiseLayout
) -> Array:
    """Attention of rows with a prompt followed by its completions.

    Args:
        queries: `[B, P + sequences * S, H, C]`.
        keys: `[B, P + sequences * S, N, C]`.
        values: `[B, P + sequences * S, N, C]`.
        visible: the columns that every token attends to.
        layout: the layout of the rows.

    Returns:
        `[B, P + sequences * S, H, C]` in the dtype of the queries.
    """
    return _attend(queries, keys, values, visible, layout)


def _primal(
    queries: Array, keys: Array, values: Array, visible: VisibleColumns, layout: BlockwiseLayout
) -> Array:
    return _forward(queries, keys, values, visible, layout)[0]


def _forward(
    queries: Array, keys: Array, values: Array, visible: VisibleColumns, layout: BlockwiseLayout
):
    """The output, and the residuals of the backward pass."""
    split = partial(_split_prompt, width=layout.prompt)
    q, k, v = (split(x) for x in by_head(queries, keys, values))
    max_scores = layout.max_scores
    attended = attend_to_past(
        q[0], k[0], v[0], visible.prompts, longest=layout.prompt, max_scores=max_scores
    )
    if queries.shape[1] > layout.prompt:
        separate = partial(_separate, sequences=layout.sequences)
        own = attend_to_past(
            separate(q[1]),
            separate(k[1]),
            separate(v[1]),
            visible.own,
            longest=layout.longest,
            max_scores=max_scores,
        )
        shared = online_softmax.attend(q[1], k[0], v[0], visible.shared, max_scores=max_scores)
        merged = online_softmax.merge(shared, jax.tree.map(_concatenate, own))
        attended = jax.tree.map(lambda *x: jnp.concatenate(x, axis=2), attended, merged)
    # Named, so that a policy of `jax.checkpoint` can save them.
    output = checkpoint_name(by_token(attended.output).astype(queries.dtype), "attention")
    logsumexp = checkpoint_name(attended.logsumexp, "attention")
    return output, (queries, keys, values, visible, output, logsumexp)


def _backward(layout: BlockwiseLayout, residuals, cotangent: Array):
    """The gradients of queries, keys and values."""
    queries, keys, values, visible, output, logsumexp = residuals
    split = partial(_split_prompt, width=layout.prompt)
    q, k, v = (split(x) for x in by_head(queries, keys, values))
    delta = jnp.sum((output * cotangent).astype(logsumexp.dtype), axis=-1, keepdims=True)
    inputs = BackwardInputs(
        logsumexp,
        by_head(delta, keys, values)[0][..., 0],
        by_head(cotangent, keys, values)[0],
    )
    prompt_inputs, completion_inputs = (
        jax.tree.map(lambda x, i=i: split(x)[i], inputs) for i in (0, 1)
    )
    max_scores = layout.max_scores
    gradients = past_gradients(
        q[0],
        k[0],
        v[0],
        visible.prompts,
        prompt_inputs,
        longest=layout.prompt,
        max_scores=max_scores,
    )
    if queries.shape[1] > layout.prompt:
        separate = partial(_separate, sequences=layout.sequences)
        own = past_gradients(
            separate(q[1]),
            separate(k[1]),
            separate(v[1]),
            visible.own,
            jax.tree.map(separate, completion_inputs),
            longest=layout.longest,
            max_scores=max_scores,
        )
        own = jax.tree.map(_concatenate, own)
        shared = online_softmax.gradients(
            q[1], k[0], v[0], visible.shared, completion_inputs, max_scores=max_scores
        )
        gradients = (
            jnp.concatenate([gradients[0], shared[0] + own[0]], axis=2),
            jnp.concatenate([gradients[1] + shared[1], own[1]], axis=2),
            jnp.concatenate([gradients[2] + shared[2], own[2]], axis=2),
        )
    grad_queries = by_token(gradients[0]).astype(queries.dtype)
    grad_keys, grad_values = (jnp.swapaxes(x, 1, 2).astype(keys.dtype) for x in gradients[1:])
    return grad_queries, grad_keys, grad_values, None


_attend = jax.custom_vjp(_primal, nondiff_argnums=(4,))
_attend.defvjp(_forward, _backward)


def attend_to_past(
    queries: Array,
    keys: Array,
    values: Array,
    visible: ColumnRange,
    *,
    longest: int,
    max_scores: int,
) -> PartialAttention:
    """Causal attention of tokens to at most `longest` tokens, themselves included.

    Args:
        queries: `[..., S, R, C]`.
        keys: `[..., S, C]`.
        values: `[..., S, C]`.
        visible: the columns each token attends to, none of them after the token itself.
        longest: upper bound of the number of columns that a token attends to.
        max_scores: maximal number of scores in memory.
    """
    axis, parts = keys.ndim - 2, []
    for rows, columns in _blocks(queries.shape[: axis + 2], longest, max_scores):
        select = partial(_slice, span=columns, axis=axis)
        part = (
            _slice(queries, rows, axis),
            select(keys),
            select(values),
            _in_block(visible, rows, columns),
        )
        parts.append(online_softmax.attend(*part, max_scores=max_scores))
    return jax.tree.map(lambda *x: jnp.concatenate(x, axis=axis), *parts)


def past_gradients(
    queries: Array,
    keys: Array,
    values: Array,
    visible: ColumnRange,
    inputs: BackwardInputs,
    *,
    longest: int,
    max_scores: int,
) -> tuple[Array, Array, Array]:
    """The contributions of `attend_to_past` to the gradients of queries, keys and values.

    Arguments and results have the shapes of `online_softmax.gradients`.
    """
    axis, grad_queries = keys.ndim - 2, []
    grad_keys = grad_values = jnp.zeros(keys.shape, inputs.logsumexp.dtype)
    for rows, columns in _blocks(queries.shape[: axis + 2], longest, max_scores):
        select = partial(_slice, span=columns, axis=axis)
        block_queries, block_keys, block_values = online_softmax.gradients(
            _slice(queries, rows, axis),
            select(keys),
            select(values),
            _in_block(visible, rows, columns),
            jax.tree.map(lambda x, rows=rows: _slice(x, rows, axis), inputs),
            max_scores=max_scores,
        )
        grad_queries.append(block_queries)
        where = (slice(None),) * axis + (slice(*columns),)
        grad_keys = grad_keys.at[where].add(block_keys)
        grad_values = grad_values.at[where].add(block_values)
    return jnp.concatenate(grad_queries, axis=axis), grad_keys, grad_values


def _blocks(
    shape: tuple[int, ...], longest: int, max_scores: int
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Spans of the queries `[..., S, R]`, each with the span of the columns they may attend to."""
    *leading, length, heads = shape
    scores_per_token = math.prod(leading) * heads * min(length, longest)
    tokens = max(MIN_BLOCK_TOKENS, max_scores // max(1, scores_per_token))
    count = min(MAX_BLOCKS, max(1, math.ceil(length / tokens)))
    width = math.ceil(length / count)
    starts = range(0, length, width)
    stops = [min(start + width, length) for start in starts]
    return [
        ((start, stop), (max(0, start - longest + 1), stop))
        for start, stop in zip(starts, stops, strict=True)
    ]


def _in_block(visible: ColumnRange, rows: tuple[int, int], columns: tuple[int, int]) -> ColumnRange:
    """The visible columns of a block's queries, relative to the block's first column."""
    first, last = (_slice(x, rows, x.ndim - 1) - columns[0] for x in visible)
    return ColumnRange(first, last)


def _slice(x: Array, span: tuple[int, int], axis: int) -> Array:
    return lax.slice_in_dim(x, *span, axis=axis)


def by_head(queries: Array, keys: Array, values: Array) -> tuple[Array, Array, Array]:
    """`[B, S, H, C]` to `[B, N, S, R, C]`, and twice `[B, S, N, C]` to `[B, N, S, C]`."""
    batch, length, num_heads, width = queries.shape
    num_kv_heads = keys.shape[2]
    grouped = queries.reshape(batch, length, num_kv_heads, num_heads // num_kv_heads, width)
    return grouped.transpose(0, 2, 1, 3, 4), jnp.swapaxes(keys, 1, 2), jnp.swapaxes(values, 1, 2)


def by_token(queries: Array) -> Array:
    """`[B, N, S, R, C]` to `[B, S, H, C]`."""
    batch, _, length, _, width = queries.shape
    return queries.transpose(0, 2, 1, 3, 4).reshape(batch, length, -1, width)


def _split_prompt(x: Array, *, width: int) -> tuple[Array, Array]:
    """Splits `[B, N, P + sequences * S, ...]` into prompt and completions."""
    return x[:, :, :width], x[:, :, width:]


def _separate(x: Array, *, sequences: int) -> Array:
    """`[B, N, sequences * S, ...]` to `[B, N, sequences, S, ...]`."""
    return x.reshape(*x.shape[:2], sequences, -1, *x.shape[3:])


def _concatenate(x: Array) -> Array:
    """`[B, N, sequences, S, ...]` to `[B, N, sequences * S, ...]`."""
    return x.reshape(*x.shape[:2], -1, *x.shape[4:])
