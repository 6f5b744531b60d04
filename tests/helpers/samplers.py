"""Samplers as used in a run, for the tests of the rollout."""

import jax
import numpy as np
from decoder_oracle import QWEN3

from dvaojax.rollout import completion_keys, rollout
from dvaojax.rollout.sampling import Sampling

STOPS = (6, 7)
LIMIT = 5
OPTIONS = {
    "sampling": Sampling(),
    "max_new_tokens": LIMIT,
    "stop_tokens": STOPS,
    "pad_token": 0,
}


def make_sampler(config, *, group_size, **changes):
    """A jitted sampler that derives the completions' keys from a key and the prompts' serials."""
    options = OPTIONS | changes

    @jax.jit
    def sample(params, prompts, lengths, key, serials):
        keys = completion_keys(key, serials, group_size=group_size)
        return rollout(params, prompts, lengths, keys, config=config, **options)

    return sample


def random_prompts(number, *, seed=0, width=5):
    """Random tokens `[number, width]`, with random padding, and ragged lengths."""
    generator = np.random.default_rng(seed)
    tokens = generator.integers(0, QWEN3.vocab_size, (number, width)).astype(np.int32)
    return tokens, np.resize([width, 1, 3], number).astype(np.int32)
