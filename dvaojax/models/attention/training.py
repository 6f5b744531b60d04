"""Attention of rows that hold a prompt and, behind it, the completions of its group.

Every completion sees its prompt, which stands in the row once, and itself up to the token that
asks; completions are blind to each other. The result equals plain causal attention on each prompt
followed by one completion, to rounding.
"""

import chex
import jax.numpy as jnp
from jax import Array, lax

from dvaojax import sharding
from dvaojax.models.attention import backend as choice
from dvaojax.models.attention.blockwise import Layout, Seen, attend_in_blocks
from dvaojax.models.attention.online_softmax import SCORES_AT_ONCE, Interval
from dvaojax.models.attention.splash import Plan, attend_by_splash


def joint_attention(
    queries: Array,
    keys: Array,
    values: Array,
    *,
    prompt_where: Array,
    group_size: int,
    implementation: str = "auto",
) -> Array:
    """Completions of one length, each behind the other.

    Args:
        queries: `[B, P + G * S, H, C]`; a row is a prompt, its first completion, its second, ...
        keys: `[B, P + G * S, N, C]`.
        values: `[B, P + G * S, N, C]`.
        prompt_where: `[B, P]` true on prompt tokens, which stand on the left of the padding.
        group_size: `G`.
        implementation: one of `config.ATTENTION`.

    Returns:
        `[B, P + G * S, H, C]`; on padding behind a prompt any finite number.

    Raises:
        ValueError: the implementation is unknown or does not take the shape.
        AssertionError: the shapes do not fit.
    """
    _check(queries, keys, values, prompt_where)
    width, row = prompt_where.shape[1], queries.shape[1]
    length = (row - width) // group_size
    # A row of prompts alone still has a kernel's worth of layout.
    plan = Plan(row=row, prompt=width, longest=max(1, length), packed=False)
    if _chosen(implementation, queries, plan) == "splash":
        return _splash(queries, keys, values, prompt_where, None, plan)
    own = Interval(jnp.zeros((1, 1, 1, length), jnp.int32), _columns(length)[None, None, None])
    return _blocks(queries, keys, values, prompt_where, own, group_size, length)


def packed_attention(
    queries: Array,
    keys: Array,
    values: Array,
    *,
    prompt_where: Array,
    segments: Array,
    longest: int,
    implementation: str = "auto",
) -> Array:
    """Completions of several lengths, packed one after another.

    Args:
        queries: `[B, P + S, H, C]`; a row is a prompt and its completions.
        keys: `[B, P + S, N, C]`.
        values: `[B, P + S, N, C]`.
        prompt_where: `[B, P]` true on prompt tokens, which stand on the left of the padding.
        segments: `[B, S]` int, the completion each token belongs to, -1 on padding. The tokens of a
            completion stand together and in order.
        longest: no completion has more tokens in the row; the cost grows with `S * longest`.
        implementation: one of `config.ATTENTION`.

    Returns:
        `[B, P + S, H, C]`, zeros on the padding behind and between completions.

    Raises:
        ValueError: the implementation is unknown or does not take the shape.
        AssertionError: the shapes do not fit.
    """
    _check(queries, keys, values, prompt_where)
    width, row = prompt_where.shape[1], queries.shape[1]
    chex.assert_shape(segments, (queries.shape[0], row - width))
    columns = jnp.broadcast_to(_columns(row - width)[None], segments.shape)
    begins = segments != jnp.pad(segments, ((0, 0), (1, 0)), constant_values=-2)[:, :-1]
    starts = lax.cummax(jnp.where(begins, columns, 0), axis=1)
    starts = jnp.maximum(starts, columns - longest + 1)  # padding may be longer
    plan = Plan(row=row, prompt=width, longest=longest, packed=True)
    if _chosen(implementation, queries, plan) == "splash":
        attended = _splash(queries, keys, values, prompt_where, starts, plan)
    else:
        own = Interval(starts[:, None, None], columns[:, None, None])
        attended = _blocks(queries, keys, values, prompt_where, own, 1, longest)
    real = jnp.pad(segments >= 0, ((0, 0), (width, 0)), constant_values=True)
    return jnp.where(real[..., None, None], attended, 0.0)


def _chosen(implementation: str, queries: Array, plan: Plan) -> str:
    return choice.chosen(
        implementation,
        choice.platform(),
        plan,
        head_width=queries.shape[-1],
        dtype=queries.dtype,
    )


def _blocks(
    queries: Array,
    keys: Array,
    values: Array,
    prompt_where: Array,
    own: Interval,
    lines: int,
    longest: int,
) -> Array:
    """In blocks: the compiler splits them over a mesh by itself, for groups and heads are axes."""
    batch, width = prompt_where.shape
    lengths = jnp.sum(prompt_where, axis=1, dtype=jnp.int32)
    last = jnp.broadcast_to(lengths[:, None, None] - 1, (batch, 1, queries.shape[1] - width))
    seen = Seen(
        prompts=Interval(jnp.zeros((1, 1, width), jnp.int32), _columns(width)[None, None]),
        shared=Interval(jnp.zeros_like(last), last),
        own=own,
    )
    at_once = SCORES_AT_ONCE[choice.platform()]
    return attend_in_blocks(
        queries, keys, values, seen, Layout(width, lines=lines, longest=longest, at_once=at_once)
    )


def _splash(
    queries: Array,
    keys: Array,
    values: Array,
    prompt_where: Array,
    starts: Array | None,
    plan: Plan,
) -> Array:
    """By the kernel, which the compiler cannot split: a device runs it on its groups and heads."""
    interpret = choice.platform() != "tpu"

    def attend(queries, keys, values, prompt_where, *starts):
        return attend_by_splash(
            queries,
            keys,
            values,
            prompt_where=prompt_where,
            starts=starts[0] if starts else None,
            plan=plan,
            interpret=interpret,
        )

    arguments = (queries, keys, values, prompt_where, *(() if starts is None else (starts,)))
    by_head, by_kv_head = ("group", None, "heads", None), ("group", None, "kv_heads", None)
    in_axes = (by_head, by_kv_head, by_kv_head, *(("group", None),) * (len(arguments) - 3))
    return sharding.on_every_device(attend, in_axes, by_head)(*arguments)


def _columns(count: int) -> Array:
    return jnp.arange(count, dtype=jnp.int32)


def _check(queries: Array, keys: Array, values: Array, prompt_where: Array):
    chex.assert_rank([queries, keys, values], 4)
    chex.assert_rank(prompt_where, 2)
    chex.assert_equal_shape([keys, values])
    chex.assert_equal_shape_prefix([queries, keys, prompt_where], 1)
    chex.assert_equal_shape_prefix([queries, keys], 2)
