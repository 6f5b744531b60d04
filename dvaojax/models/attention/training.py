"""Training attention: rows with a prompt followed by the completions of its group.

The prompt is in the row once. A completion's token attends to the prompt and to its own completion
up to itself, and not to other completions. The result equals plain causal attention on each prompt
followed by one completion, up to rounding.
"""

import chex
import jax.numpy as jnp
from jax import Array, lax

from dvaojax import sharding
from dvaojax.models.attention import backend
from dvaojax.models.attention.blockwise import BlockwiseLayout, VisibleColumns, attend_in_blocks
from dvaojax.models.attention.fused import FusedLayout, attend_fused
from dvaojax.models.attention.merge_kernel import TOKENS
from dvaojax.models.attention.online_softmax import MAX_SCORES, ColumnRange
from dvaojax.models.attention.splash import LANES, SplashLayout, attend_by_splash
from dvaojax.models.config import ModelConfig

# A larger part of the tokens than one in so many costs more in the layers than it saves in the
# kernel.
MAX_PADDING = 32


def joint_attention(
    queries: Array,
    keys: Array,
    values: Array,
    *,
    prompt_where: Array,
    group_size: int,
    padding: int = 0,
    implementation: str = "auto",
    factor: float | None = None,
) -> Array:
    """Attention of prompts and completions of one length, one completion after another.

    Args:
        queries: `[B, P + G * S + padding, H, C]`; a row is a prompt, its first completion, its
            second, and so on.
        keys: `[B, P + G * S + padding, N, C]`.
        values: `[B, P + G * S + padding, N, C]`.
        prompt_where: `[B, P]` true on prompt tokens; the padding is on the right.
        group_size: `G`.
        padding: tokens at the end of a row, to which no other token attends.
        implementation: one of `config.ATTENTION`.
        factor: of the queries, for those that `head_kernel` has scaled; None for `C^-0.5`, which
            all backends but splash require.

    Returns:
        `[B, P + G * S + padding, H, C]`; on padding the numbers are finite and meaningless.

    Raises:
        ValueError: the implementation is unknown or does not support the shape.
        AssertionError: the shapes do not fit.
    """
    _check(queries, keys, values, prompt_where)
    width, row = prompt_where.shape[1], queries.shape[1]
    length = (row - padding - width) // group_size
    # Rows without completions have `length` 0, which the layout does not allow.
    layout = SplashLayout(row=row, prompt=width, longest=max(1, length), packed=False)
    name = _choose_backend(implementation, queries, layout)
    _check_factor(factor, name)
    if name == "splash":
        return _splash(queries, keys, values, prompt_where, None, layout, factor)
    q, k, v = (x[:, : row - padding] for x in (queries, keys, values))
    if name == "cudnn":
        attended = _fused(q, k, v, prompt_where, None, group_size, length)
    else:
        columns = _columns(length)[None, None, None]
        own = ColumnRange(jnp.zeros((1, 1, 1, length), jnp.int32), columns)
        attended = _blocks(q, k, v, prompt_where, own, group_size, length)
    return jnp.pad(attended, ((0, 0), (0, padding), (0, 0), (0, 0)))


def packed_attention(
    queries: Array,
    keys: Array,
    values: Array,
    *,
    prompt_where: Array,
    segments: Array,
    longest: int,
    implementation: str = "auto",
    factor: float | None = None,
) -> Array:
    """Attention of prompts and completions of several lengths, packed one after another.

    Args:
        queries: `[B, P + S, H, C]`; a row is a prompt followed by its completions.
        keys: `[B, P + S, N, C]`.
        values: `[B, P + S, N, C]`.
        prompt_where: `[B, P]` true on prompt tokens; the padding is on the right.
        segments: `[B, S]` int, the index of the completion of each token, -1 on padding. The tokens
            of a completion are contiguous and in order.
        longest: upper bound of the number of tokens of a completion in the row; the cost grows with
            `S * longest`.
        implementation: one of `config.ATTENTION`.
        factor: of the queries, for those that `head_kernel` has scaled; None for `C^-0.5`, which
            all backends but splash require.

    Returns:
        `[B, P + S, H, C]`, zeros on the padding after and between completions.

    Raises:
        ValueError: the implementation is unknown or does not support the shape.
        AssertionError: the shapes do not fit.
    """
    _check(queries, keys, values, prompt_where)
    width, row = prompt_where.shape[1], queries.shape[1]
    chex.assert_shape(segments, (queries.shape[0], row - width))
    columns = jnp.broadcast_to(_columns(row - width)[None], segments.shape)
    begins = segments != jnp.pad(segments, ((0, 0), (1, 0)), constant_values=-2)[:, :-1]
    starts = lax.cummax(jnp.where(begins, columns, 0), axis=1)
    starts = jnp.maximum(starts, columns - longest + 1)  # a run of padding may be longer
    layout = SplashLayout(row=row, prompt=width, longest=longest, packed=True)
    own = ColumnRange(starts[:, None, None], columns[:, None, None])
    name = _choose_backend(implementation, queries, layout)
    _check_factor(factor, name)
    match name:
        case "splash":
            attended = _splash(queries, keys, values, prompt_where, starts, layout, factor)
        case "cudnn":
            attended = _fused(queries, keys, values, prompt_where, own, 0, longest)
        case _:
            attended = _blocks(queries, keys, values, prompt_where, own, 1, longest)
    real = jnp.pad(segments >= 0, ((0, 0), (width, 0)), constant_values=True)
    return jnp.where(real[..., None, None], attended, 0.0)


def row_padding(config: ModelConfig, *, row: int, prompt: int, longest: int, packed: bool) -> int:
    """Tokens to add at the end of rows, so that the kernel need not pad them in every layer.

    0 where the kernel has no blocks, or where so many tokens would cost more than the padding.

    Args:
        config: the decoder's.
        row: `P + S`, tokens of a row.
        prompt: `P`.
        longest: upper bound of the length of a completion.
        packed: see `SplashLayout`.
    """
    layout = SplashLayout(row=row, prompt=prompt, longest=max(1, longest), packed=packed)
    padding = layout.length - row
    return padding if _is_small(padding, row) and _has_blocks(config, layout) else 0


def completion_padding(config: ModelConfig, *, prompt: int, group: int, length: int) -> int:
    """Tokens to add to every completion, so that completions and rows consist of whole blocks.

    A block that several completions share is computed for each of them. 0 where `row_padding` does
    as well: where the kernel has no blocks, or few tokens cannot make completions a multiple of
    lanes and rows a multiple of the block.

    Args:
        config: the decoder's.
        prompt: `P`.
        group: `G`.
        length: tokens of a completion.
    """
    padding = -length % LANES
    row = prompt + group * (length + padding)
    layout = SplashLayout(row=row, prompt=prompt, longest=length + padding, packed=False)
    is_whole = layout.length == row and _is_small(padding, length)
    return padding if is_whole and _has_blocks(config, layout) else 0


def has_head_kernel(
    config: ModelConfig, *, row: int, prompt: int, longest: int, packed: bool
) -> bool:
    """Whether `head_kernel` prepares the heads of rows: where splash attends to them.

    Args:
        config: the decoder's.
        row: `P + S`, tokens of a row with its padding.
        prompt: `P`.
        longest: upper bound of the length of a completion.
        packed: see `SplashLayout`.
    """
    layout = SplashLayout(row=row, prompt=prompt, longest=max(1, longest), packed=packed)
    return row % TOKENS == 0 and _has_blocks(config, layout)


def _is_small(padding: int, tokens: int) -> bool:
    return padding <= tokens // MAX_PADDING


def _has_blocks(config: ModelConfig, layout: SplashLayout) -> bool:
    """Whether the backend for these rows is splash."""
    name = backend.choose(
        config.attention,
        backend.platform(),
        layout,
        head_width=config.head_width,
        dtype=config.compute_dtype,
    )
    return name == "splash"


def _choose_backend(implementation: str, queries: Array, layout: SplashLayout) -> str:
    return backend.choose(
        implementation,
        backend.platform(),
        layout,
        head_width=queries.shape[-1],
        dtype=queries.dtype,
    )


def _fused(
    queries: Array,
    keys: Array,
    values: Array,
    prompt_where: Array,
    own: ColumnRange | None,
    group_size: int,
    longest: int,
) -> Array:
    """The cuDNN backend, which JAX splits over a mesh."""
    layout = FusedLayout(
        prompt=prompt_where.shape[1],
        group_size=group_size,
        longest=longest,
        max_scores=MAX_SCORES[backend.platform()],
    )
    lengths = jnp.sum(prompt_where, axis=1, dtype=jnp.int32)
    return attend_fused(queries, keys, values, lengths, own, layout=layout)


def _blocks(
    queries: Array,
    keys: Array,
    values: Array,
    prompt_where: Array,
    own: ColumnRange,
    sequences: int,
    longest: int,
) -> Array:
    """The blockwise backend; the compiler splits its group and head axes over a mesh."""
    batch, width = prompt_where.shape
    lengths = jnp.sum(prompt_where, axis=1, dtype=jnp.int32)
    last = jnp.broadcast_to(lengths[:, None, None] - 1, (batch, 1, queries.shape[1] - width))
    visible = VisibleColumns(
        prompts=ColumnRange(jnp.zeros((1, 1, width), jnp.int32), _columns(width)[None, None]),
        shared=ColumnRange(jnp.zeros_like(last), last),
        own=own,
    )
    layout = BlockwiseLayout(
        width, sequences=sequences, longest=longest, max_scores=MAX_SCORES[backend.platform()]
    )
    return attend_in_blocks(queries, keys, values, visible, layout)


def _splash(
    queries: Array,
    keys: Array,
    values: Array,
    prompt_where: Array,
    starts: Array | None,
    layout: SplashLayout,
    factor: float | None,
) -> Array:
    """The splash backend, run by each device on its groups and heads (see `on_every_device`)."""
    interpret = backend.platform() != "tpu"

    def attend(queries, keys, values, prompt_where, *starts):
        return attend_by_splash(
            queries,
            keys,
            values,
            prompt_where=prompt_where,
            starts=starts[0] if starts else None,
            layout=layout,
            factor=factor,
            interpret=interpret,
        )

    arguments = (queries, keys, values, prompt_where, *(() if starts is None else (starts,)))
    by_head, by_kv_head = ("group", None, "heads", None), ("group", None, "kv_heads", None)
    in_axes = (by_head, by_kv_head, by_kv_head, *(("group", None),) * (len(arguments) - 3))
    return sharding.on_every_device(attend, in_axes, by_head)(*arguments)


def _columns(count: int) -> Array:
    return jnp.arange(count, dtype=jnp.int32)


def _check_factor(factor: float | None, name: str):
    if factor is not None and name != "splash":
        raise ValueError(f"factor={factor} of queries needs attention 'splash'")


def _check(queries: Array, keys: Array, values: Array, prompt_where: Array):
    chex.assert_rank([queries, keys, values], 4)
    chex.assert_rank(prompt_where, 2)
    chex.assert_equal_shape([keys, values])
    chex.assert_equal_shape_prefix([queries, keys, prompt_where], 1)
    chex.assert_equal_shape_prefix([queries, keys], 2)
