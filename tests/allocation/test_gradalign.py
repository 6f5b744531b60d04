"""GradAlign: its modes as sorted lists, cosines as loops, and the problems of its rounds."""

import math
import random

import numpy as np
import pytest

from dvaojax.allocation import (
    MODES,
    AllocationConfig,
    Rounds,
    SelectionConfig,
    at,
    cosines,
    gradalign,
    initial_statistics,
    observe,
    observe_alignment,
)
from dvaojax.errors import UserError

COUNT, GROUP = 12, 8
ONE = np.ones(1)


def candidates(seed=0):
    """Statistics of candidates with one group each, and the numbers they are from."""
    rng = np.random.default_rng(seed)
    right = rng.integers(0, GROUP + 1, COUNT)
    rewards = (np.arange(GROUP) < right[:, None]).astype(np.float32)[..., None]
    rows = np.arange(COUNT)
    statistics = observe(
        initial_statistics(COUNT, 1), rows, rewards, np.ones(rewards.shape, bool), memory=1.0
    )
    numbers = rng.uniform(-1, 1, (2, COUNT)).astype(np.float32)
    norms = rng.uniform(0.5, 3, COUNT).astype(np.float32)
    statistics = observe_alignment(
        statistics, rows, alignment=numbers[0], own_alignment=numbers[1], norms=norms
    )
    return statistics, list(right / GROUP), *(list(map(float, n)) for n in (*numbers, norms))


def by_sorting(mode, number, rate, sim, own, norm):
    """The chosen candidates as the official code sorts them; for `acc` the pool in order."""
    scores = {
        "sim": sim,
        "negsim": [-s for s in sim],
        "dot": [n * s for n, s in zip(norm, sim, strict=True)],
        "simacc": [s * (a * (1.0 - a)) * 4 for a, s in zip(rate, sim, strict=True)],
        "align": own,
        "norm": norm,
        "accgreedy": [-abs(a - 0.5) for a in rate],
        "rand": [0.0] * COUNT,
    }
    if mode == "acc":
        pool = [i for i, a in enumerate(rate) if 0.2 <= a <= 0.8]
        return set((pool + [i for i in range(COUNT) if i not in pool])[:number])
    pairs = sorted(enumerate(scores[mode]), key=lambda pair: pair[1], reverse=True)
    return {i for i, _ in pairs[:number]}


@pytest.mark.parametrize("mode", MODES)
def test_modes_choose_what_the_official_code_sorts_first(mode):
    for seed in range(20):
        statistics, *numbers = candidates(seed)
        for number in (1, 5, COUNT):
            sizes = gradalign(statistics, ONE, budget=number * GROUP, floor=0, cap=GROUP, mode=mode)
            assert set(sizes.tolist()) <= {0, GROUP}
            assert set(np.flatnonzero(sizes)) == by_sorting(mode, number, *numbers)


def test_modes_choose_different_problems():
    numbers = [candidates(seed)[1:] for seed in range(5)]
    chosen = {tuple(map(frozenset, (by_sorting(m, 5, *n) for n in numbers))) for m in MODES}
    assert len(chosen) == len(MODES)


def test_budgets_between_floor_and_cap_are_used_up_from_the_best_down():
    statistics, _, sim, *_ = candidates()
    sizes = gradalign(statistics, ONE, budget=2 * COUNT + 15, floor=2, cap=GROUP)
    best = np.argsort(-np.array(sim))
    assert sizes[best].tolist() == [8, 8, 5] + [2] * (COUNT - 3)
    reordered = random.Random(0).sample(range(COUNT), COUNT)
    moved = gradalign(at(statistics, np.array(reordered)), ONE, budget=39, floor=2, cap=GROUP)
    np.testing.assert_array_equal(moved, sizes[reordered])


def test_rewards_in_other_units_do_not_change_cosines_and_without_them_the_order_counts():
    statistics, *_ = candidates()
    bare = statistics._replace(alignment=None, own_alignment=None, gradient_norm=None)
    sizes = gradalign(bare, ONE, budget=16, floor=0, cap=GROUP)
    assert sizes.tolist() == [8, 8] + [0] * (COUNT - 2)


def test_cosines_are_those_of_a_loop():
    rng = np.random.default_rng(1)
    vectors, direction = rng.normal(size=(6, 9)).astype(np.float32), rng.normal(size=9)
    vectors[2] = 0
    values = cosines(vectors, direction)
    for vector, value in zip(vectors, values, strict=True):
        norms = math.sqrt(sum(v * v for v in map(float, vector))), np.linalg.norm(direction)
        dot = sum(float(a) * float(b) for a, b in zip(vector, direction, strict=True))
        assert value == pytest.approx(dot / norms[0] / norms[1] if norms[0] else 0.0, rel=1e-6)
    np.testing.assert_allclose(cosines(100 * vectors, 0.01 * direction), values, rtol=1e-6)
    assert cosines(vectors[:1], vectors[0])[0] == pytest.approx(1)
    assert (cosines(vectors, 0 * direction) == 0).all()


def test_alignments_are_replaced_at_each_visit_and_of_other_problems_kept():
    statistics = initial_statistics(4, 1)
    assert statistics.alignment is None
    first = {name: np.array([1.0, 2.0]) for name in ("alignment", "own_alignment", "norms")}
    after = observe_alignment(statistics, np.array([0, 2]), **first)
    later = observe_alignment(after, np.array([2]), **{k: np.array([5.0]) for k in first})
    assert after.alignment.tolist() == [1, 0, 2, 0]
    assert later.gradient_norm.tolist() == [1, 0, 5, 0]
    assert at(later, np.array([2, 2])).own_alignment.tolist() == [5, 5]
    visited = observe(
        later, np.array([1]), np.ones((1, 3, 1)), np.ones((1, 3, 1), bool), memory=1.0
    )
    assert visited.alignment.tolist() == later.alignment.tolist()
    assert later.alignment.dtype == np.float32


def test_a_round_trains_on_its_problems_only_and_on_each_equally_often():
    rounds = Rounds(positions_per_round=15, seed=3)
    chosen = np.array([[7, 1, 4, 9, 0], [20, 21, 22, 23, 24], [-1] * 5])
    for number in range(2):
        positions = range(15 * number, 15 * (number + 1))
        sources = rounds.sources(chosen, positions)
        assert {rounds.number(p) for p in positions} == {number}
        for epoch in range(3):
            assert set(sources[5 * epoch : 5 * epoch + 5]) == set(chosen[number])
        assert sources == sum((rounds.sources(chosen, [p]) for p in positions), ())
    orders = {rounds.sources(chosen, range(s, s + 5)) for s in (0, 5, 10)}
    assert len(orders) == 3
    other = Rounds(positions_per_round=15, seed=4)
    assert other.sources(chosen, range(15)) != rounds.sources(chosen, range(15))


def test_rejects_settings_out_of_range():
    statistics, *_ = candidates()
    for knobs, message in (
        ({"mode": "simm"}, "unknown 'simm'; did you mean 'sim'"),
        ({"low": 0.9}, "low=0.9 and high=0.8"),
        ({"budget": 9999}, "cannot be divided"),
    ):
        with pytest.raises(ValueError, match=message):
            gradalign(statistics, ONE, **{"budget": 40, "floor": 0, "cap": GROUP, **knobs})
    for name, value in (("candidates", 0), ("trusted", -1), ("zero_advantage", math.nan)):
        with pytest.raises(ValueError, match=rf"allocation\.selection\.{name}="):
            SelectionConfig(**{name: value})
    with pytest.raises(ValueError, match=r"chosen=300 must not exceed .*candidates=256"):
        SelectionConfig(chosen=300)
    weights = {"right": 1.0}
    for config, message in (
        (AllocationConfig("gradalign", options=("mode=dots",)), "unknown 'dots'; did you mean"),
        (AllocationConfig("gradalign", refills=2), "set allocation.refills=0"),
        (
            AllocationConfig("gradalign", selection=SelectionConfig(trusted=0)),
            "selection.trusted=0, but",
        ),
    ):
        with pytest.raises(UserError, match=message):
            config.check(8, weights)
    own = AllocationConfig("gradalign", ("mode=align",), selection=SelectionConfig(trusted=0))
    own.check(8, weights)
    assert own.largest(8) == 8
