"""Log-probabilities of given tokens whose backward pass needs no logits: exponentials are kept.

The vocabulary is computed in tiles. Of each tile the forward pass keeps the exponentials of its
logits less the largest of them, so none overflows, however far apart the logits are. The chosen
token's exponential is replaced by zero and enters the gradient by a gather and a scatter in float32
at least, so a probability near one leaves a precise gradient. The backward pass has two products,
where recomputation has three, at the cost of one number per token and entry of the vocabulary.
"""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from dvaojax.models.config import accumulation_dtype

# Sums over a row are formed from sums of so many adjacent columns.
COLUMNS = 128


def kept_logprobs(
    hidden: Array, matrix: Array, tokens: Array, *, temperature: float, tiles: int
) -> tuple[Array, Array]:
    """Log-probabilities and entropies in nats, `[M]` each, in float32 at least.

    Args:
        hidden: `[M, D]`, the hidden states that predict the tokens.
        matrix: `[D, V]`, the output matrix, not split over devices along `V`.
        tokens: `[M]` int.
        temperature: divisor of the logits; positive.
        tiles: number of parts of the vocabulary, of which one has its logits in memory at a time.
    """
    return _logprobs(hidden, matrix, tokens, temperature, tiles)


class _Tile(NamedTuple):
    """The kept part of the logits of some columns.

    Attributes:
        exponentials: `[M, W]`, of `(logit - maximum) / temperature`, zero for the chosen token.
        maximum: `[M]`, the largest logit of the tile.
    """

    exponentials: Array
    maximum: Array


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _logprobs(
    hidden: Array, matrix: Array, tokens: Array, temperature: float, tiles: int
) -> tuple[Array, Array]:
    return _forward(hidden, matrix, tokens, temperature, tiles)[0]


def _forward(hidden: Array, matrix: Array, tokens: Array, temperature: float, tiles: int):
    """The results, and the residuals of the backward pass."""
    wide = accumulation_dtype(hidden.dtype)
    chosen = jnp.sum(_chosen_columns(matrix, tokens, wide) * hidden.astype(wide), axis=-1)
    kept, sums, weighted_sums, states = [], [], [], hidden
    for start, stop in _spans(matrix.shape[1], tiles):
        tile, total, weighted = _measure(
            states, matrix[:, start:stop], tokens - start, temperature=temperature
        )
        kept.append(tile)
        sums.append(total)
        weighted_sums.append(weighted)
        # Tiles one after another, so that the logits of only one are in memory.
        states, _ = lax.optimization_barrier((hidden, total))
    maximum = jnp.max(jnp.stack([tile.maximum for tile in kept]), axis=0)
    shifts = [(tile.maximum - maximum) / temperature for tile in kept]
    own = (chosen - maximum) / temperature
    others = sum(jnp.exp(s) * total for s, total in zip(shifts, sums, strict=True))
    weighted = jnp.exp(own) * own + sum(
        jnp.exp(s) * (w + s * total)
        for s, w, total in zip(shifts, weighted_sums, sums, strict=True)
    )
    total = others + jnp.exp(own)
    log_total = jnp.log(total)
    results = (own - log_total, log_total - weighted / total)
    # The softmax is the exponentials of each tile times its factor.
    factors = tuple(jnp.exp(s) / total for s in shifts)
    exponentials = tuple(tile.exponentials for tile in kept)
    return results, (hidden, matrix, tokens, exponentials, factors, others / total)


def _measure(
    hidden: Array, matrix: Array, tokens: Array, *, temperature: float
) -> tuple[_Tile, Array, Array]:
    """A tile, and the `[M]` sums of its exponentials and of exponential times exponent.

    `tokens` are counted from the tile's first column; those of other tiles are out of range.
    """
    wide = accumulation_dtype(hidden.dtype)
    rows, width = hidden.shape[0], matrix.shape[1]
    logits = jnp.einsum("md,dv->mv", hidden, matrix, preferred_element_type=wide)
    maximum = jnp.max(logits, axis=-1)
    columns = COLUMNS if width % COLUMNS == 0 else width
    parts = logits.reshape(rows, -1, columns)
    shifted = (parts - maximum[:, None, None]) / temperature
    index = lax.broadcasted_iota(tokens.dtype, parts.shape, 1) * columns
    index += lax.broadcasted_iota(tokens.dtype, parts.shape, 2)
    exponentials = jnp.where(index == tokens[:, None, None], 0.0, jnp.exp(shifted))
    # Behind the barrier, so that one pass over the logits makes all three.
    rounded, total, weighted = lax.optimization_barrier(
        (
            exponentials.astype(hidden.dtype),
            jnp.sum(exponentials, axis=-1),
            jnp.sum(exponentials * shifted, axis=-1),
        )
    )
    tile = _Tile(rounded.reshape(rows, width), maximum)
    return tile, jnp.sum(total, axis=-1), jnp.sum(weighted, axis=-1)


def _backward(temperature: float, tiles: int, residuals, cotangents: tuple[Array, Array]):
    """The gradients of hidden states and matrix; the entropies have none."""
    hidden, matrix, tokens, exponentials, factors, others = residuals
    wide = accumulation_dtype(hidden.dtype)
    scale = (cotangents[0] / temperature)[:, None]
    states = hidden.astype(wide)
    own = scale * others[:, None]  # the chosen token's entry, 1 less its probability
    hidden_gradient = own * _chosen_columns(matrix, tokens, wide)
    matrix_gradients = []
    for (start, stop), kept, factor in zip(
        _spans(matrix.shape[1], tiles), exponentials, factors, strict=True
    ):
        weight = scale * factor[:, None]
        mean = jnp.einsum("mv,dv->md", kept, matrix[:, start:stop], preferred_element_type=wide)
        hidden_gradient -= weight * mean
        weighted = (-weight * states).astype(hidden.dtype)
        matrix_gradients.append(
            jnp.einsum("mv,md->vd", kept, weighted, preferred_element_type=wide)
        )
    transposed = jnp.concatenate(matrix_gradients, axis=0).at[tokens].add(own * states)
    return hidden_gradient.astype(hidden.dtype), transposed.T.astype(matrix.dtype), None


_logprobs.defvjp(_forward, _backward)


def _chosen_columns(matrix: Array, tokens: Array, wide) -> Array:
    """`[M, D]`, the column of each token."""
    return jnp.take(matrix.T, tokens, axis=0).astype(wide)


def _spans(size: int, tiles: int) -> Sequence[tuple[int, int]]:
    """Start and end of each part of the columns, in multiples of `COLUMNS` but for the last."""
    units = max(size // COLUMNS, 1)
    tiles = max(1, min(tiles, units))
    bounds = [units * i // tiles * COLUMNS for i in range(tiles)] + [size]
    return list(itertools.pairwise(bounds))
