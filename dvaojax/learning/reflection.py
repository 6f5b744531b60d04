"""R3, DRO's reward that asks the policy itself (Xu et al., arXiv 2506.13351, version 1).

How sure is the policy of the reference answer, given the reasoning that it has just sampled? Only
the answer's tokens that react to the reasoning count: those whose certainty differs between the
completions of a group. `answer_logprobs` asks, `reflection_rewards` weighs; both are pure, and
belong into a jitted step before the aggregator. No gradient is meant to flow through them.
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
    """`log pi(y_j | prompt, reasoning_i, y_<j)` of the reference answer behind each completion's
    reasoning; the prompt is computed once for its group.

    Args:
        params: of the policy.
        experience: prompts and completions; rewards and packing are not read.
        answers: `[B, L]` int32, each group's reference answer, padding on the right.
        reasoning_lengths: `[B, G]` int32, how many of a completion's first tokens are its
            reasoning; the rest, its own answer and its stop token, is not read.
        model: the decoder's shape.
        temperature: that logits are divided by.

    Returns:
        `[B, G, L]` float32; finite and without meaning on padding.

    Raises:
        AssertionError: the shapes do not fit.
    """
    tokens = experience.completion_tokens
    batch, group, length = tokens.shape
    width = answers.shape[-1]
    places = reasoning_lengths[..., None] + jnp.arange(width)[None, None]
    repeated = jnp.broadcast_to(answers[:, None], (batch, group, width))
    row = jnp.pad(tokens, ((0, 0), (0, 0), (0, width)))
    put = jax.vmap(jax.vmap(lambda r, at, new: r.at[at].set(new)))
    longer = experience._replace(completion_tokens=put(row, places, repeated), packed=None)
    chex.assert_shape(longer.completion_tokens, (batch, group, length + width))
    logprobs, _ = policy_logprobs(params, longer, model=model, temperature=temperature)
    return jax.lax.stop_gradient(jnp.take_along_axis(logprobs, places, axis=-1))


def reflection_rewards(logprobs: Array, where: Array) -> Array:
    r"""R3: the answer's log-probability, each token weighed by how much it reacts to the reasoning.

    $$ R_i = \sum_j w_j \log \pi(y_j \mid q, c_i, y_{< j}), \qquad
       w_j = \sigma_j / \sum_l \sigma_l $$

    with sigma_j the standard deviation over the group of the token's probability. The form of the
    weights is a reconstruction: the paper has them grow with sigma_j and its exact form was not
    found; neither its propagation to later tokens nor its length term is here.

    What it is confused with. Not the likelihood of the whole answer, in which the many tokens that
    any reasoning predicts drown the few that depend on it.

    Args:
        logprobs: `[B, G, L]` in nats.
        where: `[B, L]` bool, true on the answer's tokens; elsewhere anything may stand.

    Returns:
        `[B, G]`, at most 0; 0 in a group whose reasoning changes nothing.

    Raises:
        AssertionError: the shapes do not fit.
    """
    chex.assert_shape(where, (logprobs.shape[0], logprobs.shape[-1]))
    known = jnp.where(where[:, None], logprobs, 0)
    counts = jnp.ones(known.shape[1], bool)
    of_token = jax.vmap(lambda values: numerics.moments(values, counts).deviation, in_axes=-1)
    spread = jax.vmap(of_token)(jnp.exp(known))
    weights = numerics.safe_divide(spread, jnp.sum(spread, axis=-1, keepdims=True))
    return jnp.sum(known * weights[:, None], axis=-1)
