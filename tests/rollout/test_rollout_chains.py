"""The sampler on Markov chains: stop tokens, limits, early exit and frequencies."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoder_oracle import QWEN3, random_params
from samplers import OPTIONS, STOPS, make_sampler

from dvaojax.models import UnrolledDecoder
from dvaojax.rollout import completion_keys, rollout
from dvaojax.rollout.sampling import Sampling

pytestmark = pytest.mark.slow


def chain_config(size):
    return dataclasses.replace(
        QWEN3, vocab_size=size, width=size, num_layers=1, qk_norm=False, tied_head=False
    )


def chain_params(transitions):
    """Parameters of a decoder that is a Markov chain with transition probabilities `[V, V]`.

    Its layer has no effect, its embedding is one-hot, and its head has the log-probabilities.
    """
    size = len(transitions)
    params = random_params(chain_config(size))
    for name in ("output", "down"):
        params["layers"][name][:] = 0.0
    params["embedding"] = 100.0 * np.eye(size, dtype=np.float32)
    params["norm"]["scale"] = np.ones(size, np.float32)
    scores = np.log(np.maximum(transitions, 1e-30)) / np.sqrt(size)
    return params | {"head": scores.astype(np.float32)}


# A deterministic chain: 0 to 1, ..., 5 to the stop token 6; 9 to 8 to the other stop token, 7.
NEXT = {0: 1, 1: 2, 2: 3, 3: 4, 4: 5, 5: 6, 6: 0, 7: 0, 8: 7, 9: 8}
COUNTING = np.eye(10)[list(NEXT.values())]


def expected_completion(start, *, limit, pad_token):
    """The completion after the token `start`: tokens, mask, and whether it stopped."""
    tokens, last = [], start
    while len(tokens) < limit and not (tokens and last in STOPS):
        last = NEXT[last]
        tokens.append(last)
    padding = limit - len(tokens)
    mask = [True] * len(tokens) + [False] * padding
    return tokens + [pad_token] * padding, mask, last in STOPS


def prompts_ending_in(last_tokens):
    """One prompt for each last token, of ragged lengths; its other tokens are stop tokens."""
    tokens = np.full((len(last_tokens), 3), STOPS[0], np.int32)
    lengths = np.resize([1, 3, 2], len(last_tokens)).astype(np.int32)
    tokens[np.arange(len(last_tokens)), lengths - 1] = last_tokens
    return tokens, lengths


@pytest.mark.parametrize(("limit", "pad_token"), [(1, 0), (2, STOPS[0]), (5, 0), (5, STOPS[1])])
def test_stops_limits_and_padding(limit, pad_token):
    # After 5 the stop token is the first token, after 1 the last of five; 0 reaches the limit.
    last_tokens = [5, 4, 1, 0, 8, 9]
    sample = make_sampler(chain_config(10), group_size=2, max_new_tokens=limit, pad_token=pad_token)
    prompts, lengths = prompts_ending_in(last_tokens)
    done = sample(chain_params(COUNTING), prompts, lengths, jax.random.key(0), np.arange(6))
    chex.assert_type(
        [done.tokens, done.mask, done.logprobs, done.stopped], [jnp.int32, bool, jnp.float32, bool]
    )
    for row, last in enumerate(last_tokens):
        tokens, mask, stopped = expected_completion(last, limit=limit, pad_token=pad_token)
        for member in range(2):
            np.testing.assert_array_equal(done.tokens[row, member], tokens)
            np.testing.assert_array_equal(done.mask[row, member], mask)
            assert done.stopped[row, member] == stopped
            sampled = np.asarray(done.tokens[row, member])[np.asarray(done.mask[row, member])]
            assert np.isin(sampled, STOPS).sum() == stopped  # the stop token is included, once
    np.testing.assert_allclose(done.logprobs, 0.0, atol=1e-5)  # the chain is deterministic


def test_the_loop_ends_with_the_last_completion(monkeypatch):
    steps = []
    decode = UnrolledDecoder.decode

    def counting(self, *args):
        jax.debug.callback(lambda: steps.append(1))
        return decode(self, *args)

    monkeypatch.setattr(UnrolledDecoder, "decode", counting)
    sample, params = make_sampler(chain_config(10), group_size=2), chain_params(COUNTING)
    for last_tokens, expected in (([5, 8], 0), ([5, 3], 2), ([1, 5], 4), ([0, 6], 4)):
        steps.clear()
        prompts, lengths = prompts_ending_in(last_tokens)
        jax.block_until_ready(sample(params, prompts, lengths, jax.random.key(0), np.arange(2)))
        jax.effects_barrier()
        # Prefill gives the first token, each decoding step one more.
        assert len(steps) == expected


def kept_by(sampling, p):
    """The tokens of a distribution that may be drawn after truncation."""
    descending = sorted(p, reverse=True)
    if sampling.top_k:
        return p >= descending[sampling.top_k - 1]
    if sampling.top_p < 1.0:
        number = 1 + np.searchsorted(np.cumsum(descending), sampling.top_p)
        return p >= descending[number - 1]
    return p >= sampling.min_p * max(p)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampling",
    [Sampling(temperature=0.7), Sampling(top_k=3), Sampling(top_p=0.6), Sampling(min_p=0.3)],
    ids=str,
)
def test_frequencies_and_logprobs_are_those_of_the_sampling_distribution(sampling):
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
    expected_counts = expected * counts.sum(axis=1, keepdims=True)
    is_possible = expected_counts > 0.0  # truncation may make tokens unreachable
    errors = (counts - expected_counts)[is_possible]
    chi_square = np.sum(errors**2 / expected_counts[is_possible])
    freedom = is_possible.sum() - is_possible.any(axis=1).sum()
    assert chi_square < freedom + 4.0 * np.sqrt(2.0 * freedom)


def test_repeated_calls_with_ragged_data_trace_once():
    config, params = chain_config(10), chain_params(COUNTING)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def sample(params, prompts, lengths, keys):
        return rollout(params, prompts, lengths, keys, config=config, **OPTIONS)

    token_counts = set()
    for call in range(10):
        last_tokens = np.random.default_rng(call).integers(0, 10, 3)
        keys = completion_keys(jax.random.key(call), np.arange(3) + 3 * call, group_size=2)
        rollouts = sample(params, *prompts_ending_in(last_tokens), keys)
        token_counts.add(int(rollouts.mask.sum()))
    assert len(token_counts) > 3
