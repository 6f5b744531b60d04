"""The pair `(init, update)` of an aggregator, its name and its knobs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_aggregator import examined, function_of, takes_lengths, updated

from dvaojax import aggregators
from dvaojax.aggregators import (
    BY_NAME,
    METHODS,
    RANDOM,
    STATEFUL,
    knobs_of,
    make,
    named_weights,
    stateless,
)
from dvaojax.errors import UserError

WEIGHTS = jnp.array([0.5, 0.3, 0.2])
REWARDS = jax.random.normal(jax.random.key(0), (2, 5, 3))
LENGTHS = jnp.arange(1, 11).reshape(2, 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", examined())
def test_update_returns_the_result_of_the_function(name):
    aggregator = make(name, WEIGHTS)
    state = aggregator.init(3)
    assert state == ()
    mask = jnp.ones(REWARDS.shape, bool)
    key = jax.random.key(1)
    advantages, state = updated(aggregator, REWARDS, mask, state, key, LENGTHS)
    assert state == ()
    lengths = (LENGTHS,) if takes_lengths(function_of(name)) else ()
    expected = function_of(name)(REWARDS, WEIGHTS, *lengths, mask=mask)
    np.testing.assert_array_equal(advantages, expected)


def test_update_can_be_jitted():
    aggregator = make("dvao", WEIGHTS)
    advantages, state = jax.jit(aggregator.update)(REWARDS, None, aggregator.init(3), None)
    assert state == ()
    np.testing.assert_allclose(advantages, aggregators.dvao(REWARDS, WEIGHTS), atol=1e-6)


def test_names_are_those_of_the_functions():
    assert all(name == method.__name__ for name, method in METHODS.items())
    assert len(METHODS) == len(BY_NAME) + len(STATEFUL) + len(RANDOM)
    assert {"grpo", "dr_grpo", "rloo", "gdpo", "dvao", "rvpo", "lite_ppo"} <= set(BY_NAME)


def test_knobs_are_passed_to_the_function():
    advantages, _ = make("grpo", WEIGHTS, ddof=0, epsilon=0.0).update(REWARDS, None, (), None)
    np.testing.assert_allclose(jnp.mean(advantages**2, axis=-1), 1, rtol=1e-5)
    assert knobs_of(aggregators.rvpo) == {"sharpness": 1.0, "ddof": 1, "epsilon": 1e-6}


def test_stateless_wraps_any_function():
    def first_objective(rewards, weights, *, mask=None):
        return weights[0] * rewards[..., 0]

    advantages, _ = stateless(first_objective, weights=WEIGHTS).update(REWARDS, None, (), None)
    np.testing.assert_array_equal(advantages, 0.5 * REWARDS[..., 0])


def test_missing_lengths_are_reported():
    with pytest.raises(ValueError, match="gdpo_token_weighted needs the lengths"):
        make("gdpo_token_weighted", WEIGHTS).update(REWARDS, None, (), None)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: make("dvoa", WEIGHTS), "unknown aggregator 'dvoa'; did you mean 'dvao'?"),
        (
            lambda: make("dvao", WEIGHTS, ddoff=1),
            "dvao has no knob 'ddoff'; did you mean 'ddof'?",
        ),
        (lambda: make("rloo", WEIGHTS, ddof=1), "rloo has no knob 'ddof'"),
        (lambda: make("dvao", WEIGHTS).init(2), "3 weights for 2 objectives"),
        (lambda: make("rvpo_annealed", WEIGHTS).init(2), "3 weights for 2 objectives"),
        (
            lambda: make("rvpo_annealed", WEIGHTS, lats=2.0),
            "rvpo_annealed has no knob 'lats'; did you mean 'last'?",
        ),
        (
            lambda: make("rvpo_aneald", WEIGHTS),
            "unknown aggregator 'rvpo_aneald'; did you mean 'rvpo_annealed'?",
        ),
        (
            lambda: named_weights({"acuracy": 1.0, "format": 1.0}, ["accuracy", "format"]),
            "weight for an unknown objective 'acuracy'; did you mean 'accuracy'?",
        ),
        (
            lambda: named_weights({"format": 1.0}, ["accuracy", "format", "brevity"]),
            "no weight for accuracy, brevity",
        ),
    ],
)
def test_mistakes_are_reported_in_one_line(mistake, message):
    with pytest.raises(UserError) as error:
        mistake()
    assert str(error.value) == message


def test_weights_are_in_the_order_of_the_objectives():
    weights = named_weights({"b": 2.0, "a": 1.0}, ["a", "b"])
    np.testing.assert_array_equal(weights, [1.0, 2.0])
    assert weights.dtype == jnp.float32
