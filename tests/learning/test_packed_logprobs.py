"""Packed rows have the same log-probabilities and gradients as padded ones."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoder_oracle import FAMILIES, random_params
from slowness import slow_but

from dvaojax.data.packing import CompletionLayout, pack
from dvaojax.learning.policy_logprobs import policy_logprobs
from dvaojax.types import Experience

pytestmark = pytest.mark.slow

LENGTHS = {
    "ragged": [[7, 1, 3], [2, 7, 4]],
    "empty": [[0, 0, 0], [5, 0, 1]],
    "full": [[7, 7, 7], [7, 7, 7]],
    "one token": [[1, 1, 1], [1, 2, 1]],
}


def experience_of(lengths, *, vocabulary):
    generator = np.random.default_rng(0)
    lengths = np.array(lengths)
    shape = (*lengths.shape, 7)
    mask = np.arange(7) < lengths[..., None]
    ones = np.ones((*lengths.shape, 1))
    return Experience(
        prompt_tokens=generator.integers(0, vocabulary, (2, 5)).astype(np.int32),
        prompt_lengths=np.array([5, 2], np.int32),
        completion_tokens=generator.integers(0, vocabulary, shape).astype(np.int32),
        completion_mask=mask,
        logprobs=np.zeros(shape, np.float32),
        rewards=ones,
        reward_mask=ones > 0,
    )


@functools.cache
def measured(name):
    """Value and gradient of a family's decoder, compiled once padded and once packed."""

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def weighted(params, experience, weights):
        logp, entropy = policy_logprobs(params, experience, model=FAMILIES[name], temperature=0.7)
        return jnp.sum(weights * logp), (logp, entropy)

    return weighted


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("name", slow_but(["qwen3"], FAMILIES))
def test_packed_equals_padded(name, lengths):
    config = FAMILIES[name]
    padded = experience_of(lengths, vocabulary=config.vocab_size)
    packed = pack(np.array(lengths), CompletionLayout(width=7, slots=20))
    where = padded.completion_mask
    weights = np.where(where, np.random.default_rng(1).normal(size=where.shape), 0.0)
    params = random_params(config)
    (_, expected), gradient = measured(name)(params, padded, weights)
    packed_experience = padded._replace(packed=packed)
    (_, actual), packed_gradient = measured(name)(params, packed_experience, weights)
    for a, b in zip(actual, expected, strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a[where], b[where], atol=2e-5)
    jax.tree.map(partial(np.testing.assert_allclose, atol=2e-4), packed_gradient, gradient)


@pytest.mark.slow
def test_completions_of_one_token_equal_the_first_of_longer_ones():
    name = next(iter(FAMILIES))
    longer = experience_of(LENGTHS["full"], vocabulary=FAMILIES[name].vocab_size)
    per_token = ("completion_tokens", "completion_mask", "logprobs")
    cut = longer._replace(**{field: getattr(longer, field)[..., :1] for field in per_token})
    params = random_params(FAMILIES[name])
    expected, actual = (
        policy_logprobs(params, experience, model=FAMILIES[name], temperature=0.7)
        for experience in (longer, cut)
    )
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b[..., :1], atol=2e-5)
