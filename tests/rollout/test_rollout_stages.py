"""A rollout in stages is the rollout in one piece: caches grow, finished completions are left."""

import itertools

import jax
import numpy as np
import pytest
from decoder_oracle import QWEN3, random_params
from samplers import random_prompts

from dvaojax.models import UnrolledDecoder
from dvaojax.rollout import completion_keys, rollout
from dvaojax.rollout import generate as module
from dvaojax.rollout.generate import stages
from dvaojax.rollout.sampling import Sampling

KNOBS = {"sampling": Sampling(), "max_new_tokens": 16, "pad_token": 0}


def make_sample(*, stop_tokens=(), max_stages=module.MAX_STAGES):
    """Two prompts, four completions each, as a function of their limits."""
    prompts, lengths = random_prompts(2)
    keys = completion_keys(jax.random.key(3), np.arange(2), group_size=4)
    knobs = {"config": QWEN3, "stop_tokens": stop_tokens, "max_stages": max_stages, **KNOBS}

    @jax.jit
    def run(params, limits):
        return rollout(params, prompts, lengths, keys, limits=limits, **knobs)

    return lambda limits: jax.device_get(run(random_params(QWEN3), limits))


@pytest.fixture(scope="module")
def sample():
    """A sampler of several stages; the modules' own are too long for a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MIN_STAGE", 2)
        sample = make_sample()
        sample(LIMITS["all in full"])
        yield sample


LIMITS = {
    "all in full": np.full((2, 4), 16),
    "ragged": np.array([[16, 3, 1, 9], [2, 5, 4, 1]]),
    "one goes on": np.array([[1, 1, 1, 16], [2, 1, 1, 1]]),
    "unequal groups": np.array([[7, 0, 0, 0], [5, 6, 8, 2]]),
    "a group of none": np.array([[0, 0, 0, 0], [5, 6, 8, 2]]),
}


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
def test_limits_cut_completions_and_change_no_token(sample, limits):
    in_full, cut = sample(LIMITS["all in full"]), sample(limits)
    kept = np.arange(16) < limits[..., None]
    np.testing.assert_array_equal(cut.mask, kept)
    np.testing.assert_array_equal(cut.tokens, np.where(kept, in_full.tokens, 0))
    np.testing.assert_allclose(cut.logprobs, np.where(kept, in_full.logprobs, 0.0), atol=1e-5)
    assert not cut.stopped.any()


def test_in_stages_as_in_one_piece(monkeypatch):
    monkeypatch.setattr(module, "MIN_STAGE", 2)
    expected = make_sample(stop_tokens=(3, 9), max_stages=1)(LIMITS["all in full"])
    actual = make_sample(stop_tokens=(3, 9), max_stages=3)(LIMITS["all in full"])
    assert np.ptp(expected.mask.sum(axis=-1)) > 4  # some go on where others have stopped
    for name in ("tokens", "mask", "stopped"):
        np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name))
    np.testing.assert_allclose(actual.logprobs, expected.logprobs, atol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 100, 1024, 8191])
@pytest.mark.parametrize("group_size", [1, 2, 3, 7, 8, 16])
def test_every_stage_holds_what_it_may_meet(length, group_size):
    plan = stages(length, group_size)
    ends = [stage.until for stage in plan]
    assert ends == sorted(set(ends))
    assert ends[-1] == length
    # Each doubles what stands, but for rounding; so no cache is read at over twice its need.
    assert all(after <= 2 * before for before, after in itertools.pairwise(ends))
    assert plan[0].group_sizes == (group_size,)
    for stage in plan:
        assert stage.group_sizes[0] == group_size
        assert min(stage.group_sizes) >= 1
        assert list(stage.group_sizes) == sorted(set(stage.group_sizes), reverse=True)


def test_a_short_rollout_is_one_stage():
    assert len(stages(module.MIN_STAGE, 8)) == 1


def test_work_shrinks_with_the_group(monkeypatch):
    sizes = []
    decode = UnrolledDecoder.decode

    def noting(self, tokens, *args):
        jax.debug.callback(lambda: sizes.append(tokens.shape[1]))
        return decode(self, tokens, *args)

    monkeypatch.setattr(UnrolledDecoder, "decode", noting)
    monkeypatch.setattr(module, "MAX_STAGES", 2)
    monkeypatch.setattr(module, "MIN_STAGE", 8)
    make_sample()(LIMITS["one goes on"])
    jax.effects_barrier()
    assert sizes == [4] * 7 + [1] * 8
