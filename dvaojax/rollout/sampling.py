"""Sampling of a token from logits: temperature, then top-k, top-p and min-p truncation."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
from jax import Array, lax

from dvaojax import sharding
from dvaojax.models.attention import backend


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Temperature and truncation of the distribution that tokens are drawn from.

    Attributes:
        temperature: divisor of the logits; 0 selects the most likely token.
        top_k: keep the `top_k` most likely tokens; 0 keeps all.
        top_p: keep the smallest set of most likely tokens whose probability reaches `top_p`, in
            (0, 1]; 1 keeps all.
        min_p: keep tokens at least `min_p` times as likely as the most likely one, in [0, 1).

    Raises:
        ValueError: an option is out of its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self):
        if not self.temperature >= 0.0:
            raise ValueError(f"sampling.temperature={self.temperature} must not be negative")
        if self.top_k < 0:
            raise ValueError(f"sampling.top_k={self.top_k} must not be negative; 0 keeps all")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"sampling.top_p={self.top_p} must lie in (0, 1]; 1 keeps all")
        if not 0.0 <= self.min_p < 1.0:
            raise ValueError(f"sampling.min_p={self.min_p} must lie in [0, 1); 0 keeps all")

    @property
    def truncates(self) -> bool:
        """Whether some tokens can never be drawn, which biases the ratio of a policy gradient."""
        return self.temperature == 0.0 or self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0.0


def log_distribution(logits: Array, sampling: Sampling) -> Array:
    """Log-probabilities of the distribution that a token is drawn from.

    The logits are scaled by the temperature, truncated and renormalised. The order is temperature,
    top-k, top-p over the tokens that top-k kept, min-p, as in Hugging Face's generation. (vLLM
    applies min-p before the other two, and in FlashInfer's "joint" order top-p counts the tokens
    that top-k removes; with a single truncation all agree.) Tokens that tie with the last one kept
    are kept too. The most likely token is always kept.

    Args:
        logits: `[..., V]` of any float dtype.
        sampling: temperature and truncation.

    Returns:
        `[..., V]` float32 in nats, `-inf` on tokens that cannot be drawn.

    Raises:
        AssertionError: the logits have no float dtype.
    """
    chex.assert_type(logits, float)
    logits = logits.astype(jnp.float32)
    if sampling.temperature == 0.0:
        best = jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1], dtype=bool)
        return jnp.where(best, 0.0, -jnp.inf)
    scaled = logits / sampling.temperature
    if sampling.truncates:
        scaled = jnp.where(logits >= _lowest_kept(logits, sampling), scaled, -jnp.inf)
    return jax.nn.log_softmax(scaled)


def _lowest_kept(logits: Array, sampling: Sampling) -> Array:
    """`[..., 1]`, the logit of the least likely tokens that may be drawn.

    Logits are compared, not their log-probabilities: if the compiler computed these twice with
    different rounding, the bound could exclude the token that it was taken from.
    """
    descending = -jnp.sort(-logits, axis=-1)
    best = descending[..., :1]
    size = logits.shape[-1]
    last = min(sampling.top_k or size, size) - 1
    bound = descending[..., last : last + 1]
    if sampling.top_p < 1.0:
        likelihood = jnp.exp((descending - best) / sampling.temperature)
        kept = jnp.where(descending >= bound, likelihood, 0.0)
        cumulative = jnp.cumsum(kept, axis=-1)
        is_inside = cumulative - kept < sampling.top_p * cumulative[..., -1:]
        bound = jnp.maximum(
            bound, jnp.min(descending, axis=-1, keepdims=True, where=is_inside, initial=jnp.inf)
        )
    if sampling.min_p > 0.0:
        bound = jnp.maximum(bound, best + sampling.temperature * jnp.log(sampling.min_p))
    # Keep the most likely token even if a bound was rounded up above it.
    return jnp.minimum(bound, best)


def draw_tokens(uniforms: Array, logits: Array, sampling: Sampling) -> tuple[Array, Array]:
    """Draws a token from each row of logits, and returns it with its log-probability.

    Args:
        uniforms: `[...]` in [0, 1); the only source of randomness.
        logits: `[..., V]` of any float dtype.
        sampling: temperature and truncation.

    Returns:
        The tokens, int32, and their log-probabilities under the sampling's distribution, float32;
        both `[...]`.

    Raises:
        AssertionError: the shapes do not fit.
    """
    chex.assert_shape(uniforms, logits.shape[:-1])
    size = logits.shape[-1]
    if sampling.truncates or size < _one_pass_from():
        draw = sample_token
        for _ in uniforms.shape:
            draw = jax.vmap(draw)
        return draw(uniforms, log_distribution(logits, sampling))
    scaled = logits.astype(jnp.float32) / sampling.temperature
    drawn = sample_in_one_pass(uniforms.reshape(-1), scaled.reshape(-1, size))
    return jax.tree.map(lambda a: a.reshape(uniforms.shape), drawn)


# The smallest vocabulary for which one pass is faster. On CPUs it never is: they compute the
# exponentials of its reduction one by one.
_ONE_PASS_FROM = {"tpu": 4096, "gpu": 4096, "cpu": float("inf")}


def _one_pass_from() -> float:
    """As `_ONE_PASS_FROM`; never, if the vocabulary is split over devices, for blocks are not."""
    if sharding.num_shards("vocab") > 1:
        return float("inf")
    return _ONE_PASS_FROM[backend.platform()]


def sample_in_one_pass(uniforms: Array, logits: Array) -> tuple[Array, Array]:
    """The tokens of `sample_token`, up to rounding, from one pass over the logits.

    The pass gives the maximum and the sum of the exponentials of each block of tokens. From these
    follows the block of the token, and only that block is read again.

    Args:
        uniforms: `[M]` in [0, 1).
        logits: `[M, V]` float32, divided by the temperature.

    Returns:
        The tokens, int32, and their log-probabilities, float32; both `[M]`.
    """
    lowest = jnp.finfo(logits.dtype).min
    # A row of a TPU's vector registers, which a reshape does not move.
    width = 128 if backend.platform() == "tpu" else 512
    padding = ((0, 0), (0, -logits.shape[1] % width))
    blocks = jnp.pad(logits, padding, constant_values=lowest).reshape(len(logits), -1, width)
    block_maxima, block_sums = _log_sums(jnp.maximum(blocks, lowest), jnp.ones_like(blocks))
    maximum, total = _log_sums(block_maxima, block_sums)
    weights = block_sums * jnp.exp(block_maxima - maximum[:, None])
    block, remainder = _search(weights, uniforms * total)
    # The barrier keeps the block's tokens from being read out of the whole of the logits again.
    chosen = jnp.maximum(lax.optimization_barrier(_take(blocks, block)), lowest)
    offset, _ = _search(jnp.exp(chosen - maximum[:, None]), remainder)
    logit = _take(chosen, offset)
    return block * width + offset, logit - maximum - jnp.log(total)


def _log_sums(maxima: Array, sums: Array) -> tuple[Array, Array]:
    """Adds up numbers `sums * exp(maxima)` over the last axis, as a maximum and a sum."""

    def add(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
        maximum = jnp.maximum(a[0], b[0])
        return maximum, a[1] * jnp.exp(a[0] - maximum) + b[1] * jnp.exp(b[0] - maximum)

    dtype = maxima.dtype
    start = jnp.array(jnp.finfo(dtype).min, dtype), jnp.zeros((), dtype)
    return lax.reduce((maxima, sums), start, add, (maxima.ndim - 1,))


def _search(weights: Array, bounds: Array) -> tuple[Array, Array]:
    """`_search_cumulative` of each row of `[M, n]` weights, without a sequential sum.

    Rounding never gives the index of a zero weight: a weight of zero changes no sum.
    """
    size, width = weights.shape[1], 64
    if size > 16 * width:
        padding = ((0, 0), (0, -size % width))
        parts = jnp.pad(weights, padding).reshape(len(weights), -1, width)
        part, bounds = _search(jnp.sum(parts, axis=2), bounds)
        index, bounds = _search(_take(parts, part), bounds)
        return part * width + index, bounds
    indices = jnp.arange(size, dtype=jnp.int32)
    includes = (indices[:, None] >= indices[None])[None]
    cumulative = jnp.sum(jnp.where(includes, weights[:, None], 0.0), axis=2)
    is_before = cumulative <= bounds[:, None]
    # All three in one pass: the number of sums up to the bound, the largest of them, and the index
    # of the last weight that is not zero.
    terms = (
        is_before.astype(jnp.int32),
        jnp.where(is_before, cumulative, 0.0),
        jnp.where(weights > 0.0, indices[None], 0),
    )
    start = tuple(jnp.zeros((), term.dtype) for term in terms)
    count, before, last = lax.reduce(terms, start, _add_and_maxima, (1,))
    return jnp.minimum(count, last), bounds - before


def _add_and_maxima(a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    return a[0] + b[0], jnp.maximum(a[1], b[1]), jnp.maximum(a[2], b[2])


def _take(rows: Array, index: Array) -> Array:
    """`rows[m, index[m]]` of `[M, n, ...]` rows."""
    index = index.reshape(index.shape + (1,) * (rows.ndim - 1))
    return jnp.take_along_axis(rows, index, axis=1, mode="promise_in_bounds")[:, 0]


def sample_token(uniform: Array, logprobs: Array) -> tuple[Array, Array]:
    """Draws one token, and returns it with its log-probability.

    Inverse transform sampling: the token is the first one at which the cumulative sum of the
    probabilities, in the order of the vocabulary, exceeds `uniform`. That needs one random number,
    while the Gumbel trick needs one for every token of the vocabulary. Sums over blocks of tokens
    are computed first, so that no cumulative sum is long.

    Args:
        uniform: scalar in [0, 1); the only source of randomness.
        logprobs: `[V]`, as returned by `log_distribution`.

    Returns:
        The token, int32, and its log-probability, float32; both scalars.

    Raises:
        AssertionError: the shapes do not fit.
    """
    chex.assert_rank([uniform, logprobs], [0, 1])
    size = logprobs.shape[0]
    width = 1 << (size - 1).bit_length() // 2
    # The last block alone is padded: padding all tokens takes longer than all other operations.
    whole = size // width * width
    blocks = jnp.exp(logprobs[:whole]).reshape(-1, width)
    last = jnp.pad(jnp.exp(logprobs[whole:]), (0, -size % width)).reshape(-1, width)
    sums = jnp.concatenate([jnp.sum(blocks, axis=-1), jnp.sum(last, axis=-1)])
    block, remainder = _search_cumulative(sums, uniform * jnp.sum(sums))
    chosen = blocks[jnp.minimum(block, len(blocks) - 1)]
    if len(last):
        chosen = jnp.where(block < len(blocks), chosen, last[0])
    offset, _ = _search_cumulative(chosen, remainder)
    token = (block * width + offset).astype(jnp.int32)
    return token, logprobs[token]


def _search_cumulative(weights: Array, bound: Array) -> tuple[Array, Array]:
    """The first index at which the cumulative sum of the weights exceeds a bound, with a remainder.

    The remainder is the bound minus the sum of the weights before the index. Rounding never gives
    the index of a zero weight, or one past the end.
    """
    cumulative = jnp.cumsum(weights)
    is_possible = weights > 0.0
    total = jnp.max(cumulative, where=is_possible, initial=0.0)
    bound = jnp.clip(bound, 0.0, total * (1.0 - jnp.finfo(weights.dtype).eps))
    index = jnp.argmax(is_possible & (cumulative > bound))
    return index, bound - (cumulative[index] - weights[index])
