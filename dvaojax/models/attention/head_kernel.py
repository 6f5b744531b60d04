"""Norm and rotation of queries and keys in one Pallas kernel for TPUs, in the layout of attention.

The product of a layer's input with the joined matrix has the heads of a token side by side. The
kernel reads it once and writes queries, keys and values by head, as the kernel of attention reads
them. The backward pass is a second kernel, which computes norm and rotation again.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from dvaojax import sharding
from dvaojax.models.attention import backend
from dvaojax.models.attention.merge_kernel import heads_spec, rows_spec, token_block


class HeadShape(NamedTuple):
    """Shapes and constants of the kernels, known at compile time.

    Attributes:
        num_kv_heads: `N` of one device.
        ratio: `R = H / N`, queries of a key/value head.
        head_width: `C`.
        epsilon: of the norms.
        factor: of the queries after rotation.
        interpret: run in Pallas's interpreter, on a machine without TPUs.
    """

    num_kv_heads: int
    ratio: int
    head_width: int
    epsilon: float
    factor: float
    interpret: bool


def heads_of_rows(
    joined: Array,
    angles: tuple[Array, Array],
    scales: Array | None,
    *,
    ratio: int,
    head_width: int,
    epsilon: float,
) -> tuple[Array, Array, Array]:
    """Queries, keys and values by head, from the product with the joined matrix.

    Each device has its groups and heads.

    Args:
        joined: `[B * S, N * (R + 2) * C]`; for each key/value head its queries, its key and its
            value. `S` is a multiple of 16.
        angles: cosines and sines of the rotary angles, `[B, S, C / 2]` float32 each; no gradient
            flows through them.
        scales: `[2, C]` float32, of the norms of queries and keys; None if there are no norms.
        ratio: `R`.
        head_width: `C`, a multiple of 128.
        epsilon: added to the mean squares.

    Returns:
        Queries `[B, H, S, C]` times `C^-0.5`, keys and values `[B, N, S, C]`; queries and keys are
        normalised and rotated, with the same roundings as by `layers.RMSNorm` and `layers.rotate`.
    """
    interpret = backend.platform() != "tpu"

    def heads(joined: Array, cos: Array, sin: Array, *scales: Array):
        table = jnp.concatenate([cos, sin], axis=-1)
        count = joined.shape[-1] // ((ratio + 2) * head_width)
        shape = HeadShape(count, ratio, head_width, epsilon, head_width**-0.5, interpret)
        return _heads(joined, table, scales[0] if scales else None, shape)

    by_group, by_head = ("group", None, None), ("group", "kv_heads", None, None)
    in_axes = [("group", "kv_heads"), by_group, by_group]
    arguments = [joined, *angles]
    if scales is not None:
        in_axes.append((None, None))
        arguments.append(scales)
    out_axes = (("group", "heads", None, None), by_head, by_head)
    return sharding.on_every_device(heads, in_axes, out_axes)(*arguments)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _heads(joined: Array, table: Array, scales: Array | None, shape: HeadShape):
    return _forward(joined, table, scales, shape)[0]


def _forward(joined: Array, table: Array, scales: Array | None, shape: HeadShape):
    (batch, length, _), width = table.shape, joined.shape[1]
    block = token_block(length, width, joined.dtype)
    heads = [shape.num_kv_heads * shape.ratio, shape.num_kv_heads, shape.num_kv_heads]
    given = [joined, table] if scales is None else [joined, table, scales]
    results = pl.pallas_call(
        partial(_forward_kernel, shape=shape),
        grid=(batch, length // block),
        in_specs=[rows_spec(length, width, block), *_constants(shape, block)[: len(given) - 1]],
        out_specs=[heads_spec(count, shape.head_width, block) for count in heads],
        out_shape=[
            jax.ShapeDtypeStruct((batch, count, length, shape.head_width), joined.dtype)
            for count in heads
        ],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel")),
        cost_estimate=_cost(joined, 2),
        interpret=shape.interpret,
        name="heads",
    )(*given)
    return tuple(results), (joined, table, scales)


def _backward(shape: HeadShape, residuals, cotangents: tuple[Array, Array, Array]):
    joined, table, scales = residuals
    (batch, length, _), width = table.shape, joined.shape[1]
    block = token_block(length, width, joined.dtype)
    steps = length // block
    given = [*cotangents, joined, table] + ([] if scales is None else [scales])
    heads = [x.shape[1] for x in cotangents]
    out_specs, out_shape = [rows_spec(length, width, block)], [joined]
    if scales is not None:
        spec = pl.BlockSpec((1, 1, *scales.shape), lambda row, step: (row, step, 0, 0))
        out_specs.append(spec)
        out_shape.append(jax.ShapeDtypeStruct((batch, steps, *scales.shape), jnp.float32))
    results = pl.pallas_call(
        partial(_backward_kernel, shape=shape),
        grid=(batch, steps),
        in_specs=[
            *(heads_spec(count, shape.head_width, block) for count in heads),
            rows_spec(length, width, block),
            *_constants(shape, block)[: len(given) - 4],
        ],
        out_specs=out_specs,
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in out_shape],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel")),
        cost_estimate=_cost(joined, 3),
        interpret=shape.interpret,
        name="heads_backward",
    )(*given)
    scale_gradient = None if scales is None else jnp.sum(results[1], axis=(0, 1))
    return results[0], jnp.zeros_like(table), scale_gradient


_heads.defvjp(_forward, _backward)


def _forward_kernel(joined, table, *references, shape: HeadShape):
    *scales, queries, keys, values = references
    cos, sin = _angles(table[0], shape)
    for head, which, index, columns in _parts(shape):
        x = joined[:, columns]
        if which == 2:
            values[0, index] = x
            continue
        wide = x.astype(jnp.float32)
        if scales:
            normal, _ = _normalised(wide, shape)
            wide = _rounded(normal * scales[0][which : which + 1], x.dtype)
        rotated = _rounded(wide * cos + _exchanged(wide, shape) * sin, x.dtype)
        if which == 0:
            queries[0, head * shape.ratio + index] = (rotated * shape.factor).astype(x.dtype)
        else:
            keys[0, index] = rotated.astype(x.dtype)


def _backward_kernel(queries, keys, values, joined, table, *references, shape: HeadShape):
    *scales, gradient = references[: 2 if len(references) == 3 else 1]
    cos, sin = _angles(table[0], shape)
    sums = [jnp.zeros((1, shape.head_width), jnp.float32)] * 2
    for head, which, index, columns in _parts(shape):
        if which == 2:
            gradient[:, columns] = values[0, index]
            continue
        given = queries[0, head * shape.ratio + index] if which == 0 else keys[0, index]
        wide = given.astype(jnp.float32) * (shape.factor if which == 0 else 1.0)
        wide = wide * cos + _exchanged(wide * sin, shape)
        if scales:
            normal, inverse = _normalised(joined[:, columns].astype(jnp.float32), shape)
            sums[which] += jnp.sum(wide * normal, axis=0, keepdims=True)
            wide *= scales[0][which : which + 1]
            mean = jnp.mean(wide * normal, axis=-1, keepdims=True)
            wide = inverse * (wide - normal * mean)
        gradient[:, columns] = wide.astype(gradient.dtype)
    if scales:
        references[-1][0, 0] = jnp.concatenate(sums, axis=0)


def _parts(shape: HeadShape):
    """Key/value head, 0 for a query, 1 for a key and 2 for a value, index, and columns of each."""
    width = shape.head_width
    for head in range(shape.num_kv_heads):
        for part in range(shape.ratio + 2):
            which = max(0, part - shape.ratio + 1)
            start = (head * (shape.ratio + 2) + part) * width
            yield head, which, part if which == 0 else head, slice(start, start + width)


def _angles(table: Array, shape: HeadShape) -> tuple[Array, Array]:
    """Cosines and signed sines, `[tokens, C]` each, from both halves of the table."""
    half = shape.head_width // 2
    exchanged = _exchanged(table, shape)
    is_first = lax.broadcasted_iota(jnp.int32, table.shape, 1) < half
    return jnp.where(is_first, table, exchanged), jnp.where(is_first, -exchanged, table)


def _exchanged(x: Array, shape: HeadShape) -> Array:
    """The halves of `[tokens, C]` exchanged."""
    return pltpu.roll(x, shape.head_width // 2, 1)


def _normalised(x: Array, shape: HeadShape) -> tuple[Array, Array]:
    """Rows over their root mean square, and the factor of each row, `[tokens, 1]`."""
    inverse = lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + shape.epsilon)
    return x * inverse, inverse


def _rounded(x: Array, dtype: jnp.dtype) -> Array:
    return x.astype(dtype).astype(jnp.float32)


def _by_token(width: int, block: int) -> pl.BlockSpec:
    return pl.BlockSpec((1, block, width), lambda row, step: (row, step, 0))


def _constants(shape: HeadShape, block: int) -> list[pl.BlockSpec]:
    """Those of the table of angles and of the scales."""
    return [
        _by_token(shape.head_width, block),
        pl.BlockSpec((2, shape.head_width), lambda row, step: (0, 0)),
    ]


def _cost(joined: Array, times: int) -> pl.CostEstimate:
    """The compiler schedules other operations by it."""
    return pl.CostEstimate(
        flops=20 * math.prod(joined.shape),
        transcendentals=0,
        bytes_accessed=times * joined.size * joined.dtype.itemsize,
    )
