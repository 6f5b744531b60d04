"""Shadow aggregators: they get the inputs of the aggregator in use, and change nothing."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learning_cases import WEIGHTS, new_state, ragged_experience, step_of, table_loss

from dvaojax.aggregators import Aggregator, make
from dvaojax.learning.shadows import Shadows


def noise(rewards, mask, state, key, /, *, lengths=None):
    """Random advantages plus the number of steps: they depend on key and state."""
    del mask, lengths
    return jax.random.normal(key, rewards.shape[:-1]) + state["steps"], {
        "steps": state["steps"] + 1.0
    }


NOISE = Aggregator(lambda num_objectives: {"steps": jnp.zeros(())}, noise)
SHADOWS = Shadows(
    {
        "noise": NOISE,
        "gdpo_token_weighted": make("gdpo_token_weighted", WEIGHTS),
        "dr_grpo": make("dr_grpo", WEIGHTS),
    },
    WEIGHTS,
)


def two_steps(shadows):
    """Two steps with random advantages, with or without shadows."""
    step = step_of(table_loss(), aggregator=NOISE, shadows=shadows)
    state = new_state(optax.sgd(1.0), aggregator_state=NOISE.init(3), key=7)
    if shadows is not None:
        state = state._replace(shadow_states=shadows.init(3))
    first, metrics, advantages = step(state, ragged_experience(), None)
    return first, metrics, advantages, step(first, ragged_experience(1), None)


@pytest.fixture(scope="module")
def with_shadows():
    return two_steps(SHADOWS)


@pytest.fixture(scope="module")
def without_shadows():
    return two_steps(None)


def comparable(state):
    return state.learner, state.aggregator_state, jax.random.key_data(state.key)


def test_run_with_shadows_equals_the_run_without_bit_for_bit(with_shadows, without_shadows):
    first, metrics, advantages, (second, *_) = with_shadows
    plain, plain_metrics, plain_advantages, (plain_second, *_) = without_shadows
    chex.assert_trees_all_equal(comparable(first), comparable(plain))
    chex.assert_trees_all_equal(comparable(second), comparable(plain_second))
    chex.assert_trees_all_equal(advantages, plain_advantages)
    own = {name: mean for name, mean in metrics.items() if not name.startswith("shadow/")}
    # Metrics leave the update, where the compiler may sum them in another order.
    chex.assert_trees_all_close(own, plain_metrics, rtol=1e-6)
    assert len(metrics) == len(own) + 4 * len(SHADOWS.aggregators)
    assert plain.shadow_states == ()


def test_shadow_of_the_method_in_use_equals_it(with_shadows):
    _, metrics, advantages, (_, later, _) = with_shadows
    for row in (metrics, later):
        np.testing.assert_allclose(row["shadow/noise/cosine"].value, 1.0, rtol=1e-6)
        assert row["shadow/noise/sign_agreement"].value == 1.0
        np.testing.assert_allclose(
            row["shadow/noise/mean_square"].value, row["advantage_mean_square"].value
        )
    assert np.square(advantages).mean() > 0.1


def test_shadow_keeps_its_own_state(with_shadows):
    first, _, _, (second, _, _) = with_shadows
    assert [s.shadow_states[0]["steps"] for s in (first, second)] == [1.0, 2.0]
    assert second.shadow_states[1:] == ((), ())


def test_metrics_compare_the_shadow_with_the_aggregator_in_use(with_shadows):
    _, metrics, advantages, _ = with_shadows
    experience = ragged_experience()
    for name in ("gdpo_token_weighted", "dr_grpo"):
        lengths = experience.completion_mask.sum(-1).astype(jnp.float32)
        method = make(name, WEIGHTS)
        other, _ = method.update(
            experience.rewards, experience.reward_mask, (), None, lengths=lengths
        )
        a, b = np.ravel(advantages).astype(float), np.ravel(other).astype(float)
        np.testing.assert_allclose(
            metrics[f"shadow/{name}/cosine"].value,
            a @ b / np.sqrt((a @ a) * (b @ b)),
            rtol=1e-4,
        )
        np.testing.assert_allclose(
            metrics[f"shadow/{name}/mean_square"].value,
            np.square(b[np.ravel(lengths) > 0]).mean(),
            rtol=1e-4,
        )
        weights = metrics[f"shadow/{name}/effective_weight"].value
        assert weights.shape == (3,)
        assert np.abs(weights).sum() <= 1 + 1e-5
