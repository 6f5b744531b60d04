"""Log-probabilities of completion tokens under a policy, each prompt computed once per group."""

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
    """Log-probabilities and entropies of the completions' tokens under the current policy.

    `temperature` must be the sampler's, so that an unchanged policy has ratio 1. If the experience
    is packed, no computation is spent on the padding of short completions.

    Returns:
        `[B, G, T]` and `[B, G, T]` float32, in nats; values after a completion's end are finite and
        have no meaning.
    """
    policy = models.apply(model, params)
    measure = partial(
        models.token_logprobs,
        matrix=policy.output_matrix(),
        temperature=temperature,
        chunk_size=model.logits_chunk,
        backward=model.logits_backward,
    )
    return _measured(policy, experience, measure)


def policy_gradient_norms(
    params: Params, experience: Experience, *, model: ModelConfig, temperature: float
) -> Array:
    """Squared norms of the gradients of the tokens' log-probabilities by the logits.

    See `models.logit_gradient_norms`; computed in the layout of `policy_logprobs`.

    Returns:
        `[B, G, T]` float32; values after a completion's end are finite and have no meaning.
    """
    policy = models.apply(model, params)
    measure = partial(
        models.logit_gradient_norms,
        matrix=policy.output_matrix(),
        temperature=temperature,
        chunk_size=model.logits_chunk,
    )
    return _measured(policy, experience, measure)[0]


def _measured(policy: Decoder, experience: Experience, measure: partial) -> tuple[Array, Array]:
    """Two numbers for each token, from its hidden state; `[B, G, T]` each."""
    if experience.packed is not None:
        return _packed_logprobs(policy, experience, experience.packed, measure)
    tokens = experience.completion_tokens
    batch, group, _ = tokens.shape
    states = policy.joint_states(experience.prompt_tokens, experience.prompt_lengths, tokens)
    later = tokens[..., 1:].reshape(batch, -1)
    first, rest = _measure_together(measure, *states, tokens[..., 0], later)

    def joined(first: Array, rest: Array) -> Array:
        return jnp.concatenate([first[..., None], rest.reshape(batch, group, -1)], axis=2)

    return joined(first[0], rest[0]), joined(first[1], rest[1])


def _packed_logprobs(
    policy: Decoder, experience: Experience, packed: Array, measure: partial
) -> tuple[Array, Array]:
    """`policy_logprobs` of packed rows; `packed` contains the index of the token in each slot."""
    batch, group, length = experience.completion_tokens.shape
    tokens = experience.completion_tokens.reshape(batch, group * length)
    is_real, index = packed >= 0, jnp.maximum(packed, 0)
    first, rest = policy.packed_states(
        experience.prompt_tokens,
        experience.prompt_lengths,
        tokens=jnp.take_along_axis(tokens, index, axis=1),
        offsets=index % length,
        segments=jnp.where(is_real, index // length, -1),
        longest=length - 1,
    )
    # Each slot predicts the token after its own; predictions of padding are dropped.
    following = jnp.where(is_real, index + 1, group * length)
    targets = jnp.take_along_axis(tokens, following, axis=1, mode="clip")
    first_tokens = experience.completion_tokens[..., 0]
    first_measured, rest_measured = _measure_together(measure, first, rest, first_tokens, targets)

    def unpacked(first: Array, rest: Array) -> Array:
        put = jax.vmap(lambda row, at, new: row.at[at].set(new, mode="drop"))
        rows = put(jnp.zeros(tokens.shape, rest.dtype), following, rest)
        return rows.reshape(batch, group, length).at[..., 0].set(first)

    return (
        unpacked(first_measured[0], rest_measured[0]),
        unpacked(first_measured[1], rest_measured[1]),
    )


def _measure_together(
    measure: partial, first: Array, rest: Array, first_tokens: Array, later_tokens: Array
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """`measure` of first and later tokens in one call: a few rows would have slow products.

    Args:
        measure: from states and tokens to their log-probabilities and entropies.
        first: `[B, D]`, the states that predict the first tokens.
        rest: `[B, S, D]`.
        first_tokens: `[B, G]`.
        later_tokens: `[B, S]`.

    Returns:
        Log-probabilities and entropies of the first tokens, and those of the later tokens.
    """
    batch, group = first_tokens.shape
    repeated = jnp.broadcast_to(first[:, None], (batch, group, first.shape[-1]))
    measured = measure(
        jnp.concatenate([rest, repeated], axis=1),
        tokens=jnp.concatenate([later_tokens, first_tokens], axis=1),
    )
    split = rest.shape[1]
    logprobs, entropies = ((x[:, split:], x[:, :split]) for x in measured)
    return (logprobs[0], entropies[0]), (logprobs[1], entropies[1])
