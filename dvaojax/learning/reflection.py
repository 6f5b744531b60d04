"""R3, DRO's reward computed by the policy itself (Xu et al., arXiv 2506.13351, version 1).

The reward is the policy's log-probability of the reference answer after the sampled reasoning. It
is dominated by the answer's tokens that depend on the reasoning: those whose probability varies
within a group. `answer_logprobs` computes the log-probabilities, `reflection_rewards` weights them.
`with_self_certainty` puts them into the rewards of a step, in micro-batches, before the aggregator.
All are pure functions. No gradient is meant to flow through them.
"""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax import Array

from dvaojax import numerics
from dvaojax.learning.micro_batches import own_rows, put_own_back, take_own_rows
from dvaojax.learning.policy_logprobs import policy_logprobs
from dvaojax.models import ModelConfig, Params
from dvaojax.types import Experience

SELF_CERTAINTY = "self_certainty"
"""Name of the objective that a run with references may give a weight."""


def with_self_certainty(
    params: Params,
    experience: Experience,
    *,
    model: ModelConfig,
    temperature: float,
    micro_batches: int = 1,
    constrain: Callable[[Any], Any] = lambda piece: piece,
) -> Experience:
    """The experience with `reflection_rewards` as the rewards of its last objective.

    Args:
        params: the policy's parameters.
        experience: with references, which the result lacks.
        model: configuration of the decoder.
        temperature: divisor of the logits.
        micro_batches: parts that are computed one after the other; divides the groups.
        constrain: applied to every micro-batch, for sharding constraints on its groups.

    Returns:
        The experience; the objective is masked for completions that were not sampled, or whose
        problem has no reference.

    Raises:
        ValueError: the experience has no references.
    """
    if experience.references is None:
        raise ValueError("the experience has no references")
    rows = own_rows(len(experience.prompt_lengths), micro_batches=micro_batches)

    def piece(rows: Array) -> Array:
        part = constrain(take_own_rows(experience, rows))
        answers = part.references
        logprobs = answer_logprobs(
            params,
            part._replace(references=None),
            answers.tokens,
            answers.reasoning_lengths,
            model=model,
            temperature=temperature,
        )
        sampled = jnp.any(part.completion_mask, axis=-1)
        return reflection_rewards(logprobs, answers.where, sampled=sampled)

    rewards = put_own_back(jax.lax.map(piece, rows), rows)
    has_answer = jnp.any(experience.references.where, axis=-1, keepdims=True)
    is_scored = jnp.any(experience.completion_mask, axis=-1) & has_answer
    repeated = experience.repeated
    if repeated is not None:  # a single score, without noise
        score = jnp.where(is_scored, rewards, jnp.nan)
        repeated = repeated.at[..., -1, :].set(jnp.nan).at[..., -1, 0].set(score)
    return experience._replace(
        rewards=experience.rewards.at[..., -1].set(jnp.where(is_scored, rewards, 0)),
        reward_mask=experience.reward_mask.at[..., -1].set(is_scored),
        references=None,
        repeated=repeated,
    )


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


def reflection_rewards(logprobs: Array, where: Array, *, sampled: Array | None = None) -> Array:
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
        sampled: `[B, G]` bool, the completions that count in the deviations; None for all.

    Returns:
        `[B, G]`, at most 0; 0 in a group whose reasoning does not affect the probabilities.

    Raises:
        AssertionError: the shapes do not fit.
    """
    chex.assert_shape(where, (logprobs.shape[0], logprobs.shape[-1]))
    masked = jnp.where(where[:, None], logprobs, 0)
    counted = jnp.ones(masked.shape[:2], bool) if sampled is None else sampled

    def deviation(values: Array, counts: Array) -> Array:
        return numerics.moments(values, counts).deviation

    spread = jax.vmap(jax.vmap(deviation, in_axes=(-1, None)))(jnp.exp(masked), counted)
    weights = numerics.safe_divide(spread, jnp.sum(spread, axis=-1, keepdims=True))
    return jnp.sum(masked * weights[:, None], axis=-1)
