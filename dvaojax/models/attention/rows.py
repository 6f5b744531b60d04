"""Attention of rows that hold a prompt and, behind it, the completions of its group.

Every completion sees its prompt, which stands in the row once, and itself up to the token that
asks; completions are blind to each other. The result equals plain causal attention on each prompt
followed by one completion, to rounding.
"""

import chex
import jax.numpy as jnp
from jax import Array, lax

from dvaojax.models.attention.blocks import Layout, Seen, attend_in_blocks
from dvaojax.models.attention.tiles import Interval


def joint_attention(
    queries: Array, keys: Array, values: Array, *, prompt_where: Array, group_size: int
) -> Array:
    """Completions of one length, each behind the other.

    Args:
        queries: `[B, P + G * S, H, C]`; a row is a prompt, its first completion, its second, ...
        keys: `[B, P + G * S, N, C]`.
        values: `[B, P + G * S, N, C]`.
        prompt_where: `[B, P]` true on prompt tokens, which stand on the left of the padding.
        group_size: `G`.

    Returns:
        `[B, P + G * S, H, C]`.
    """
    _check(queries, keys, values, prompt_where)
    width = prompt_where.shape[1]
    length = (queries.shape[1] - width) // group_size
    own = Interval(jnp.zeros((1, 1, 1, length), jnp.int32), _columns(length)[None, None, None])
    seen = _seen(prompt_where, own, group_size * length)
    layout = Layout(prompt=width, lines=group_size, longest=length)
    return attend_in_blocks(queries, keys, values, seen, layout)


def packed_attention(
    queries: Array,
    keys: Array,
    values: Array,
    *,
    prompt_where: Array,
    segments: Array,
    longest: int,
) -> Array:
    """Completions of several lengths, packed one after another.

    Args:
        queries: `[B, P + S, H, C]`; a row is a prompt and its completions.
        keys: `[B, P + S, N, C]`.
        values: `[B, P + S, N, C]`.
        prompt_where: `[B, P]` true on prompt tokens, which stand on the left of the padding.
        segments: `[B, S]` int, the completion each token belongs to, -1 on padding. The tokens of a
            completion stand together and in order.
        longest: no completion has more tokens in the row; what it costs grows with `S * longest`.

    Returns:
        `[B, P + S, H, C]`, zeros on the padding behind and between completions.
    """
    _check(queries, keys, values, prompt_where)
    width, length = prompt_where.shape[1], queries.shape[1] - prompt_where.shape[1]
    chex.assert_shape(segments, (queries.shape[0], length))
    columns = jnp.broadcast_to(_columns(length)[None], segments.shape)
    begins = segments != jnp.pad(segments, ((0, 0), (1, 0)), constant_values=-2)[:, :length]
    starts = lax.cummax(jnp.where(begins, columns, 0), axis=1)
    own = Interval(starts[:, None, None], columns[:, None, None])
    seen = _seen(prompt_where, own, length)
    layout = Layout(prompt=width, lines=1, longest=longest)
    attended = attend_in_blocks(queries, keys, values, seen, layout)
    real = jnp.pad(segments >= 0, ((0, 0), (width, 0)), constant_values=True)
    return jnp.where(real[..., None, None], attended, 0.0)


def _seen(prompt_where: Array, own: Interval, behind: int) -> Seen:
    """What the tokens of a row see: `behind` tokens follow the prompt and see `own`."""
    batch, width = prompt_where.shape
    lengths = jnp.sum(prompt_where, axis=1, dtype=jnp.int32)
    last = jnp.broadcast_to(lengths[:, None, None] - 1, (batch, 1, behind))
    return Seen(
        prompts=Interval(jnp.zeros((1, 1, width), jnp.int32), _columns(width)[None, None]),
        shared=Interval(jnp.zeros_like(last), last),
        own=own,
    )


def _columns(count: int) -> Array:
    return jnp.arange(count, dtype=jnp.int32)


def _check(queries: Array, keys: Array, values: Array, prompt_where: Array):
    chex.assert_rank([queries, keys, values], 4)
    chex.assert_rank(prompt_where, 2)
    chex.assert_equal_shape([keys, values])
    chex.assert_equal_shape_prefix([queries, keys, prompt_where], 1)
    chex.assert_equal_shape_prefix([queries, keys], 2)
