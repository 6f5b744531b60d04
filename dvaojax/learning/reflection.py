"""R3, DRO's reward computed by the policy itself (Xu et al., arXiv 2506.13351, version 1).

The reward is the policy's log-probability of the reference answer after the sampled reasoning. It
is dominated by the answer's tokens that depend on the reasoning: those whose probability varies
within a group. `answer_logprobs` computes the log-probabilities, `reflection_rewards` weights them.
Both are pure functions, for use in a jitted step before the aggregator. No gradient is meant to
flow through them.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from dvaojax import numerics
from dvaojax.learning.policy_logprobs import policy_logprobs
from dvaojax.models import ModelConfig, Params
from dvaojax.types import Experience


def answer_logprobs(
    params: Params,
    experience: Experience,
    answers: Array,
    reasoning_lengths: Array,
    *,
    model: ModelConfig,
    temperature: float = 1.0,
) -> Array:
    """`log pi(y_j | prompt, reasoning_i, y_<j)` of the reference answer after each reasoning.

    Each prompt is computed once for its group.

    Args:
        params: the policy's parameters.
        experience: prompts and completions; rewards and packing are not read.
        answers: `[B, L]` int32, each group's reference answer, padding on the right.
        reasoning_lengths: `[B, G]` int32, number of leading tokens of a completion that are its
            reasoning; the rest, its own answer and its stop token, is not read.
        model: configuration of the decoder.
        temperature: divisor of the logits.

    Returns:
        `[B, G, L]` float32; finite but meaningless on padding.

    Raises:
        AssertionError: the shapes do not fit.
    """
    tokens = experience.completion_tokens
    batch, group, length = tokens.shape
    width = answers.shape[-1]
    positions = reasoning_lengths[..., None] + jnp.arange(width)[None, None]
    repeated = jnp.broadcast_to(answers[:, None], (batch, group, width))
    row = jnp.pad(tokens, ((0, 0), (0, 0), (0, width)))
    put = jax.vmap(jax.vmap(lambda r, at, new: r.at[at].set(new)))
    longer = experience._replace(completion_tokens=put(row, positions, repeated), packed=None)
    chex.assert_shape(longer.completion_tokens, (batch, group, length + width))
    logprobs, _ = policy_logprobs(params, longer, model=model, temperature=temperature)
    return jax.lax.stop_gradient(jnp.take_along_axis(logprobs, positions, axis=-1))


def reflection_rewards(logprobs: Array, where: Array) -> Array:
    r"""R3: the answer's log-probability, tokens weighted by how much they vary with the reasoning.

    $$ R_i = \sum_j w_j \log \pi(y_j \mid q, c_i, y_{< j}), \qquad
       w_j = \sigma_j / \sum_l \sigma_l $$

    with sigma_j the standard deviation over the group of the token's probability. The form of the
    weights is a reconstruction: in the paper they grow with sigma_j, but its exact form was not
    available. Its propagation to later tokens and its length term are not implemented.

    Not to be confused with: the likelihood of the whole answer, in which the many tokens that any
    reasoning predicts outweigh the few that depend on it.

    Args:
        logprobs: `[B, G, L]` in nats.
        where: `[B, L]` bool, true on the answer's tokens; elsewhere values are ignored.

    Returns:
        `[B, G]`, at most 0; 0 in a group whose reasoning does not affect the probabilities.

    Raises:
        AssertionError: the shapes do not fit.
    """
    chex.assert_shape(where, (logprobs.shape[0], logprobs.shape[-1]))
    masked = jnp.where(where[:, None], logprobs, 0)
    everywhere = jnp.ones(masked.shape[1], bool)
    deviations = jax.vmap(lambda values: numerics.moments(values, everywhere).deviation, in_axes=-1)
    spread = jax.vmap(deviations)(jnp.exp(masked))
    weights = numerics.safe_divide(spread, jnp.sum(spread, axis=-1, keepdims=True))
    return jnp.sum(masked * weights[:, None], axis=-1)
