"""Squared norms of the gradients of log-probabilities with respect to the logits.

The gradient of the log-probability of a sampled token by the logits is its indicator minus the
probabilities. Its squared norm, `1 - 2 pi + sum_v pi_v^2`, is a proxy of that of the gradient by
the parameters, which would take a backward pass for each completion.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array, lax

from dvaojax.models import token_chunks
from dvaojax.models.config import CHUNK_SIZE
from dvaojax.models.logprobs import to_logits


def logit_gradient_norms(
    hidden: Array,
    matrix: Array,
    tokens: Array,
    *,
    temperature: float = 1.0,
    chunk_size: int = CHUNK_SIZE,
) -> tuple[Array, Array]:
    r"""The squared norm for each token, and its log-probability; no gradient flows through them.

    $$ \lVert \nabla_z \log \pi \rVert^2 = 1 - 2 \pi + \sum_v \pi_v^2 $$

    The logits z are those divided by the temperature. In [0, 2): 0 for a certain token, near 2 for
    an unlikely one where another was nearly certain.

    Args:
        hidden: `[B, ..., D]`, the hidden states that predict the tokens.
        matrix: `[D, V]`, the output matrix.
        tokens: `[B, ...]` int, the tokens that were sampled.
        temperature: divisor of the logits, as in the sampler; positive.
        chunk_size: tokens whose logits a device has in memory at once, but at least one of every
            group.

    Returns:
        `[B, ...]` and `[B, ...]`, in float32 at least.

    Raises:
        AssertionError: the shapes do not fit.
    """
    chex.assert_equal_shape_prefix([hidden, tokens], tokens.ndim)
    chex.assert_axis_dimension(matrix, 0, hidden.shape[-1])
    states, flat = token_chunks.by_group(lax.stop_gradient(hidden), tokens)
    pieces = token_chunks.num_chunks(flat, chunk_size)

    def chunk(piece: tuple[Array, Array]) -> tuple[Array, Array]:
        logits = to_logits(piece[0], lax.stop_gradient(matrix)) / temperature
        logprobs = jax.nn.log_softmax(logits)
        chosen = jnp.take_along_axis(logprobs, piece[1][..., None], axis=-1)[..., 0]
        squares = jnp.sum(jnp.exp(2 * logprobs), axis=-1)
        # Both terms are 0 for a certain token, without a difference of numbers near 1.
        complement = -jnp.expm1(chosen)
        return complement + (squares - jnp.exp(chosen)), chosen

    chunks = (token_chunks.split(states, pieces), token_chunks.split(flat, pieces))
    norms, logprobs = lax.map(chunk, chunks)
    return jnp.maximum(token_chunks.join(norms, tokens), 0), token_chunks.join(logprobs, tokens)
