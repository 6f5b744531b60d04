"""A switchboard does what the method it is set to does, and is compiled once for all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dvaojax import aggregators
from dvaojax.sweep.switch_aggregator import Method, choose, switchboard

# Without and with memory, with lengths, with knobs per objective, and one that draws.
METHODS = [
    Method("dvao", {}),
    Method("dvao_denoised", {"noise": (0.0, 0.3, 0.0)}),
    Method("rvpo_annealed", {"num_steps": 3}),
    Method("dvao_shrunk_running", {"decay": 0.5}),
    Method("gdpo_token_weighted", {}),
    Method("vpo", {"answers": 1}),
]
WEIGHTS = jnp.array([0.5, 0.2, 0.3], jnp.float32)
STEPS = 3


def batch(step):
    generator = np.random.default_rng(step)
    rewards = jnp.asarray(generator.random((4, 6, 3)), jnp.float32)
    mask = jnp.asarray(generator.random((4, 6, 3)) > 0.1)
    lengths = jnp.asarray(generator.integers(1, 9, (4, 6)), jnp.float32)
    return rewards, mask, jax.random.key(step), lengths


@pytest.fixture(scope="module")
def update():
    """The compiled update, and how often it was traced."""
    board, traces = switchboard(METHODS), []

    @jax.jit
    def update(rewards, mask, state, key, lengths):
        traces.append(None)
        return board.update(rewards, mask, state, key, lengths=lengths)

    return update, traces


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_it_is_the_method_it_is_set_to(update, method):
    alone = aggregators.make(method.name, WEIGHTS, **method.knobs)
    by_itself, state = alone.init(3), choose(METHODS, method, WEIGHTS)
    for step in range(STEPS):
        rewards, mask, key, lengths = batch(step)
        expected, by_itself = alone.update(rewards, mask, by_itself, key, lengths=lengths)
        found, state = update[0](rewards, mask, state, key, lengths)
        np.testing.assert_allclose(found, expected, atol=2e-6)
        assert np.abs(expected).max() > 0.1
    assert len(update[1]) == 1


def test_what_is_not_in_use_remembers_nothing(update):
    start = choose(METHODS, METHODS[0], WEIGHTS)
    rewards, mask, key, lengths = batch(0)
    _, after = update[0](rewards, mask, start, key, lengths)
    jax.tree.map(np.testing.assert_array_equal, after, start)


def test_it_begins_as_the_first_method_with_equal_weights():
    board = switchboard(METHODS)
    rewards, mask, key, lengths = batch(1)
    found, _ = board.update(rewards, mask, board.init(3), key, lengths=lengths)
    np.testing.assert_allclose(found, aggregators.dvao(rewards, jnp.ones(3), mask=mask), atol=1e-6)
