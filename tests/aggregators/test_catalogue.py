"""The table of aggregators: each property is measured on rewards that distinguish its values."""

import inspect
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_aggregator import lengths_for, updated
from slowness import slow_but

from dvaojax import aggregators
from dvaojax.aggregators import OTHER_FUNCTIONS, ROWS, needs_key

SHAPE = B, G, K = 12, 4, 3
WEIGHTS = np.array([1.0, 1.0, 0.4], np.float32)

# Knobs that make a property visible: binding constraints, fast steps, sharp penalties.
FAST = {"rate": 5.0}
KNOBS = {
    "dvao_denoised": {"noise": (0.01, 0.001, 0.002)},
    "rvpo_variance_penalty": {"penalty": 3.0},
    "lagrangian": {"threshold": (0.9, 0.3, 0.2), **FAST},
    "constrained_grpo": {"threshold": (0.9, 0.3, 0.2), **FAST},
    "ctwa": {"target": (0.3, 0.05, 0.2), "cap": (0.4, 0.4, 0.4), **FAST},
    "saw_grpo": {"lower": (-0.3, -0.1, 0.0)},
    "saw_gdpo": {"lower": (-0.3, -0.1, 0.0)},
    "hvpo": {"lower": (-0.3, -0.1, 0.0), "upper": (1.2, 0.8, 0.4)},
    "sa_mrpo": {"lower": (-0.3, -0.1, 0.0), "upper": (1.2, 0.8, 0.4)},
    "augmented_tchebycheff": {"ideal": (1.2, 0.8, 0.4)},
    "sc_ppo": {"target": (0.9, 0.5, 0.3)},
    "dro": {"gates": (-np.inf, 0.1, -np.inf)},
}
IN_UNITS_OF_REWARDS = {
    "lagrangian": ["threshold"],
    "constrained_grpo": ["threshold"],
    "ctwa": ["cap"],
    "saw_grpo": ["lower"],
    "saw_gdpo": ["lower"],
    "hvpo": ["lower", "upper"],
    "sa_mrpo": ["lower", "upper"],
    "augmented_tchebycheff": ["ideal"],
    "sc_ppo": ["target"],
    "dro": ["gates"],
}
QUICK = ("grpo", "dvao", "gdpo", "rvpo", "gd2po_snr", "lagrangian", "sa_mrpo")


def compiled(name, **knobs):
    """The advantages of rewards of `SHAPE`; for a stateful method, those of the third step."""

    def apply(rewards):
        lengths = lengths_for(rewards)
        aggregator = aggregators.make(name, WEIGHTS, **(KNOBS.get(name, {}) | knobs))

        def step(state, key):
            advantages, state = updated(aggregator, rewards, None, state, key, lengths, noise=0.05)
            return state, advantages

        state, key = aggregator.init(K), jax.random.key(0)
        if name not in aggregators.STATEFUL:
            return step(state, key)[1]
        return jax.lax.scan(step, state, jax.random.split(key, 3))[1][-1]

    function = jax.jit(apply)
    return lambda rewards: np.asarray(function(np.asarray(rewards, np.float32)), np.float64)


@pytest.fixture(scope="module", params=slow_but(QUICK, ROWS))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def method(name):
    return compiled(name)


def batches(correlation=0.0, power=1, count=1):
    """Rewards on three scales, `[12, 4, 3]` each; optionally the last objective is correlated with
    the first, and large rewards are rare."""
    for seed in range(count):
        rewards = np.random.default_rng(seed).random(SHAPE) ** power
        rewards[..., 2] = correlation * rewards[..., 0] + (1 - correlation) * rewards[..., 2]
        yield rewards * np.array([1.0, 0.5, 0.25])


def agrees(one, other):
    return np.allclose(one, other, atol=1e-2 * np.abs(other).max())


def pair_differences(rewards, advantages):
    """Differences of all pairs within each group: of the rewards, and of the advantages."""
    first, second = np.triu_indices(G, 1)
    return rewards[:, first] - rewards[:, second], advantages[:, first] - advantages[:, second]


def test_order(name, method):
    follows_sum, is_pareto = True, True
    for correlation, power, count in ((0.0, 1, 12), (0.9, 1, 12), (0.0, 3, 40)):
        for rewards in batches(correlation, power, count):
            advantages = method(rewards)
            reward_gaps, advantage_gaps = pair_differences(
                rewards, advantages / np.abs(advantages).max()
            )
            total = reward_gaps @ WEIGHTS
            follows_sum &= not np.any(
                (np.sign(total) * advantage_gaps < -1e-5) & (np.abs(total) > 1e-3)
            )
            for better in (
                np.all(reward_gaps > 1e-3, axis=-1),
                np.all(reward_gaps < -1e-3, axis=-1),
            ):
                sign = np.sign(reward_gaps[..., 0])
                is_pareto &= not np.any(better & (sign * advantage_gaps < -1e-5))
    assert ROWS[name].order == ("sum" if follows_sum else "pareto" if is_pareto else "none")


@pytest.mark.parametrize(
    ("column", "times", "plus"),
    [("scale", np.array([3.0, 1.0, 1.0]), 0.0), ("shift", 1.0, np.array([0.0, 0.7, 0.0]))],
)
def test_invariance_to_scale_and_shift_of_one_objective(name, method, column, times, plus):
    rewards = next(batches())
    before = method(rewards)
    if agrees(method(rewards * times + plus), before):
        measured = "yes"
    elif name not in IN_UNITS_OF_REWARDS:
        measured = "no"
    else:
        moved = {
            knob: tuple(KNOBS[name][knob] * np.broadcast_to(times, K) + plus)
            for knob in IN_UNITS_OF_REWARDS[name]
        }
        after = compiled(name, **moved)(rewards * times + plus)
        measured = "with knobs" if agrees(after, before) else "no"
    assert getattr(ROWS[name], column) == measured


def test_bound(name, method):
    group = next(batches())[:1]
    repeated = np.broadcast_to(group, SHAPE)
    usual = np.abs(method(repeated)).max()
    larger = np.abs(method(1000 * repeated)).max()
    near_zero = np.abs(method(repeated - repeated.mean(axis=1, keepdims=True) + 1e-3)).max()
    if max(larger, near_zero) > 20 * usual:
        measured = "none"
    else:
        mean = group.mean(axis=1, keepdims=True)
        others = np.arange(B)[:, None, None] > 0
        one_varies = [
            np.where(others, mean + less * (repeated - mean), repeated) for less in (0.0, 0.45)
        ]
        grows = max(np.abs(method(rewards)).max() for rewards in one_varies) > 1.5 * usual
        measured = "batch" if grows else "group"
    assert ROWS[name].bound == measured


def test_sum_of_a_group(name, method):
    rewards = next(batches())
    rewards[2:, :, 0] = 0.5  # a rare objective
    advantages = method(rewards)
    sums = np.abs(advantages.sum(axis=1)) / np.abs(advantages).max()
    assert ROWS[name].zero_sum == (sums.max() < 1e-4)
    assert sums.max() < 1e-5 or sums.max() > 1e-3


def test_treatment_of_conflicts(name, method):
    rewards = next(batches())
    rewards[0] = [[1.0, 0.0, 0.1], [0.0, 1.0, 0.1], [0.45, 0.45, 0.1], [0.45, 0.45, 0.1]]
    one_sided, balanced = np.split(method(rewards)[0], 2)
    if np.all(one_sided == 0):
        measured = "dropped"
    else:
        measured = "punished" if balanced.min() > one_sided.max() else "traded"
    assert ROWS[name].conflict == measured


def operations(name, groups, size, objectives, **knobs):
    """Floating-point operations of a call per reward, before compiler optimisations."""
    rewards = jnp.zeros((groups, size, objectives))
    aggregator = aggregators.make(name, jnp.ones(objectives), **knobs)
    state, lengths = aggregator.init(objectives), lengths_for(rewards)
    lowered = jax.jit(
        lambda rewards, key: updated(aggregator, rewards, None, state, key, lengths)[0]
    ).lower(rewards, jax.random.key(0))
    return lowered.cost_analysis()["flops"] / rewards.size


@pytest.mark.nightly
def test_cost():
    for name, row in ROWS.items():
        more = operations(name, 8, 8, 10) / operations(name, 8, 4, 5)
        assert (more < 1.1) == (row.cost in ("1", "T", "draws")), name
    assert operations("rdpo", 32, 16, 4) > 1.5 * operations("rdpo", 32, 4, 4)
    assert operations("rdpo", 2, 4, 8) > 1.3 * operations("rdpo", 2, 4, 4)
    assert operations("sc_ppo", 8, 4, 8) > 3 * operations("sc_ppo", 8, 4, 5)
    assert operations("vpo", 8, 4, 5, draws=200) > 1.5 * operations("vpo", 8, 4, 5, draws=100)


def test_names_are_unique_and_exported():
    assert ROWS.keys() == set(aggregators.METHODS)
    assert len(ROWS) == len(aggregators.METHODS)
    assert not OTHER_FUNCTIONS.keys() & ROWS.keys()
    assert all(callable(getattr(aggregators, name)) for name in OTHER_FUNCTIONS)


@pytest.mark.parametrize("rows", [ROWS, OTHER_FUNCTIONS], ids=["aggregators", "others"])
def test_sources_agree_with_the_docstrings(rows):
    for name, row in rows.items():
        module = sys.modules[getattr(aggregators, name).__module__]
        doc = " ".join((module.__doc__ or "").split())
        own = " ".join((getattr(aggregators, name).__doc__ or "").split())
        assert row.paper is None or row.paper.name in doc, name
        assert row.paper is not None or "{}" not in row.credit, name
        assert ("reconstruction" in row.credit) == ("is a reconstruction" in doc + own), name
        assert ("ours" in row.credit) == bool(re.search(r"; our variant\.", doc)), name


def test_methods_invariant_with_knobs_have_knobs_per_objective():
    for name, row in ROWS.items():
        knobs = aggregators.knobs_per_objective(row.method)
        assert set(IN_UNITS_OF_REWARDS.get(name, ())) <= knobs
        assert ("with knobs" in (row.scale, row.shift)) <= bool(knobs), name


def test_dictionaries_are_derived_from_the_signatures():
    assert "vpo" in aggregators.RANDOM
    assert all(needs_key(method) for method in aggregators.RANDOM.values())
    for name, factory in aggregators.STATEFUL.items():
        annotation = inspect.signature(factory).return_annotation
        assert annotation is aggregators.Aggregator, name
    for function in aggregators.BY_NAME.values():
        first = next(iter(inspect.signature(function).parameters))
        assert first == ("scores" if "scores" in aggregators.needs_of(function) else "rewards")


def test_equation_of_dvao_denoised_in_the_table_is_the_one_computed():
    equation = "`w̃_k ∝ w_k σ_k √max(0, 1 − noise_k / s_k²)`, `s_k²` the sample variance"  # noqa: RUF001
    assert equation in ROWS["dvao_denoised"].equation
    rewards, noise = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([0.3, 0.0])
    z = (rewards - rewards.mean(0)) / rewards.std(0)
    scale = rewards.std(0) * np.sqrt(1 - noise / rewards.var(0, ddof=1))
    measured = aggregators.dvao_denoised(rewards, np.ones(2), noise=tuple(noise))
    np.testing.assert_allclose(measured, z @ scale / scale.sum(), rtol=1e-5)
    np.testing.assert_allclose(measured, [0.2251, -0.2251], atol=1e-4)
