"""R3: the reference answer's tokens, asked of the policy behind each completion's reasoning."""

import math
from unittest import mock

import jax
import numpy as np
from learning_cases import ragged_experience, table_logprobs, table_params

from dvaojax.learning import reflection
from dvaojax.learning.reflection import answer_logprobs, reflection_rewards

B, G, L = 8, 4, 3


def test_the_answer_stands_right_behind_the_reasoning():
    """Of a policy that sees the token before alone: each log-probability is one of its table."""
    experience, params = ragged_experience(), table_params()
    rng = np.random.default_rng(0)
    answers = rng.integers(1, 6, (B, L)).astype(np.int32)
    lengths = np.asarray(experience.completion_mask.sum(-1), np.int32)
    lengths = np.maximum(lengths - 1, 0)  # the last token was to stop
    with mock.patch.object(reflection, "policy_logprobs", table_logprobs):
        found = np.asarray(answer_logprobs(params, experience, answers, lengths, model=None))
    table = np.asarray(jax.nn.log_softmax(params["table"]))
    for b, g, j in np.ndindex(B, G, L):
        if j:
            before = answers[b, j - 1]
        elif lengths[b, g]:
            before = experience.completion_tokens[b, g, lengths[b, g] - 1]
        else:
            before = experience.prompt_tokens[b, experience.prompt_lengths[b] - 1]
        np.testing.assert_allclose(found[b, g, j], table[before, answers[b, j]], rtol=1e-5)


def test_tokens_count_by_how_much_they_react_to_the_reasoning():
    rng = np.random.default_rng(1)
    logprobs = np.log(rng.uniform(0.1, 0.9, (2, G, L))).astype(np.float32)
    logprobs[0, :, 1] = math.log(0.3)  # whatever was reasoned
    where = np.array([[True, True, True], [True, True, False]])
    logprobs[1, :, 2] = np.nan
    found = np.asarray(reflection_rewards(logprobs, where))
    for b in range(2):
        tokens = np.flatnonzero(where[b])
        spread = [np.exp(logprobs[b, :, j].astype(np.float64)).std() for j in tokens]
        weights = np.array(spread) / sum(spread)
        np.testing.assert_allclose(found[b], logprobs[b][:, tokens] @ weights, rtol=1e-4)
    assert (found < 0).all()


def test_reasoning_that_changes_nothing_earns_nothing():
    same = np.full((1, 7, L), math.log(1 / 3), np.float32)
    assert np.all(np.asarray(reflection_rewards(same, np.ones((1, L), bool))) == 0)
