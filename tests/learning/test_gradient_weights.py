"""Squared gradient norms of completions reach the aggregators of a train step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learning_cases import (
    WEIGHTS,
    descent,
    gradient_by_loop,
    new_state,
    ragged_experience,
    step_of,
    table_logprobs,
    table_loss,
    table_params,
)

from dvaojax import aggregators, models
from dvaojax.data.packing import CompletionLayout, pack
from dvaojax.learning.policy_logprobs import policy_gradient_norms
from dvaojax.learning.shadows import Shadows
from dvaojax.learning.train_step import LearningConfig
from dvaojax.models import ModelConfig

MODEL = ModelConfig(
    vocab_size=6, width=8, num_layers=1, num_heads=2, num_kv_heads=1, head_width=4, ff_width=16
)


def table_norms(params, experience):
    """`1 - 2 pi + sum_v pi_v^2` of each token under the table policy."""
    tokens = experience.completion_tokens
    last = jnp.take_along_axis(
        experience.prompt_tokens, experience.prompt_lengths[:, None] - 1, axis=1
    )
    first = jnp.broadcast_to(last[..., None], (*tokens.shape[:2], 1))
    before = jnp.concatenate([first, tokens[..., :-1]], axis=-1)
    squares = jnp.sum(jnp.square(jax.nn.softmax(params["table"][before])), axis=-1)
    return 1 - 2 * jnp.exp(table_logprobs(params, experience)[0]) + squares


def expected_norms(experience):
    norms = np.asarray(table_norms(table_params(), experience))
    return np.where(experience.completion_mask, norms, 0).sum(-1)


@pytest.mark.parametrize("micro_batches", [1, 4])
def test_advantages_use_the_norms_of_the_policy_before_the_update(micro_batches):
    experience = ragged_experience()
    step = step_of(
        table_loss(),
        aggregator=aggregators.make("oblr_po", WEIGHTS),
        gradient_norms=table_norms,
        learning=LearningConfig(micro_batches=micro_batches),
    )
    _, _, advantages = descent(step, experience)
    expected = aggregators.oblr_po(
        experience.rewards, WEIGHTS, expected_norms(experience), mask=experience.reward_mask
    )
    np.testing.assert_allclose(advantages, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(advantages - aggregators.rloo(experience.rewards, WEIGHTS)).max() > 0.01


def token_advantages(experience):
    return np.asarray(
        aggregators.optimal_token_baseline(
            experience.rewards,
            WEIGHTS,
            table_norms(table_params(), experience),
            experience.completion_mask,
            mask=experience.reward_mask,
        )
    )


def test_advantages_of_tokens_reach_the_loss_in_micro_batches():
    """The gradient is that of a loop in float64 with one advantage per token."""
    experience = ragged_experience()
    step = step_of(
        table_loss(),
        aggregator=aggregators.make("optimal_token_baseline", WEIGHTS),
        gradient_norms=table_norms,
        learning=LearningConfig(micro_batches=4),
    )
    gradient, metrics, advantages = descent(step, experience)
    where = np.asarray(experience.completion_mask)
    expected = token_advantages(experience)
    by_loop = gradient_by_loop(experience, expected, reduction="token_mean")
    np.testing.assert_allclose(gradient, by_loop, rtol=1e-4, atol=1e-6)
    means = expected.sum(-1) / np.maximum(where.sum(-1), 1)
    np.testing.assert_allclose(advantages, means, rtol=1e-5, atol=1e-6)
    mean_square = np.square(expected)[where].mean()
    np.testing.assert_allclose(metrics["advantage_mean_square"].value, mean_square, rtol=1e-5)
    other = gradient_by_loop(experience, means, reduction="token_mean")
    assert np.abs(gradient - other).max() > 1e-3, "the tokens of a completion have one advantage"


def with_shadow(experience, name):
    """Metrics and advantages of a step with one shadow, called as its method."""
    shadows = Shadows({name: aggregators.make(name, WEIGHTS)}, WEIGHTS)
    step = step_of(table_loss(), gradient_norms=table_norms, shadows=shadows)
    state = new_state(optax.sgd(1.0))._replace(shadow_states=shadows.init(3))
    return step(state, experience, None)[1:]


@pytest.mark.slow
def test_a_shadow_of_tokens_is_compared_by_the_means_of_completions():
    experience = ragged_experience()
    metrics, advantages = with_shadow(experience, "optimal_token_baseline")
    expected, where = token_advantages(experience), np.asarray(experience.completion_mask)
    means = expected.sum(-1) / np.maximum(where.sum(-1), 1)
    cosine = (means * advantages).sum() / np.linalg.norm(means) / np.linalg.norm(advantages)
    np.testing.assert_allclose(
        metrics["shadow/optimal_token_baseline/cosine"].value, cosine, rtol=1e-5
    )
    mean_square = np.square(expected)[where].mean()
    np.testing.assert_allclose(
        metrics["shadow/optimal_token_baseline/mean_square"].value, mean_square, rtol=1e-5
    )


def test_a_shadow_gets_the_norms_and_the_aggregator_in_use_does_not():
    experience = ragged_experience()
    metrics, advantages = with_shadow(experience, "oblr_po")
    expected = aggregators.oblr_po(
        experience.rewards, WEIGHTS, expected_norms(experience), mask=experience.reward_mask
    )
    is_sampled = np.asarray(experience.completion_mask).any(-1)
    mean_square = np.square(expected)[is_sampled].mean()
    np.testing.assert_allclose(metrics["shadow/oblr_po/mean_square"].value, mean_square, rtol=1e-5)
    plain = aggregators.rloo(experience.rewards, WEIGHTS, mask=experience.reward_mask)
    np.testing.assert_allclose(advantages, plain, atol=1e-6)


def test_a_step_without_the_function_names_it():
    with pytest.raises(ValueError, match="needs gradient_norms"):
        step_of(table_loss(), aggregator=aggregators.make("oblr_po", WEIGHTS))


@pytest.mark.slow
def test_norms_of_the_decoder_are_those_of_its_gradient_packed_or_not():
    experience = ragged_experience(prompts=3, group=2, length=4)
    params = models.init(MODEL, jax.random.key(1))
    norms = policy_gradient_norms(params, experience, model=MODEL, temperature=0.7)
    lengths = np.asarray(experience.completion_mask).sum(-1)
    packed = jnp.asarray(pack(lengths, CompletionLayout(width=4, slots=8)))
    others = policy_gradient_norms(
        params, experience._replace(packed=packed), model=MODEL, temperature=0.7
    )
    where = np.asarray(experience.completion_mask)
    np.testing.assert_allclose(norms[where], others[where], rtol=1e-4, atol=1e-5)
    policy = models.apply(MODEL, params)
    for b, g in np.argwhere(where.any(-1)):
        end = int(experience.prompt_lengths[b])
        tokens = np.asarray(experience.completion_tokens[b, g])
        sequence = np.concatenate([np.asarray(experience.prompt_tokens[b, :end]), tokens])
        hidden, _ = policy.prefill(jnp.asarray(sequence)[None])
        logits = np.asarray(policy.logits(hidden))[0, end - 1 : -1] / 0.7
        probabilities = np.exp(logits - logits.max(-1, keepdims=True))
        probabilities /= probabilities.sum(-1, keepdims=True)
        for t in np.flatnonzero(where[b, g]):
            gradient = np.eye(6)[tokens[t]] - probabilities[t]
            np.testing.assert_allclose(norms[b, g, t], np.square(gradient).sum(), rtol=1e-3)
