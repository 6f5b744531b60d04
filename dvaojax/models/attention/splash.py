"""Training attention by JAX's splash attention kernel, for TPUs.

The kernel runs over whole rows, a prompt followed by its completions, and visits only the blocks of
scores that are not masked entirely: completions do not attend to each other. The mask is never in
memory as an array. The visited blocks follow from the layout at compile time; inside a block, the
columns that a query attends to are encoded in one integer per query.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

from dvaojax.models.attention.merge_kernel import TOKENS, rows_of_heads

# Head widths and block sizes are multiples of the number of lanes of a TPU's vector unit.
LANES = 128

Integers = TypeVar("Integers", Array, np.ndarray)


@dataclasses.dataclass(frozen=True)
class QueryEncoding:
    """Encoding of the columns that a query attends to in one integer.

    These are the columns of the prompt, and those of its own completion up to itself. The integer
    has the start of the completion in the upper bits and the query's distance from it in the lower.

    Attributes:
        prompt: `P`, columns of the prompt with its padding.
        bits: number of lower bits.
    """

    prompt: int
    bits: int

    def encode(self, columns: Integers, starts: Integers) -> Integers:
        """The int32 codes of queries in given columns, whose completions begin at `starts`."""
        return (starts << self.bits) | (columns - starts)

    def __call__(self, queries: Array, columns: Array) -> Array:
        """True where an encoded query attends to a column, elementwise; both broadcast."""
        starts = queries >> self.bits
        positions = starts + (queries & ((1 << self.bits) - 1))
        return (columns <= positions) & ((columns < self.prompt) | (columns >= starts))


@dataclasses.dataclass(frozen=True)
class SplashLayout:
    """Layout of the tokens of a row for the kernel, known at compile time.

    Attributes:
        row: `P + S`, tokens of a row.
        prompt: `P`.
        longest: upper bound of the length of a completion.
        packed: completions may begin in any column; otherwise one begins every `longest` tokens.
    """

    row: int
    prompt: int
    longest: int
    packed: bool

    @property
    def encoding(self) -> QueryEncoding:
        """Encoding of the queries."""
        return QueryEncoding(self.prompt, max(self.prompt, self.longest, self.block).bit_length())

    @property
    def block(self) -> int:
        """Tokens of a block: more for long rows, since skipping a block takes time too."""
        return 1024 if self.row > 1 << 15 else 512 if self.row >= 1 << 11 else LANES

    @property
    def length(self) -> int:
        """Tokens of a row, padded to a whole number of blocks."""
        return -(-self.row // self.block) * self.block

    def supports(self, *, head_width: int, dtype: np.dtype) -> bool:
        """Whether the kernel supports such heads, and the codes of queries fit into 31 bits."""
        has_dtype = np.dtype(dtype) in (np.dtype(jnp.bfloat16), np.dtype(np.float32))
        has_bits = self.length.bit_length() + self.encoding.bits <= 31
        return has_dtype and has_bits and head_width % LANES == 0

    def earliest(self, column: int) -> int:
        """The first column of its own sequence that the query in `column` may attend to."""
        if column < self.prompt:
            return 0
        if self.packed:
            return max(self.prompt, column - self.longest + 1)
        return column - (column - self.prompt) % self.longest


class GroupMask(masks.Mask):
    """The attention mask of a group, in the form that the kernel uses.

    Indexed with a block, it returns a single value: whether any query of the block may attend to
    any of its columns. A full mask of 115 712 x 115 712 would not fit into memory. Inside a block
    the kernel calls `mask_function` with the queries' codes.
    """

    def __init__(self, layout: SplashLayout):
        self.layout = layout
        self.mask_function = layout.encoding
        columns = np.arange(layout.length, dtype=np.int32)
        starts = np.array([layout.earliest(column) for column in range(layout.length)], np.int32)
        self.q_sequence = layout.encoding.encode(columns, starts)

    @property
    def shape(self) -> tuple[int, int]:
        """Queries and columns, both `layout.length`."""
        return self.layout.length, self.layout.length

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        rows, columns = index
        prompt = self.layout.prompt
        if columns.start >= rows.stop:
            return np.zeros((1, 1), bool)
        has_prompt = columns.start < prompt
        has_own = columns.stop > self.layout.earliest(max(rows.start, prompt))
        return np.full((1, 1), has_prompt or has_own)


def attend_by_splash(
    queries: Array,
    keys: Array,
    values: Array,
    *,
    prompt_where: Array,
    starts: Array | None,
    layout: SplashLayout,
    factor: float | None,
    interpret: bool,
) -> Array:
    """Attention of rows with a prompt followed by its completions.

    Args:
        queries: `[B, P + S, H, C]`.
        keys: `[B, P + S, N, C]`.
        values: `[B, P + S, N, C]`.
        prompt_where: `[B, P]` true on prompt tokens.
        starts: `[B, S]` int32, the column at which each token's completion begins, counted from the
            end of the prompt; None if the layout is not packed.
        layout: the layout of the rows.
        factor: of the queries; None for `C^-0.5`.
        interpret: run the kernel in Pallas's interpreter, on a machine without TPUs.

    Returns:
        `[B, P + S, H, C]` in the dtype of the queries.
    """
    padding = layout.length - layout.row
    scale = queries.shape[-1] ** -0.5 if factor is None else factor
    scaled = (queries.astype(jnp.float32) * scale).astype(queries.dtype)
    q, k, v = (_by_head(x, padding) for x in (scaled, keys, values))
    # The kernel masks tokens of other segments: padding is a separate segment.
    real = jnp.pad(prompt_where, ((0, 0), (0, layout.row - layout.prompt)), constant_values=True)
    segments = jnp.pad(real, ((0, 0), (0, padding))).astype(jnp.int32)
    build = functools.partial(_kernel, layout, queries.shape[2], interpret)
    if starts is None:
        attend = jax.vmap(lambda q, k, v, s: build()(q, k, v, kernels.SegmentIds(s, s)))
        attended = attend(q, k, v, segments)
    else:
        attend = jax.vmap(lambda q, k, v, s, codes: build(codes)(q, k, v, kernels.SegmentIds(s, s)))
        attended = attend(q, k, v, segments, _packed_codes(starts, layout))
    if padding == 0 and layout.row % TOKENS == 0:
        return rows_of_heads(attended, interpret=interpret).reshape(queries.shape)
    # The cotangent's product is then not merged with a reduction of the kernel's backward pass,
    # which would give it another layout.
    attended = jax.lax.optimization_barrier(attended)
    return jnp.swapaxes(attended[:, :, : layout.row], 1, 2)


def _kernel(
    layout: SplashLayout, num_heads: int, interpret: bool, codes: Array | None = None
) -> Callable:
    """The kernel of one row; `codes`, `[length]`, are the codes of the queries of a packed row."""
    kernel = _kernel_of_layout(layout, num_heads, interpret)
    if codes is None:
        return kernel
    infos = (kernel.fwd_mask_info, kernel.dq_mask_info, kernel.dkv_mask_info)
    infos = (info._replace(q_sequence=codes) for info in infos if info is not None)
    return kernels.SplashAttentionKernel(*infos, **kernel.kwargs)


@functools.lru_cache(maxsize=16)
def _kernel_of_layout(
    layout: SplashLayout, num_heads: int, interpret: bool
) -> kernels.SplashAttentionKernel:
    """The kernel, built once for all layers; its tables are numpy arrays, not tracers."""
    block = layout.block
    sizes = kernels.BlockSizes(
        block_q=block,
        block_kv=block,
        block_kv_compute=min(block, 512),
        block_q_dkv=block,
        block_kv_dkv=block,
        block_kv_dkv_compute=min(block, 512),
        block_q_dq=block,
        block_kv_dq=block,
    )
    with jax.ensure_compile_time_eval():
        kernel = kernels.make_splash_mha(
            masks.MultiHeadMask([GroupMask(layout)] * num_heads),
            block_sizes=sizes,
            head_shards=1,
            q_seq_shards=1,
            residual_checkpoint_name="attention",
            interpret=interpret,
        )
    return jax.tree.map(np.asarray, kernel)


def _packed_codes(starts: Array, layout: SplashLayout) -> Array:
    """`[B, length]`, the codes of the queries of packed rows; final padding attends to itself."""
    columns = jnp.broadcast_to(
        jnp.arange(layout.length, dtype=jnp.int32)[None], (len(starts), layout.length)
    )
    own = jnp.pad(starts.astype(jnp.int32) + layout.prompt, ((0, 0), (layout.prompt, 0)))
    return layout.encoding.encode(columns, jnp.concatenate([own, columns[:, layout.row :]], axis=1))


def _by_head(x: Array, padding: int) -> Array:
    """`[B, S, H, C]` to `[B, H, S + padding, C]`."""
    return jnp.pad(jnp.swapaxes(x, 1, 2), ((0, 0), (0, 0), (0, padding), (0, 0)))
