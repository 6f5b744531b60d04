"""How likely a policy finds the completions' tokens, each prompt computed once for its group."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from dvaojax import models
from dvaojax.models import Decoder, ModelConfig, Params
from dvaojax.types import Experience


def policy_logprobs(
    params: Params, experience: Experience, *, model: ModelConfig, temperature: float
) -> tuple[Array, Array]:
    """Log-probabilities and entropies of the completions' tokens under the policy as it is now.

    Temperature is the sampler's, so that an unchanged policy has ratio 1. Where the experience is
    packed, nothing is computed for the padding of short completions.

    Returns:
        `[B, G, T]` and `[B, G, T]` float32, in nats; what stands behind a completion's end is
        finite and means nothing.
    """
    policy = models.apply(model, params)
    measure = partial(
        models.token_logprobs,
        matrix=policy.output_matrix(),
        temperature=temperature,
        chunk_size=model.logits_chunk,
    )
    if experience.packed is not None:
        return _packed_logprobs(policy, experience, experience.packed, measure)
    tokens = experience.completion_tokens
    batch, group, _ = tokens.shape
    first, rest = policy.rows(experience.prompt_tokens, experience.prompt_lengths, tokens)
    of_first = measure(_to_group(first, group), tokens=tokens[..., 0])
    of_rest = measure(rest, tokens=tokens[..., 1:].reshape(batch, -1))

    def in_order(first: Array, rest: Array) -> Array:
        return jnp.concatenate([first[..., None], rest.reshape(batch, group, -1)], axis=2)

    return in_order(of_first[0], of_rest[0]), in_order(of_first[1], of_rest[1])


def _packed_logprobs(
    policy: Decoder, experience: Experience, packed: Array, measure: partial
) -> tuple[Array, Array]:
    """The same from packed rows: `packed` says which token stands in which of their places."""
    batch, group, length = experience.completion_tokens.shape
    tokens = experience.completion_tokens.reshape(batch, group * length)
    is_real, place = packed >= 0, jnp.maximum(packed, 0)
    first, rest = policy.packed(
        experience.prompt_tokens,
        experience.prompt_lengths,
        tokens=jnp.take_along_axis(tokens, place, axis=1),
        offsets=place % length,
        segments=jnp.where(is_real, place // length, -1),
        longest=length - 1,
    )
    # Each place predicts the token that follows its own; what padding predicts falls off the row.
    following = jnp.where(is_real, place + 1, group * length)
    targets = jnp.take_along_axis(tokens, following, axis=1, mode="clip")
    first_tokens = experience.completion_tokens[..., 0]

    def unpacked(of_first: Array, of_rest: Array) -> Array:
        put = jax.vmap(lambda row, at, new: row.at[at].set(new, mode="drop"))
        rows = put(jnp.zeros(tokens.shape, of_rest.dtype), following, of_rest)
        return rows.reshape(batch, group, length).at[..., 0].set(of_first)

    of_first = measure(_to_group(first, group), tokens=first_tokens)
    of_rest = measure(rest, tokens=targets)
    return unpacked(of_first[0], of_rest[0]), unpacked(of_first[1], of_rest[1])


def _to_group(states: Array, group: int) -> Array:
    """`[B, G, D]`, the same `[B, D]` for every completion."""
    return jnp.broadcast_to(states[:, None], (len(states), group, states.shape[-1]))
