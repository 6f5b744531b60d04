"""Attention of queries to ranges of the keys, without holding all scores in memory.

Scores are computed for some queries at a time and applied to the values; the backward pass
recomputes them from the logsumexp of each query's scores (Dao et al., arXiv:2205.14135). Attention
of the same queries to different keys is computed separately and merged by the logsumexp.

The `R = H / N` query heads of a key/value head are adjacent, so that a matrix product has `R` times
the rows and no key is repeated. Leading axes, written `...`, are the same for all arguments.
"""

import collections
import math
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

from dvaojax.models.config import accumulation_dtype

PyTree = TypeVar("PyTree")

# Maximal number of scores in memory, over all leading axes, by platform. On a CPU, 2 MiB in float32
# fit into the cache. An accelerator needs more to be busy: 256 MiB.
MAX_SCORES = collections.defaultdict(lambda: 1 << 26, cpu=1 << 19)
# Matrix products with fewer rows are slow.
MIN_ROWS = 64


class ColumnRange(NamedTuple):
    """The range of columns that each query attends to, inclusive; empty where `last < first`.

    Attributes:
        first: `[..., S]` int32; leading axes may be 1.
        last: `[..., S]` int32; leading axes may be 1.
    """

    first: Array
    last: Array


class PartialAttention(NamedTuple):
    """Attention to a part of the keys, in float32 at least, in a form that can be merged.

    Attributes:
        output: `[..., S, R, C]`; zeros where a query attends to nothing.
        logsumexp: `[..., S, R]` of the scores; `-inf` where a query attends to nothing.
    """

    output: Array
    logsumexp: Array


class BackwardInputs(NamedTuple):
    """Inputs of the backward pass of each query, whose softmax may extend over other keys too.

    Attributes:
        logsumexp: `[..., S, R]` of all scores of the query.
        delta: `[..., S, R]`, inner product of the attention's output and its cotangent.
        cotangent: `[..., S, R, C]`, of the attention's output.
    """

    logsumexp: Array
    delta: Array
    cotangent: Array


def attend(
    queries: Array, keys: Array, values: Array, visible: ColumnRange, *, max_scores: int
) -> PartialAttention:
    """Softmax attention.

    Args:
        queries: `[..., S, R, C]`.
        keys: `[..., K, C]`.
        values: `[..., K, C]`.
        visible: the columns of `keys` that each query attends to.
        max_scores: maximal number of scores in memory.
    """
    axis, pieces = keys.ndim - 2, _num_pieces(queries, keys, max_scores)
    if pieces == 1:
        return _attend(queries, keys, values, visible)
    attended = lax.map(
        lambda piece: _attend(piece[0], keys, values, piece[1]),
        _split((queries, visible), axis, pieces),
    )
    return _join(attended, axis, queries.shape[axis])


def merge(first: PartialAttention, second: PartialAttention) -> PartialAttention:
    """Attention to the keys of both, from attention of the same queries to each."""
    logsumexp = jnp.logaddexp(first.logsumexp, second.logsumexp)
    reference = _finite(logsumexp)
    terms = [x.output * jnp.exp(x.logsumexp - reference)[..., None] for x in (first, second)]
    return PartialAttention(terms[0] + terms[1], logsumexp)


def gradients(
    queries: Array,
    keys: Array,
    values: Array,
    visible: ColumnRange,
    inputs: BackwardInputs,
    *,
    max_scores: int,
) -> tuple[Array, Array, Array]:
    """The contributions of these keys to the gradients of queries, keys and values.

    Args:
        queries: `[..., S, R, C]`.
        keys: `[..., K, C]`.
        values: `[..., K, C]`.
        visible: the columns of `keys` that each query attends to.
        inputs: of the same queries.
        max_scores: maximal number of scores in memory.

    Returns:
        The gradients of `queries`, `keys` and `values`, in float32 at least.
    """
    axis, pieces = keys.ndim - 2, _num_pieces(queries, keys, max_scores)
    if pieces == 1:
        grad_queries, grad_keys, grad_values = _gradients(queries, keys, values, visible, inputs)
    else:

        def add(sums: tuple[Array, Array], piece: tuple[Array, ColumnRange, BackwardInputs]):
            grad_piece, *terms = _gradients(piece[0], keys, values, *piece[1:])
            return (sums[0] + terms[0], sums[1] + terms[1]), grad_piece

        zeros = jnp.zeros(jnp.swapaxes(keys, -1, -2).shape, accumulation_dtype(keys.dtype))
        (grad_keys, grad_values), grad_pieces = lax.scan(
            add, (zeros, zeros), _split((queries, visible, inputs), axis, pieces)
        )
        grad_queries = _join(grad_pieces, axis, queries.shape[axis])
    return grad_queries, jnp.swapaxes(grad_keys, -1, -2), jnp.swapaxes(grad_values, -1, -2)


def _attend(queries: Array, keys: Array, values: Array, visible: ColumnRange) -> PartialAttention:
    """`attend` for all queries at once."""
    scores = _scores(queries, keys, visible)
    maximum = _finite(jnp.max(scores, axis=-1, keepdims=True))
    weights = jnp.exp(scores - maximum)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    output = _product("...qk,...kc->...qc", weights.astype(values.dtype), values)
    output = output / jnp.where(total == 0.0, 1.0, total)
    logsumexp = maximum + jnp.log(total)
    return PartialAttention(output.reshape(queries.shape), logsumexp.reshape(queries.shape[:-1]))


def _gradients(
    queries: Array, keys: Array, values: Array, visible: ColumnRange, inputs: BackwardInputs
) -> tuple[Array, Array, Array]:
    """`gradients` for all queries at once; those of keys and values are `[..., C, K]`.

    With many rows, XLA's products on a CPU are three times as fast if the short axis comes first.
    """
    logsumexp, delta = (_rows(x[..., None]) for x in inputs[:2])
    rows, cotangent = _rows(queries), _rows(inputs.cotangent)
    weights = jnp.exp(_scores(queries, keys, visible) - _finite(logsumexp))
    grad_weights = _product("...qc,...kc->...qk", cotangent, values)
    grad_scores = weights * (grad_weights - delta) * _scale(queries)
    grad_scores = grad_scores.astype(queries.dtype)
    grad_queries = _product("...qk,...kc->...qc", grad_scores, keys).reshape(queries.shape)
    grad_keys = _product("...qc,...qk->...ck", rows, grad_scores)
    grad_values = _product("...qc,...qk->...ck", cotangent, weights.astype(values.dtype))
    return grad_queries, grad_keys, grad_values


def _scores(queries: Array, keys: Array, visible: ColumnRange) -> Array:
    """`[..., S * R, K]` scaled scores, `-inf` outside the visible columns."""
    scores = _product("...qc,...kc->...qk", _rows(queries), keys) * _scale(queries)
    first, last = (jnp.repeat(x, queries.shape[-2], axis=-1)[..., None] for x in visible)
    columns = lax.broadcasted_iota(jnp.int32, (*first.shape[:-1], keys.shape[-2]), first.ndim - 1)
    # One comparison instead of two, with columns before the first as large numbers: with two, XLA
    # does not vectorise the exponentials on CPUs.
    count = jnp.maximum(last - first + 1, 0).astype(jnp.uint32)
    return jnp.where((columns - first).astype(jnp.uint32) < count, scores, -jnp.inf)


def _rows(x: Array) -> Array:
    """`[..., S, R, C]` to `[..., S * R, C]`."""
    return x.reshape(*x.shape[:-3], -1, x.shape[-1])


def _scale(queries: Array) -> float:
    return queries.shape[-1] ** -0.5


def _finite(logarithms: Array) -> Array:
    """Replaces `-inf`, of queries that attend to nothing, by 0: `-inf - -inf` would be NaN."""
    return jnp.where(jnp.isneginf(logarithms), 0.0, logarithms)


def _product(equation: str, left: Array, right: Array) -> Array:
    """A matrix product accumulated in float32 at least."""
    return jnp.einsum(equation, left, right, preferred_element_type=accumulation_dtype(left.dtype))


def _num_pieces(queries: Array, keys: Array, max_scores: int) -> int:
    """Number of pieces of the queries, 1 or at least 3: a loop of two costs more than it saves."""
    *leading, length, heads, _ = queries.shape
    rows = max(MIN_ROWS, max_scores // max(1, math.prod(leading) * keys.shape[-2]))
    return 1 if length * heads <= 2 * rows else math.ceil(length * heads / rows)


def _split(tree: PyTree, axis: int, pieces: int) -> PyTree:
    """Splits every leaf into equal pieces along a new first axis, padded with zeros."""

    def split(x: Array) -> Array:
        length = math.ceil(x.shape[axis] / pieces)
        padding = [(0, pieces * length - x.shape[axis] if i == axis else 0) for i in range(x.ndim)]
        shape = (*x.shape[:axis], pieces, length, *x.shape[axis + 1 :])
        return jnp.moveaxis(jnp.pad(x, padding).reshape(shape), axis, 0)

    return jax.tree.map(split, tree)


def _join(tree: PyTree, axis: int, length: int) -> PyTree:
    """The inverse of `_split`, without the padding."""

    def join(x: Array) -> Array:
        joined = jnp.moveaxis(x, 0, axis)
        shape = (*joined.shape[:axis], -1, *joined.shape[axis + 2 :])
        return lax.slice_in_dim(joined.reshape(shape), 0, length, axis=axis)

    return jax.tree.map(join, tree)
