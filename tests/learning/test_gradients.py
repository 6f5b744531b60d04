"""Updates with a loss or gradient that is not finite are skipped."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learning_cases import new_state, ragged_experience, step_of, table_loss

from dvaojax.learning.gradients import init_learner, update
from dvaojax.learning.train_step import LearningConfig
from dvaojax.numerics import Mean

OPTIMIZER = optax.adamw(0.1)
PARAMS = {"a": jnp.asarray([1.0, -2.0]), "b": jnp.ones((2, 3))}
FINITE = {"a": jnp.asarray([0.3, 0.4]), "b": jnp.full((2, 3), -0.5)}


def one_update(learner, gradient, loss=1.0):
    """An optimiser step with metrics over four tokens."""
    metrics = {
        "loss": Mean(jnp.asarray(loss), jnp.asarray(4.0)),
        "entropy": Mean(jnp.asarray(loss * 2), jnp.asarray(4.0)),
    }
    return jax.jit(update, static_argnums=3)(learner, gradient, metrics, OPTIMIZER)


@pytest.fixture
def learner():
    """A learner after one finite update, so that the optimiser's moments are not zero."""
    return one_update(init_learner(PARAMS, OPTIMIZER), FINITE)[0]


POISON = {
    "gradient NaN": ({**FINITE, "a": jnp.asarray([0.1, jnp.nan])}, 1.0),
    "gradient infinite": ({**FINITE, "b": jnp.full((2, 3), jnp.inf)}, 1.0),
    "loss NaN": (FINITE, np.nan),
    "loss infinite": (FINITE, -np.inf),
}


@pytest.mark.parametrize("case", sorted(POISON))
def test_non_finite_update_is_skipped_and_counted(learner, case):
    after, metrics = one_update(learner, *POISON[case])
    chex.assert_trees_all_equal(after.params, learner.params)
    chex.assert_trees_all_equal(after.optimizer_state, learner.optimizer_state)
    assert (after.skipped, after.skipped_in_a_row) == (1, 1)
    assert metrics["skipped_updates"] == Mean(1.0, 1.0)
    for name in ("loss", "entropy", "grad_norm"):
        assert metrics[name] == Mean(0.0, 0.0), "a skipped update reports nothing"


def test_finite_update_resets_the_count_of_consecutive_skips(learner):
    counts = []
    for gradient in (POISON["gradient NaN"][0],) * 2 + (FINITE,) + (POISON["gradient NaN"][0],):
        before = learner
        learner, _ = one_update(learner, gradient)
        counts.append((int(learner.skipped), int(learner.skipped_in_a_row)))
    assert counts == [(1, 1), (2, 2), (2, 0), (3, 1)]
    chex.assert_trees_all_equal(before.params, learner.params)


def test_finite_update_equals_the_optimisers(learner):
    with jax.numpy_dtype_promotion("standard"):
        updates, expected = OPTIMIZER.update(FINITE, OPTIMIZER.init(PARAMS), PARAMS)
    chex.assert_trees_all_close(learner.params, optax.apply_updates(PARAMS, updates), rtol=1e-6)
    chex.assert_trees_all_close(learner.optimizer_state, expected, rtol=1e-6)
    _, metrics = one_update(learner, FINITE)
    norm = np.sqrt(0.3**2 + 0.4**2 + 6 * 0.5**2)
    np.testing.assert_allclose(metrics["grad_norm"].value, norm, rtol=1e-6)
    assert metrics["loss"].value == 0.25


def test_other_mini_batches_of_the_step_still_learn():
    """One token of one completion has log-probability NaN and is in half of the updates."""
    experience = ragged_experience()
    experience = experience._replace(logprobs=experience.logprobs.at[3, 0, 0].set(jnp.nan))
    learning = LearningConfig(epochs=2, mini_batches=2, micro_batches=2)
    step = step_of(table_loss(), optimizer=optax.adam(0.1), learning=learning)
    state = new_state(optax.adam(0.1))
    after, metrics, _ = step(state, experience, None)
    assert after.learner.skipped == 2
    assert metrics["skipped_updates"].value == 0.5
    assert metrics["grad_norm"].count == 2
    chex.assert_tree_all_finite((after.learner, metrics))
    assert optax.tree.get(after.learner.optimizer_state, "count") == 2
    assert not np.allclose(after.learner.params["table"], state.learner.params["table"])
    assert 0 < metrics["entropy"].count < 2 * int(experience.completion_mask.sum())


def test_step_with_only_skipped_updates_changes_no_parameter():
    experience = ragged_experience()
    experience = experience._replace(logprobs=jnp.full_like(experience.logprobs, jnp.nan))
    step = step_of(table_loss(), optimizer=optax.adam(0.1))
    state = new_state(optax.adam(0.1))
    after, metrics, advantages = step(state, experience, None)
    chex.assert_trees_all_equal(after.learner.params, state.learner.params)
    chex.assert_trees_all_equal(after.learner.optimizer_state, state.learner.optimizer_state)
    assert (metrics["loss"].count, metrics["skipped_updates"].value) == (0, 1)
    chex.assert_tree_all_finite((metrics, advantages))
