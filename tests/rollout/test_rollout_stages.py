"""A rollout in several stages equals a rollout in one stage."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from decoder_oracle import QWEN3, random_params
from samplers import random_prompts

from dvaojax.models import UnrolledDecoder
from dvaojax.rollout import completion_keys, generate, rollout
from dvaojax.rollout.generate import stages
from dvaojax.rollout.sampling import Sampling

OPTIONS = {"sampling": Sampling(), "max_new_tokens": 16, "pad_token": 0}
STOPS = (9, 15)  # at full length, the completions have between 4 and 16 tokens


def make_sample(*, stop_tokens=STOPS, max_stages=generate.MAX_STAGES, **changes):
    """A sampler of two prompts with four completions each, as a function of their limits."""
    prompts, lengths = random_prompts(2)
    keys = completion_keys(jax.random.key(3), np.arange(2), group_size=4)
    options = {"config": QWEN3, "stop_tokens": stop_tokens, "max_stages": max_stages, **OPTIONS}
    options |= changes

    @jax.jit
    def run(params, limits):
        return rollout(params, prompts, lengths, keys, limits=limits, **options)

    return lambda limits: jax.device_get(run(random_params(options["config"]), limits))


@pytest.fixture(scope="module")
def sample():
    """A sampler with several stages, shorter than the default ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generate, "MIN_STAGE", 2)
        sample = make_sample()
        sample(LIMITS["full length"])
        yield sample


LIMITS = {
    "full length": np.full((2, 4), 16),
    "ragged": np.array([[16, 3, 1, 9], [2, 5, 4, 1]]),
    "one long completion": np.array([[1, 1, 1, 16], [2, 1, 1, 1]]),
    "unequal groups": np.array([[7, 0, 0, 0], [5, 6, 8, 2]]),
    "an empty group": np.array([[0, 0, 0, 0], [5, 6, 8, 2]]),
}


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
def test_limits_truncate_completions_and_change_no_token(sample, limits):
    full, truncated = sample(LIMITS["full length"]), sample(limits)
    kept = full.mask & (np.arange(16) < limits[..., None])
    np.testing.assert_array_equal(truncated.mask, kept)
    np.testing.assert_array_equal(truncated.tokens, np.where(kept, full.tokens, 0))
    np.testing.assert_allclose(truncated.logprobs, np.where(kept, full.logprobs, 0.0), atol=1e-5)
    np.testing.assert_array_equal(
        truncated.stopped, full.stopped & (full.mask.sum(axis=-1) <= limits)
    )


def test_a_limit_is_no_stop_where_the_padding_token_is_a_stop_token(sample):
    limits = LIMITS["ragged"]
    expected, actual = sample(limits), make_sample(pad_token=STOPS[0], max_stages=1)(limits)
    assert not expected.stopped.all()
    np.testing.assert_array_equal(actual.stopped, expected.stopped)
    np.testing.assert_array_equal(actual.mask, expected.mask)


def test_several_stages_equal_one_stage(sample):
    expected = make_sample(max_stages=1)(LIMITS["full length"])
    actual = sample(LIMITS["full length"])
    assert np.ptp(expected.mask.sum(axis=-1)) > 4  # some are much longer than others
    assert 0 < expected.stopped.sum() < expected.stopped.size
    for name in ("tokens", "mask", "stopped"):
        np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name))
    np.testing.assert_allclose(actual.logprobs, expected.logprobs, atol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 100, 1024, 8191])
@pytest.mark.parametrize("group_size", [1, 2, 3, 7, 8, 16])
def test_stages_cover_all_columns_and_group_sizes(length, group_size):
    schedule = stages(length, group_size)
    ends = [stage.end for stage in schedule]
    assert ends == sorted(set(ends))
    assert ends[-1] == length
    # Each end is at most twice the previous one, so a cache has at most twice the needed length.
    assert all(after <= 2 * before for before, after in itertools.pairwise(ends))
    assert schedule[0].group_sizes == (group_size,)
    for stage in schedule:
        assert stage.group_sizes[0] == group_size
        assert min(stage.group_sizes) >= 1
        assert list(stage.group_sizes) == sorted(set(stage.group_sizes), reverse=True)


@pytest.mark.slow
def test_a_rollout_with_the_kernel_equals_one_with_einsums(monkeypatch):
    config = dataclasses.replace(QWEN3, head_width=128, num_layers=1)
    samples = []
    # With eight rows and a bound below, groups are decoded in two sizes.
    for backend, many_rows in (("einsum", 300), ("pallas", 300), ("pallas", 7)):
        monkeypatch.setattr(generate, "MANY_ROWS", many_rows)
        backend_config = dataclasses.replace(config, decode_attention=backend)
        sample = make_sample(config=backend_config, max_stages=1)
        samples.append([sample(LIMITS[limits]) for limits in ("ragged", "full length")])
    for expected, *others in zip(*samples, strict=True):
        assert 0 < expected.stopped.sum() < expected.stopped.size
        for actual in others:
            for name in ("tokens", "mask", "stopped"):
                np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name))
            np.testing.assert_allclose(actual.logprobs, expected.logprobs, atol=1e-5)


def test_a_short_rollout_has_one_stage():
    assert len(stages(generate.MIN_STAGE, 8)) == 1


@pytest.mark.slow
def test_finished_completions_are_not_decoded(monkeypatch):
    sizes = []
    decode = UnrolledDecoder.decode

    def recording_decode(self, tokens, *args):
        jax.debug.callback(lambda: sizes.append(tokens.shape[1]))
        return decode(self, tokens, *args)

    monkeypatch.setattr(UnrolledDecoder, "decode", recording_decode)
    monkeypatch.setattr(generate, "MAX_STAGES", 2)
    monkeypatch.setattr(generate, "MIN_STAGE", 8)
    make_sample(stop_tokens=())(LIMITS["one long completion"])
    jax.effects_barrier()
    assert sizes == [4] * 7 + [1] * 8
