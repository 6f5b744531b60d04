"""Log-probabilities of completion tokens under a policy, each prompt computed once per group."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from dvaojax import models
from dvaojax.models import Decoder, ModelConfig, Params
from dvaojax.types import Experience

# From hidden states `[B, S, D]`, the tokens they predict `[B, S]` and further arrays `[B, S]` to
# arrays `[B, S]`.
Measure = Callable[..., Any]


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
    matrix = policy.output_matrix()

    def measure(states: Array, tokens: Array) -> tuple[Array, Array]:
        return models.token_logprobs(
            states,
            matrix,
            tokens,
            temperature=temperature,
            chunk_size=model.logits_chunk,
            backward=model.logits_backward,
        )

    return measured_on_tokens(policy, experience, measure)


def policy_gradient_norms(
    params: Params, experience: Experience, *, model: ModelConfig, temperature: float
) -> Array:
    """Squared norms of the gradients of the tokens' log-probabilities by the logits.

    See `models.logit_gradient_norms`; computed in the layout of `policy_logprobs`.

    Returns:
        `[B, G, T]` float32; values after a completion's end are finite and have no meaning.
    """
    policy = models.apply(model, params)
    matrix = policy.output_matrix()

    def measure(states: Array, tokens: Array) -> tuple[Array, Array]:
        return models.logit_gradient_norms(
            states, matrix, tokens, temperature=temperature, chunk_size=model.logits_chunk
        )

    return measured_on_tokens(policy, experience, measure)[0]


def measured_on_tokens(
    policy: Decoder, experience: Experience, measure: Measure, further: tuple[Array, ...] = ()
) -> Any:
    """Numbers for each token, from the hidden state that predicts it.

    Args:
        policy: the decoder.
        experience: prompts and completions; packed or padded.
        measure: from states `[B, S, D]`, the tokens that they predict `[B, S]` and the further
            arrays in the same layout to arrays `[B, S]`.
        further: `[B, G, T]` each, one number for each token.

    Returns:
        What `measure` returns, with arrays `[B, G, T]`; values after a completion's end are finite
        and have no meaning.
    """
    if experience.packed is not None:
        return _packed(policy, experience, experience.packed, measure, further)
    tokens = experience.completion_tokens
    batch, group, _ = tokens.shape
    states = policy.joint_states(experience.prompt_tokens, experience.prompt_lengths, tokens)
    inputs = (tokens, *further)
    first, rest = _measure_together(
        measure,
        *states,
        [x[..., 0] for x in inputs],
        [x[..., 1:].reshape(batch, -1) for x in inputs],
    )

    def joined(first: Array, rest: Array) -> Array:
        return jnp.concatenate([first[..., None], rest.reshape(batch, group, -1)], axis=2)

    return jax.tree.map(joined, first, rest)


def _packed(
    policy: Decoder,
    experience: Experience,
    packed: Array,
    measure: Measure,
    further: tuple[Array, ...],
) -> Any:
    """`measured_on_tokens` of packed rows; `packed` has the index of the token in each slot."""
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
    inputs = (experience.completion_tokens, *further)
    first_measured, rest_measured = _measure_together(
        measure,
        first,
        rest,
        [x[..., 0] for x in inputs],
        [
            jnp.take_along_axis(x.reshape(batch, group * length), following, axis=1, mode="clip")
            for x in inputs
        ],
    )

    def unpacked(first: Array, rest: Array) -> Array:
        put = jax.vmap(lambda row, at, new: row.at[at].set(new, mode="drop"))
        rows = put(jnp.zeros(tokens.shape, rest.dtype), following, rest)
        return rows.reshape(batch, group, length).at[..., 0].set(first)

    return jax.tree.map(unpacked, first_measured, rest_measured)


def _measure_together(
    measure: Measure,
    first: Array,
    rest: Array,
    first_inputs: list[Array],
    later_inputs: list[Array],
) -> tuple[Any, Any]:
    """`measure` of first and later tokens in one call: a few rows would have slow products.

    Args:
        measure: from states, tokens and further arrays to numbers of each token.
        first: `[B, D]`, the states that predict the first tokens.
        rest: `[B, S, D]`.
        first_inputs: `[B, G]` each, the first tokens and what belongs to them.
        later_inputs: `[B, S]` each.

    Returns:
        The numbers of the first tokens, and those of the later tokens.
    """
    batch, group = first_inputs[0].shape
    repeated = jnp.broadcast_to(first[:, None], (batch, group, first.shape[-1]))
    measured = measure(
        jnp.concatenate([rest, repeated], axis=1),
        *(jnp.concatenate(x, axis=1) for x in zip(later_inputs, first_inputs, strict=True)),
    )
    split = rest.shape[1]
    return (
        jax.tree.map(lambda x: x[:, split:], measured),
        jax.tree.map(lambda x: x[:, :split], measured),
    )
