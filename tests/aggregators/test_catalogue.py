"""The catalogue is true: each property is measured, on rewards that tell its values apart."""

import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_aggregator import lengths_for
from slowness import slow_but

from dvaojax import aggregators
from dvaojax.aggregators._core.aggregator import needs_key
from dvaojax.aggregators.catalogue import BESIDE, CATALOGUE

SHAPE = B, G, K = 12, 4, 3
WEIGHTS = np.array([1.0, 1.0, 0.4], np.float32)

# What has to be set for a property to show: constraints that bind, fast steps, sharp penalties.
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
}
QUICK = ("grpo", "dvao", "gdpo", "rvpo", "gd2po_snr", "lagrangian", "sa_mrpo")


def compiled(name, **knobs):
    """The advantages of rewards of `SHAPE`; of a method with memory, at the third such step."""

    def apply(rewards):
        lengths = lengths_for(rewards)
        aggregator = aggregators.make(name, WEIGHTS, **(KNOBS.get(name, {}) | knobs))

        def step(state, key):
            advantages, state = aggregator.update(rewards, None, state, key, lengths=lengths)
            return state, advantages

        state, key = aggregator.init(K), jax.random.key(0)
        if name not in aggregators.STATEFUL:
            return step(state, key)[1]
        return jax.lax.scan(step, state, jax.random.split(key, 3))[1][-1]

    function = jax.jit(apply)
    return lambda rewards: np.asarray(function(np.asarray(rewards, np.float32)), np.float64)


@pytest.fixture(scope="module", params=slow_but(QUICK, CATALOGUE))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def method(name):
    return compiled(name)


def batches(correlation=0.0, power=1, count=1):
    """Rewards on three scales, `[12, 4, 3]` each; the last objective may follow the first, and
    large rewards be rare."""
    for seed in range(count):
        rewards = np.random.default_rng(seed).random(SHAPE) ** power
        rewards[..., 2] = correlation * rewards[..., 0] + (1 - correlation) * rewards[..., 2]
        yield rewards * np.array([1.0, 0.5, 0.25])


def agrees(one, other):
    return np.allclose(one, other, atol=1e-2 * np.abs(other).max())


def pairs_of(rewards, advantages):
    """Differences of all pairs within each group: of the rewards, and of the advantages."""
    first, second = np.triu_indices(G, 1)
    return rewards[:, first] - rewards[:, second], advantages[:, first] - advantages[:, second]


def test_the_order(name, method):
    of_sum, of_pareto = True, True
    for correlation, power, count in ((0.0, 1, 12), (0.9, 1, 12), (0.0, 3, 40)):
        for rewards in batches(correlation, power, count):
            advantages = method(rewards)
            apart, ahead = pairs_of(rewards, advantages / np.abs(advantages).max())
            total = apart @ WEIGHTS
            of_sum &= not np.any((np.sign(total) * ahead < -1e-5) & (np.abs(total) > 1e-3))
            for better in (np.all(apart > 1e-3, axis=-1), np.all(apart < -1e-3, axis=-1)):
                sign = np.sign(apart[..., 0])
                of_pareto &= not np.any(better & (sign * ahead < -1e-5))
    assert CATALOGUE[name].order == ("sum" if of_sum else "pareto" if of_pareto else "none")


@pytest.mark.parametrize(
    ("column", "times", "plus"),
    [("scale", np.array([3.0, 1.0, 1.0]), 0.0), ("shift", 1.0, np.array([0.0, 0.7, 0.0]))],
)
def test_whether_the_unit_or_the_zero_of_one_objective_matters(name, method, column, times, plus):
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
        measured = "told" if agrees(after, before) else "no"
    assert getattr(CATALOGUE[name], column) == measured


def test_the_bound(name, method):
    group = next(batches())[:1]
    alike = np.broadcast_to(group, SHAPE)
    usual = np.abs(method(alike)).max()
    larger = np.abs(method(1000 * alike)).max()
    near_zero = np.abs(method(alike - alike.mean(axis=1, keepdims=True) + 1e-3)).max()
    if max(larger, near_zero) > 20 * usual:
        measured = "none"
    else:
        mean = group.mean(axis=1, keepdims=True)
        others = np.arange(B)[:, None, None] > 0
        alone = [np.where(others, mean + less * (alike - mean), alike) for less in (0.0, 0.45)]
        grows = max(np.abs(method(rewards)).max() for rewards in alone) > 1.5 * usual
        measured = "batch" if grows else "group"
    assert CATALOGUE[name].bound == measured


def test_whether_a_group_sums_to_zero(name, method):
    rewards = next(batches())
    rewards[2:, :, 0] = 0.5  # a rare objective
    advantages = method(rewards)
    sums = np.abs(advantages.sum(axis=1)) / np.abs(advantages).max()
    assert CATALOGUE[name].zero_sum == (sums.max() < 1e-4)
    assert sums.max() < 1e-5 or sums.max() > 1e-3


def test_what_becomes_of_a_conflict(name, method):
    rewards = next(batches())
    rewards[0] = [[1.0, 0.0, 0.1], [0.0, 1.0, 0.1], [0.45, 0.45, 0.1], [0.45, 0.45, 0.1]]
    one_sided, balanced = np.split(method(rewards)[0], 2)
    if np.all(one_sided == 0):
        measured = "dropped"
    else:
        measured = "punished" if balanced.min() > one_sided.max() else "traded"
    assert CATALOGUE[name].conflict == measured


def operations(name, groups, size, objectives, **knobs):
    """How many a call takes, for each reward, before anything is optimised."""
    rewards = jnp.zeros((groups, size, objectives))
    aggregator = aggregators.make(name, jnp.ones(objectives), **knobs)
    lowered = jax.jit(
        lambda rewards, key: aggregator.update(
            rewards, None, aggregator.init(objectives), key, lengths=lengths_for(rewards)
        )[0]
    ).lower(rewards, jax.random.key(0))
    return lowered.cost_analysis()["flops"] / rewards.size


@pytest.mark.slow
def test_the_cost():
    for name, row in CATALOGUE.items():
        more = operations(name, 8, 8, 10) / operations(name, 8, 4, 5)
        assert (more < 1.1) == (row.cost in ("1", "draws")), name
    assert operations("rdpo", 32, 16, 4) > 1.5 * operations("rdpo", 32, 4, 4)
    assert operations("rdpo", 2, 4, 8) > 1.3 * operations("rdpo", 2, 4, 4)
    assert operations("sc_ppo", 8, 4, 8) > 3 * operations("sc_ppo", 8, 4, 5)
    assert operations("vpo", 8, 4, 5, draws=200) > 1.5 * operations("vpo", 8, 4, 5, draws=100)


def test_every_method_has_a_row():
    assert CATALOGUE.keys() == set(aggregators.METHODS)
    assert not BESIDE.keys() & CATALOGUE.keys()
    assert all(callable(getattr(aggregators, name)) for name in BESIDE)


@pytest.mark.parametrize("row_of", [CATALOGUE, BESIDE], ids=["aggregators", "beside"])
def test_papers_and_reconstructions_are_those_that_the_files_tell_of(row_of):
    for name, row in row_of.items():
        module = sys.modules[getattr(aggregators, name).__module__]
        doc = " ".join((module.__doc__ or "").split())
        own = " ".join((getattr(aggregators, name).__doc__ or "").split())
        cited = row.paper.name if row.paper else "From code alone"
        assert cited in doc, name
        assert ("reconstruction" in row.credit) == ("A reconstruction:" in doc + own), name
        assert ("ours" in row.credit) == bool(re.search(r"; ours\.", doc)), name


def test_only_what_is_told_of_objectives_can_be_told():
    """A method that keeps its advantages if it is told has a knob to be told by."""
    for name, row in CATALOGUE.items():
        told = aggregators.knobs_per_objective(aggregators.METHODS[name])
        assert set(IN_UNITS_OF_REWARDS.get(name, ())) <= told
        assert ("told" in (row.scale, row.shift)) <= bool(told), name


def test_needs_a_key():
    assert {name for name in CATALOGUE if needs_key(aggregators.METHODS[name])} == set(
        aggregators.RANDOM
    )
