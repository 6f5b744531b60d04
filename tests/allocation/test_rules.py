"""The rules against loops, theory and the papers' own words; statistics against all at once."""

import itertools

import numpy as np
import pytest

from dvaojax import allocation
from dvaojax.allocation import (
    Statistics,
    at,
    dynamo,
    gvm,
    knobs_of,
    make,
    neyman,
    nothing_known,
    observe,
    observe_gradients,
    success,
    uniform,
)
from dvaojax.errors import UserError

ONE = np.ones(1)
BOUNDS = {"floor": 2, "cap": 24}


def after(rewards, mask=None, *, memory=1.0, weights=ONE):
    """What is known after `[visits, B, G, K]` rewards of the same `B` problems."""
    rewards = np.asarray(rewards, np.float32)
    known = nothing_known(rewards.shape[1], rewards.shape[3])
    mask = np.ones(rewards.shape, bool) if mask is None else mask
    for values, where in zip(rewards, mask, strict=True):
        known = observe(known, np.arange(len(values)), values, where, memory=memory)
    return known


def successes(right, of):
    """One visit of groups of so many, in which so many are right."""
    return after([[[[float(i < n)] for i in range(of)] for n in right]])


def test_statistics_of_many_visits_are_those_of_all_completions_at_once():
    rng = np.random.default_rng(0)
    rewards = rng.normal(3.0, 1.0, (5, 4, 6, 3)).astype(np.float32)
    mask = rng.random(rewards.shape) > 0.3
    mask[:, 1, :, 2] = False
    known = after(rewards, mask)
    for b, k in np.ndindex(4, 3):
        scored = rewards[:, b, :, k][mask[:, b, :, k]].astype(np.float64)
        assert known.count[b, k] == len(scored)
        if len(scored):
            np.testing.assert_allclose(known.mean[b, k], scored.mean(), rtol=1e-5)
            squares = np.square(scored - scored.mean()).sum()
            np.testing.assert_allclose(known.squares[b, k], squares, rtol=1e-4)
    assert known.count[1, 2] == known.mean[1, 2] == known.squares[1, 2] == 0
    assert all(table.dtype == np.float32 for table in known)


def test_a_problem_that_comes_twice_in_a_step_is_counted_twice_and_the_others_are_left():
    rewards = np.arange(12, dtype=np.float32).reshape(3, 4, 1)
    before = nothing_known(5, 1)
    known = observe(before, np.array([2, 4, 2]), rewards, np.ones((3, 4, 1), bool), memory=1.0)
    twice = rewards[[0, 2]].ravel()
    assert known.count.ravel().tolist() == [0, 0, 8, 0, 4]
    np.testing.assert_allclose(known.mean[2, 0], twice.mean())
    np.testing.assert_allclose(known.squares[2, 0], np.square(twice - twice.mean()).sum())
    assert not any(table.any() for table in before), "the caller's arrays are left alone"
    np.testing.assert_array_equal(at(known, np.array([4, 2])).count, known.count[[4, 2]])


def test_without_memory_the_last_visit_counts_alone_and_with_half_it_counts_twice():
    rewards = np.random.default_rng(1).random((3, 2, 4, 1))
    for table, last in zip(after(rewards, memory=0.0), after(rewards[-1:]), strict=True):
        np.testing.assert_allclose(table, last, rtol=1e-5)
    half = after(rewards, memory=0.5)
    assert half.count.ravel().tolist() == [7.0, 7.0]
    counted = np.repeat([0.25, 0.5, 1.0], 4)
    for b in range(2):
        values = rewards[:, b].ravel()
        mean = np.average(values, weights=counted)
        np.testing.assert_allclose(half.mean[b, 0], mean, rtol=1e-5)
        squares = (counted * np.square(values - mean)).sum()
        np.testing.assert_allclose(half.squares[b, 0], squares, rtol=1e-4)


def test_a_visit_without_a_score_changes_nothing_whatever_the_memory():
    rewards = np.random.default_rng(2).random((2, 1, 4, 1))
    mask = np.ones(rewards.shape, bool)
    mask[1] = False
    first = after(rewards[:1])
    for table, same in zip(after(rewards, mask, memory=0.25), first, strict=True):
        np.testing.assert_array_equal(table, same)
    rewards[1] = np.nan
    for table, same in zip(after(rewards, memory=0.25), first, strict=True):
        np.testing.assert_array_equal(table, same)


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_62_the_bernoulli_variance_is_unbiased_and_that_of_the_statistics(n):
    """Over all outcomes of n completions, by their probabilities."""
    for p in (0.1, 0.5, 0.8):
        expected = 0.0
        for outcome in itertools.product([0, 1], repeat=n):
            k = sum(outcome)
            estimate = k * (n - k) / (n * (n - 1))
            expected += p**k * (1 - p) ** (n - k) * estimate
        np.testing.assert_allclose(expected, p * (1 - p))
    known = successes(range(n + 1), n)
    right = np.arange(n + 1)
    np.testing.assert_allclose(
        known.squares[:, 0] / (n - 1), right * (n - right) / (n * (n - 1)), atol=1e-6
    )


def test_neyman_goes_by_the_root_of_the_variance():
    known = successes([1, 5, 10, 15, 20], 20)
    deviations = np.sqrt([19 / 380, 75 / 380, 100 / 380, 75 / 380, 0])
    sizes = neyman(known, ONE, budget=80, floor=1, cap=40)
    expected = 79 * deviations[:4] / deviations[:4].sum()
    assert sizes[4] == 1
    assert np.abs(sizes[:4] - expected).max() < 1


def test_neyman_adds_the_variances_of_several_objectives_so_that_none_can_cancel():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(1, 3, 400, 1))
    rewards = np.concatenate([values, -values], axis=-1) * np.array([1.0, 1.0])
    rewards[:, 1] *= 3.0
    rewards[:, 2, :, 1] = 0.0
    sizes = neyman(after(rewards), np.ones(2), budget=600, floor=1, cap=600)
    deviation = rewards[0].std(axis=1, ddof=1)
    expected = np.sqrt(np.square(deviation).sum(axis=1))
    assert np.abs(sizes - 600 * expected / expected.sum()).max() < 1
    # A weight of 2 counts as rewards twice as large, one of 0 as if the objective were not.
    doubled = neyman(after(rewards * [1, 2]), np.ones(2), budget=60, **BOUNDS)
    np.testing.assert_array_equal(
        neyman(after(rewards), np.array([1, 2]), budget=60, **BOUNDS), doubled
    )
    alone = neyman(after(rewards[..., :1]), ONE, budget=60, **BOUNDS)
    np.testing.assert_array_equal(
        neyman(after(rewards), np.array([1, 0]), budget=60, **BOUNDS), alone
    )


def test_what_is_not_known_counts_as_the_most_there_is():
    known = successes([4, 7, 8], 8)
    unknown = nothing_known(1, 1)
    mixed = Statistics(*(np.concatenate(pair) for pair in zip(known, unknown, strict=True)))
    by_neyman = neyman(mixed, ONE, budget=40, **BOUNDS)
    assert by_neyman[3] == by_neyman[0] == by_neyman.max()
    by_dynamo = dynamo(mixed, ONE, budget=40, **BOUNDS)
    assert by_dynamo[3] == by_dynamo[0] == by_dynamo.max()
    for rule in (neyman, dynamo, gvm):
        equal = rule(nothing_known(5, 1), ONE, budget=20, **BOUNDS)
        assert equal.tolist() == [4] * 5


def official(priorities, total, floor, cap):
    """The official water-filling, said again: rounds of shares, rounded and cut at the cap."""
    counts, left = [floor] * len(priorities), total - floor * len(priorities)
    while left:
        open_ = [i for i, n in enumerate(counts) if n < cap]
        whole = sum(priorities[i] for i in open_)
        ideal = {i: left * priorities[i] / whole for i in open_}
        rounded = {i: int(x) for i, x in ideal.items()}
        by_fraction = sorted(open_, key=lambda i: rounded[i] - ideal[i])
        for i in by_fraction[: left - sum(rounded.values())]:
            rounded[i] += 1
        given = {i: min(n, cap - counts[i]) for i, n in rounded.items()}
        for i, n in given.items():
            counts[i] += n
        left -= sum(given.values())
    return counts


def test_dynamo_is_the_official_water_filling_to_one_completion():
    rng = np.random.default_rng(4)
    exact = 0
    for _ in range(300):
        count = int(rng.integers(2, 12))
        right = rng.integers(0, 17, count)
        known = successes(right, 16)
        rate = right / 16
        priorities = np.where(rate >= 0.85, 0.01, np.maximum(4 * rate * (1 - rate), 0.01))
        sizes = dynamo(known, ONE, budget=16 * count, floor=8, cap=24)
        expected = official(priorities.tolist(), 16 * count, 8, 24)
        assert sizes.sum() == 16 * count
        assert np.abs(sizes - expected).max() <= 1
        exact += sizes.tolist() == expected
    assert exact > 200


def test_dynamo_goes_by_the_variance_where_the_paper_has_its_root():
    known = successes([1, 10], 20)  # variances 0.0475 and 0.25
    assert dynamo(known, ONE, budget=120, floor=0, cap=120).tolist() == [19, 101]
    assert neyman(known, ONE, budget=120, floor=0, cap=120).tolist() == [36, 84]


def test_dynamo_knobs_say_when_a_problem_is_solved_and_what_it_still_gets():
    known = successes([9, 5], 10)
    assert dynamo(known, ONE, budget=40, floor=0, cap=40).tolist() == [0, 40]
    later = dynamo(known, ONE, budget=40, floor=0, cap=40, mastered=0.95)
    assert later.tolist() == [11, 29]
    more = dynamo(known, ONE, budget=40, floor=0, cap=40, least_priority=1.0)
    assert more.tolist() == [20, 20]


def with_gradients(rates, norms, *, of=100):
    """What is known of problems of such rates, whose successes have gradients of such norms."""
    right = np.arange(of)[None] < np.round(np.array(rates) * of)[:, None]
    known = successes(np.round(np.array(rates) * of), of)
    sizes = np.where(right, np.array(norms)[:, None], 77.0)  # a failure's does not count
    rows, present = np.arange(len(rates)), np.ones(right.shape, bool)
    return observe_gradients(known, rows, right.astype(float), sizes, present, memory=1.0)


def test_63_gvm_without_alpha_minimises_the_variance_of_learning_from_successes():
    rates, norms = np.array([0.1, 0.5, 0.9, 0.25]), np.array([1.0, 2.0, 1.0, 0.5])
    known = with_gradients(rates, norms)
    sizes = gvm(known, ONE, budget=1000, floor=1, cap=1000, alpha=0.0)

    def variance(sizes):
        return (norms**2 / (rates * sizes)).sum()

    ideal = norms / np.sqrt(rates)
    np.testing.assert_allclose(sizes, 1000 * ideal / ideal.sum(), atol=1.0)
    assert variance(sizes) <= ideal.sum() ** 2 / 1000 * (1 + 1e-4)
    for i, j in itertools.permutations(range(4), 2):
        other = sizes.copy()
        other[[i, j]] += [-5, 5]
        assert variance(other) > variance(sizes)


def test_gvm_with_alpha_turns_back_at_its_root_and_gives_hopeless_problems_nothing():
    rates = np.array([0.001, 0.01, 0.032, 0.1, 0.5])
    known = with_gradients(rates, np.ones(5), of=1000)
    sizes = gvm(known, ONE, budget=10_000, floor=0, cap=10_000)
    factor = 1 / np.sqrt(rates + 1e-3 / rates)
    np.testing.assert_allclose(sizes, 10_000 * factor / factor.sum(), atol=1.0)
    assert sizes.argmax() == 2
    steep = gvm(known, ONE, budget=10_000, floor=0, cap=10_000, beta=3.0)
    assert steep[0] < sizes[0]
    none = gvm(with_gradients([0.0, 0.5], [1.0, 1.0]), ONE, budget=9, floor=0, cap=9)
    assert none.tolist() == [0, 9]
    flat = gvm(with_gradients([0.5, 0.5], [0.0, 1.0]), ONE, budget=9, floor=0, cap=9)
    assert flat.tolist() == [0, 9]


def test_gradients_are_averaged_over_visits_and_absent_completions_are_none():
    known = nothing_known(2, 1)
    norms = np.array([[1.0, 3.0, 9.0], [5.0, 7.0, 9.0]])
    present = np.array([[True, True, False], [False, False, False]])
    for memory in (1.0, 1.0):
        known = observe_gradients(
            known, np.array([0, 1]), np.ones((2, 3)), norms, present, memory=memory
        )
    assert known.measured.tolist() == [4.0, 0.0]
    assert known.gradient.tolist() == [2.0, 0.0]
    later = observe_gradients(
        known, np.array([0, 1]), np.ones((2, 3)), norms + 4, present, memory=0.0
    )
    assert later.gradient.tolist() == [6.0, 0.0]
    assert later.measured.tolist() == [2.0, 0.0]


def test_success_is_a_weighted_mean_within_bounds():
    means = np.array([[1.0, 0.0], [0.5, 0.5], [3.0, 1.0], [-1.0, 0.0]])
    np.testing.assert_allclose(success(means, np.array([3.0, 1.0])), [0.75, 0.5, 1.0, 0.0])


def test_uniform_looks_at_nothing():
    known = successes([1, 5, 8], 8)
    assert uniform(known, ONE, budget=24, floor=0, cap=24).tolist() == [8, 8, 8]


RULES = {
    **{
        name: make(name, [f"{knob}={value}" for knob, value in knobs_of(rule).items()])
        for name, rule in allocation.BY_NAME.items()
    },
    "gvm": gvm,
}


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_rule_keeps_the_budget_and_the_bounds_on_anything(name):
    rng = np.random.default_rng(5)
    rule = RULES[name]
    for _ in range(50):
        count = int(rng.integers(1, 9))
        rewards = rng.integers(0, 2, (1, count, 6, 2)) * rng.choice([1.0, 1e-4, 50.0])
        known = after(rewards, rng.random(rewards.shape) > rng.choice([0.0, 0.5, 1.0]))
        known = observe_gradients(
            known,
            np.arange(count),
            rng.random((count, 6)),
            rng.random((count, 6)),
            rng.random((count, 6)) > 0.5,
            memory=1.0,
        )
        budget = int(rng.integers(2 * count, 24 * count + 1))
        sizes = rule(known, np.array([1.0, 0.5]), budget=budget, **BOUNDS)
        assert sizes.sum() == budget
        assert ((sizes >= 2) & (sizes <= 24)).all()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("neymann", (), "'neymann' is no rule; the nearest is neyman"),
        ("neyman", ("alpha=1",), "neyman has no knob 'alpha'; it has none"),
        ("dynamo", ("masterd=1",), "dynamo has no knob 'masterd'; it has mastered, least_priority"),
        ("dynamo", ("mastered=all",), "'mastered=all' is not mastered=<float>"),
    ],
)
def test_mistakes_are_answered_in_one_line(name, options, message):
    with pytest.raises(UserError) as error:
        make(name, options)
    assert str(error.value) == message


def test_knobs_out_of_range_are_refused():
    known = successes([1, 2], 4)
    with pytest.raises(ValueError, match="alpha=-1"):
        gvm(known, ONE, budget=8, floor=1, cap=7, alpha=-1.0)
    with pytest.raises(ValueError, match="least_priority=-1"):
        dynamo(known, ONE, budget=8, floor=1, cap=7, least_priority=-1.0)
