"""Tests of every aggregator of `STATEFUL`; knobs of a new one are added to `OTHERS`.

Their numbers are compared with loops in `test_stateful_against_loops`.
"""

import inspect
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from dvaojax import aggregators
from dvaojax.aggregators import STATEFUL, make
from dvaojax.aggregators._core import group
from dvaojax.aggregators.ctwa import covariances
from dvaojax.aggregators.hvpo import hypervolume_credit

pytestmark = pytest.mark.slow

SHAPE = B, G, K = 8, 5, 3
STEPS = 4
WEIGHTS = jnp.array([0.5, 0.3, 0.2])

# Another value of every knob, which changes the advantages of a few steps of normal rewards.
OTHERS = {
    "cap": -9.0,
    "decay": 0.1,
    "ddof": 0,
    "epsilon": 0.3,
    "first": 3.0,
    "initial": 2.0,
    "last": 9.0,
    "lower": -1.0,
    "most": 0.01,
    "num_steps": 3,
    "rate": 0.5,
    "reference": 0.3,
    "smoothing": 0.9,
    "target": 1.0,
    "threshold": 2.0,
    "upper": 3.0,
}

# Knobs with which the state changes; with the defaults it does not.
SETTINGS = {
    "constrained_grpo": {"threshold": (0.5, 1.0, -math.inf)},
    "ctwa": {"target": (2.0, 0.0, 0.7), "rate": 0.3},
    "lagrangian": {"threshold": (0.5, 1.0, -math.inf)},
}


def made(name, **knobs):
    return make(name, WEIGHTS, **{**SETTINGS.get(name, {}), **knobs})


@pytest.fixture(params=list(STATEFUL))
def name(request):
    return request.param


REWARDS = jax.random.normal(jax.random.key(0), (STEPS, *SHAPE))
MASK = np.asarray(jax.random.bernoulli(jax.random.key(1), 0.8, (STEPS, *SHAPE)))
UNMASKED = np.ones(MASK.shape, bool)


def run(method, rewards, mask):
    """Advantages `[steps, ..., G]` and all states, including the first and the last."""

    def step(state, step_inputs):
        advantages, after = method.update(*step_inputs, state, None)
        return after, (advantages, after)

    begin = method.init(K)
    _, (advantages, states) = jax.lax.scan(step, begin, (rewards, mask))
    return advantages, jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), begin, states)


@jax.jit
def run_every(rewards, mask):
    """All aggregators in one compiled function."""
    return {name: run(made(name), rewards, mask) for name in STATEFUL}


def eagerly(method, rewards):
    """Advantages `[steps, ..., G]` and the last state, without jit."""
    state, advantages = method.init(K), []
    for step_rewards in rewards:
        one, state = method.update(step_rewards, None, state, None)
        advantages.append(one)
    return jnp.stack(advantages), state


def test_state_is_a_named_tuple_of_arrays_that_changes_and_keeps_its_types(name):
    method = made(name)
    first = method.init(K)
    assert isinstance(first, tuple)
    assert hasattr(first, "_fields")
    _, states = run_every(REWARDS, MASK)[name]
    chex.assert_tree_all_finite(states)
    chex.assert_trees_all_equal(jax.tree.map(lambda a: a[0], states), first)
    changes = jax.tree.map(lambda a: bool(jnp.any(a[0] != a[-1])), states)
    assert all(jax.tree.leaves(changes)), "a state that never changes is not needed"
    with jax.enable_x64(True):  # the state keeps its dtype for float64 rewards
        _, after = jax.eval_shape(method.update, jnp.zeros(SHAPE, jnp.float64), None, first, None)
    chex.assert_trees_all_equal_shapes_and_dtypes(first, after)


def test_one_advantage_per_completion_in_float32(name):
    advantages, _ = run_every(REWARDS, MASK)[name]
    chex.assert_shape(advantages, (STEPS, B, G))
    chex.assert_type(advantages, jnp.float32)


@pytest.mark.slow
def test_works_without_jit_on_any_leading_axes(name):
    few = REWARDS[:2, :2]
    padded = jnp.concatenate([few, jnp.zeros((2, B - 2, G, K))], axis=1)
    mask = UNMASKED[:2].copy()
    mask[:, 2:] = False
    expected, states = jax.jit(lambda r, m: run(made(name), r, m))(padded, mask)
    advantages, state = eagerly(made(name), few.reshape(2, 2, 1, G, K))
    chex.assert_trees_all_close(advantages[:, :, 0], expected[:, :2], atol=1e-5)
    chex.assert_trees_all_close(state, jax.tree.map(lambda a: a[-1], states), atol=1e-5)


def test_advantages_depend_on_earlier_steps(name):
    expected, _ = run_every(REWARDS, UNMASKED)[name]
    other, _ = run_every(REWARDS.at[:-1].multiply(3.0).at[:-1].add(1.0), UNMASKED)[name]
    backwards, _ = run_every(REWARDS[::-1], UNMASKED)[name]
    changed = [other[-1] - expected[-1], backwards[0] - expected[-1]]
    assert max(np.max(np.abs(change)) for change in changed) > 1e-3


def test_zero_variance_group_gets_exactly_zero_after_any_history(name):
    values = jnp.asarray([0.1, 0.3, 0.7, 1 / 3, -1e6 / 7, 1e-20, 1e4, 0.0])
    constant = jnp.broadcast_to(values[:, None, None], SHAPE)
    advantages, _ = run_every(REWARDS.at[:, 2:].set(constant[2:]).at[3].set(constant), MASK)[name]
    assert np.all(advantages[:, 2:] == 0)
    assert np.all(advantages[3] == 0)
    assert np.any(advantages[:3, :2] != 0)


def test_unscored_completion_gets_zero_and_does_not_affect_others(name):
    mask = UNMASKED.copy()
    mask[:, 3, 1] = False
    expected, states = run_every(REWARDS, mask)[name]
    assert np.all(expected[:, 3, 1] == 0)
    other = run_every(REWARDS.at[:, 3, 1].set(1e6), mask)[name]
    chex.assert_trees_all_equal(other, (expected, states))
    poisoned = run_every(REWARDS.at[:, 3, 1].set(jnp.nan), UNMASKED)[name]
    chex.assert_trees_all_equal(poisoned, (expected, states))


def test_step_without_scores_leaves_the_state_finite(name):
    mask = UNMASKED.copy()
    mask[1] = False
    advantages, states = run_every(REWARDS, mask)[name]
    assert np.all(advantages[1] == 0)
    chex.assert_tree_all_finite((advantages, states))


def test_sharding_over_groups_changes_nothing(name):
    mesh = jax.make_mesh((4, 2), ("data", "fsdp"))
    sharding = NamedSharding(mesh, PartitionSpec(None, ("data", "fsdp")))
    split = run_every(jax.device_put(REWARDS, sharding), jax.device_put(MASK, sharding))[name]
    whole = run_every(REWARDS, MASK)[name]
    chex.assert_trees_all_close(jax.device_get(split), jax.device_get(whole), atol=1e-5)


def test_nonfinite_rewards_are_rejected_outside_jit(name):
    method = made(name)
    poisoned = REWARDS[0, :2].at[1, 3, 1].set(jnp.nan)
    with pytest.raises(ValueError, match="1 of 30 rewards are NaN or infinite"):
        method.update(poisoned, None, method.init(K), None)


def test_no_knob_is_ignored(name):
    factory, few = STATEFUL[name], REWARDS[:3, :2]
    base, _ = eagerly(made(name), few)
    for knob, default in aggregators.knobs_of(factory).items():
        other = 1 if knob == "ddof" and default == 0 else OTHERS[knob]
        assert other != default
        changed, _ = eagerly(made(name, **{knob: other}), few)
        assert not np.allclose(changed, base, atol=1e-4), knob
    parameters = set(inspect.signature(factory).parameters)
    assert parameters == {"weights", *aggregators.knobs_of(factory)}


def test_annealed_rvpo_equals_rvpo_of_each_step():
    method = make("rvpo_annealed", WEIGHTS, first=0.5, last=2.0, num_steps=3)
    advantages, state = eagerly(method, REWARDS[:, :2])
    for t, sharpness in enumerate((0.5, 1.25, 2.0, 2.0)):
        expected = aggregators.rvpo(REWARDS[t, :2], WEIGHTS, sharpness=sharpness)
        chex.assert_trees_all_close(advantages[t], expected, atol=1e-6)
    assert int(state.steps) == STEPS


@pytest.mark.parametrize("knobs", [{"num_steps": 1}, {"first": -0.1}, {"last": -1.0}])
def test_rejects_an_invalid_schedule(knobs):
    with pytest.raises(
        ValueError, match=r"num_steps=.* at least 2, and first=.* must not be negative"
    ):
        make("rvpo_annealed", WEIGHTS, **knobs)


def test_without_thresholds_multipliers_stay_zero():
    few = REWARDS[:, :2]
    for name, plain in (
        ("lagrangian", aggregators.grpo),
        ("constrained_grpo", aggregators.advantage_combination),
    ):
        advantages, state = eagerly(make(name, WEIGHTS, rate=5.0), few)
        assert np.all(state.multipliers == 0)
        for step_rewards, one in zip(few, advantages, strict=True):
            expected = plain(step_rewards, WEIGHTS, ddof=1, epsilon=1e-6)
            chex.assert_trees_all_close(one, expected, atol=1e-6)


def test_dual_ascent_converges_to_the_constraint():
    """A bandit with known optimum: the safe arm has probability p, reward 1 - p and safety p."""
    threshold, rate = 0.7, 0.2

    def step(carry, key):
        logit, state = carry
        safe = jax.random.bernoulli(key, jax.nn.sigmoid(logit), (16, 8))
        rewards = jnp.stack([~safe, safe], axis=-1).astype(jnp.float32)
        advantages, state = method.update(rewards, None, state, None)
        score = safe.astype(jnp.float32) - jax.nn.sigmoid(
            logit
        )  # of the log-probability, by the logit
        return (logit + 0.1 * jnp.mean(advantages * score), state), jax.nn.sigmoid(logit)

    weights = jnp.array([1.0, 0.0])
    for name in ("lagrangian", "constrained_grpo"):
        method = make(name, weights, threshold=(-math.inf, threshold), rate=rate)
        begin = (jnp.zeros(()), method.init(2))
        keys = jax.random.split(jax.random.key(0), 4000)
        (_, state), safety = jax.jit(lambda b, k: jax.lax.scan(step, b, k))(begin, keys)
        assert abs(jnp.mean(safety[2000:]) - threshold) < 0.02, name
        # At the optimum reward and constraint have nearly equal weights.
        assert 0.5 < state.multipliers[1] < 2.0
        assert state.multipliers[0] == 0


def test_64_hypervolume_credit():
    rng = np.random.default_rng(0)
    gains = jnp.asarray(rng.uniform(0.01, 1.0, (50, G, K)), jnp.float32)
    shares = WEIGHTS / WEIGHTS.sum()
    credit = hypervolume_credit(gains, 3 * WEIGHTS)
    assert np.all(credit >= gains.min(-1) - 1e-6)
    assert np.all(credit <= gains @ shares + 1e-6)
    np.testing.assert_allclose(
        hypervolume_credit(gains, jnp.ones(K)) ** 3, gains.prod(-1), rtol=1e-4
    )
    boundary = hypervolume_credit(gains.at[..., 1].set(0.0), WEIGHTS)
    assert np.all(boundary == 0), "exactly"
    below = hypervolume_credit(gains.at[..., 1].set(-0.3).at[..., 2].set(-0.1), WEIGHTS)
    np.testing.assert_array_equal(below, np.full((50, G), -0.3, np.float32))
    ignored = hypervolume_credit(gains.at[..., 1].set(-0.3), jnp.array([1.0, 0.0, 1.0]))
    np.testing.assert_allclose(ignored**2, gains[..., 0] * gains[..., 2], rtol=1e-4)
    assert np.all(hypervolume_credit(gains, jnp.zeros(K)) == 0)


@pytest.mark.slow
def test_69_covariance_of_ctwa_is_the_effect_of_an_update_on_a_reward():
    """Tilting a group's distribution by exp(eta A) changes E[r_k] by eta Cov(r_k, A)."""
    with jax.enable_x64(True):
        rewards = jnp.asarray(REWARDS[0], jnp.float64)
        batch = group.prepare_batch(rewards, jnp.asarray(WEIGHTS, jnp.float64), None)
        advantages = aggregators.grpo(rewards, batch.weights)

        def mean_after(eta):
            tilted = jax.nn.softmax(eta * advantages, axis=-1)
            return jnp.mean(jnp.sum(tilted[..., None] * rewards, axis=1), axis=0)

        actual, is_known = covariances(batch, advantages)
        assert np.all(is_known)
        np.testing.assert_allclose(actual, jax.jacfwd(mean_after)(jnp.zeros(())), rtol=1e-9)


@pytest.mark.slow
def test_ctwa_increases_only_the_weight_of_a_neglected_reward():
    first = jax.random.normal(jax.random.key(2), (10, 8, 6))
    rewards = jnp.stack([first, -0.5 * first], axis=-1)  # conflicting objectives
    method = make("ctwa", jnp.array([1.0, 1.0]), rate=0.02)
    state = method.init(2)
    update = jax.jit(method.update)
    for step_rewards in rewards:
        _, state = update(step_rewards, None, state, None)
    assert state.log_factor[0] == 0
    assert 0.05 < state.log_factor[1] < np.log(2)
    assert state.covariance[1] < 0 < state.covariance[0]


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("lagrangian", {"rate": -1.0}, "rate=-1.0 and most=10.0 must not be negative"),
        ("constrained_grpo", {"most": -1.0}, "rate=0.05 and most=-1.0 must not be negative"),
        (
            "ctwa",
            {"smoothing": 2.0},
            "rate=0.02 must not be negative and smoothing=2.0 must lie in",
        ),
        ("hvpo", {"decay": -0.1}, "decay=-0.1 must lie in"),
    ],
)
def test_rejects_invalid_knobs(name, knobs, message):
    with pytest.raises(ValueError, match=message):
        make(name, WEIGHTS, **knobs)


def test_knobs_are_one_number_or_one_per_objective():
    method = make("lagrangian", WEIGHTS, threshold=(0.5, 0.1))
    with pytest.raises(ValueError, match=r"\(2,\) values of a knob for 3 objectives"):
        method.update(REWARDS[0, :2], None, method.init(K), None)
    with pytest.raises(ValueError, match=r"every upper=.* must exceed its lower=0.5"):
        make("hvpo", WEIGHTS, lower=0.5, upper=(1.0, 0.5, 2.0)).init(K)
