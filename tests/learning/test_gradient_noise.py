"""The learning rate by signal and noise: estimates against loops, running means, steps and runs."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learning_cases import descent, new_state, ragged_experience, step_of, table_loss

from dvaojax.config import Config, overrides, validate
from dvaojax.errors import UserError
from dvaojax.learning.gradient_noise import (
    SignalToNoiseState,
    measured_noise,
    scale_by_signal_share,
    squared_norm,
)
from dvaojax.learning.gradients import Preparation, accumulate, gradient_of
from dvaojax.learning.optimizer import OptimizerConfig, make_optimizer
from dvaojax.learning.policy_loss import LossConfig
from dvaojax.learning.train_step import LearningConfig
from dvaojax.numerics import Mean
from dvaojax.sharding import MeshConfig, make_mesh, named


def test_estimates_are_unbiased_and_equal_the_definition():
    parts, count, size, draws = 5, 40.0, 3, 20_000
    rng = np.random.default_rng(0)
    expected, deviation = np.array([0.4, -0.2, 0.1]), np.array([0.5, 0.1, 0.3])
    each = expected + deviation * rng.normal(size=(draws, parts, size))
    sums = each * count / parts

    def estimates(sums):
        squares = Mean(jnp.sum(jnp.square(sums)), jnp.asarray(float(parts)))
        return measured_noise({"a": jnp.sum(sums, axis=0) / count}, squares, jnp.asarray(count))

    got = jax.tree.map(np.asarray, jax.vmap(estimates)(jnp.asarray(sums, jnp.float32)))
    scatter = np.square(each - each.mean(1, keepdims=True)).sum((1, 2)) / (parts - 1)
    np.testing.assert_allclose(got["noise"], scatter / parts, rtol=1e-4, atol=1e-6)
    exact = {"noise": np.square(deviation).sum() / parts, "signal": np.square(expected).sum()}
    for name, value in exact.items():
        error = got[name].std() / math.sqrt(draws)
        assert abs(got[name].mean() - value) < 4 * error < 0.05 * value


def recording():
    """Gradient descent at rate 1 that keeps signal and noise of the last update."""
    return optax.chain(optax.sgd(1.0), scale_by_signal_share(decay=0.0, floor=1.0))


def noise_of_step(experience, *, loss=None, parts):
    """The mean gradient and the metrics of a step."""
    step = step_of(
        loss or table_loss(),
        optimizer=recording(),
        learning=LearningConfig(micro_batches=parts),
        observe=squared_norm,
    )
    state = new_state(recording())
    after, metrics, _ = step(state, experience, None)
    return state.learner.params["table"] - after.learner.params["table"], metrics


@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean"])
def test_a_step_measures_the_scatter_of_its_micro_batches(reduction):
    parts, experience = 4, ragged_experience()
    loss = table_loss(LossConfig(reduction=reduction))
    mean, metrics = noise_of_step(experience, loss=loss, parts=parts)
    alone, sums, counts = step_of(loss), [], []
    for part in np.split(np.arange(8), parts):
        gradient, part_metrics, _ = descent(alone, jax.tree.map(lambda x, p=part: x[p], experience))
        counts.append(float(part_metrics["loss"].count))
        sums.append(np.asarray(gradient, np.float64) * counts[-1])
    each = np.stack(sums) * parts / sum(counts)
    np.testing.assert_allclose(each.mean(0), mean, atol=1e-6)
    noise = np.square(each - each.mean(0)).sum() / (parts - 1) / parts
    signal = np.square(each.mean(0)).sum() - noise
    share = max(signal, 0) / (max(signal, 0) + noise)
    expected = {"gradient_noise": noise, "gradient_signal": signal, "signal_share": share}
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name].value, value, rtol=1e-4)
    assert "gradient_squares" not in metrics


def test_noise_does_not_depend_on_the_devices_and_a_skipped_update_leaves_it():
    experience = ragged_experience()
    _, plain = noise_of_step(experience, parts=2)
    mesh = make_mesh(MeshConfig(4, 1, 1), jax.devices()[:4])
    spread = jax.device_put(experience, named(mesh, "group"))
    _, sharded = noise_of_step(spread, parts=2)
    for name in ("gradient_noise", "gradient_signal"):
        np.testing.assert_allclose(sharded[name].value, plain[name].value, rtol=1e-5)
    step = step_of(
        table_loss(),
        optimizer=recording(),
        learning=LearningConfig(micro_batches=2),
        observe=squared_norm,
    )
    state = new_state(recording(), {"table": jnp.full((6, 6), jnp.nan)})
    after, metrics, _ = step(state, experience, None)
    assert metrics["skipped_updates"].value == 1
    assert optax.tree.get(after.learner.optimizer_state, "noise") == 0
    assert metrics["gradient_noise"].count == metrics["signal_share"].count == 0


def test_factor_is_the_ratio_of_running_means_and_at_least_the_floor():
    rng, decay, floor = np.random.default_rng(0), 0.8, 0.3
    transformation = scale_by_signal_share(decay=decay, floor=floor)
    update = {"a": jnp.asarray([2.0, -1.0]), "b": jnp.asarray(0.5, jnp.bfloat16)}
    state, running, factors = transformation.init(update), np.zeros(2), []
    for signal, noise in zip(rng.normal(0.3, 1, 30), rng.random(30), strict=True):
        scaled, state = transformation.update(
            update, state, signal=jnp.float32(signal), noise=jnp.float32(noise)
        )
        running = decay * running + (1 - decay) * np.array([signal, noise])
        positive = max(running[0], 0)
        factors.append(max(positive / (positive + running[1]), floor))
        np.testing.assert_allclose(scaled["a"], update["a"] * factors[-1], rtol=1e-4)
        assert scaled["b"].dtype == jnp.bfloat16
    assert min(factors) == floor < max(factors)
    for missing in ({}, {"signal": 1.0, "noise": math.inf}, {"signal": math.nan, "noise": 1.0}):
        _, after = transformation.update(update, state, **missing)
        assert after == state
    same, _ = transformation.update(update, SignalToNoiseState(*jnp.asarray([2.0, 0.0])))
    np.testing.assert_array_equal(same["a"], update["a"])
    for wrong in ({"decay": 1.0, "floor": 0.1}, {"decay": 0.5, "floor": 1.1}):
        with pytest.raises(ValueError, match="must lie in"):
            scale_by_signal_share(**wrong)


def test_the_whole_step_of_the_optimizer_is_scaled_weight_decay_included():
    params = {"embedding": jnp.asarray([[1.0, -2.0]])}
    gradient = {"embedding": jnp.asarray([[0.3, 0.1]])}
    plain = OptimizerConfig(learning_rate=0.1, weight_decay=0.2)
    following = OptimizerConfig(learning_rate=0.1, weight_decay=0.2, snr_floor=0.05)
    updates = []
    for config in (plain, following):
        optimizer = optax.with_extra_args_support(make_optimizer(config, num_updates=10))
        with jax.numpy_dtype_promotion("standard"):
            update, _ = optimizer.update(
                gradient, optimizer.init(params), params, signal=1.0, noise=3.0
            )
        updates.append(update["embedding"])
    np.testing.assert_allclose(updates[1], 0.25 * updates[0], rtol=1e-6)


def test_the_setting_needs_micro_batches_and_numbers_in_range():
    config = overrides.apply(Config(), ["optimizer.snr_floor=0.1", "learning.micro_batches=2"])
    validate(config)
    with pytest.raises(UserError, match=r"snr_floor=0.1 needs at least two .*micro_batches"):
        validate(overrides.apply(config, ["learning.micro_batches=1"]))
    for name, value in (("snr_floor", -0.1), ("snr_floor", 1.5), ("snr_decay", 1.0)):
        with pytest.raises(ValueError, match=rf"^optimizer\.{name}={value!r}"):
            OptimizerConfig(**{name: value})


def test_norms_are_by_the_parameters_where_the_passes_read_two_copies_of_them():
    """As those of a decoder with tied embeddings do."""
    params = {"embedding": jnp.asarray([[0.3, -0.2], [0.5, 0.1]])}
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2)), jnp.float32)

    def loss(copies, inputs):
        total = jnp.sum(jnp.tanh(inputs @ copies[0]) @ copies[1])
        return total, {"loss": Mean(total, jnp.float32(len(inputs)))}

    prepare = Preparation(lambda p, _: (p["embedding"], p["embedding"].T), lambda copies: copies)
    rows = jnp.arange(4).reshape(2, 2)
    _, metrics = accumulate(
        gradient_of(loss), params, inputs, rows, prepare=prepare, observe=squared_norm
    )
    by_row = [jax.grad(lambda p, r=r: loss(prepare(p, 0), inputs[r])[0])(params) for r in rows]
    squares = sum(np.square(gradient["embedding"]).sum() for gradient in by_row)
    np.testing.assert_allclose(metrics["gradient_squares"].total, squares, rtol=1e-5)
    assert metrics["gradient_squares"].count == 2
