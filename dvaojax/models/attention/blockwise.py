"""Training attention in blocks of scores: for every backend, every float and any length.

A row holds a prompt and, behind it, its completions. Three parts make its attention: prompts to
themselves, completions to their prompt, completions each to itself; the last two share a softmax.
Blocks of scores that nothing sees are left out, and never are all scores of a row held.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name

from dvaojax.models.attention import online_softmax as tiles
from dvaojax.models.attention.online_softmax import Attended, Incoming, Interval

# Causal attention in n blocks computes (n + 1) / 2n of the square; each block is compiled apart.
MOST_BLOCKS = 8
# Blocks of fewer tokens cost more than they leave out.
FEWEST_TOKENS = 64


class Layout(NamedTuple):
    """How the tokens of a row stand; known when the program is compiled.

    Attributes:
        prompt: `P`, tokens of the prompt with its padding.
        lines: what follows stands in this many lines of `S` tokens that do not see each other: `G`
            completions, or 1 where they are packed.
        longest: no completion is longer.
        at_once: scores held at once.
    """

    prompt: int
    lines: int
    longest: int
    at_once: int


class Seen(NamedTuple):
    """The columns every token sees.

    Attributes:
        prompts: of its prompt, for a prompt's token; `[1, 1, P]`.
        shared: of its prompt, for a completion's token; `[B, 1, lines * S]`.
        own: of its line, for the same; `[1, 1, 1, S]` or `[B, 1, 1, S]`.
    """

    prompts: Interval
    shared: Interval
    own: Interval


def attend_in_blocks(
    queries: Array, keys: Array, values: Array, seen: Seen, layout: Layout
) -> Array:
    """Attention of rows that hold a prompt and, behind it, its completions.

    Args:
        queries: `[B, P + lines * S, H, C]`.
        keys: `[B, P + lines * S, N, C]`.
        values: `[B, P + lines * S, N, C]`.
        seen: what every token sees.
        layout: how the tokens stand.

    Returns:
        `[B, P + lines * S, H, C]` in the float of the queries.
    """
    return _attend(queries, keys, values, seen, layout)


def _result(queries: Array, keys: Array, values: Array, seen: Seen, layout: Layout) -> Array:
    return _forward(queries, keys, values, seen, layout)[0]


def _forward(queries: Array, keys: Array, values: Array, seen: Seen, layout: Layout):
    """The result, and what the backward pass needs."""
    split = partial(_split, width=layout.prompt)
    q, k, v = (split(x) for x in _by_head(queries, keys, values))
    at_once = layout.at_once
    attended = attend_to_past(
        q[0], k[0], v[0], seen.prompts, longest=layout.prompt, at_once=at_once
    )
    if queries.shape[1] > layout.prompt:
        apart = partial(_apart, lines=layout.lines)
        own = attend_to_past(
            apart(q[1]),
            apart(k[1]),
            apart(v[1]),
            seen.own,
            longest=layout.longest,
            at_once=at_once,
        )
        shared = tiles.attend(q[1], k[0], v[0], seen.shared, at_once=at_once)
        merged = tiles.merge(shared, jax.tree.map(_together, own))
        attended = jax.tree.map(lambda *x: jnp.concatenate(x, axis=2), attended, merged)
    # Named, so that a policy of `jax.checkpoint` may keep them.
    mixed = checkpoint_name(_by_token(attended.mixed).astype(queries.dtype), "attention")
    log_total = checkpoint_name(attended.log_total, "attention")
    return mixed, (queries, keys, values, seen, mixed, log_total)


def _backward(layout: Layout, kept, cotangent: Array):
    """The gradients of queries, keys and values."""
    queries, keys, values, seen, mixed, log_total = kept
    split = partial(_split, width=layout.prompt)
    q, k, v = (split(x) for x in _by_head(queries, keys, values))
    agreement = jnp.sum((mixed * cotangent).astype(log_total.dtype), axis=-1, keepdims=True)
    incoming = Incoming(
        log_total,
        _by_head(agreement, keys, values)[0][..., 0],
        _by_head(cotangent, keys, values)[0],
    )
    of_prompts, of_completions = (
        jax.tree.map(lambda x, i=i: split(x)[i], incoming) for i in (0, 1)
    )
    at_once = layout.at_once
    found = past_gradients(
        q[0], k[0], v[0], seen.prompts, of_prompts, longest=layout.prompt, at_once=at_once
    )
    if queries.shape[1] > layout.prompt:
        apart = partial(_apart, lines=layout.lines)
        own = past_gradients(
            apart(q[1]),
            apart(k[1]),
            apart(v[1]),
            seen.own,
            jax.tree.map(apart, of_completions),
            longest=layout.longest,
            at_once=at_once,
        )
        own = jax.tree.map(_together, own)
        shared = tiles.gradients(q[1], k[0], v[0], seen.shared, of_completions, at_once=at_once)
        found = (
            jnp.concatenate([found[0], shared[0] + own[0]], axis=2),
            jnp.concatenate([found[1] + shared[1], own[1]], axis=2),
            jnp.concatenate([found[2] + shared[2], own[2]], axis=2),
        )
    to_queries = _by_token(found[0]).astype(queries.dtype)
    to_keys, to_values = (jnp.swapaxes(x, 1, 2).astype(keys.dtype) for x in found[1:])
    return to_queries, to_keys, to_values, None


_attend = jax.custom_vjp(_result, nondiff_argnums=(4,))
_attend.defvjp(_forward, _backward)


def attend_to_past(
    queries: Array, keys: Array, values: Array, seen: Interval, *, longest: int, at_once: int
) -> Attended:
    """Attention of tokens to at most `longest` of those up to themselves.

    Args:
        queries: `[..., S, R, C]`.
        keys: `[..., S, C]`.
        values: `[..., S, C]`.
        seen: the columns each token sees, none behind itself.
        longest: how far back it may see, itself included.
        at_once: scores held at once.
    """
    axis, parts = keys.ndim - 2, []
    for rows, columns in _blocks(queries.shape[: axis + 2], longest, at_once):
        cut = partial(_take, span=columns, axis=axis)
        part = _take(queries, rows, axis), cut(keys), cut(values), _within(seen, rows, columns)
        parts.append(tiles.attend(*part, at_once=at_once))
    return jax.tree.map(lambda *x: jnp.concatenate(x, axis=axis), *parts)


def past_gradients(
    queries: Array,
    keys: Array,
    values: Array,
    seen: Interval,
    incoming: Incoming,
    *,
    longest: int,
    at_once: int,
) -> tuple[Array, Array, Array]:
    """The share of `attend_to_past` in the gradients of queries, keys and values.

    Arguments and results have the shapes of `tiles.gradients`.
    """
    axis, to_queries = keys.ndim - 2, []
    to_keys = to_values = jnp.zeros(keys.shape, incoming.log_total.dtype)
    for rows, columns in _blocks(queries.shape[: axis + 2], longest, at_once):
        cut = partial(_take, span=columns, axis=axis)
        of_rows, of_keys, of_values = tiles.gradients(
            _take(queries, rows, axis),
            cut(keys),
            cut(values),
            _within(seen, rows, columns),
            jax.tree.map(lambda x, rows=rows: _take(x, rows, axis), incoming),
            at_once=at_once,
        )
        to_queries.append(of_rows)
        where = (slice(None),) * axis + (slice(*columns),)
        to_keys, to_values = to_keys.at[where].add(of_keys), to_values.at[where].add(of_values)
    return jnp.concatenate(to_queries, axis=axis), to_keys, to_values


def _blocks(
    shape: tuple[int, ...], longest: int, at_once: int
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Spans of queries `[..., S, R]` and, for each, the span of the columns they may see."""
    *leading, length, heads = shape
    per_token = math.prod(leading) * heads * min(length, longest)
    tokens = max(FEWEST_TOKENS, at_once // max(1, per_token))
    count = min(MOST_BLOCKS, max(1, math.ceil(length / tokens)))
    width = math.ceil(length / count)
    starts = range(0, length, width)
    stops = [min(start + width, length) for start in starts]
    return [
        ((start, stop), (max(0, start - longest + 1), stop))
        for start, stop in zip(starts, stops, strict=True)
    ]


def _within(seen: Interval, rows: tuple[int, int], columns: tuple[int, int]) -> Interval:
    """What the queries of a block see, counted from its first column."""
    first, last = (_take(x, rows, x.ndim - 1) - columns[0] for x in seen)
    return Interval(first, last)


def _take(x: Array, span: tuple[int, int], axis: int) -> Array:
    return lax.slice_in_dim(x, *span, axis=axis)


def _by_head(queries: Array, keys: Array, values: Array) -> tuple[Array, Array, Array]:
    """`[B, S, H, C]` to `[B, N, S, R, C]`, and twice `[B, S, N, C]` to `[B, N, S, C]`."""
    batch, length, num_heads, width = queries.shape
    num_kv_heads = keys.shape[2]
    grouped = queries.reshape(batch, length, num_kv_heads, num_heads // num_kv_heads, width)
    return grouped.transpose(0, 2, 1, 3, 4), jnp.swapaxes(keys, 1, 2), jnp.swapaxes(values, 1, 2)


def _by_token(queries: Array) -> Array:
    """`[B, N, S, R, C]` to `[B, S, H, C]`."""
    batch, _, length, _, width = queries.shape
    return queries.transpose(0, 2, 1, 3, 4).reshape(batch, length, -1, width)


def _split(x: Array, *, width: int) -> tuple[Array, Array]:
    """`[B, N, P + lines * S, ...]` into the prompts' and the completions'."""
    return x[:, :, :width], x[:, :, width:]


def _apart(x: Array, *, lines: int) -> Array:
    """`[B, N, lines * S, ...]` to `[B, N, lines, S, ...]`."""
    return x.reshape(*x.shape[:2], lines, -1, *x.shape[3:])


def _together(x: Array) -> Array:
    """`[B, N, lines, S, ...]` to `[B, N, lines * S, ...]`."""
    return x.reshape(*x.shape[:2], -1, *x.shape[4:])
