"""The sampler's log-probabilities equal those of the trainer, up to rounding."""

from functools import partial

import jax
import numpy as np
import pytest
from decoder_oracle import FAMILIES, random_params
from samplers import make_sampler, random_prompts

from dvaojax.learning.policy_logprobs import policy_logprobs
from dvaojax.rollout.sampling import Sampling
from dvaojax.types import Experience


@pytest.mark.parametrize(
    ("family", "temperature"),
    [
        ("qwen3", 0.6),
        pytest.param("qwen2", 1.0, marks=pytest.mark.slow),
        pytest.param("llama", 1.3, marks=pytest.mark.slow),
    ],
)
def test_the_trainer_recomputes_the_samplers_logprobs(family, temperature):
    config = FAMILIES[family]
    params, (prompts, lengths) = random_params(config), random_prompts(6)
    sample = make_sampler(config, group_size=4, sampling=Sampling(temperature), max_new_tokens=9)
    done = sample(params, prompts, lengths, jax.random.key(0), np.arange(6))

    experience = Experience(
        prompt_tokens=prompts,
        prompt_lengths=lengths,
        completion_tokens=done.tokens,
        completion_mask=done.mask,
        logprobs=done.logprobs,
        rewards=np.zeros((6, 4, 1), np.float32),
        reward_mask=np.ones((6, 4, 1), bool),
    )
    recompute = jax.jit(partial(policy_logprobs, model=config, temperature=temperature))
    logprobs, _ = recompute(params, experience)
    expected = np.where(done.mask, logprobs, 0.0)
    np.testing.assert_allclose(done.logprobs, expected, atol=1e-5)
    assert 0 < np.sum(done.mask) < done.mask.size  # some completions stopped early
    assert np.all(np.asarray(done.logprobs)[np.asarray(done.mask)] < 0.0)
