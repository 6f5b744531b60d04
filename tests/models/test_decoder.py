"""The decoder against a loop over tokens and heads, and its three passes against each other."""

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoder_oracle import (
    FAMILIES,
    QWEN3,
    for_completions,
    hidden_states,
    logits,
    random_groups,
    random_params,
)
from slowness import slow_but

from dvaojax import models
from dvaojax.models import layers
from dvaojax.models.cache import CompletionCache, empty_cache
from dvaojax.models.layers import rotation

RAGGED = {"lengths": [5, 1, 3], "width": 5}
# Several completions per group, groups of one, and completions of one token.
SHAPES = {
    "group": {"group_size": 3, "completion_length": 4},
    "one_completion_of_two_tokens": {"group_size": 1, "completion_length": 2},
    "one_token": {"group_size": 2, "completion_length": 1},
}
WIDE = {"param_dtype": "float64", "compute_dtype": "float64"}


@pytest.fixture(params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


def forward(config, params, groups):
    return models.apply(config, params)(*groups)


def with_logits(config, params, groups):
    """Hidden states and logits of the completions."""
    model = models.apply(config, params)
    hidden = model(*groups)
    return hidden, model.logits(hidden)


def test_against_a_loop_in_float32():
    params = random_params(QWEN3)
    groups = random_groups(QWEN3, **RAGGED, **SHAPES["group"])
    hidden, scores = jax.jit(partial(with_logits, QWEN3))(params, tuple(groups))
    chex.assert_type([hidden, scores], jnp.float32)
    expected = for_completions(hidden_states, QWEN3, params, groups)
    np.testing.assert_allclose(hidden, expected, atol=1e-4, rtol=1e-4)
    expected = for_completions(logits, QWEN3, params, groups)
    np.testing.assert_allclose(scores, expected, atol=1e-4, rtol=1e-4)


def test_against_a_loop_in_float64(family):
    config = dataclasses.replace(family, **WIDE)
    with jax.enable_x64(True):
        params = random_params(config)
        groups = random_groups(config, **RAGGED, **SHAPES["group"])
        hidden, scores = jax.jit(partial(with_logits, config))(params, tuple(groups))
        chex.assert_type([hidden, scores], jnp.float64)
    expected = for_completions(hidden_states, config, params, groups)
    np.testing.assert_allclose(hidden, expected, atol=1e-11, rtol=1e-11)
    expected = for_completions(logits, config, params, groups)
    np.testing.assert_allclose(scores, expected, atol=1e-10, rtol=1e-10)


@pytest.mark.slow
def test_gradient_against_finite_differences_of_the_loop(family):
    config = dataclasses.replace(family, num_layers=1, **WIDE)
    groups = random_groups(config, lengths=[3], width=4, group_size=2, completion_length=3)
    generator = np.random.default_rng(3)
    with jax.enable_x64(True):
        params = random_params(config)
        direction = jax.tree.map(lambda a: generator.normal(size=a.shape), params)
        weights = generator.normal(size=(1, 2, 3, config.vocab_size))
        gradient = jax.jit(
            jax.grad(lambda p: jnp.sum(with_logits(config, p, groups)[1] * weights))
        )(params)
        slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: np.sum(g * d), gradient, direction)))

    def value_at(distance):
        moved = jax.tree.map(lambda a, d: np.asarray(a) + distance * d, params, direction)
        return np.sum(for_completions(logits, config, moved, groups) * weights)

    np.testing.assert_allclose(slope, (value_at(1e-5) - value_at(-1e-5)) / 2e-5, rtol=1e-6)


def repeated(config, params, groups):
    """Hidden states computed without groups: each completion after a copy of its prompt.

    Every pair is one sequence with plain causal attention.
    """
    prompts, lengths, completions = groups
    group, length = completions.shape[1:]
    rows = [
        np.concatenate([prompt[:n], completion, prompt[n:]])
        for prompt, n, members in zip(prompts, lengths, completions, strict=True)
        for completion in members
    ]
    hidden, _ = models.apply(config, params).prefill(jnp.asarray(rows))
    columns = np.repeat(lengths, group)[:, None] - 1 + np.arange(length)[None]
    hidden = jnp.take_along_axis(hidden, jnp.asarray(columns)[..., None], axis=1)
    return hidden.reshape(*completions.shape, config.width)


@pytest.mark.parametrize("shape", slow_but(list(SHAPES)[:1], SHAPES))
def test_one_pass_equals_repeated_prompts_in_value_and_gradient(shape):
    config = dataclasses.replace(QWEN3, attention_bias=True, tied_head=False, **WIDE)
    groups = random_groups(config, **RAGGED, **SHAPES[shape])
    with jax.enable_x64(True):
        params = random_params(config)
        weights = np.random.default_rng(1).normal(size=(*groups.completions.shape, config.width))

        def weighted_sum(function, params):
            hidden = function(config, params, groups)
            return jnp.sum(hidden * weights), hidden

        actual, expected = (
            jax.jit(jax.value_and_grad(partial(weighted_sum, function), has_aux=True))(params)
            for function in (forward, repeated)
        )
        actual, expected = jax.device_get((actual, expected))
    chex.assert_trees_all_close(actual, expected, rtol=1e-9, atol=1e-9)
    assert min(np.abs(g).max() for g in jax.tree.leaves(actual[1]["layers"])) > 1e-3


@pytest.mark.slow
def test_prefill_and_decode_equal_the_one_pass_forward(family):
    params = random_params(family)
    groups = random_groups(family, **RAGGED, **SHAPES["group"])
    prompts, lengths, completions = groups
    _, group, length = completions.shape

    @jax.jit
    def step_by_step(params):
        model = models.apply(family, params)
        hidden, prompt_caches = model.prefill(prompts)
        decoding_model = models.unrolled(model)
        first = hidden[np.arange(len(lengths)), lengths - 1]
        columns = [jnp.broadcast_to(first[:, None], (len(lengths), group, family.width))]
        caches = empty_cache(family, num_prompts=3, group_size=group, length=length - 1)
        for t in range(length - 1):
            ends = jnp.full((3, group), t + 1, jnp.int32)
            hidden, caches = decoding_model.decode(
                completions[..., t], jnp.int32(t), ends, lengths, prompt_caches, caches
            )
            columns.append(hidden)
        return jnp.stack(columns, axis=2)

    expected = jax.jit(lambda p: forward(family, p, groups))(params)
    chex.assert_trees_all_close(step_by_step(params), expected, atol=2e-5, rtol=2e-5)


def test_queries_and_keys_are_normed_and_rotated_together_or_apart(family, monkeypatch):
    generator = np.random.default_rng(0)
    x = jnp.asarray(generator.normal(size=(6, family.width)), family.compute_dtype)
    angles = rotation(jnp.arange(6), family)

    def project(params):
        layer = models.apply(family, params).unstacked()[0]
        return layer.project(x, angles, layer.matrices())

    params = random_params(family)
    apart = jax.jit(project)(params)
    monkeypatch.setattr(layers, "platform", lambda: "gpu")
    together = jax.jit(lambda params: project(params))(params)
    chex.assert_trees_all_close(together, apart, atol=1e-6)


def test_decode_fills_one_column_and_reads_no_later_one():
    params = random_params(QWEN3)
    prompts, lengths, completions = random_groups(QWEN3, **RAGGED, **SHAPES["group"])
    column, generator = 2, np.random.default_rng(4)
    shape = (3 * 3, QWEN3.num_kv_heads, 5, QWEN3.head_width)

    def random_caches(fill):
        caches = []
        for _ in range(QWEN3.num_layers):
            keys, values = generator.normal(size=(2, *shape)).astype(np.float32)
            keys[..., column:, :] = values[..., column:, :] = fill
            caches.append(by_token(CompletionCache(jnp.asarray(keys), jnp.asarray(values))))
        return tuple(caches)

    def by_token(cache):
        """Swaps the token and feature axes of the keys."""
        return cache._replace(keys=jnp.swapaxes(cache.keys, -1, -2))

    @jax.jit
    def decode(caches):
        model = models.apply(QWEN3, params)
        _, prompt_caches = model.prefill(prompts)
        ends = jnp.full((3, 3), column + 1, jnp.int32)
        return models.unrolled(model).decode(
            completions[..., 2], jnp.int32(column), ends, lengths, prompt_caches, caches
        )

    caches = random_caches(fill=0.0)
    kept = jax.device_get(caches)
    hidden, filled = decode(caches)
    chex.assert_trees_all_equal(caches, kept)  # the input is unchanged
    pairs = zip(map(by_token, caches), map(by_token, filled), strict=True)
    for before, after in (arrays for cache in pairs for arrays in zip(*cache, strict=True)):
        is_new = np.any(np.asarray(before != after), axis=-1)  # [B * G, N, T]
        assert is_new[..., column].all()
        assert not np.delete(is_new, column, axis=-1).any()

    def poison(cache):
        return by_token(jax.tree.map(lambda a: a.at[..., column:, :].set(1e3), by_token(cache)))

    poisoned = tuple(map(poison, caches))
    chex.assert_trees_all_equal(decode(poisoned)[0], hidden)


def test_prompt_caches_are_one_per_layer_with_one_row_per_group():
    prompts, _, _ = random_groups(QWEN3, **RAGGED, **SHAPES["group"])
    prefill = jax.jit(lambda p, tokens: models.apply(QWEN3, p).prefill(tokens)[1])
    caches = jax.eval_shape(prefill, random_params(QWEN3), prompts)
    assert len(caches) == QWEN3.num_layers
    heads, width = (3, QWEN3.num_kv_heads), QWEN3.head_width
    chex.assert_shape([cache.keys for cache in caches], (*heads, width, 5))
    chex.assert_shape([cache.values for cache in caches], (*heads, 5, width))


def test_rejects_arrays_of_different_groups():
    params = random_params(QWEN3)
    prompts, lengths, completions = random_groups(QWEN3, **RAGGED, **SHAPES["group"])
    model = models.apply(QWEN3, params)
    for wrong in (
        (prompts, lengths[:2], completions),
        (prompts, lengths, completions[:2]),
        (prompts[0], lengths, completions),
        (prompts, lengths, completions[:, 0]),
    ):
        with pytest.raises(AssertionError):
            jax.eval_shape(model, *wrong)
