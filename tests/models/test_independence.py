"""Log-probabilities do not depend on later tokens, other completions, other groups or padding."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoder_oracle import QWEN3, random_groups, random_params

from dvaojax import models

pytestmark = pytest.mark.slow


@jax.jit
def logprobs(params, prompts, lengths, completions):
    """`[B, G, T]`."""
    model = models.apply(QWEN3, params)
    hidden = model(prompts, lengths, completions)
    return models.token_logprobs(hidden, model.output_matrix(), completions)[0]


@pytest.fixture(scope="module")
def params():
    return random_params(QWEN3)


@pytest.fixture
def groups():
    return random_groups(QWEN3, lengths=[5, 1, 3], width=5, group_size=3, completion_length=4)


def test_gradient_reaches_only_the_prompt_and_earlier_tokens():
    # Every position has a different token, so the gradient of the embedding's rows shows which
    # positions a hidden state depends on. The head is untied: otherwise every row would also be an
    # output.
    lengths, (batch, width, group, length) = [4, 2], (2, 4, 2, 3)
    num_tokens = batch * width + batch * group * length
    config = dataclasses.replace(QWEN3, vocab_size=num_tokens, tied_head=False)
    params = random_params(config)
    prompts = np.arange(batch * width, dtype=np.int32).reshape(batch, width)
    completions = np.arange(batch * width, num_tokens, dtype=np.int32).reshape(batch, group, length)
    probe = np.random.default_rng(0).normal(size=(1, 1, 1, config.width)).astype(np.float32)

    @jax.jit
    @jax.jacrev
    def dependence(embedding):
        model = models.apply(config, params | {"embedding": embedding})
        return jnp.sum(model(prompts, np.array(lengths, np.int32), completions) * probe, axis=-1)

    reached = np.any(dependence(params["embedding"]) != 0.0, axis=-1)  # [B, G, T, V]
    expected = np.zeros_like(reached)
    for b, g, t in np.ndindex(batch, group, length):
        expected[b, g, t, prompts[b, : lengths[b]]] = True
        expected[b, g, t, completions[b, g, :t]] = True
    np.testing.assert_array_equal(reached, expected)


def test_prefill_is_causal_by_gradient():
    config = dataclasses.replace(QWEN3, vocab_size=6, tied_head=False)
    params = random_params(config)
    tokens = np.arange(6, dtype=np.int32)[None]
    probe = np.random.default_rng(0).normal(size=(1, config.width)).astype(np.float32)

    @jax.jit
    @jax.jacrev
    def dependence(embedding):
        model = models.apply(config, params | {"embedding": embedding})
        return jnp.sum(model.prefill(tokens)[0][0] * probe, axis=-1)

    reached = np.any(dependence(params["embedding"]) != 0.0, axis=-1)
    np.testing.assert_array_equal(reached, np.tril(np.ones((6, 6), bool)))


def test_changing_a_token_changes_its_own_and_later_logprobs_only(params, groups):
    before = logprobs(params, *groups)
    for t in range(4):
        completions = groups.completions.copy()
        completions[1, 1, t] = (completions[1, 1, t] + 1) % QWEN3.vocab_size
        after = logprobs(params, groups.prompts, groups.lengths, completions)
        is_changed = np.asarray(before != after)
        expected = np.zeros_like(is_changed)
        expected[1, 1, t:] = True  # its own is the log-probability of another token now
        np.testing.assert_array_equal(is_changed, expected)


@pytest.mark.parametrize("pad_token", [0, QWEN3.vocab_size - 1, QWEN3.vocab_size + 7, -100])
def test_the_padding_token_has_no_effect_and_gradients_are_finite(params, groups, pad_token):
    # Some tokenizers pad with a token outside the vocabulary.
    prompts, completions = groups.prompts.copy(), groups.completions.copy()
    prompts[np.arange(5)[None] >= groups.lengths[:, None]] = pad_token
    completions[0, :, 2:] = pad_token
    where = np.ones(completions.shape, bool)
    where[0, :, 2:] = False
    before = logprobs(params, *groups)
    after = logprobs(params, prompts, groups.lengths, completions)
    np.testing.assert_array_equal(np.where(where, before, 0.0), np.where(where, after, 0.0))

    gradient = gradient_of_sum(params, prompts, groups.lengths, completions, where)
    expected = gradient_of_sum(params, *groups, where)
    chex.assert_tree_all_finite(gradient)
    chex.assert_trees_all_close(gradient, expected, atol=1e-5, rtol=1e-5)


@jax.jit
@jax.grad
def gradient_of_sum(params, prompts, lengths, completions, where):
    return jnp.sum(jnp.where(where, logprobs(params, prompts, lengths, completions), 0.0))


def test_the_amount_of_padding_has_no_effect(params, groups):
    before = logprobs(params, *groups)
    prompts = np.pad(groups.prompts, [(0, 0), (0, 4)], constant_values=7)
    completions = np.pad(groups.completions, [(0, 0), (0, 0), (0, 3)], constant_values=7)
    after = logprobs(params, prompts, groups.lengths, completions)
    chex.assert_trees_all_close(before, after[..., :4], atol=1e-5)


def test_other_groups_and_completions_have_no_effect(params, groups):
    before = logprobs(params, *groups)
    others = random_groups(
        QWEN3, lengths=[1, 1, 5], width=5, group_size=3, completion_length=4, seed=1
    )
    for array, original in zip(others, groups, strict=True):
        array[1] = original[1]
    others.completions[1, 0] = 3  # another completion of the same group
    after = logprobs(params, *others)
    np.testing.assert_array_equal(before[1, 1:], after[1, 1:])

    alone = (groups.prompts[1:2], groups.lengths[1:2], groups.completions[1:2, 1:2])
    chex.assert_trees_all_close(logprobs(params, *alone)[0, 0], before[1, 1], atol=1e-5)
