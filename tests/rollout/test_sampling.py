"""Truncation of the sampling distribution, and drawing of tokens."""

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvaojax.rollout.sampling import (
    Sampling,
    draw_tokens,
    log_distribution,
    sample_in_one_pass,
    sample_token,
)

in_one_pass = jax.jit(sample_in_one_pass)

SAMPLINGS = [
    Sampling(),
    Sampling(temperature=0.6),
    Sampling(temperature=1.3),
    Sampling(top_k=1),
    Sampling(top_k=3),
    Sampling(top_k=1_000),
    Sampling(top_p=0.5),
    Sampling(top_p=0.95),
    Sampling(top_p=1e-9),
    Sampling(min_p=0.1),
    Sampling(min_p=0.999),
    Sampling(top_k=5, top_p=0.7),
    Sampling(top_k=4, min_p=0.3),
    Sampling(top_p=0.9, min_p=0.2),
    Sampling(temperature=0.7, top_k=6, top_p=0.8, min_p=0.05),
    Sampling(temperature=2.0, top_k=7, top_p=0.99, min_p=0.01),
]


def loop(logits, sampling):
    """The probabilities of one row in float64, with one truncation after another."""
    weights = np.exp(np.asarray(logits, np.float64) / sampling.temperature)
    kept = weights / weights.sum()
    if sampling.top_k:
        kth = sorted(kept, reverse=True)[: sampling.top_k][-1]
        kept = np.array([p if p >= kth else 0.0 for p in kept])
        kept /= kept.sum()
    if sampling.top_p < 1.0:
        reached, last = 0.0, 1.0
        for p in sorted(kept, reverse=True):
            if reached >= sampling.top_p:
                break
            reached, last = reached + p, p
        kept = np.array([p if p >= last else 0.0 for p in kept])
    if sampling.min_p:
        kept = np.array([p if p >= sampling.min_p * max(kept) else 0.0 for p in kept])
    return kept / kept.sum()


def probabilities(logits, sampling):
    return np.exp(log_distribution(jnp.asarray(logits, jnp.float32), sampling))


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_against_a_loop(sampling, transform):
    logits = np.random.default_rng(0).normal(0.0, 2.0, (5, 4, 12)).astype(np.float32)
    actual = transform(lambda x: log_distribution(x, sampling))(logits)
    assert actual.dtype == jnp.float32
    expected = np.apply_along_axis(loop, -1, logits, sampling)
    np.testing.assert_allclose(np.exp(actual), expected, rtol=1e-5)
    np.testing.assert_array_equal(np.isneginf(actual), expected == 0.0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=8),
    st.sampled_from(SAMPLINGS),
)
def test_the_best_token_is_kept_and_equal_logits_have_equal_probability(logits, sampling):
    # Integers tie often.
    actual = probabilities(logits, sampling)
    assert actual[np.argmax(logits)] > 0.0
    np.testing.assert_allclose(actual.sum(), 1.0, rtol=1e-5)
    for value in set(logits):
        assert len({float(p) for p, x in zip(actual, logits, strict=True) if x == value}) == 1


def test_top_k_keeps_ties_with_the_last_token():
    kept = probabilities([3.0, 1.0, 1.0, 1.0, 0.0], Sampling(top_k=2)) > 0.0
    np.testing.assert_array_equal(kept, [True, True, True, True, False])


def test_top_k_of_at_least_the_vocabulary_has_no_effect():
    logits = jnp.array([0.3, -1.0, 2.0])
    for top_k in (3, 4, 1_000):
        chex.assert_trees_all_close(
            log_distribution(logits, Sampling(top_k=top_k)),
            log_distribution(logits, Sampling()),
            atol=1e-6,
        )


@pytest.mark.parametrize(
    ("top_p", "number"), [(0.01, 1), (0.49, 1), (0.51, 2), (0.74, 2), (0.76, 3), (0.99, 4)]
)
def test_top_p_keeps_the_smallest_sufficient_set(top_p, number):
    logits = np.log([0.05, 0.5, 0.2, 0.25])
    kept = probabilities(logits, Sampling(top_p=top_p)) > 0.0
    np.testing.assert_array_equal(kept, np.argsort(np.argsort(-logits)) < number)


def test_top_p_applies_to_the_tokens_that_top_k_kept():
    # Of 0.4, 0.3, 0.2, 0.1 top-k keeps 0.57 and 0.43, of which the first exceeds one half.
    logits = np.log([0.4, 0.3, 0.2, 0.1])
    both = Sampling(top_k=2, top_p=0.5)
    np.testing.assert_allclose(probabilities(logits, both), [1, 0, 0, 0])
    top_p_only = dataclasses.replace(both, top_k=0)
    np.testing.assert_allclose(probabilities(logits, top_p_only), [4 / 7, 3 / 7, 0, 0], rtol=1e-5)


def test_min_p_is_relative_to_the_best_token():
    logits = np.log([0.6, 0.31, 0.09])
    kept = [(probabilities(logits, Sampling(min_p=p)) > 0.0).sum() for p in (0.1, 0.2, 0.5, 0.6)]
    assert kept == [3, 2, 2, 1]


def test_temperature_zero_selects_the_first_of_the_best_tokens():
    logprobs = log_distribution(jnp.array([[1.0, 4.0, 4.0], [5.0, 4.0, 3.0]]), Sampling(0.0))
    np.testing.assert_array_equal(np.exp(logprobs), [[0, 1, 0], [1, 0, 0]])


def test_low_temperatures_approach_temperature_zero():
    logits = jnp.array([1.0, 3.0, 2.9])
    chex.assert_trees_all_close(
        jnp.exp(log_distribution(logits, Sampling(1e-3))),
        jnp.exp(log_distribution(logits, Sampling(0.0))),
        atol=1e-6,
    )


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_adding_a_constant_to_all_logits_has_no_effect(sampling):
    logits = jnp.array([0.5, -1.0, 2.0, 1.25, 0.0])
    chex.assert_trees_all_close(
        log_distribution(logits + 8.0, sampling), log_distribution(logits, sampling), atol=1e-5
    )


def test_a_logit_of_minus_infinity_has_probability_zero():
    logits = jnp.array([0.5, -jnp.inf, 2.0])
    for sampling in SAMPLINGS:
        logprobs = log_distribution(logits, sampling)
        assert logprobs[1] == -jnp.inf
        assert not jnp.any(jnp.isnan(logprobs))


def test_bfloat16_logits_are_normalised_in_float32():
    logits = jnp.linspace(-3.0, 3.0, 1_000).astype(jnp.bfloat16)
    logprobs = log_distribution(logits, Sampling())
    assert logprobs.dtype == jnp.float32
    np.testing.assert_allclose(np.exp(logprobs, dtype=np.float64).sum(), 1.0, rtol=1e-5)


@pytest.mark.parametrize("sampling", [SAMPLINGS[1], SAMPLINGS[-2]], ids=str)
def test_frequencies_equal_the_probabilities(sampling):
    logits = np.random.default_rng(1).normal(0.0, 1.5, 10)
    draws = 20_000
    logprobs = log_distribution(jnp.asarray(logits, jnp.float32), sampling)
    uniforms = jax.random.uniform(jax.random.key(0), (draws,))
    tokens, chosen = jax.vmap(sample_token, (0, None))(uniforms, logprobs)
    assert tokens.dtype == jnp.int32
    chex.assert_trees_all_equal(chosen, logprobs[tokens])
    expected = draws * loop(logits, sampling)
    counts = np.bincount(tokens, minlength=10)
    possible = expected > 0.0
    assert not counts[~possible].any()
    statistic = np.sum((counts - expected)[possible] ** 2 / expected[possible])
    # Chi-square with at most 9 degrees of freedom exceeds 27.9 once in a thousand times.
    assert statistic < 27.9


@pytest.mark.parametrize("size", [1, 2, 7, 16, 1_000])
def test_a_token_is_drawn_by_inverse_transform(size):
    generator = np.random.default_rng(size)
    weights = generator.choice([0.0, 1.0, 5.0], size)
    weights[generator.integers(size)] = 2.0
    cumulative = np.cumsum(weights) / weights.sum()
    # Midpoints between two steps of the cumulative sum, where rounding has no influence.
    middles = (np.concatenate([[0.0], cumulative[:-1]]) + cumulative)[weights > 0.0] / 2.0
    logprobs = jnp.log(jnp.asarray(weights / weights.sum(), jnp.float32))
    uniforms = jnp.asarray(middles, jnp.float32)
    tokens, _ = jax.vmap(sample_token, (0, None))(uniforms, logprobs)
    np.testing.assert_array_equal(tokens, np.flatnonzero(weights))
    # In one pass too, from logits that are not normalised.
    rows = jnp.broadcast_to(logprobs[None] + 3.0, (len(uniforms), size))
    tokens, chosen = in_one_pass(uniforms, rows)
    np.testing.assert_array_equal(tokens, np.flatnonzero(weights))
    np.testing.assert_allclose(chosen, logprobs[tokens], atol=1e-5)


def test_one_pass_draws_the_same_tokens(monkeypatch):
    size, rows = 5_000, 512
    logits = 3.0 * jax.random.normal(jax.random.key(0), (rows, size), jnp.bfloat16)
    uniforms = jax.random.uniform(jax.random.key(1), (2, rows // 2))
    shaped = logits.reshape(2, rows // 2, size)
    draw = jax.jit(partial(draw_tokens, sampling=Sampling(0.7)))
    expected = draw(uniforms, shaped)
    monkeypatch.setattr("dvaojax.rollout.sampling._ONE_PASS_FROM", {"cpu": size})
    jax.clear_caches()
    actual = draw(uniforms, shaped)
    chex.assert_type(actual, [jnp.int32, jnp.float32])
    # Rounding of the cumulative sum decides where a number falls close to its step.
    assert np.mean(np.asarray(actual[0] != expected[0])) < 0.005
    equal = np.asarray(actual[0] == expected[0])
    np.testing.assert_allclose(actual[1][equal], expected[1][equal], atol=1e-5)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([-jnp.inf, -90.0, -20.0, 0.0]), min_size=1, max_size=40),
    st.sampled_from([0.0, 2.0**-24, 0.5, 1.0 - 2.0**-24]),
)
def test_tokens_of_probability_zero_are_never_drawn(logits, uniform):
    logits[len(logits) // 2] = 1.0
    logprobs = log_distribution(jnp.asarray(logits, jnp.float32), Sampling())
    token, chosen = sample_token(jnp.float32(uniform), logprobs)
    assert 0 <= token < len(logits)
    assert chosen == logprobs[token] > -jnp.inf
    tokens, chosen = in_one_pass(jnp.full(1, uniform, jnp.float32), jnp.array([logits]))
    assert 0 <= tokens[0] < len(logits)
    np.testing.assert_allclose(chosen[0], logprobs[tokens[0]], atol=1e-5)
    assert logits[tokens[0]] > -jnp.inf


def test_temperature_zero_is_deterministic():
    logprobs = log_distribution(jnp.array([0.0, 5.0, 1.0]), Sampling(0.0))
    uniforms = jnp.linspace(0.0, 1.0, 100, endpoint=False)
    tokens, chosen = jax.vmap(sample_token, (0, None))(uniforms, logprobs)
    chex.assert_trees_all_equal((tokens, chosen), (jnp.ones(100, jnp.int32), jnp.zeros(100)))


@pytest.mark.parametrize(
    ("options", "truncates"),
    [
        ({}, False),
        ({"temperature": 0.6}, False),
        ({"temperature": 0.0}, True),
        ({"top_k": 5}, True),
        ({"top_p": 0.9}, True),
        ({"min_p": 0.1}, True),
    ],
)
def test_truncates_is_true_if_tokens_are_removed(options, truncates):
    sampling = Sampling(**options)
    assert sampling.truncates == truncates
    logprobs = log_distribution(jnp.arange(10.0), sampling)
    assert bool(jnp.any(jnp.isneginf(logprobs))) == truncates


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"min_p": 1.0},
    ],
)
def test_rejects_options_out_of_range(options):
    (name,) = options
    with pytest.raises(ValueError, match=rf"sampling\.{name}="):
        Sampling(**options)


def test_rejects_integer_logits():
    with pytest.raises(AssertionError):
        log_distribution(jnp.arange(3), Sampling())
