"""Log-probabilities of given tokens, without holding all logits in memory.

All logits, `[B, G, T, V]` in float32, would be the largest array of a training step. They are
computed in chunks of tokens instead, and the backward pass is written by hand: it computes the
difference of the chosen token's indicator and the softmax once for both of its products, and sums
the output matrix's gradient over chunks in float32 at least.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array, lax

from dvaojax import sharding
from dvaojax.models import token_chunks
from dvaojax.models.config import CHUNK_SIZE, LOGITS_BACKWARD, accumulation_dtype
from dvaojax.models.kept_softmax import kept_logprobs

# From unnormalised probabilities `[N, V]`, at most 1, their sums `[N]` and the chosen tokens `[N]`
# to arrays `[N, ...]`.
Summary = Callable[[Array, Array, Array], Any]


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
    backward: str = "recompute",
) -> tuple[Array, Array]:
    """Log-probabilities of tokens, and the entropies of the distributions they were drawn from.

    Not differentiable in forward mode, which JAX refuses by name ("custom_vjp").

    Args:
        hidden: `[B, ..., D]`, the hidden states that predict the tokens.
        matrix: `[D, V]`, the output matrix.
        tokens: `[B, ...]` int, the tokens that were sampled.
        temperature: divisor of the logits, as in the sampler; positive.
        chunk_size: tokens whose logits a device has in memory at once, but at least one of every
            group.
        backward: one of `config.LOGITS_BACKWARD`. "recompute" computes the logits of each chunk
            again in the backward pass; "keep" keeps exponentials of all of them, in the dtype of
            the hidden states.

    Returns:
        `[B, ...]` log-probabilities of `tokens` and `[B, ...]` entropies in nats, in float32 at
        least. The entropies are a metric: their gradient is zero.

    Raises:
        ValueError: the temperature is not positive, `backward` is unknown, or it is "keep" and the
            vocabulary is split over devices.
        AssertionError: the shapes do not fit.
    """
    chex.assert_equal_shape_prefix([hidden, tokens], tokens.ndim)
    chex.assert_axis_dimension(matrix, 0, hidden.shape[-1])
    _check(temperature, backward)
    states, flat = token_chunks.by_group(hidden, tokens)
    pieces = token_chunks.num_chunks(flat, chunk_size)
    if backward == "keep":
        # Merge the leading axes: with one group, a leading axis of 1 would leave CPU cores idle.
        merged = states.reshape(-1, hidden.shape[-1])
        chosen, entropy = kept_logprobs(
            merged, matrix, flat.reshape(-1), temperature=temperature, tiles=pieces
        )
        return chosen.reshape(tokens.shape), entropy.reshape(tokens.shape)
    chunks = (token_chunks.split(states, pieces), token_chunks.split(flat, pieces))
    chosen, entropy, _ = _chunked(*chunks, matrix, temperature, _nothing)
    return token_chunks.join(chosen, tokens), token_chunks.join(entropy, tokens)


def summarized_logprobs(
    hidden: Array,
    matrix: Array,
    tokens: Array,
    summary: Summary,
    *,
    temperature: float = 1.0,
    chunk_size: int = CHUNK_SIZE,
) -> tuple[Array, Array, Any]:
    """`token_logprobs`, and a summary of each token's distribution from the same pass.

    Args:
        hidden: `[B, ..., D]`, the hidden states that predict the tokens.
        matrix: `[D, V]`, the output matrix.
        tokens: `[B, ...]` int, the tokens that were sampled.
        summary: such as `other_power_sums`, or `most_likely` with its number of tokens bound.
        temperature: divisor of the logits, as in the sampler; positive.
        chunk_size: as in `token_logprobs`.

    Returns:
        `[B, ...]` log-probabilities, `[B, ...]` entropies, and the arrays of the summary, each
        `[B, ...]` and further axes; no gradient flows through these.

    Raises:
        ValueError: the temperature is not positive.
        AssertionError: the shapes do not fit.
    """
    chex.assert_equal_shape_prefix([hidden, tokens], tokens.ndim)
    chex.assert_axis_dimension(matrix, 0, hidden.shape[-1])
    _check(temperature, "recompute")
    states, flat = token_chunks.by_group(hidden, tokens)
    pieces = token_chunks.num_chunks(flat, chunk_size)
    chunks = (token_chunks.split(states, pieces), token_chunks.split(flat, pieces))
    measured = _chunked(*chunks, matrix, temperature, summary)
    chosen, entropy, further = jax.tree.map(partial(token_chunks.join, like=tokens), measured)
    return chosen, entropy, lax.stop_gradient(further)


def other_power_sums(exponentials: Array, total: Array, chosen: Array) -> tuple[Array, Array]:
    r"""`[N]` each: $\sum_{v \ne a} \pi_v^2$ and $\sum_{v \ne a} \pi_v^3$, a the chosen token.

    Without it nothing is lost in a difference of numbers near 1 where it is nearly certain.

    Args:
        exponentials: `[N, V]`, unnormalised probabilities.
        total: `[N]`, their sums.
        chosen: `[N]` int, the chosen tokens.
    """
    columns = lax.broadcasted_iota(chosen.dtype, exponentials.shape, 1)
    others = jnp.where(columns == chosen[:, None], 0, exponentials)
    squares = jnp.square(others)
    second, third = jnp.sum(squares, axis=-1), jnp.sum(squares * others, axis=-1)
    return second / jnp.square(total), third / (jnp.square(total) * total)


def most_likely(
    exponentials: Array, total: Array, chosen: Array, *, count: int
) -> tuple[Array, Array]:
    """`[N, count]` probabilities of the most likely tokens, which sum to 1, and these tokens.

    Args:
        exponentials: `[N, V]`, unnormalised probabilities.
        total: `[N]`, not read.
        chosen: `[N]`, not read.
        count: number of tokens, at most V.
    """
    del total, chosen
    values, tokens = lax.top_k(exponentials, count)
    return values / jnp.sum(values, axis=-1, keepdims=True), tokens


def _nothing(exponentials: Array, total: Array, chosen: Array) -> tuple[()]:
    del exponentials, total, chosen
    return ()


class _Statistics(NamedTuple):
    """Statistics of each token's logits for the backward pass, `[pieces, B, width]` each.

    Attributes:
        maximum: the largest logit.
        log_total: logarithm of the sum of `exp((logit - maximum) / temperature)`.
    """

    maximum: Array
    log_total: Array


def _primal(
    hidden: Array, tokens: Array, matrix: Array, temperature: float, summary: Summary
) -> tuple[Array, Array, Any]:
    """Log-probabilities and entropies, `[pieces, B, width]`, one piece after another; summaries.

    Args:
        hidden: `[pieces, B, width, D]`.
        tokens: `[pieces, B, width]`.
        matrix: `[D, V]`.
        temperature: divisor of the logits.
        summary: of each token's distribution.
    """
    return _forward(hidden, tokens, matrix, temperature, summary)[0]


def _forward(hidden: Array, tokens: Array, matrix: Array, temperature: float, summary: Summary):
    """The results, and the residuals of the backward pass."""

    def chunk(piece: tuple[Array, Array]) -> tuple[tuple[Array, Array, Any], _Statistics]:
        logits = to_logits(_rows(piece[0]), matrix)
        chosen = jnp.take_along_axis(logits, piece[1].reshape(-1, 1), axis=-1)[:, 0]
        maximum = jnp.max(logits, axis=-1)
        shifted = (logits - maximum[:, None]) / temperature
        exponentials = jnp.exp(shifted)
        total = jnp.sum(exponentials, axis=-1)
        log_total = jnp.log(total)
        entropy = log_total - jnp.sum(exponentials * shifted, axis=-1) / total
        further = summary(exponentials, total, piece[1].reshape(-1))
        results = ((chosen - maximum) / temperature - log_total, entropy, further)
        return jax.tree.map(
            lambda x: x.reshape(*piece[1].shape, *x.shape[1:]),
            (results, _Statistics(maximum, log_total)),
        )

    results, statistics = lax.map(chunk, (hidden, tokens))
    return results, (hidden, tokens, matrix, statistics)


def _backward(temperature: float, summary: Summary, residuals, cotangents):
    """The gradients of hidden states and matrix; entropies and summaries have none."""
    del summary
    hidden, tokens, matrix, statistics = residuals
    wide = accumulation_dtype(matrix.dtype)

    def chunk(matrix_gradient: Array, piece: tuple[Array, Array, _Statistics, Array]):
        states, chosen = _rows(piece[0]), piece[1].reshape(-1, 1)
        maximum, log_total = (x.reshape(-1, 1) for x in piece[2])
        scale = piece[3].reshape(-1, 1)
        logits = to_logits(states, matrix)
        softmax = jnp.exp((logits - maximum) / temperature - log_total)
        is_chosen = lax.broadcasted_iota(tokens.dtype, logits.shape, 1) == chosen
        difference = (jnp.where(is_chosen, 1.0 - softmax, -softmax) * scale).astype(hidden.dtype)
        states_gradient = jnp.einsum(
            "nv,dv->nd", difference, matrix, preferred_element_type=wide
        ).astype(hidden.dtype)
        matrix_gradient += jnp.einsum("nd,nv->dv", states, difference, preferred_element_type=wide)
        return matrix_gradient, states_gradient.reshape(piece[0].shape)

    matrix_gradient, hidden_gradient = lax.scan(
        chunk,
        jnp.zeros(matrix.shape, wide),
        (hidden, tokens, statistics, cotangents[0] / temperature),
    )
    return hidden_gradient, None, matrix_gradient.astype(matrix.dtype)


_chunked = jax.custom_vjp(_primal, nondiff_argnums=(3, 4))
_chunked.defvjp(_forward, _backward)


def _check(temperature: float, backward: str) -> None:
    if not temperature > 0.0:
        raise ValueError(
            f"temperature={temperature} must be positive: greedy sampling has no log-probabilities"
        )
    if backward not in LOGITS_BACKWARD:
        raise ValueError(f"backward={backward!r} must be one of: {', '.join(LOGITS_BACKWARD)}")
    if backward == "keep" and sharding.num_shards("vocab") > 1:
        raise ValueError("backward='keep' needs a vocabulary that is not split over devices")


def _rows(x: Array) -> Array:
    """`[B, width, D]` to `[B * width, D]`.

    With one group, a leading axis of 1 would leave CPU cores idle.
    """
    return x.reshape(-1, x.shape[-1])
