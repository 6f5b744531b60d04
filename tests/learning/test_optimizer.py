"""The optimiser against formulas, and its schedule in a real configuration."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dvaojax import models
from dvaojax.config import Config, overrides
from dvaojax.learning.optimizer import (
    SCHEDULES,
    OptimizerConfig,
    learning_rate_schedule,
    make_optimizer,
)
from dvaojax.models import ModelConfig

RATE, FINAL = 3e-3, 0.25


def schedule_of(*settings):
    """The schedule of a run that is configured with `--set` options."""
    config = overrides.apply(
        Config(),
        [
            f"optimizer.learning_rate={RATE}",
            f"optimizer.final_fraction={FINAL}",
            "optimizer.warmup_updates=30",
            "num_steps=50",
            "learning.epochs=2",
            "learning.mini_batches=4",
            "learning.micro_batches=2",
            *settings,
        ],
    )
    assert config.num_updates == 50 * 2 * 4
    schedule = learning_rate_schedule(config.optimizer, config.num_updates)
    return lambda update: float(schedule(jnp.asarray(update, jnp.int32)))


@pytest.mark.parametrize("name", SCHEDULES)
def test_learning_rate_at_the_start_after_the_warm_up_and_at_the_end(name):
    """Trap 47: the length of the schedule is the run's, counted in updates."""
    with jax.numpy_dtype_promotion("standard"):
        rate = schedule_of(f"optimizer.schedule={name}")
        assert rate(0) == 0.0
        assert rate(15) == pytest.approx(RATE / 2)
        assert rate(30) == pytest.approx(RATE)
        middle = {"constant": RATE, "linear": RATE * 0.625, "cosine": RATE * 0.625}[name]
        assert rate(215) == pytest.approx(middle, rel=1e-5)
        end = RATE if name == "constant" else RATE * FINAL
        assert rate(400) == pytest.approx(end, rel=1e-5)
        assert rate(399) > end * 0.999
        quarter = {
            "constant": 1.0,
            "linear": 1 - 0.75 / 4,
            "cosine": FINAL + 0.75 * (1 + math.cos(math.pi / 4)) / 2,
        }[name]
        assert rate(30 + 370 / 4) == pytest.approx(RATE * quarter, rel=5e-3)


def test_first_update_without_warm_up_has_the_full_rate():
    with jax.numpy_dtype_promotion("standard"):
        rate = schedule_of("optimizer.warmup_updates=0", "optimizer.schedule=linear")
        assert rate(0) == pytest.approx(RATE)
        assert rate(400) == pytest.approx(RATE * FINAL)


def updates_of(config, gradients, params):
    """The optimiser's updates for a sequence of gradients, with constant parameters."""
    optimizer = make_optimizer(config, num_updates=10)
    state, updates, step = optimizer.init(params), [], jax.jit(optimizer.update)
    with jax.numpy_dtype_promotion("standard"):
        for gradient in gradients:
            update, state = step(gradient, state, params)
            updates.append(update)
    return updates


def test_adamw_against_its_formula():
    config = OptimizerConfig(learning_rate=0.1, b1=0.8, b2=0.9, max_grad_norm=math.inf)
    gradients = [0.5, -2.0, 1.0]
    params = {"embedding": jnp.asarray([[3.0]])}
    updates = updates_of(config, [{"embedding": jnp.asarray([[g]])} for g in gradients], params)
    first = second = 0.0
    for n, (gradient, update) in enumerate(zip(gradients, updates, strict=True), start=1):
        first, second = 0.8 * first + 0.2 * gradient, 0.9 * second + 0.1 * gradient**2
        corrected = (first / (1 - 0.8**n)) / (math.sqrt(second / (1 - 0.9**n)) + 1e-8)
        np.testing.assert_allclose(update["embedding"], -0.1 * corrected, rtol=1e-5)


@pytest.mark.parametrize("norm", [0.5, 5.0, math.inf])
def test_gradients_are_scaled_down_to_the_norm_and_never_up(norm):
    """Tested on Adam's first moment, because its update is invariant to the gradient's scale."""
    gradient = {"a": jnp.asarray([3.0, 0.0]), "b": jnp.asarray([[0.0, 4.0]])}
    optimizer = make_optimizer(OptimizerConfig(max_grad_norm=norm, b1=0.0), num_updates=1)
    with jax.numpy_dtype_promotion("standard"):
        _, state = optimizer.update(gradient, optimizer.init(gradient), gradient)
    factor = min(1.0, norm / 5.0)
    mu = optax.tree.get(state, "mu")
    jax.tree.map(lambda m, g: np.testing.assert_allclose(m, g * factor, rtol=1e-6), mu, gradient)


def test_weight_decay_only_applies_to_matrices():
    model = ModelConfig(8, 8, 2, 2, 1, 4, 8, attention_bias=True, tied_head=False)
    params = jax.eval_shape(lambda: models.init(model, jax.random.key(0)))
    params = jax.tree.map(lambda a: jnp.ones(a.shape), params)
    zeros = jax.tree.map(jnp.zeros_like, params)
    config = OptimizerConfig(learning_rate=0.5, weight_decay=0.1)
    (update,) = updates_of(config, [zeros], params)
    names = set()
    for path, leaf in jax.tree.leaves_with_path(update):
        name = path[-1].key
        names.add(name)
        decays = name != "scale" and not name.endswith("_bias")
        np.testing.assert_allclose(leaf, -0.05 if decays else 0.0, rtol=1e-6)
    assert {"scale", "embedding", "head", "query", "down", "key_bias"} <= names


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("learning_rate", -1.0),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("schedule", "cosin"),
        ("final_fraction", 1.5),
        ("warmup_updates", -1),
        ("max_grad_norm", 0.0),
        ("max_grad_norm", math.nan),
        ("b1", 1.0),
        ("b2", -0.1),
        ("weight_decay", -0.1),
    ],
)
def test_rejects_settings_out_of_range(setting, value):
    with pytest.raises(ValueError, match=rf"^optimizer\.{setting}={value!r}") as error:
        OptimizerConfig(**{setting: value})
    assert "\n" not in str(error.value)
