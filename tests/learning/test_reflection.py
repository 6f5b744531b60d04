"""R3: log-probabilities of the reference answer after each completion's reasoning."""

import math
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learning_cases import ragged_experience, table_logprobs, table_params

from dvaojax.learning import reflection
from dvaojax.learning.reflection import (
    answer_logprobs,
    reflection_rewards,
    with_self_certainty,
)
from dvaojax.types import References

B, G, L = 8, 4, 3


def test_answer_follows_the_reasoning():
    """With a bigram policy each log-probability is an entry of its table."""
    experience, params = ragged_experience(), table_params()
    rng = np.random.default_rng(0)
    answers = rng.integers(1, 6, (B, L)).astype(np.int32)
    lengths = np.asarray(experience.completion_mask.sum(-1), np.int32)
    lengths = np.maximum(lengths - 1, 0)  # the last token is the stop token
    with mock.patch.object(reflection, "policy_logprobs", table_logprobs):
        logprobs = np.asarray(answer_logprobs(params, experience, answers, lengths, model=None))
    table = np.asarray(jax.nn.log_softmax(params["table"]))
    for b, g, j in np.ndindex(B, G, L):
        if j:
            before = answers[b, j - 1]
        elif lengths[b, g]:
            before = experience.completion_tokens[b, g, lengths[b, g] - 1]
        else:
            before = experience.prompt_tokens[b, experience.prompt_lengths[b] - 1]
        np.testing.assert_allclose(logprobs[b, g, j], table[before, answers[b, j]], rtol=1e-5)


def test_tokens_are_weighted_by_their_variation_with_the_reasoning():
    rng = np.random.default_rng(1)
    logprobs = np.log(rng.uniform(0.1, 0.9, (2, G, L))).astype(np.float32)
    logprobs[0, :, 1] = math.log(0.3)  # independent of the reasoning
    where = np.array([[True, True, True], [True, True, False]])
    logprobs[1, :, 2] = np.nan
    rewards = np.asarray(reflection_rewards(logprobs, where))
    for b in range(2):
        tokens = np.flatnonzero(where[b])
        spread = [np.exp(logprobs[b, :, j].astype(np.float64)).std() for j in tokens]
        weights = np.array(spread) / sum(spread)
        np.testing.assert_allclose(rewards[b], logprobs[b][:, tokens] @ weights, rtol=1e-4)
    assert (rewards < 0).all()


def with_references(experience):
    rng = np.random.default_rng(2)
    where = np.arange(L) < rng.integers(1, L + 1, (B, 1))
    where[2] = False  # a problem without a reference
    lengths = np.maximum(np.asarray(experience.completion_mask.sum(-1)) - 1, 0).astype(np.int32)
    answers = rng.integers(1, 6, (B, L)).astype(np.int32)
    references = jax.tree.map(jnp.asarray, References(answers, where, lengths))
    return experience._replace(references=references)


@pytest.mark.parametrize("micro_batches", [1, 4])
def test_self_certainty_is_the_last_objective_for_any_micro_batches(micro_batches):
    params, experience = table_params(), with_references(ragged_experience())
    answers = experience.references
    experience = experience._replace(repeated=jnp.ones((*experience.rewards.shape, 2)))
    with mock.patch.object(reflection, "policy_logprobs", table_logprobs):
        filled = with_self_certainty(
            params, experience, model=None, temperature=1.0, micro_batches=micro_batches
        )
        logprobs = answer_logprobs(
            params, experience, answers.tokens, answers.reasoning_lengths, model=None
        )
    sampled = np.asarray(experience.completion_mask).any(-1)
    assert not sampled.all()
    for b in range(B):
        tokens = np.flatnonzero(answers.where[b])
        chances = np.exp(np.asarray(logprobs, np.float64))[b][sampled[b]][:, tokens]
        spread = chances.std(0) if len(chances) else np.zeros(len(tokens))
        weights = spread / spread.sum() if spread.sum() else spread
        for g in range(G):
            is_scored = sampled[b, g] and len(tokens) > 0
            assert filled.reward_mask[b, g, -1] == is_scored
            expected = np.asarray(logprobs)[b, g, tokens] @ weights if is_scored else 0
            np.testing.assert_allclose(filled.rewards[b, g, -1], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(filled.rewards[..., :-1], experience.rewards[..., :-1])
    single = np.where(filled.reward_mask, filled.rewards, np.nan)[..., -1]
    np.testing.assert_array_equal(filled.repeated[..., -1, 0], single)
    assert np.isnan(filled.repeated[..., -1, 1]).all()
    assert np.all(filled.repeated[..., :-1, :] == 1)
    assert filled.references is None
    with pytest.raises(ValueError, match="no references"):
        with_self_certainty(params, filled, model=None, temperature=1.0)


def test_reasoning_without_effect_has_reward_zero():
    same = np.full((1, 7, L), math.log(1 / 3), np.float32)
    assert np.all(np.asarray(reflection_rewards(same, np.ones((1, L), bool))) == 0)
