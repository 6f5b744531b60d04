"""From logits to a token: temperature, and the truncations that are read after it."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
from jax import Array


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How a token is drawn from the logits.

    Attributes:
        temperature: logits are divided by it; 0 takes the most likely token.
        top_k: keep the `top_k` most likely tokens; 0 keeps all.
        top_p: keep the smallest set of most likely tokens whose probability reaches `top_p`, in
            (0, 1]; 1 keeps all.
        min_p: keep tokens at least `min_p` times as likely as the most likely one, in [0, 1).

    Raises:
        ValueError: a knob is out of its range.
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
        """Whether some tokens can never be drawn, which biases a policy ratio (see `rollout`)."""
        return self.temperature == 0.0 or self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0.0


def log_distribution(logits: Array, sampling: Sampling) -> Array:
    """The log-probabilities a token is drawn from: scaled, truncated and normalised again.

    Temperature comes first, then top-k, top-p over what top-k left, and min-p, the order of Hugging
    Face's generation. (vLLM takes min-p before the other two, FlashInfer's "joint" order lets top-p
    count what top-k drops; with one truncation at a time all agree.) Tokens as likely as the last
    one kept are kept too. The most likely token is always kept.

    Args:
        logits: `[..., V]` in any float.
        sampling: the knobs.

    Returns:
        `[..., V]` float32 in nats, `-inf` on tokens that cannot be drawn.

    Raises:
        AssertionError: the logits are not floats.
    """
    chex.assert_type(logits, float)
    logits = logits.astype(jnp.float32)
    if sampling.temperature == 0.0:
        best = jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1], dtype=bool)
        return jnp.where(best, 0.0, -jnp.inf)
    logprobs = jax.nn.log_softmax(logits / sampling.temperature)
    if not sampling.truncates:
        return logprobs
    bound = _lowest_kept(logprobs, sampling)
    return jax.nn.log_softmax(jnp.where(logprobs >= bound, logprobs, -jnp.inf))


def _lowest_kept(logprobs: Array, sampling: Sampling) -> Array:
    """`[..., 1]`, the log-probability of the least likely tokens that may be drawn."""
    descending = -jnp.sort(-logprobs, axis=-1)
    best = descending[..., :1]
    size = logprobs.shape[-1]
    last = min(sampling.top_k or size, size) - 1
    bound = descending[..., last : last + 1]
    if sampling.top_p < 1.0:
        left = jnp.where(descending >= bound, jnp.exp(descending), 0.0)
        reached = jnp.cumsum(left, axis=-1)
        is_inside = reached - left < sampling.top_p * reached[..., -1:]
        bound = jnp.maximum(
            bound, jnp.min(descending, axis=-1, keepdims=True, where=is_inside, initial=jnp.inf)
        )
    if sampling.min_p > 0.0:
        bound = jnp.maximum(bound, best + jnp.log(sampling.min_p))
    # `best` is never above itself, so rounding in a bound cannot empty the set.
    return jnp.minimum(bound, best)


def sample_token(uniform: Array, logprobs: Array) -> tuple[Array, Array]:
    """Draws one token and says how likely it was.

    The token is the one at which the probabilities, added up in the order of the vocabulary, pass
    `uniform`. That takes one random number where the Gumbel trick takes one for every token of the
    vocabulary. Blocks of tokens are added up first, so that no long sum runs.

    Args:
        uniform: scalar in [0, 1), which decides alone.
        logprobs: `[V]` as `log_distribution` returns them.

    Returns:
        The token, int32, and its log-probability, float32; both scalars.

    Raises:
        AssertionError: the shapes do not fit.
    """
    chex.assert_rank([uniform, logprobs], [0, 1])
    size = logprobs.shape[0]
    width = 1 << (size - 1).bit_length() // 2
    blocks = jnp.pad(jnp.exp(logprobs), (0, -size % width)).reshape(-1, width)
    sums = jnp.sum(blocks, axis=-1)
    block, left = _passing(sums, uniform * jnp.sum(sums))
    place, _ = _passing(blocks[block], left)
    token = (block * width + place).astype(jnp.int32)
    return token, logprobs[token]


def _passing(weights: Array, bound: Array) -> tuple[Array, Array]:
    """Where the running sum of the weights passes a bound, and what of the bound was left there.

    Rounding cannot lead to a weight of zero, nor behind the last one.
    """
    reached = jnp.cumsum(weights)
    is_possible = weights > 0.0
    top = jnp.max(reached, where=is_possible, initial=0.0)
    bound = jnp.clip(bound, 0.0, top * (1.0 - jnp.finfo(weights.dtype).eps))
    index = jnp.argmax(is_possible & (reached > bound))
    return index, bound - (reached[index] - weights[index])
