"""Attention of decoded tokens to their caches on TPUs, as one Pallas kernel.

The kernel goes through a list of the blocks that are filled: for each group those of its prompt,
which all completions of the group share, then those of each completion. So a completion costs what
it has filled, and one that has ended costs nothing. Softmax is computed block by block, with a
running maximum and sum (Milakov and Gimelshein, arXiv:1805.02867).
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from dvaojax import sharding
from dvaojax.models.attention import backend
from dvaojax.models.cache import BLOCK, BlockedCompletionCache, BlockedPromptCache

_LANES = 128
_SUBLANES = 8
_FAST_MEMORY = 10 << 20  # bytes of a core's vector memory that a step may take
_MASKED = -1e30  # a score; finite, so that differences of maxima are too


def attend_by_kernel(
    queries: Array,
    prompt: BlockedPromptCache,
    cache: BlockedCompletionCache,
    prompt_lengths: Array,
    starts: Array | None,
    ends: Array,
) -> Array:
    """Attention of the last `W` tokens of each completion, see `decoding.attend`.

    Each device attends for its groups and heads. On other platforms the kernel is interpreted.

    Args:
        queries: `[B, G, W, H, C]`.
        prompt: of the groups.
        cache: of the completions.
        prompt_lengths: `[B]`.
        starts: `[B, G]`, or None.
        ends: `[B, G]`.

    Returns:
        `[B, G, W, H, C]`, zeros for groups of which all completions have ended.
    """
    starts = jnp.zeros_like(ends) if starts is None else starts
    by_head = ("group", None, None, "heads", None)
    prompt_axes, axes = ("group", "kv_heads", None, None), ("group", None, "kv_heads", None, None)
    in_axes = (
        by_head, prompt_axes, prompt_axes, axes, axes,
        ("group",), ("group", None), ("group", None),
    )  # fmt: skip
    attend = partial(_attend, interpret=backend.platform() != "tpu")
    mapped = sharding.on_every_device(attend, in_axes, by_head)
    return mapped(queries, *prompt, *cache, prompt_lengths, starts, ends)


class Blocks(NamedTuple):
    """The blocks that the kernel goes through, in order.

    Attributes:
        groups: `[steps]` int32, the group of each block.
        members: `[steps]` int32, the completion whose block it is; -1 for a block of the prompt.
        indices: `[steps]` int32, the block's index in the prompt or the completion.
        prompt_steps: `[steps]` int32, the step whose block of a prompt is in fast memory: the last
            one before, or else the first one, so that other steps fetch none.
        own_steps: `[steps]` int32, the same for the completions' blocks.
    """

    groups: Array
    members: Array
    indices: Array
    prompt_steps: Array
    own_steps: Array


def filled_blocks(
    prompt_lengths: Array, starts: Array, ends: Array, *, steps: int
) -> tuple[Blocks, Array]:
    """The blocks of the groups with unfinished completions.

    Args:
        prompt_lengths: `[B]`.
        starts: `[B, G]`.
        ends: `[B, G]`; 0 for completions that have ended.
        steps: upper bound of the number of blocks.

    Returns:
        The blocks, and their number, a scalar of at least 1.
    """
    going = jnp.any(ends > 0, axis=1)
    lengths = jnp.where(going, prompt_lengths, 0)[:, None]
    first = jnp.pad(starts, ((0, 0), (1, 0))) // BLOCK
    behind = pl.cdiv(jnp.concatenate([lengths, ends], axis=1), BLOCK)
    counts = jnp.maximum(behind - first, 0).astype(jnp.int32)
    until = jnp.cumsum(counts.reshape(-1), dtype=jnp.int32)
    step = jnp.arange(steps, dtype=jnp.int32)
    row = jnp.sum(step[:, None] >= until[None], axis=1, dtype=jnp.int32)
    row = jnp.minimum(row, until.size - 1)
    indices = step - (until - counts.reshape(-1) - first.reshape(-1))[row]
    width = 1 + ends.shape[1]
    members = row % width - 1
    blocks = Blocks(
        groups=row // width,
        members=members,
        indices=indices,
        prompt_steps=_latest(members < 0),
        own_steps=_latest(members >= 0),
    )
    return blocks, jnp.maximum(until[-1], 1)


def _latest(where: Array) -> Array:
    """For each step the last step up to it that is true, or else the first one after it."""
    steps = jnp.arange(where.size, dtype=jnp.int32)
    latest = lax.cummax(jnp.where(where, steps, -1))
    return jnp.where(latest < 0, jnp.argmax(where).astype(jnp.int32), latest)


def _attend(
    queries: Array,
    prompt_keys: Array,
    prompt_values: Array,
    keys: Array,
    values: Array,
    prompt_lengths: Array,
    starts: Array,
    ends: Array,
    *,
    interpret: bool,
) -> Array:
    batch, group, window, num_heads, width = queries.shape
    num_kv_heads = keys.shape[2]
    rows = window * (num_heads // num_kv_heads)  # queries of a completion that share its keys
    padded = -(-rows // _SUBLANES) * _SUBLANES
    scaled = (queries.astype(jnp.float32) * width**-0.5).astype(queries.dtype)
    by_head = scaled.reshape(batch, group, window, num_kv_heads, -1, width)
    by_head = by_head.transpose(0, 3, 1, 2, 4, 5).reshape(batch, num_kv_heads, group, rows, width)
    by_head = jnp.pad(by_head, [(0, 0)] * 3 + [(0, padded - rows), (0, 0)])
    by_head = by_head.reshape(batch, num_kv_heads, group * padded, width)

    steps = batch * (prompt_keys.shape[2] + group * keys.shape[3]) // BLOCK
    blocks, count = filled_blocks(prompt_lengths, starts, ends, steps=steps)
    heads = _heads_at_once(by_head, keys)
    parts = num_kv_heads // heads
    rows_of_group = pl.BlockSpec(
        (1, heads, group * padded, width), lambda part, i, b, *_: (b.groups[i], part, 0, 0)
    )
    scratch = (heads, group * padded, _LANES)
    attended = pl.pallas_call(
        partial(_kernel, heads=heads, padded=padded, window=window, ratio=rows // window),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=4,
            grid=(parts, count),
            in_specs=[
                rows_of_group,
                *[pl.BlockSpec((1, heads, BLOCK, width), _prompt_block)] * 2,
                *[pl.BlockSpec((1, 1, heads, BLOCK, width), _own_block)] * 2,
            ],
            out_specs=rows_of_group,
            scratch_shapes=[
                pltpu.VMEM(scratch, jnp.float32),
                pltpu.VMEM(scratch, jnp.float32),
                pltpu.VMEM((heads, group * padded, width), jnp.float32),
            ],
        ),
        out_shape=jax.ShapeDtypeStruct(by_head.shape, queries.dtype),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        cost_estimate=_cost(by_head, keys, prompt_keys),
        interpret=interpret,
        name="decode_attention",
    )(blocks, prompt_lengths, starts, ends, by_head, prompt_keys, prompt_values, keys, values)

    attended = attended.reshape(batch, num_kv_heads, group, padded, width)[:, :, :, :rows]
    attended = attended.reshape(batch, num_kv_heads, group, window, -1, width)
    attended = attended.transpose(0, 2, 3, 1, 4, 5).reshape(queries.shape)
    # The kernel writes nothing for a group without unfinished completions.
    return jnp.where(jnp.any(ends > 0, axis=1)[:, None, None, None, None], attended, 0.0)


def _heads_at_once(queries: Array, keys: Array) -> int:
    """The number of key/value heads of a step: at most half of them, for two cores of a chip."""
    num_kv_heads, rows, width = queries.shape[1:]
    per_row = 2 * _LANES * 4 + width * (4 + 4 * queries.dtype.itemsize)
    per_head = rows * per_row + 8 * BLOCK * width * keys.dtype.itemsize
    most = min(max(num_kv_heads // 2, 1), max(_FAST_MEMORY // per_head, 1))
    return max(heads for heads in range(1, most + 1) if num_kv_heads % heads == 0)


def _prompt_block(part: Array, step: Array, blocks: Any, *_: Any) -> tuple[Any, ...]:
    """The block of a prompt that a step reads; of a step without one, the one that is there."""
    latest = blocks.prompt_steps[step]
    return blocks.groups[latest], part, blocks.indices[latest], 0


def _own_block(part: Array, step: Array, blocks: Any, *_: Any) -> tuple[Any, ...]:
    """The block of a completion that a step reads; of a step without one, the one that is there."""
    latest = blocks.own_steps[step]
    member = jnp.maximum(blocks.members[latest], 0)
    return blocks.groups[latest], member, part, blocks.indices[latest], 0


def _kernel(
    blocks: Any,
    prompt_lengths: Any,
    starts: Any,
    ends: Any,
    queries: Any,
    prompt_keys: Any,
    prompt_values: Any,
    keys: Any,
    values: Any,
    attended: Any,
    maxima: Any,
    totals: Any,
    sums: Any,
    *,
    heads: int,
    padded: int,
    window: int,
    ratio: int,
):
    """Adds one block to the attention of a group, for `heads` key/value heads.

    `maxima`, `totals` and `sums` are those of the blocks before: of the scores, of the softmax's
    weights, and of the weighted values.
    """
    step = pl.program_id(1)
    group, member, block = blocks.groups[step], blocks.members[step], blocks.indices[step]
    last = pl.num_programs(1) - 1
    begins = (step == 0) | (blocks.groups[jnp.maximum(step - 1, 0)] != group)
    ends_here = (step == last) | (blocks.groups[jnp.minimum(step + 1, last)] != group)

    @pl.when(begins)
    def _():
        maxima[...] = jnp.full(maxima.shape, _MASKED, jnp.float32)
        totals[...] = jnp.zeros(totals.shape, jnp.float32)
        sums[...] = jnp.zeros(sums.shape, jnp.float32)

    def add(head: int, rows: Any, block_keys: Array, block_values: Array, visible: Array):
        scores = lax.dot_general(
            queries[0, head, rows], block_keys, (((1,), (1,)), ((), ())),
            preferred_element_type=jnp.float32,
        )  # fmt: skip
        scores = jnp.where(visible, scores, _MASKED)
        before = maxima[head, rows][:, :1]
        maximum = jnp.maximum(before, jnp.max(scores, axis=1, keepdims=True))
        weights, kept = jnp.exp(scores - maximum), jnp.exp(before - maximum)
        total = totals[head, rows][:, :1] * kept + jnp.sum(weights, axis=1, keepdims=True)
        mixed = lax.dot_general(
            weights.astype(block_values.dtype), block_values, (((1,), (0,)), ((), ())),
            preferred_element_type=jnp.float32,
        )  # fmt: skip
        sums[head, rows] = sums[head, rows] * kept + mixed
        maxima[head, rows] = jnp.broadcast_to(maximum, (maximum.shape[0], _LANES))
        totals[head, rows] = jnp.broadcast_to(total, (total.shape[0], _LANES))

    @pl.when(member < 0)
    def _():
        count = queries.shape[2]
        columns = block * BLOCK + lax.broadcasted_iota(jnp.int32, (count, BLOCK), 1)
        for head in range(heads):
            add(
                head, slice(None), prompt_keys[0, head], prompt_values[0, head],
                columns < prompt_lengths[group],
            )  # fmt: skip

    @pl.when(member >= 0)
    def _():
        columns = block * BLOCK + lax.broadcasted_iota(jnp.int32, (padded, BLOCK), 1)
        end = ends[group, member]
        if window > 1:  # rows of padding are below the last query, and see what it sees
            query = lax.broadcasted_iota(jnp.int32, (padded, BLOCK), 0) // ratio
            end = end - jnp.maximum(window - 1 - query, 0)
        visible = (columns >= starts[group, member]) & (columns < end)
        rows = pl.ds(pl.multiple_of(member * padded, _SUBLANES), padded)
        for head in range(heads):
            add(head, rows, keys[0, 0, head], values[0, 0, head], visible)

    @pl.when(ends_here)
    def _():
        for head in range(heads):
            total = jnp.maximum(totals[head][:, :1], 1e-30)
            attended[0, head] = (sums[head] / total).astype(attended.dtype)


def _cost(queries: Array, keys: Array, prompt_keys: Array) -> pl.CostEstimate:
    """The cost with full caches; the compiler schedules other operations by it."""
    rows = queries.shape[2]
    products = rows * prompt_keys.size + rows // keys.shape[1] * keys.size
    return pl.CostEstimate(
        flops=4 * products,
        transcendentals=products // queries.shape[3],
        bytes_accessed=2 * (keys.nbytes + prompt_keys.nbytes + queries.nbytes),
    )
