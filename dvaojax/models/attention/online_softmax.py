"""Attention of queries that see an interval of the keys, without holding all its scores.

Scores are computed for a few queries at a time, mixed into the values and dropped; the backward
pass computes them again from the logarithm of each query's softmax total (Dao et al.,
arXiv:2205.14135). Parts that share their queries are computed apart and merged by those
logarithms.

The `R = H / N` query heads of a key/value head stand side by side, so that a product has `R` times
the rows and no key is repeated. Leading axes, written `...`, are the same for all arguments.
"""

import collections
import math
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

from dvaojax.models.precision import accumulator

Tree = TypeVar("Tree")

# Scores held at once, over all leading axes, by platform. Two MiB in float32 stay in the caches of
# a CPU; an accelerator is idle on so few, and 256 MiB are little to it.
SCORES_AT_ONCE = collections.defaultdict(lambda: 1 << 26, cpu=1 << 19)
# Fewer rows than this make a slow product, however many scores they have.
FEWEST_ROWS = 64


class Interval(NamedTuple):
    """The columns that queries see, both ends included; none where `last < first`.

    Attributes:
        first: `[..., S]` int32; leading axes may be 1.
        last: the same.
    """

    first: Array
    last: Array


class Attended(NamedTuple):
    """Values mixed by a softmax, in float32 at least, and what merges it with another.

    Attributes:
        mixed: `[..., S, R, C]`; zeros where a query sees nothing.
        log_total: `[..., S, R]` logarithm of the sum of exponentials; `-inf` where it sees nothing.
    """

    mixed: Array
    log_total: Array


class Incoming(NamedTuple):
    """What the backward pass knows of each query; its softmax may span further parts.

    Attributes:
        log_total: `[..., S, R]` of the whole softmax.
        agreement: `[..., S, R]` inner product of its result with the cotangent.
        cotangent: `[..., S, R, C]` of its result.
    """

    log_total: Array
    agreement: Array
    cotangent: Array


def attend(queries: Array, keys: Array, values: Array, seen: Interval, *, at_once: int) -> Attended:
    """Softmax attention.

    Args:
        queries: `[..., S, R, C]`.
        keys: `[..., K, C]`.
        values: `[..., K, C]`.
        seen: the columns of `keys` each query sees.
        at_once: scores held at once.
    """
    axis, pieces = keys.ndim - 2, _num_pieces(queries, keys, at_once)
    if pieces == 1:
        return _attend(queries, keys, values, seen)
    attended = lax.map(
        lambda piece: _attend(piece[0], keys, values, piece[1]), _cut((queries, seen), axis, pieces)
    )
    return _paste(attended, axis, queries.shape[axis])


def merge(first: Attended, second: Attended) -> Attended:
    """Attention of the same queries to the keys of both."""
    log_total = jnp.logaddexp(first.log_total, second.log_total)
    reference = _finite(log_total)
    shares = [x.mixed * jnp.exp(x.log_total - reference)[..., None] for x in (first, second)]
    return Attended(shares[0] + shares[1], log_total)


def gradients(
    queries: Array,
    keys: Array,
    values: Array,
    seen: Interval,
    incoming: Incoming,
    *,
    at_once: int,
) -> tuple[Array, Array, Array]:
    """The share of these keys in the gradients of queries, keys and values.

    Args:
        queries: `[..., S, R, C]`.
        keys: `[..., K, C]`.
        values: `[..., K, C]`.
        seen: the columns of `keys` each query sees.
        incoming: of the same queries.
        at_once: scores held at once.

    Returns:
        Three arrays of those shapes, in float32 at least.
    """
    axis, pieces = keys.ndim - 2, _num_pieces(queries, keys, at_once)
    if pieces == 1:
        to_queries, to_keys, to_values = _gradients(queries, keys, values, seen, incoming)
    else:

        def add(sums: tuple[Array, Array], piece: tuple[Array, Interval, Incoming]):
            to_piece, *shares = _gradients(piece[0], keys, values, *piece[1:])
            return (sums[0] + shares[0], sums[1] + shares[1]), to_piece

        nothing = jnp.zeros(jnp.swapaxes(keys, -1, -2).shape, accumulator(keys.dtype))
        (to_keys, to_values), to_pieces = lax.scan(
            add, (nothing, nothing), _cut((queries, seen, incoming), axis, pieces)
        )
        to_queries = _paste(to_pieces, axis, queries.shape[axis])
    return to_queries, jnp.swapaxes(to_keys, -1, -2), jnp.swapaxes(to_values, -1, -2)


def _attend(queries: Array, keys: Array, values: Array, seen: Interval) -> Attended:
    """`attend`, all at once."""
    scores = _scores(queries, keys, seen)
    highest = _finite(jnp.max(scores, axis=-1, keepdims=True))
    weights = jnp.exp(scores - highest)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    mixed = _product("...qk,...kc->...qc", weights.astype(values.dtype), values)
    mixed = mixed / jnp.where(total == 0.0, 1.0, total)
    log_total = highest + jnp.log(total)
    return Attended(mixed.reshape(queries.shape), log_total.reshape(queries.shape[:-1]))


def _gradients(
    queries: Array, keys: Array, values: Array, seen: Interval, incoming: Incoming
) -> tuple[Array, Array, Array]:
    """`gradients`, all at once; those of keys and values are `[..., C, K]`.

    Over many rows XLA's products on a CPU are three times as fast with the short axis first.
    """
    log_total, agreement = (_rows(x[..., None]) for x in incoming[:2])
    rows, cotangent = _rows(queries), _rows(incoming.cotangent)
    weights = jnp.exp(_scores(queries, keys, seen) - _finite(log_total))
    to_weights = _product("...qc,...kc->...qk", cotangent, values)
    to_scores = weights * (to_weights - agreement) * _scale(queries)
    to_scores = to_scores.astype(queries.dtype)
    to_queries = _product("...qk,...kc->...qc", to_scores, keys).reshape(queries.shape)
    to_keys = _product("...qc,...qk->...ck", rows, to_scores)
    to_values = _product("...qc,...qk->...ck", cotangent, weights.astype(values.dtype))
    return to_queries, to_keys, to_values


def _scores(queries: Array, keys: Array, seen: Interval) -> Array:
    """`[..., S * R, K]` scaled products, `-inf` where a query does not see."""
    scores = _product("...qc,...kc->...qk", _rows(queries), keys) * _scale(queries)
    first, last = (jnp.repeat(x, queries.shape[-2], axis=-1)[..., None] for x in seen)
    columns = lax.broadcasted_iota(jnp.int32, (*first.shape[:-1], keys.shape[-2]), first.ndim - 1)
    return jnp.where((first <= columns) & (columns <= last), scores, -jnp.inf)


def _rows(x: Array) -> Array:
    """`[..., S, R, C]` to `[..., S * R, C]`."""
    return x.reshape(*x.shape[:-3], -1, x.shape[-1])


def _scale(queries: Array) -> float:
    return queries.shape[-1] ** -0.5


def _finite(logarithms: Array) -> Array:
    """Zero for `-inf`, of queries that see nothing: `-inf - -inf` would be NaN."""
    return jnp.where(jnp.isneginf(logarithms), 0.0, logarithms)


def _product(equation: str, left: Array, right: Array) -> Array:
    """Accumulated in float32 at least."""
    return jnp.einsum(equation, left, right, preferred_element_type=accumulator(left.dtype))


def _num_pieces(queries: Array, keys: Array, at_once: int) -> int:
    """Into how many pieces the queries are cut: a loop of two would cost more than it saves."""
    *leading, length, heads, _ = queries.shape
    rows = max(FEWEST_ROWS, at_once // max(1, math.prod(leading) * keys.shape[-2]))
    return 1 if length * heads <= 2 * rows else math.ceil(length * heads / rows)


def _cut(tree: Tree, axis: int, pieces: int) -> Tree:
    """Equal pieces of every leaf along a new first axis, zeros behind the end."""

    def cut(x: Array) -> Array:
        length = math.ceil(x.shape[axis] / pieces)
        behind = [(0, pieces * length - x.shape[axis] if i == axis else 0) for i in range(x.ndim)]
        shape = (*x.shape[:axis], pieces, length, *x.shape[axis + 1 :])
        return jnp.moveaxis(jnp.pad(x, behind).reshape(shape), axis, 0)

    return jax.tree.map(cut, tree)


def _paste(tree: Tree, axis: int, length: int) -> Tree:
    """What `_cut` cut, without what it added behind the end."""

    def paste(x: Array) -> Array:
        joined = jnp.moveaxis(x, 0, axis)
        shape = (*joined.shape[:axis], -1, *joined.shape[axis + 2 :])
        return lax.slice_in_dim(joined.reshape(shape), 0, length, axis=axis)

    return jax.tree.map(paste, tree)
