"""The heads of every token side by side, as the output projection reads them, by a Pallas kernel.

The kernel of attention writes its result by head, and reads its cotangent so. XLA would transpose
both by way of arrays with heads in the rows of a tile. Here whole tiles move, unchanged.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

_FAST_MEMORY = 10 << 20  # bytes of a core's vector memory that a step may take
_LARGEST_BLOCK = 256  # tokens
TOKENS = 16  # that divide the tokens of a step and of a row; rows of a tile of bfloat16

Shape = tuple[int, int, int, int]  # B, H, S and C


def rows_of_heads(heads: Array, *, interpret: bool) -> Array:
    """`[B * S, H * C]`, the heads of a token side by side.

    Args:
        heads: `[B, H, S, C]`; `S` is a multiple of 16 and `C` one of 128.
        interpret: run in Pallas's interpreter, on a machine without TPUs.
    """
    return _merged(heads, heads.shape, interpret)


def token_block(length: int, width: int, dtype: jnp.dtype) -> int:
    """Tokens of a step: the most that divide a row and whose arrays fit into fast memory twice.

    Args:
        length: `S`, tokens of a row, a multiple of 16.
        width: numbers of a token in the largest array.
        dtype: of the arrays.
    """
    per_token = 6 * width * jnp.dtype(dtype).itemsize
    most = min(_LARGEST_BLOCK, max(TOKENS, _FAST_MEMORY // per_token))
    sizes = range(TOKENS, most + 1, TOKENS)
    return max(size for size in sizes if length % size == 0)


def rows_spec(length: int, width: int, block: int) -> pl.BlockSpec:
    """Blocks of `[B * S, width]` on a grid of rows and steps; `length` is `S`."""
    return pl.BlockSpec((block, width), lambda row, step: (row * (length // block) + step, 0))


def heads_spec(count: int, head_width: int, block: int) -> pl.BlockSpec:
    """Blocks of `[B, count, S, C]` on a grid of rows and steps; `head_width` is `C`."""
    return pl.BlockSpec((1, count, block, head_width), lambda row, step: (row, 0, step, 0))


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _merged(heads: Array, shape: Shape, interpret: bool) -> Array:
    batch, count, length, width = shape
    result = jax.ShapeDtypeStruct((batch * length, count * width), heads.dtype)
    return _moved(_merge, heads, result, shape, interpret=interpret)


def _split(shape: Shape, interpret: bool, _: None, rows: Array) -> tuple[Array]:
    result = jax.ShapeDtypeStruct(shape, rows.dtype)
    return (_moved(_divide, rows, result, shape, interpret=interpret),)


_merged.defvjp(lambda heads, shape, interpret: (_merged(heads, shape, interpret), None), _split)


def _moved(
    kernel: Callable[..., None],
    array: Array,
    result: jax.ShapeDtypeStruct,
    shape: Shape,
    *,
    interpret: bool,
) -> Array:
    batch, count, length, width = shape
    block = token_block(length, count * width, array.dtype)
    specs = [rows_spec(length, count * width, block), heads_spec(count, width, block)]
    given, made = specs if array.ndim == 2 else reversed(specs)
    return pl.pallas_call(
        kernel,
        grid=(batch, length // block),
        in_specs=[given],
        out_specs=made,
        out_shape=result,
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel")),
        cost_estimate=pl.CostEstimate(
            flops=0, transcendentals=0, bytes_accessed=2 * array.size * array.dtype.itemsize
        ),
        interpret=interpret,
        name="merge_heads" if array.ndim == 4 else "divide_heads",
    )(array)


def _merge(heads, rows) -> None:
    for head, columns in _parts(heads.shape):
        rows[:, columns] = heads[0, head]


def _divide(rows, heads) -> None:
    for head, columns in _parts(heads.shape):
        heads[0, head] = rows[:, columns]


def _parts(shape: Shape):
    """Every head of a block `[1, H, tokens, C]`, and its columns among those of a token."""
    for head in range(shape[1]):
        yield head, slice(head * shape[3], (head + 1) * shape[3])
