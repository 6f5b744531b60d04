"""Log-probabilities of given tokens, without ever holding all the logits.

`[B, G, T, V]` float32 is the largest array a careless step would make. Tokens are taken in chunks;
a chunk's logits are computed, read and, in the backward pass, computed again. Every chunk takes
some tokens of every group, so that where the groups are split over devices each device works on
its own part of every chunk.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array, lax

from dvaojax.models.precision import accumulator

CHUNK_SIZE = 4096  # tokens whose logits are held at once


def to_logits(hidden: Array, matrix: Array) -> Array:
    """`[..., V]`, in float32 at least, from hidden states `[..., D]` and a matrix `[D, V]`."""
    wide = accumulator(hidden.dtype)
    return jnp.einsum("...d,dv->...v", hidden, matrix, preferred_element_type=wide)


def token_logprobs(
    hidden: Array,
    matrix: Array,
    tokens: Array,
    *,
    temperature: float = 1.0,
    chunk_size: int = CHUNK_SIZE,
) -> tuple[Array, Array]:
    """How likely each token was, and how uncertain the model was there.

    Args:
        hidden: `[B, ..., D]`, the states that predict the tokens.
        matrix: `[D, V]` output matrix.
        tokens: `[B, ...]` int, the tokens that were sampled.
        temperature: logits are divided by it, as the sampler does; positive.
        chunk_size: tokens whose logits are held at once, though at least one of every group.

    Returns:
        `[B, ...]` log-probabilities of `tokens` and `[B, ...]` entropies in nats, in float32 at
        least. The entropy is a reading: no gradient flows through it.

    Raises:
        ValueError: the temperature is not positive; greedy sampling has no log-probabilities.
        AssertionError: the shapes do not fit.
    """
    chex.assert_equal_shape_prefix([hidden, tokens], tokens.ndim)
    chex.assert_axis_dimension(matrix, 0, hidden.shape[-1])
    if not temperature > 0.0:
        raise ValueError(f"temperature={temperature} has no log-probabilities; train above 0")

    def chunk(pair: tuple[Array, Array]) -> tuple[Array, Array]:
        # Rows of one matrix: with one group a leading axis of 1 would leave cores idle.
        hidden, tokens = (a.reshape(-1, *a.shape[2:]) for a in pair)
        logprobs = jax.nn.log_softmax(to_logits(hidden, matrix) / temperature)
        chosen = jnp.take_along_axis(logprobs, tokens[..., None], axis=-1)[..., 0]
        frozen = lax.stop_gradient(logprobs)
        entropy = -jnp.sum(jnp.exp(frozen) * frozen, axis=-1)
        return chosen.reshape(pair[1].shape), entropy.reshape(pair[1].shape)

    rows = tokens.shape[0]
    flat = tokens.reshape(rows, tokens.size // rows)
    width = max(min(chunk_size // rows, flat.shape[1]), 1)
    pieces = (_cut(hidden.reshape(*flat.shape, hidden.shape[-1]), width), _cut(flat, width))
    # A map keeps the recomputation apart from the first computation by itself.
    chosen, entropy = lax.map(jax.checkpoint(chunk, prevent_cse=False), pieces)
    return _join(chosen, tokens), _join(entropy, tokens)


def _cut(x: Array, width: int) -> Array:
    """`[B, M, ...]` to `[pieces, B, width, ...]`, zeros behind the end."""
    rows, length = x.shape[:2]
    padded = jnp.pad(x, [(0, 0), (0, -length % width)] + [(0, 0)] * (x.ndim - 2))
    return jnp.moveaxis(padded.reshape(rows, -1, width, *x.shape[2:]), 1, 0)


def _join(pieces: Array, like: Array) -> Array:
    """`[pieces, B, width]` to the shape of `like`, without what stands behind the end."""
    rows = like.shape[0]
    return jnp.moveaxis(pieces, 0, 1).reshape(rows, -1)[:, : like.size // rows].reshape(like.shape)
