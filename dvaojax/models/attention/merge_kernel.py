"""The heads of every token side by side, as the output projection reads them, by a Pallas kernel.

The kernel of attention writes its result by head, and reads its cotangent so. XLA would transpose
both by way of arrays with heads in the rows of a tile. Here whole tiles move, unchanged.
"""

from collections.abc import Callable
from functools import partial

import jax
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from dvaojax.models.attention.head_kernel import heads_spec, rows_spec, token_block

Shape = tuple[int, int, int, int]  # B, H, S and C


def rows_of_heads(heads: Array, *, interpret: bool) -> Array:
    """`[B * S, H * C]` from `[B, H, S, C]`.

    Args:
        heads: `S` is a multiple of 16 and `C` one of 128.
        interpret: run in Pallas's interpreter, on a machine without TPUs.
    """
    return _merged(heads, heads.shape, interpret)


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
