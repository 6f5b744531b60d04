"""R3: log-probabilities of the reference answer after each completion's reasoning."""

import math
from unittest import mock

import jax
import numpy as np
from learning_cases import ragged_experience, table_logprobs, table_params

from dvaojax.learning import reflection
from dvaojax.learning.reflection import answer_logprobs, reflection_rewards

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


def test_reasoning_without_effect_has_reward_zero():
    same = np.full((1, 7, L), math.log(1 / 3), np.float32)
    assert np.all(np.asarray(reflection_rewards(same, np.ones((1, L), bool))) == 0)
