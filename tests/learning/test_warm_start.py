"""Supervised warm start: its loss against a loop, micro-batches, and settings."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dvaojax import models
from dvaojax.learning.gradients import init_learner
from dvaojax.learning.warm_start import (
    Demonstrations,
    WarmStartConfig,
    make_demonstration_loss,
    make_warm_start_step,
)
from dvaojax.models import ModelConfig

MODEL = ModelConfig(6, 8, 1, 2, 1, 4, 8)


def demonstrations():
    """Four prompts with one completion each, of one to five tokens."""
    rng = np.random.default_rng(0)
    mask = np.arange(5) < np.array([5, 1, 3, 4])[:, None]
    tokens = np.where(mask, rng.integers(1, 6, mask.shape), 0).astype(np.int32)
    prompts = rng.integers(1, 6, (4, 3)).astype(np.int32)
    lengths = np.array([3, 1, 2, 3], np.int32)
    return Demonstrations(*map(jnp.asarray, (prompts, lengths, tokens, mask)))


def test_loss_is_the_cross_entropy_of_completion_tokens():
    batch, params = demonstrations(), models.init(MODEL, jax.random.key(0))
    total, metrics = jax.jit(make_demonstration_loss(MODEL))(params, batch)

    @jax.jit
    def logprobs_of(sequence):
        model = models.apply(MODEL, params)
        return jax.nn.log_softmax(model.logits(model.prefill(sequence[None])[0])[0])

    expected, count = 0.0, 0
    for prompt, length, tokens, mask in zip(*map(np.asarray, batch), strict=True):
        sequence = np.concatenate([prompt[:length], tokens])
        logprobs = np.asarray(logprobs_of(sequence), np.float64)
        for t in np.flatnonzero(mask):
            expected -= logprobs[length + t - 1, tokens[t]]
            count += 1
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"].value, expected / count, rtol=1e-5)


@pytest.mark.slow
def test_update_does_not_depend_on_micro_batches_and_reduces_the_loss():
    params, optimizer = models.init(MODEL, jax.random.key(0)), optax.sgd(0.5)
    loss, results = make_demonstration_loss(MODEL), []
    for pieces in (1, 4):
        step = jax.jit(make_warm_start_step(loss, optimizer, micro_batches=pieces))
        learner, first = step(init_learner(params, optimizer), demonstrations())
        results.append((learner.params, first["loss"].value))
    chex.assert_trees_all_close(*results, rtol=1e-5, atol=1e-6)
    _, second = step(learner, demonstrations())
    assert second["loss"].value < first["loss"].value - 0.01


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": -1}, "num_steps=-1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"micro_batches": 0}, "micro_batches=0"),
        ({"batch_size": 8, "micro_batches": 3}, "warm_start.micro_batches=3 must divide"),
        ({"learning_rate": float("inf")}, "warm_start.learning_rate=inf"),
    ],
)
def test_rejects_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message) as error:
        WarmStartConfig(**settings)
    assert "\n" not in str(error.value)
