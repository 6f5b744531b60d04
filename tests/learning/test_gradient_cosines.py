"""Cosines between the gradients of the objectives: a float64 loop, limits, and independence."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learning_cases import (
    gradient_by_loop,
    new_state,
    ragged_experience,
    step_of,
    table_logprobs,
    table_loss,
    table_params,
)
from slowness import nightly_but

from dvaojax.learning.gradient_cosines import GradientCosines, objective_advantages
from dvaojax.learning.policy_loss import LossConfig
from dvaojax.learning.train_step import LearningConfig
from dvaojax.sharding import MeshConfig, make_mesh, named

NAMES = ("a", "b", "c")


def alone(values, where):
    """GRPO's advantages of one objective, as a loop in float64."""
    advantages = np.zeros(values.shape)
    for b, scored in enumerate(where):
        own = values[b][scored].astype(np.float64)
        if len(own) > 1 and np.ptp(own) > 0:
            advantages[b][scored] = (own - own.mean()) / (own.std(ddof=1) + 1e-6)
    return advantages


def by_loop(experience, *, reduction="token_mean"):
    """Pair of names -> cosine, from gradients of the table in float64."""
    columns = np.moveaxis(np.asarray(experience.rewards), -1, 0)
    masks = np.moveaxis(np.asarray(experience.reward_mask), -1, 0)
    gradients = [
        gradient_by_loop(experience, alone(column, mask), reduction=reduction).ravel()
        for column, mask in zip(columns, masks, strict=True)
    ]
    named = dict(zip(NAMES, gradients, strict=True))
    return {
        f"gradient_cosine/{x}/{y}": named[x]
        @ named[y]
        / np.sqrt((named[x] @ named[x]) * (named[y] @ named[y]))
        for x, y in itertools.combinations(NAMES, 2)
    }


def step_with(config=None, *, every=1, learning=None, **parts):
    cosines = GradientCosines(NAMES, every, table_loss(config or LossConfig()))
    return step_of(table_loss(), learning=learning, cosines=cosines, **parts)


def cosines_of(metrics):
    means = {k: m for k, m in metrics.items() if k.startswith("gradient_cosine/")}
    return {name: float(mean.value) for name, mean in means.items()}


@pytest.mark.parametrize("learning", nightly_but([(2, 4, 2)], [(1, 1, 1), (1, 1, 8), (2, 4, 2)]))
def test_cosines_equal_those_of_a_float64_loop_for_any_micro_batches_and_later_updates(learning):
    """Those of the policy before the first update, however the step is divided."""
    experience = ragged_experience()
    expected = by_loop(experience)
    assert max(map(abs, expected.values())) > 0.2
    step = step_with(learning=LearningConfig(*learning))
    _, metrics, _ = step(new_state(optax.sgd(1.0)), experience, None)
    assert cosines_of(metrics) == pytest.approx(expected, abs=1e-5)


@pytest.mark.nightly
def test_cosines_are_of_the_loss_of_the_run():
    experience = ragged_experience()
    _, metrics, _ = step_with(LossConfig(reduction="sequence_mean"))(
        new_state(optax.sgd(1.0)), experience, None
    )
    expected = by_loop(experience, reduction="sequence_mean")
    assert cosines_of(metrics) == pytest.approx(expected, abs=1e-5)
    assert cosines_of(metrics) != pytest.approx(by_loop(experience), abs=1e-2)


def test_equal_opposite_scaled_and_constant_objectives():
    """1, -1, and no value: a cosine does not depend on the unit of a reward."""
    experience = ragged_experience()
    logprobs = table_logprobs(table_params(), experience)[0]
    experience = experience._replace(logprobs=logprobs)  # at ratio 1 nothing is clipped
    one = experience.rewards[..., 0]
    everywhere = jnp.ones_like(experience.reward_mask)
    rewards = jnp.stack([one, 5 - 3 * one, jnp.ones_like(one)], axis=-1)
    experience = experience._replace(rewards=rewards, reward_mask=everywhere)
    step = step_with()
    _, metrics, _ = step(new_state(optax.sgd(1.0)), experience, None)
    assert cosines_of(metrics)["gradient_cosine/a/b"] == pytest.approx(-1, abs=1e-5)
    assert metrics["gradient_cosine/a/c"].count == 0
    assert np.isfinite(jax.tree.leaves(metrics)).all()
    same = experience._replace(rewards=jnp.stack([one, 0.1 * one, -one], axis=-1))
    _, metrics, _ = step(new_state(optax.sgd(1.0)), same, None)
    cosines = cosines_of(metrics)
    assert cosines["gradient_cosine/a/b"] == pytest.approx(1, abs=1e-5)
    assert cosines["gradient_cosine/b/c"] == pytest.approx(-1, abs=1e-5)


@pytest.mark.slow
def test_readings_are_in_every_third_step_and_the_run_is_the_same_without_them():
    with_readings, without = step_with(every=3), step_of(table_loss())
    state, plain = (new_state(optax.adam(0.1)) for _ in range(2))
    counts = []
    for number in range(4):
        experience = ragged_experience(number)
        state, metrics, _ = with_readings(state, experience, None)
        plain, _, _ = without(plain, experience, None)
        counts.append(float(metrics["gradient_cosine/a/b"].count))
    assert counts == [0, 0, 1, 0]
    chex.assert_trees_all_equal(state.learner, plain.learner)


@pytest.mark.slow
def test_groups_on_eight_devices_give_the_cosines_of_one():
    experience = ragged_experience()
    mesh = make_mesh(MeshConfig(), jax.devices()[:8])
    by_group = named(mesh, "group")
    step = step_with(constrain=lambda piece: jax.lax.with_sharding_constraint(piece, by_group))
    state = jax.device_put(new_state(optax.sgd(1.0)), named(mesh))
    _, metrics, _ = step(state, jax.device_put(experience, by_group), None)
    assert cosines_of(metrics) == pytest.approx(by_loop(experience), abs=1e-5)


@pytest.mark.nightly
def test_the_advantages_are_those_of_each_objective_alone():
    experience = ragged_experience()
    alone_by_vmap = jax.jit(objective_advantages)(experience.rewards, experience.reward_mask)
    for k, advantages in enumerate(alone_by_vmap):
        expected = alone(
            np.asarray(experience.rewards[..., k]), np.asarray(experience.reward_mask[..., k])
        )
        np.testing.assert_allclose(advantages, expected, atol=1e-5)
    with pytest.raises(AssertionError, match="mask has shape"):
        objective_advantages(experience.rewards, experience.reward_mask[..., :2])


@pytest.mark.slow
def test_the_penalty_towards_the_reference_is_no_gradient_of_an_objective():
    """With a penalty in the loss of the step, the cosines are those without."""
    experience = ragged_experience()
    cosines = GradientCosines(NAMES, 1, table_loss())
    step = step_of(
        table_loss(LossConfig(kl_weight=3.0)),
        cosines=cosines,
        reference_logprobs=lambda params, e: table_logprobs(params, e)[0],
    )
    _, metrics, _ = step(new_state(optax.sgd(1.0)), experience, table_params(1))
    assert cosines_of(metrics) == pytest.approx(by_loop(experience), abs=1e-5)
