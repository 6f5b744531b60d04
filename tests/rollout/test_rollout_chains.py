"""The sampler on chains whose every word is known: stops, limits, early exit, frequencies."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoder_oracle import QWEN3, random_params
from samplers import KNOBS, STOPS, make_sampler

from dvaojax.models import UnrolledDecoder
from dvaojax.rollout import completion_keys, rollout
from dvaojax.rollout.sampling import Sampling


def chain_config(size):
    return dataclasses.replace(
        QWEN3, vocab_size=size, width=size, num_layers=1, qk_norm=False, tied_head=False
    )


def chain_params(transitions):
    """A decoder that is a Markov chain: the last token alone decides, by `[V, V]` probabilities.

    Its layer adds nothing, its embedding is one-hot, and its head holds the log-probabilities.
    """
    size = len(transitions)
    params = random_params(chain_config(size))
    for name in ("output", "down"):
        params["layers"][name][:] = 0.0
    params["embedding"] = 100.0 * np.eye(size, dtype=np.float32)
    params["norm"]["scale"] = np.ones(size, np.float32)
    scores = np.log(np.maximum(transitions, 1e-30)) / np.sqrt(size)
    return params | {"head": scores.astype(np.float32)}


# Each word leads to the next: 0 to 1, ..., 5 to the stop 6; 9 to 8 to the other stop, 7.
NEXT = {0: 1, 1: 2, 2: 3, 3: 4, 4: 5, 5: 6, 6: 0, 7: 0, 8: 7, 9: 8}
COUNTING = np.eye(10)[list(NEXT.values())]


def counted(start, *, limit, pad_token):
    """What the chain says after `start`: tokens, mask, whether it stopped."""
    tokens, word = [], start
    while len(tokens) < limit and not (tokens and word in STOPS):
        word = NEXT[word]
        tokens.append(word)
    padding = limit - len(tokens)
    mask = [True] * len(tokens) + [False] * padding
    return tokens + [pad_token] * padding, mask, word in STOPS


def prompts_ending_in(words):
    """One prompt for each word, of ragged lengths, with a stop token in front and behind."""
    tokens = np.full((len(words), 3), STOPS[0], np.int32)
    lengths = np.resize([1, 3, 2], len(words)).astype(np.int32)
    tokens[np.arange(len(words)), lengths - 1] = words
    return tokens, lengths


@pytest.mark.parametrize(("limit", "pad_token"), [(1, 0), (2, STOPS[0]), (5, 0), (5, STOPS[1])])
def test_stops_limits_and_padding(limit, pad_token):
    # From 5 the stop comes at once; from 1 it is the last of five tokens; from 0 the limit cuts.
    words = [5, 4, 1, 0, 8, 9]
    sample = make_sampler(chain_config(10), group_size=2, max_new_tokens=limit, pad_token=pad_token)
    prompts, lengths = prompts_ending_in(words)
    done = sample(chain_params(COUNTING), prompts, lengths, jax.random.key(0), np.arange(6))
    chex.assert_type(
        [done.tokens, done.mask, done.logprobs, done.stopped], [jnp.int32, bool, jnp.float32, bool]
    )
    for row, word in enumerate(words):
        tokens, mask, stopped = counted(word, limit=limit, pad_token=pad_token)
        for member in range(2):
            np.testing.assert_array_equal(done.tokens[row, member], tokens)
            np.testing.assert_array_equal(done.mask[row, member], mask)
            assert done.stopped[row, member] == stopped
            sampled = np.asarray(done.tokens[row, member])[np.asarray(done.mask[row, member])]
            assert np.isin(sampled, STOPS).sum() == stopped  # the stop token is there, once
    np.testing.assert_allclose(done.logprobs, 0.0, atol=1e-5)  # nothing else was possible


def test_the_loop_ends_with_the_last_completion(monkeypatch):
    turns = []
    decode = UnrolledDecoder.decode

    def counting(self, *args):
        jax.debug.callback(lambda: turns.append(1))
        return decode(self, *args)

    monkeypatch.setattr(UnrolledDecoder, "decode", counting)
    sample, params = make_sampler(chain_config(10), group_size=2), chain_params(COUNTING)
    for words, expected in (([5, 8], 0), ([5, 3], 2), ([1, 5], 4), ([0, 6], 4)):
        turns.clear()
        prompts, lengths = prompts_ending_in(words)
        jax.block_until_ready(sample(params, prompts, lengths, jax.random.key(0), np.arange(2)))
        jax.effects_barrier()
        # The first token comes from the prompt; each turn of the loop adds one.
        assert len(turns) == expected


def kept_by(sampling, p):
    """Which words of one distribution may be drawn, if the knobs truncate it."""
    descending = sorted(p, reverse=True)
    if sampling.top_k:
        return p >= descending[sampling.top_k - 1]
    if sampling.top_p < 1.0:
        number = 1 + np.searchsorted(np.cumsum(descending), sampling.top_p)
        return p >= descending[number - 1]
    return p >= sampling.min_p * max(p)


@pytest.mark.parametrize(
    "sampling",
    [Sampling(temperature=0.7), Sampling(top_k=3), Sampling(top_p=0.6), Sampling(min_p=0.3)],
    ids=str,
)
def test_frequencies_and_logprobs_are_those_of_the_distribution_drawn_from(sampling):
    size, members = 6, 4096
    transitions = np.random.default_rng(0).dirichlet(np.ones(size), size)
    expected = transitions ** (1.0 / sampling.temperature)
    expected /= expected.sum(axis=1, keepdims=True)
    is_kept = np.array([kept_by(sampling, row) for row in expected])
    assert sampling.truncates == (not is_kept.all())
    expected = np.where(is_kept, expected, 0.0) / np.sum(
        expected, axis=1, keepdims=True, where=is_kept
    )
    sample = make_sampler(
        chain_config(size), group_size=members, sampling=sampling, max_new_tokens=3, stop_tokens=()
    )
    prompts, lengths = np.array([[1], [4]], np.int32), np.ones(2, np.int32)
    params = chain_params(transitions)
    done = jax.device_get(sample(params, prompts, lengths, jax.random.key(0), np.arange(2)))
    before = np.concatenate(
        [np.broadcast_to(prompts[:, None], (2, members, 1)), done.tokens[..., :-1]], axis=-1
    )
    assert is_kept[before, done.tokens].all()
    np.testing.assert_allclose(done.logprobs, np.log(expected[before, done.tokens]), atol=1e-4)

    counts = np.zeros((size, size))
    np.add.at(counts, (before, done.tokens), 1)
    hoped = expected * counts.sum(axis=1, keepdims=True)
    is_hoped = hoped > 0.0  # truncation may leave words that nothing leads to
    chi_square = np.sum((counts - hoped)[is_hoped] ** 2 / hoped[is_hoped])
    freedom = is_hoped.sum() - is_hoped.any(axis=1).sum()
    assert chi_square < freedom + 4.0 * np.sqrt(2.0 * freedom)


def test_repeated_calls_with_ragged_data_trace_once():
    config, params = chain_config(10), chain_params(COUNTING)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def sample(params, prompts, lengths, keys):
        return rollout(params, prompts, lengths, keys, config=config, **KNOBS)

    sampled = set()
    for call in range(10):
        words = np.random.default_rng(call).integers(0, 10, 3)
        keys = completion_keys(jax.random.key(call), np.arange(3) + 3 * call, group_size=2)
        sampled.add(int(sample(params, *prompts_ending_in(words), keys).mask.sum()))
    assert len(sampled) > 3
