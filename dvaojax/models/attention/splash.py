"""Training attention by the splash kernel of JAX: for TPUs.

The kernel runs over whole rows, a prompt and its completions, and visits the blocks of scores that
the group's mask leaves: a prompt stands once, completions are blind to each other. The mask is
never held. Which blocks are visited follows from the layout when the program is compiled; inside
a block every query's own interval decides, which travels with it as one integer.
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

# Features and the tokens of a block come in multiples of this, the lanes of a TPU's vector unit.
LANES = 128

Integers = TypeVar("Integers", Array, np.ndarray)


@dataclasses.dataclass(frozen=True)
class Sight:
    """Which columns of its row a query sees: its prompt's, and its completion's up to itself.

    A query is known to the kernel by one integer that holds where it stands and where what it sees
    of its own begins.

    Attributes:
        prompt: `P`, columns of the prompt with its padding.
        bits: of that integer, for the distance between the two.
    """

    prompt: int
    bits: int

    def encode(self, places: Integers, starts: Integers) -> Integers:
        """The integers of queries, int32."""
        return (starts << self.bits) | (places - starts)

    def __call__(self, queries: Array, columns: Array) -> Array:
        """True where an encoded query sees a column, elementwise; both broadcast."""
        starts = queries >> self.bits
        places = starts + (queries & ((1 << self.bits) - 1))
        return (columns <= places) & ((columns < self.prompt) | (columns >= starts))


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the kernel is built from; known when the program is compiled.

    Attributes:
        row: `P + S`, tokens of a row.
        prompt: `P`.
        longest: no completion is longer.
        packed: completions may begin anywhere; otherwise one begins every `longest` tokens.
    """

    row: int
    prompt: int
    longest: int
    packed: bool

    @property
    def sight(self) -> Sight:
        """How queries are encoded."""
        return Sight(self.prompt, max(self.prompt, self.longest, self.block).bit_length())

    @property
    def block(self) -> int:
        """Tokens of a block: large where rows are long, since skipping a block takes time too."""
        return 1024 if self.row > 1 << 15 else 512 if self.row >= 1 << 11 else LANES

    @property
    def length(self) -> int:
        """Tokens of a row with its padding: a whole number of blocks."""
        return -(-self.row // self.block) * self.block

    def fits(self, *, head_width: int, dtype: np.dtype) -> bool:
        """Whether the kernel takes such heads, and 31 bits tell what a query sees."""
        known = np.dtype(dtype) in (np.dtype(jnp.bfloat16), np.dtype(np.float32))
        few = self.length.bit_length() + self.sight.bits <= 31
        return known and few and head_width % LANES == 0

    def earliest(self, place: int) -> int:
        """The first column of its own that the query in this column may see."""
        if place < self.prompt:
            return 0
        if self.packed:
            return max(self.prompt, place - self.longest + 1)
        return place - (place - self.prompt) % self.longest


class GroupMask(masks.Mask):
    """The mask of a group, as the kernel asks for it: block by block, and then query by query.

    Asked for a block it answers with a single value, true if any query of the block may see any of
    its columns: a mask of 115 712 x 115 712 would not fit anywhere.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        self.mask_function = plan.sight
        places = np.arange(plan.length, dtype=np.int32)
        starts = np.array([plan.earliest(place) for place in range(plan.length)], np.int32)
        self.q_sequence = plan.sight.encode(places, starts)

    @property
    def shape(self) -> tuple[int, int]:
        """Queries and columns, both `plan.length`."""
        return self.plan.length, self.plan.length

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        rows, columns = index
        begins, prompt = rows.start, self.plan.prompt
        if columns.start >= rows.stop:
            return np.zeros((1, 1), bool)
        shares_prompt = columns.start < prompt
        own = columns.stop > self.plan.earliest(max(begins, prompt))
        return np.full((1, 1), shares_prompt or own)


def attend_by_splash(
    queries: Array,
    keys: Array,
    values: Array,
    *,
    prompt_where: Array,
    starts: Array | None,
    plan: Plan,
    interpret: bool,
) -> Array:
    """Attention of rows that hold a prompt and, behind it, its completions.

    Args:
        queries: `[B, P + S, H, C]`.
        keys: `[B, P + S, N, C]`.
        values: `[B, P + S, N, C]`.
        prompt_where: `[B, P]` true on prompt tokens.
        starts: `[B, S]` int32, the column behind the prompt at which each token's completion
            begins; none where that follows from the plan.
        plan: how the tokens stand.
        interpret: run the kernel by Pallas's interpreter, on a machine that is no TPU.

    Returns:
        `[B, P + S, H, C]` in the float of the queries.
    """
    padding = plan.length - plan.row
    scale = queries.shape[-1] ** -0.5
    scaled = (queries.astype(jnp.float32) * scale).astype(queries.dtype)
    q, k, v = (_by_head(x, padding) for x in (scaled, keys, values))
    # The kernel lets tokens of one segment see each other: padding is a segment of its own.
    real = jnp.pad(prompt_where, ((0, 0), (0, plan.row - plan.prompt)), constant_values=True)
    segments = jnp.pad(real, ((0, 0), (0, padding))).astype(jnp.int32)
    build = functools.partial(_kernel, plan, queries.shape[2], interpret)
    if starts is None:
        attend = jax.vmap(lambda q, k, v, s: build()(q, k, v, kernels.SegmentIds(s, s)))
        attended = attend(q, k, v, segments)
    else:
        attend = jax.vmap(lambda q, k, v, s, seen: build(seen)(q, k, v, kernels.SegmentIds(s, s)))
        attended = attend(q, k, v, segments, _encoded(starts, plan))
    return jnp.swapaxes(attended[:, :, : plan.row], 1, 2)


def _kernel(plan: Plan, num_heads: int, interpret: bool, seen: Array | None = None) -> Callable:
    """The kernel of one row; `seen`, `[length]`, are its queries' encoded intervals."""
    kernel = _kernel_of_layout(plan, num_heads, interpret)
    if seen is None:
        return kernel
    infos = (kernel.fwd_mask_info, kernel.dq_mask_info, kernel.dkv_mask_info)
    infos = (info._replace(q_sequence=seen) for info in infos if info is not None)
    return kernels.SplashAttentionKernel(*infos, **kernel.kwargs)


@functools.lru_cache(maxsize=16)
def _kernel_of_layout(plan: Plan, num_heads: int, interpret: bool) -> kernels.SplashAttentionKernel:
    """Built once for all layers; its tables are plain numpy, so no trace keeps them."""
    block = plan.block
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
            masks.MultiHeadMask([GroupMask(plan)] * num_heads),
            block_sizes=sizes,
            head_shards=1,
            q_seq_shards=1,
            interpret=interpret,
        )
    return jax.tree.map(np.asarray, kernel)


def _encoded(starts: Array, plan: Plan) -> Array:
    """`[B, length]` the intervals of packed rows; padding behind a row sees itself."""
    places = jnp.broadcast_to(
        jnp.arange(plan.length, dtype=jnp.int32)[None], (len(starts), plan.length)
    )
    own = jnp.pad(starts.astype(jnp.int32) + plan.prompt, ((0, 0), (plan.prompt, 0)))
    return plan.sight.encode(places, jnp.concatenate([own, places[:, plan.row :]], axis=1))


def _by_head(x: Array, padding: int) -> Array:
    """`[B, S, H, C]` to `[B, H, S + padding, C]`."""
    return jnp.pad(jnp.swapaxes(x, 1, 2), ((0, 0), (0, 0), (0, padding), (0, 0)))
