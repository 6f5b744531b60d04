"""The switch aggregator equals the selected method, and is compiled once for all methods."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dvaojax import aggregators
from dvaojax.sweep.switch_aggregator import UnweightedMethod, switch_aggregator, switch_state

# Stateless and stateful, with lengths, with knobs per objective, and one that uses the key.
METHODS = [
    UnweightedMethod("dvao", {}),
    UnweightedMethod("dvao_denoised", {"noise": (0.0, 0.3, 0.0)}),
    UnweightedMethod("rvpo_annealed", {"num_steps": 3}),
    UnweightedMethod("dvao_shrunk_running", {"decay": 0.5}),
    UnweightedMethod("gdpo_token_weighted", {}),
    UnweightedMethod("vpo", {"answers": 1}),
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
    """The compiled update, and a list with one entry per trace."""
    aggregator, traces = switch_aggregator(METHODS), []

    @jax.jit
    def update(rewards, mask, state, key, lengths):
        traces.append(None)
        return aggregator.update(rewards, mask, state, key, lengths=lengths)

    return update, traces


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_equals_the_selected_method(update, method):
    alone = aggregators.make(method.name, WEIGHTS, **method.knobs)
    expected_state, state = alone.init(3), switch_state(METHODS, method, WEIGHTS)
    for step in range(STEPS):
        rewards, mask, key, lengths = batch(step)
        expected, expected_state = alone.update(rewards, mask, expected_state, key, lengths=lengths)
        actual, state = update[0](rewards, mask, state, key, lengths)
        np.testing.assert_allclose(actual, expected, atol=2e-6)
        assert np.abs(expected).max() > 0.1
    assert len(update[1]) == 1


def test_states_of_other_methods_do_not_change(update):
    start = switch_state(METHODS, METHODS[0], WEIGHTS)
    rewards, mask, key, lengths = batch(0)
    _, after = update[0](rewards, mask, start, key, lengths)
    jax.tree.map(np.testing.assert_array_equal, after, start)


def test_init_selects_the_first_method_with_equal_weights():
    aggregator = switch_aggregator(METHODS)
    rewards, mask, key, lengths = batch(1)
    actual, _ = aggregator.update(rewards, mask, aggregator.init(3), key, lengths=lengths)
    np.testing.assert_allclose(actual, aggregators.dvao(rewards, jnp.ones(3), mask=mask), atol=1e-6)


@pytest.mark.slow
def test_methods_of_tokens_norms_and_scores_switch_with_others():
    """Where one method has advantages per token, those of the others are repeated on the tokens."""
    names = ("rloo", "optimal_token_baseline", "oblr_po", "dvao_of_repeats")
    methods = [UnweightedMethod(name, {}) for name in names]
    aggregator = switch_aggregator(methods)
    norms = ("gradient_weights", "token_gradient_weights")
    assert {*aggregator.needs} == {*norms, "where", "scores"}
    assert aggregator.is_per_token
    rewards, mask, key, lengths = batch(0)
    where = jnp.arange(9.0)[None, None] < lengths[..., None]
    inputs = {
        "lengths": lengths,
        "where": where,
        "gradient_weights": lengths + 1,
        "token_gradient_weights": jnp.broadcast_to(jnp.arange(1.0, 10.0), where.shape),
        "scores": jnp.stack([rewards - 0.1, rewards + 0.1], axis=-1),
    }
    update = jax.jit(aggregator.update)
    for method in methods:
        alone = aggregators.make(method.name, WEIGHTS)
        expected, _ = alone.update(rewards, mask, (), key, **alone.inputs_among(inputs))
        if not alone.is_per_token:
            expected = jnp.where(where, expected[..., None], 0)
        actual, _ = update(rewards, mask, switch_state(methods, method, WEIGHTS), key, **inputs)
        np.testing.assert_allclose(actual, expected, atol=2e-6)
