"""Log-probabilities of given tokens, without ever holding all the logits.

`[B, G, T, V]` float32 is the largest array a careless step would make. Tokens are taken in chunks;
a chunk's logits are computed, read and, in the backward pass, computed again.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array, lax

CHUNK_SIZE = 4096  # tokens whose logits are held at once


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
        hidden: `[..., D]`, the states that predict the tokens.
        matrix: `[D, V]` output matrix.
        tokens: `[...]` int, the tokens that were sampled.
        temperature: logits are divided by it, as the sampler does; positive.
        chunk_size: tokens whose logits are held at once.

    Returns:
        `[...]` float32 log-probabilities of `tokens`, and `[...]` float32 entropies in nats. The
        entropy is a reading: no gradient flows through it.

    Raises:
        ValueError: the temperature is not positive; greedy sampling has no log-probabilities.
    """
    chex.assert_equal_shape_prefix([hidden, tokens], tokens.ndim)
    if not temperature > 0.0:
        raise ValueError(f"temperature={temperature} has no log-probabilities; train above 0")

    @jax.checkpoint
    def chunk(hidden, tokens):
        logits = jnp.einsum("nd,dv->nv", hidden, matrix, preferred_element_type=jnp.float32)
        logprobs = jax.nn.log_softmax(logits / temperature)
        chosen = jnp.take_along_axis(logprobs, tokens[:, None], axis=-1)[:, 0]
        frozen = lax.stop_gradient(logprobs)
        return chosen, -jnp.sum(jnp.exp(frozen) * frozen, axis=-1)

    flat_hidden, flat_tokens = hidden.reshape(-1, hidden.shape[-1]), tokens.reshape(-1)
    count = flat_tokens.shape[0]
    if count <= chunk_size:
        chosen, entropy = chunk(flat_hidden, flat_tokens)
        return chosen.reshape(tokens.shape), entropy.reshape(tokens.shape)
    missing = -count % chunk_size
    flat_hidden = jnp.pad(flat_hidden, ((0, missing), (0, 0))).reshape(
        -1, chunk_size, hidden.shape[-1]
    )
    flat_tokens = jnp.pad(flat_tokens, (0, missing)).reshape(-1, chunk_size)
    chosen, entropy = lax.map(lambda pair: chunk(*pair), (flat_hidden, flat_tokens))
    return tuple(a.reshape(-1)[:count].reshape(tokens.shape) for a in (chosen, entropy))
