"""Log-probabilities of given tokens, without holding all logits in memory.

All logits, `[B, G, T, V]` in float32, would be the largest array of a training step. They are
computed in chunks of tokens instead, and recomputed in the backward pass. Every chunk has tokens
of every group, so that with groups split over devices every device computes a part of each chunk.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array, lax

from dvaojax.models.config import CHUNK_SIZE, accumulation_dtype


def to_logits(hidden: Array, matrix: Array) -> Array:
    """`[..., V]`, in float32 at least, from hidden states `[..., D]` and a matrix `[D, V]`."""
    wide = accumulation_dtype(hidden.dtype)
    return jnp.einsum("...d,dv->...v", hidden, matrix, preferred_element_type=wide)


def token_logprobs(
    hidden: Array,
    matrix: Array,
    tokens: Array,
    *,
    temperature: float = 1.0,
    chunk_size: int = CHUNK_SIZE,
) -> tuple[Array, Array]:
    """Log-probabilities of tokens, and the entropies of the distributions they were drawn from.

    Args:
        hidden: `[B, ..., D]`, the hidden states that predict the tokens.
        matrix: `[D, V]`, the output matrix.
        tokens: `[B, ...]` int, the tokens that were sampled.
        temperature: divisor of the logits, as in the sampler; positive.
        chunk_size: tokens whose logits are in memory at once, but at least one of every group.

    Returns:
        `[B, ...]` log-probabilities of `tokens` and `[B, ...]` entropies in nats, in float32 at
        least. The entropies are a metric: their gradient is zero.

    Raises:
        ValueError: the temperature is not positive.
        AssertionError: the shapes do not fit.
    """
    chex.assert_equal_shape_prefix([hidden, tokens], tokens.ndim)
    chex.assert_axis_dimension(matrix, 0, hidden.shape[-1])
    if not temperature > 0.0:
        raise ValueError(
            f"temperature={temperature} must be positive: greedy sampling has no log-probabilities"
        )

    def chunk(pair: tuple[Array, Array]) -> tuple[Array, Array]:
        # Merge the leading axes: with one group, a leading axis of 1 would leave CPU cores idle.
        hidden, tokens = (a.reshape(-1, *a.shape[2:]) for a in pair)
        logprobs = jax.nn.log_softmax(to_logits(hidden, matrix) / temperature)
        chosen = jnp.take_along_axis(logprobs, tokens[..., None], axis=-1)[..., 0]
        frozen = lax.stop_gradient(logprobs)
        entropy = -jnp.sum(jnp.exp(frozen) * frozen, axis=-1)
        return chosen.reshape(pair[1].shape), entropy.reshape(pair[1].shape)

    rows = tokens.shape[0]
    flat = tokens.reshape(rows, tokens.size // rows)
    width = max(min(chunk_size // rows, flat.shape[1]), 1)
    chunks = (_split(hidden.reshape(*flat.shape, hidden.shape[-1]), width), _split(flat, width))
    # No `prevent_cse`: a map already separates the recomputation from the forward pass.
    chosen, entropy = lax.map(jax.checkpoint(chunk, prevent_cse=False), chunks)
    return _join(chosen, tokens), _join(entropy, tokens)


def _split(x: Array, width: int) -> Array:
    """`[B, M, ...]` to `[pieces, B, width, ...]`, padded with zeros."""
    rows, length = x.shape[:2]
    padded = jnp.pad(x, [(0, 0), (0, -length % width)] + [(0, 0)] * (x.ndim - 2))
    return jnp.moveaxis(padded.reshape(rows, -1, width, *x.shape[2:]), 1, 0)


def _join(pieces: Array, like: Array) -> Array:
    """`[pieces, B, width]` to the shape of `like`, without the padding."""
    rows = like.shape[0]
    return jnp.moveaxis(pieces, 0, 1).reshape(rows, -1)[:, : like.size // rows].reshape(like.shape)
