"""Collection of a step's experience: problems, rewards, shapes, measures."""

from unittest import mock

import digits_run
import jax
import numpy as np
import pytest

from dvaojax import sharding
from dvaojax.allocation import initial_statistics
from dvaojax.data.stream import ShuffledPrompts
from dvaojax.rewards import RewardSuite
from dvaojax.train.allocation_state import DataState, Uniform
from dvaojax.train.batches import PromptBatches
from dvaojax.train.collect import Collector
from dvaojax.types import Rollout

TEXTS = [["7", "12]", "+", "9999"], ["", "0", "34", "]]"]]
CALLS = []


def sampler(params, tokens, lengths, key, serials, sizes):
    """A sampler that always returns the texts above, and records its arguments."""
    CALLS.append((params, jax.device_get((tokens, lengths, serials, sizes)), key))
    encode = digits_run.Digits.tokenizer.encode
    rows = [[[*encode(text), 1] for text in group] for group in TEXTS]
    width = 16
    tokens = np.array([[row + [0] * (width - len(row)) for row in g] for g in rows], np.int32)
    mask = np.array([[[i < len(row) for i in range(width)] for row in g] for g in rows])
    stopped = np.array([[True] * 3 + [False], [True] * 4])
    logprobs = np.where(mask, -tokens / 10, 0).astype(np.float32)
    return Rollout(*map(jax.numpy.asarray, (tokens, mask, logprobs, stopped)))


def make_collected(**settings):
    """The experience of the texts above."""
    CALLS.clear()
    task, mesh = digits_run.Digits(), sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:2])
    stream, by_group = ShuffledPrompts(task.prompts("train"), seed=4), sharding.named(mesh, "group")
    collector = Collector(
        batches=PromptBatches(task, stream, by_group, prompts_per_step=2, kept=2),
        tokenizer=task.tokenizer,
        scorer=RewardSuite(task.objectives),
        sampler=sampler,
        allocation=Uniform(4),
        refills=0,
        key=jax.random.key(8),
        **settings,
    )
    rollout, data = collector.start_rollout(
        "the parameters", DataState(6, initial_statistics(0, 3))
    )
    collected, data = collector.collect("the parameters", rollout, data)
    assert data.position == 8
    return collected


@pytest.fixture
def collected():
    return make_collected()


def test_samples_the_problems_of_the_step_with_their_stream_positions(collected):
    stream = ShuffledPrompts(digits_run.Digits().prompts("train"), seed=4)
    assert collected.prompts == stream.take([6, 7])
    params, (tokens, lengths, serials, sizes), key = CALLS[0]
    assert params == "the parameters"
    assert serials.tolist() == [6, 7]
    assert sizes.tolist() == [4, 4]
    assert key == jax.random.key(8)
    texts = [p.text for p in collected.prompts]
    assert [digits_run.Digits.tokenizer.decode(row) for row in tokens] == texts
    assert lengths.tolist() == [len(text) for text in texts]


def test_each_reward_is_at_the_index_of_its_completion(collected):
    """Trap 12: K objectives give K columns; objectives that do not apply are masked."""
    experience = jax.device_get(collected.experience)
    assert experience.rewards.shape == (2, 4, 3)
    assert [[c.text for c in group] for group in collected.completions] == TEXTS
    for b, group in enumerate(TEXTS):
        reference = int(collected.prompts[b].reference)
        for g, text in enumerate(group):
            numbers = [int(c) for c in text if c.isdigit()]
            expected = [
                len(numbers) / max(len(text), 1),
                -abs(max(numbers) - reference) / 9 if numbers else 0.0,
                float(len(text) + 1 <= 5),
            ]
            np.testing.assert_allclose(experience.rewards[b, g], expected, rtol=1e-6)
            assert experience.reward_mask[b, g].tolist() == [True, bool(numbers), True]
    np.testing.assert_array_equal(collected.scores.rewards, experience.rewards)


def test_keeps_tokens_mask_and_logprobs_of_the_sampler(collected):
    experience = jax.device_get(collected.experience)
    whole = sampler(None, 0, 0, 0, 0, 0)
    np.testing.assert_array_equal(experience.completion_tokens, whole.tokens)
    np.testing.assert_array_equal(experience.completion_mask, whole.mask)
    np.testing.assert_array_equal(experience.logprobs, whole.logprobs)


def test_short_completions_are_packed(collected):
    fed = np.asarray(collected.lengths.completions) - 1
    packed = np.asarray(collected.experience.packed)
    assert packed.shape[1] < 4 * 16, "a row is shorter than the rectangle"
    np.testing.assert_array_equal((packed >= 0).sum(axis=1), fed.sum(axis=1))


def test_host_arrays_are_sharded_by_group(collected):
    e = collected.experience
    for array in (e.prompt_tokens, e.prompt_lengths, e.rewards, e.reward_mask):
        assert [shard.data.shape[0] for shard in array.addressable_shards] == [1, 1]


def test_measures_of_a_step(collected):
    lengths = [len(text) + 1 for group in TEXTS for text in group]
    assert collected.measures["sampled_tokens"] == sum(lengths)
    assert collected.measures["truncated"] == 1 / 8
    np.testing.assert_array_equal(collected.lengths.completions.ravel(), lengths)
    assert collected.lengths.prompts.tolist() == [len(p.text) for p in collected.prompts]
    assert collected.measures["reward_seconds"] >= 0


def test_batches_depend_on_positions_only_and_are_encoded_once():
    task, encoded = digits_run.Digits(), []

    class Counting:
        pad_token = task.tokenizer.pad_token

        def encode(self, text):
            encoded.append(text)
            return task.tokenizer.encode(text)

    counting = mock.Mock(wraps=task, tokenizer=Counting(), max_prompt_length=4)
    stream = ShuffledPrompts(task.prompts("train"), seed=4)
    where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    batches = PromptBatches(counting, stream, where, prompts_per_step=2, kept=2)
    ahead = batches.from_position(6)
    assert batches.from_position(4).serials.tolist() == [4, 5]
    assert batches.at([6, 7]) is ahead
    assert ahead.serials.tolist() == [6, 7]
    assert encoded == [p.text for p in stream.take([6, 7, 4, 5])]
