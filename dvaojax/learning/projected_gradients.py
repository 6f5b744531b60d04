"""The gradient of each group of a batch, kept as a random projection.

The gradients of thousands of problems do not fit into memory; their random projections to a few
thousand numbers do, and nearly keep all inner products. The projection is a count sketch (Charikar,
Chen and Farach-Colton, 2002; as feature hashing, Weinberger et al., arXiv 0902.2206): every
parameter is added with a random sign to one of `D` random sums. It takes one pass over a gradient,
where a Gaussian matrix would take `D`. Inner products are unbiased,

$$ E \\langle S x, S y \\rangle = \\langle x, y \\rangle, \\qquad
   \\operatorname{Var} \\langle S x, S y \\rangle \\le
   \\frac{\\lVert x \\rVert^2 \\lVert y \\rVert^2 + \\langle x, y \\rangle^2}{D}, $$

so that the standard error of a cosine near 0 is about $1 / \\sqrt D$: 0.016 for 4,096 numbers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array, lax

from dvaojax import sharding
from dvaojax.learning.gradients import UNPREPARED, GradientFunction, Preparation
from dvaojax.learning.micro_batches import put_own_back, take_own_rows
from dvaojax.learning.packed_width import cut_to_longest_row
from dvaojax.learning.policy_loss import PolicyBatch
from dvaojax.models import Params
from dvaojax.numerics import safe_divide

# Parameters that are projected together: temporaries of the projection have this size.
_BLOCK = 2**20


class GroupGradients(NamedTuple):
    """Gradients of groups, projected.

    Attributes:
        projections: `[B, D]` float32.
        norms: `[B]` float32, the exact norms of the gradients.
    """

    projections: Array
    norms: Array


def project(gradients: Any, key: Array, *, dimension: int) -> Array:
    """Projects gradients to `D` numbers each, all by the same random projection.

    The parameters of a leaf are written in rows of `D`. Each has a random sign, and each row is
    rotated by a random number of places before the rows are added: two parameters enter the same
    sum with probability at most `1 / D`.

    Args:
        gradients: a pytree whose leaves `[R, ...]` have the gradients along their first axis.
        key: determines the projection.
        dimension: `D`.

    Returns:
        `[R, D]` float32.

    Raises:
        AssertionError: the leaves do not share their first axis.
    """
    leaves = jax.tree.leaves(gradients)
    chex.assert_equal_shape_prefix(leaves, 1)
    keys = jax.random.split(key, len(leaves))
    total = jnp.zeros((leaves[0].shape[0], dimension), jnp.float32)
    for leaf, leaf_key in zip(leaves, keys, strict=True):
        total = total + _project_leaf(leaf.reshape(len(leaf), -1), leaf_key, dimension)
    return total


def _project_leaf(gradients: Array, key: Array, dimension: int) -> Array:
    """`[R, N]` to `[R, D]`, block by block."""
    number, size = gradients.shape
    rows = -(-size // dimension)
    rows_of_block = min(rows, max(_BLOCK // dimension, 1))
    blocks = -(-rows // rows_of_block)
    padding = blocks * rows_of_block * dimension - size
    padded = jnp.pad(gradients.astype(jnp.float32), ((0, 0), (0, padding)))
    by_block = padded.reshape(number, blocks, rows_of_block, dimension)

    def add(total: Array, index: Array) -> tuple[Array, None]:
        block = lax.dynamic_index_in_dim(by_block, index, axis=1, keepdims=False)
        return total + _project_block(block, jax.random.fold_in(key, index)), None

    zeros = jnp.zeros((number, dimension), jnp.float32)
    return lax.scan(add, zeros, jnp.arange(blocks))[0]


def _project_block(block: Array, key: Array) -> Array:
    """`[R, rows, D]` to `[R, D]`: random signs, random rotations of the rows, and their sum."""
    _, rows, dimension = block.shape
    sign_key, shift_key = jax.random.split(key)
    bits = jax.random.bits(sign_key, (rows, dimension), jnp.uint8)
    signed = jnp.where((bits & 1)[None] == 1, block, -block)
    shifts = jax.random.randint(shift_key, (rows,), 0, dimension)
    twice = jnp.concatenate([signed, signed], axis=-1)

    def rotated(row: Array, shift: Array) -> Array:
        return lax.dynamic_slice_in_dim(row, shift, dimension, axis=-1)

    return jnp.sum(jax.vmap(rotated, in_axes=(1, 0), out_axes=1)(twice, shifts), axis=1)


def projected_gradients(
    gradient: GradientFunction,
    params: Params,
    batch: PolicyBatch,
    rows: Array,
    key: Array,
    *,
    dimension: int,
    constrain: Callable[[Any], Any] = lambda piece: piece,
    prepare: Preparation = UNPREPARED,
) -> GroupGradients:
    """The gradient of each group's own mean loss, projected.

    The groups of a micro-batch are mapped by `vmap`, and micro-batches follow one another: the full
    gradients of one micro-batch are in memory, and of no other group. Gradients are with respect to
    all parameters.

    Args:
        gradient: from prepared parameters and a batch to the gradient of a sum, and metrics.
        params: the decoder's parameters.
        batch: the groups with their advantages.
        rows: `[micro_batches, rows]` int, the groups of each micro-batch, each group once, see
            `micro_batches.own_rows`.
        key: determines the projection; equal keys give projections that can be compared.
        dimension: `D`.
        constrain: applied to every micro-batch, for sharding constraints on its groups.
        prepare: applied to the parameters.

    Returns:
        Projections and norms of all groups, in the order of the batch; those of a group without
        completions are 0.
    """
    joined, transpose = jax.vjp(lambda params: prepare.join(params, batch), params)
    prepared = prepare.cast(joined)

    def group_gradient(params: Params, group: PolicyBatch) -> Params:
        total, metrics = gradient(params, jax.tree.map(lambda a: a[None], group))
        count = metrics["loss"].count
        return jax.tree.map(lambda g: safe_divide(g, count.astype(g.dtype)), total)

    @cut_to_longest_row
    def group_gradients(params: Params, groups: PolicyBatch) -> Params:
        return sharding.map_groups(group_gradient)(params, groups)

    def piece(rows: Array) -> GroupGradients:
        gradients = group_gradients(prepared, constrain(take_own_rows(batch, rows)))
        gradients = jax.tree.map(lambda g, like: g.astype(like.dtype), gradients, joined)
        (gradients,) = jax.vmap(transpose)(gradients)
        return GroupGradients(project(gradients, key, dimension=dimension), _norms(gradients))

    return jax.tree.map(lambda values: put_own_back(values, rows), lax.map(piece, rows))


def _norms(gradients: Any) -> Array:
    """`[R]` float32, of gradients along the first axis of each leaf."""
    squares = [
        jnp.sum(jnp.square(leaf.astype(jnp.float32)), axis=tuple(range(1, leaf.ndim)))
        for leaf in jax.tree.leaves(gradients)
    ]
    return jnp.sqrt(jnp.sum(jnp.stack(squares), axis=0))
