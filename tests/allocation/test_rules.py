"""Allocation rules compared with loops, theory and papers; running statistics with batch ones."""

import itertools

import numpy as np
import pytest

from dvaojax import allocation
from dvaojax.allocation import (
    AllocationConfig,
    ProblemStatistics,
    above_mean,
    at,
    dynamo,
    gvm,
    initial_statistics,
    knobs_of,
    make,
    neyman,
    observe,
    observe_gradients,
    sage,
    success,
    uniform,
    vip,
)
from dvaojax.errors import UserError

ONE = np.ones(1)
BOUNDS = {"floor": 2, "cap": 24}


def after(rewards, mask=None, *, memory=1.0, weights=ONE):
    """The statistics after `[visits, B, G, K]` rewards of the same `B` problems."""
    rewards = np.asarray(rewards, np.float32)
    statistics = initial_statistics(rewards.shape[1], rewards.shape[3])
    mask = np.ones(rewards.shape, bool) if mask is None else mask
    for values, where in zip(rewards, mask, strict=True):
        statistics = observe(statistics, np.arange(len(values)), values, where, memory=memory)
    return statistics


def columns(statistics):
    """The tables of the statistics, without those of alignments."""
    return statistics[:5]


def successes(right, of):
    """Statistics of one visit: groups of `of` completions, `right[i]` of them correct."""
    return after([[[[float(i < n)] for i in range(of)] for n in right]])


def test_statistics_of_many_visits_equal_those_of_all_completions_at_once():
    rng = np.random.default_rng(0)
    rewards = rng.normal(3.0, 1.0, (5, 4, 6, 3)).astype(np.float32)
    mask = rng.random(rewards.shape) > 0.3
    mask[:, 1, :, 2] = False
    statistics = after(rewards, mask)
    for b, k in np.ndindex(4, 3):
        scored = rewards[:, b, :, k][mask[:, b, :, k]].astype(np.float64)
        assert statistics.count[b, k] == len(scored)
        if len(scored):
            np.testing.assert_allclose(statistics.mean[b, k], scored.mean(), rtol=1e-5)
            squares = np.square(scored - scored.mean()).sum()
            np.testing.assert_allclose(statistics.squares[b, k], squares, rtol=1e-4)
    assert statistics.count[1, 2] == statistics.mean[1, 2] == statistics.squares[1, 2] == 0
    assert all(table.dtype == np.float32 for table in columns(statistics))


def test_above_mean_counts_rewards_above_the_mean_of_the_step():
    rng = np.random.default_rng(3)
    rewards = rng.random((3, 4, 2)).astype(np.float32)
    mask = rng.random(rewards.shape) > 0.2
    rewards[~mask] = np.nan
    counted = above_mean(rewards, mask)
    for b, g, k in np.argwhere(mask):
        scored = rewards[..., k][mask[..., k]]
        assert counted[b, g, k] == (rewards[b, g, k] > scored.mean(dtype=np.float64))
    # Rewards of 0 and 1 count as they are, unless all of the step are right.
    binary = (rng.random((3, 4, 2)) < 0.5).astype(np.float32)
    every = np.ones(binary.shape, bool)
    np.testing.assert_array_equal(above_mean(binary, every), binary)
    np.testing.assert_array_equal(above_mean(np.ones((2, 2, 1)), every[:2, :2, :1]), 0)


def test_repeated_problem_is_counted_twice_and_others_are_unchanged():
    rewards = np.arange(12, dtype=np.float32).reshape(3, 4, 1)
    before = initial_statistics(5, 1)
    statistics = observe(before, np.array([2, 4, 2]), rewards, np.ones((3, 4, 1), bool), memory=1.0)
    twice = rewards[[0, 2]].ravel()
    assert statistics.count.ravel().tolist() == [0, 0, 8, 0, 4]
    np.testing.assert_allclose(statistics.mean[2, 0], twice.mean())
    np.testing.assert_allclose(statistics.squares[2, 0], np.square(twice - twice.mean()).sum())
    assert not any(table.any() for table in columns(before)), "the caller's arrays must not change"
    np.testing.assert_array_equal(at(statistics, np.array([4, 2])).count, statistics.count[[4, 2]])


def test_memory_discounts_earlier_visits():
    rewards = np.random.default_rng(1).random((3, 2, 4, 1))
    for table, last in zip(
        *map(columns, (after(rewards, memory=0.0), after(rewards[-1:]))), strict=True
    ):
        np.testing.assert_allclose(table, last, rtol=1e-5)
    half = after(rewards, memory=0.5)
    assert half.count.ravel().tolist() == [7.0, 7.0]
    visit_weights = np.repeat([0.25, 0.5, 1.0], 4)
    for b in range(2):
        values = rewards[:, b].ravel()
        mean = np.average(values, weights=visit_weights)
        np.testing.assert_allclose(half.mean[b, 0], mean, rtol=1e-5)
        squares = (visit_weights * np.square(values - mean)).sum()
        np.testing.assert_allclose(half.squares[b, 0], squares, rtol=1e-4)


def test_visit_without_scores_changes_nothing():
    rewards = np.random.default_rng(2).random((2, 1, 4, 1))
    mask = np.ones(rewards.shape, bool)
    mask[1] = False
    first = after(rewards[:1])
    for table, same in zip(columns(after(rewards, mask, memory=0.25)), columns(first), strict=True):
        np.testing.assert_array_equal(table, same)
    rewards[1] = np.nan
    for table, same in zip(columns(after(rewards, memory=0.25)), columns(first), strict=True):
        np.testing.assert_array_equal(table, same)


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_bernoulli_variance_is_unbiased_and_equals_that_of_the_statistics(n):
    """Invariant 62: the mean over all outcomes of n completions, weighted by probability."""
    for p in (0.1, 0.5, 0.8):
        expected = 0.0
        for outcome in itertools.product([0, 1], repeat=n):
            k = sum(outcome)
            estimate = k * (n - k) / (n * (n - 1))
            expected += p**k * (1 - p) ** (n - k) * estimate
        np.testing.assert_allclose(expected, p * (1 - p))
    statistics = successes(range(n + 1), n)
    right = np.arange(n + 1)
    np.testing.assert_allclose(
        statistics.squares[:, 0] / (n - 1), right * (n - right) / (n * (n - 1)), atol=1e-6
    )


def test_neyman_is_proportional_to_the_standard_deviation():
    statistics = successes([1, 5, 10, 15, 20], 20)
    deviations = np.sqrt([19 / 380, 75 / 380, 100 / 380, 75 / 380, 0])
    sizes = neyman(statistics, ONE, budget=80, floor=1, cap=40)
    expected = 79 * deviations[:4] / deviations[:4].sum()
    assert sizes[4] == 1
    assert np.abs(sizes[:4] - expected).max() < 1


def test_neyman_adds_the_variances_of_objectives():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(1, 3, 400, 1))
    rewards = np.concatenate([values, -values], axis=-1) * np.array([1.0, 1.0])
    rewards[:, 1] *= 3.0
    rewards[:, 2, :, 1] = 0.0
    sizes = neyman(after(rewards), np.ones(2), budget=600, floor=1, cap=600)
    deviation = rewards[0].std(axis=1, ddof=1)
    expected = np.sqrt(np.square(deviation).sum(axis=1))
    assert np.abs(sizes - 600 * expected / expected.sum()).max() < 1
    # A weight of 2 equals doubled rewards; a weight of 0 equals leaving the objective out.
    doubled = neyman(after(rewards * [1, 2]), np.ones(2), budget=60, **BOUNDS)
    np.testing.assert_array_equal(
        neyman(after(rewards), np.array([1, 2]), budget=60, **BOUNDS), doubled
    )
    alone = neyman(after(rewards[..., :1]), ONE, budget=60, **BOUNDS)
    np.testing.assert_array_equal(
        neyman(after(rewards), np.array([1, 0]), budget=60, **BOUNDS), alone
    )


def test_unknown_problems_get_the_largest_score():
    statistics = successes([4, 7, 8], 8)
    unknown = initial_statistics(1, 1)
    mixed = ProblemStatistics(
        *(np.concatenate(pair) for pair in zip(columns(statistics), columns(unknown), strict=True))
    )
    neyman_sizes = neyman(mixed, ONE, budget=40, **BOUNDS)
    assert neyman_sizes[3] == neyman_sizes[0] == neyman_sizes.max()
    dynamo_sizes = dynamo(mixed, ONE, budget=40, **BOUNDS)
    assert dynamo_sizes[3] == dynamo_sizes[0] == dynamo_sizes.max()
    for rule in (neyman, dynamo, gvm, vip, sage):
        equal = rule(initial_statistics(5, 1), ONE, budget=20, **BOUNDS)
        assert equal.tolist() == [4] * 5


def official(priorities, total, floor, cap):
    """The official water-filling as a loop: rounds of shares, each rounded and capped."""
    counts, left = [floor] * len(priorities), total - floor * len(priorities)
    while left:
        open_ = [i for i, n in enumerate(counts) if n < cap]
        whole = sum(priorities[i] for i in open_)
        ideal = {i: left * priorities[i] / whole for i in open_}
        rounded = {i: int(x) for i, x in ideal.items()}
        by_fraction = sorted(open_, key=lambda i: rounded[i] - ideal[i])
        for i in by_fraction[: left - sum(rounded.values())]:
            rounded[i] += 1
        added = {i: min(n, cap - counts[i]) for i, n in rounded.items()}
        for i, n in added.items():
            counts[i] += n
        left -= sum(added.values())
    return counts


def test_dynamo_equals_the_official_water_filling_within_one_completion():
    rng = np.random.default_rng(4)
    exact = 0
    for _ in range(300):
        count = int(rng.integers(2, 12))
        right = rng.integers(0, 17, count)
        statistics = successes(right, 16)
        rate = right / 16
        priorities = np.where(rate >= 0.85, 0.01, np.maximum(4 * rate * (1 - rate), 0.01))
        sizes = dynamo(statistics, ONE, budget=16 * count, floor=8, cap=24)
        expected = official(priorities.tolist(), 16 * count, 8, 24)
        assert sizes.sum() == 16 * count
        assert np.abs(sizes - expected).max() <= 1
        exact += sizes.tolist() == expected
    assert exact > 200


def test_dynamo_uses_the_variance_and_neyman_the_standard_deviation():
    statistics = successes([1, 10], 20)  # variances 0.0475 and 0.25
    assert dynamo(statistics, ONE, budget=120, floor=0, cap=120).tolist() == [19, 101]
    assert neyman(statistics, ONE, budget=120, floor=0, cap=120).tolist() == [36, 84]


def test_dynamo_knobs():
    statistics = successes([9, 5], 10)
    assert dynamo(statistics, ONE, budget=40, floor=0, cap=40).tolist() == [0, 40]
    later = dynamo(statistics, ONE, budget=40, floor=0, cap=40, mastered=0.95)
    assert later.tolist() == [11, 29]
    more = dynamo(statistics, ONE, budget=40, floor=0, cap=40, least_priority=1.0)
    assert more.tolist() == [20, 20]


def with_gradients(rates, norms, *, of=100):
    """Statistics of problems with given success rates and gradient norms of the successes."""
    right = np.arange(of)[None] < np.round(np.array(rates) * of)[:, None]
    statistics = successes(np.round(np.array(rates) * of), of)
    sizes = np.where(right, np.array(norms)[:, None], 77.0)  # the norms of failures are ignored
    rows, present = np.arange(len(rates)), np.ones(right.shape, bool)
    return observe_gradients(statistics, rows, right.astype(float), sizes, present, memory=1.0)


def test_gvm_without_alpha_minimises_the_variance_of_learning_from_successes():
    """Invariant 63."""
    rates, norms = np.array([0.1, 0.5, 0.9, 0.25]), np.array([1.0, 2.0, 1.0, 0.5])
    statistics = with_gradients(rates, norms)
    sizes = gvm(statistics, ONE, budget=1000, floor=1, cap=1000, alpha=0.0)

    def variance(sizes):
        return (norms**2 / (rates * sizes)).sum()

    ideal = norms / np.sqrt(rates)
    np.testing.assert_allclose(sizes, 1000 * ideal / ideal.sum(), atol=1.0)
    assert variance(sizes) <= ideal.sum() ** 2 / 1000 * (1 + 1e-4)
    for i, j in itertools.permutations(range(4), 2):
        other = sizes.copy()
        other[[i, j]] += [-5, 5]
        assert variance(other) > variance(sizes)


def test_gvm_with_alpha_peaks_at_its_root_and_ignores_unsolved_problems():
    rates = np.array([0.001, 0.01, 0.032, 0.1, 0.5])
    statistics = with_gradients(rates, np.ones(5), of=1000)
    sizes = gvm(statistics, ONE, budget=10_000, floor=0, cap=10_000)
    factor = 1 / np.sqrt(rates + 1e-3 / rates)
    np.testing.assert_allclose(sizes, 10_000 * factor / factor.sum(), atol=1.0)
    assert sizes.argmax() == 2
    steep = gvm(statistics, ONE, budget=10_000, floor=0, cap=10_000, beta=3.0)
    assert steep[0] < sizes[0]
    none = gvm(with_gradients([0.0, 0.5], [1.0, 1.0]), ONE, budget=9, floor=0, cap=9)
    assert none.tolist() == [0, 9]
    flat = gvm(with_gradients([0.5, 0.5], [0.0, 1.0]), ONE, budget=9, floor=0, cap=9)
    assert flat.tolist() == [0, 9]


def test_gradients_are_averaged_over_visits_without_absent_completions():
    statistics = initial_statistics(2, 1)
    norms = np.array([[1.0, 3.0, 9.0], [5.0, 7.0, 9.0]])
    present = np.array([[True, True, False], [False, False, False]])
    for memory in (1.0, 1.0):
        statistics = observe_gradients(
            statistics, np.array([0, 1]), np.ones((2, 3)), norms, present, memory=memory
        )
    assert statistics.measured.tolist() == [4.0, 0.0]
    assert statistics.gradient.tolist() == [2.0, 0.0]
    later = observe_gradients(
        statistics, np.array([0, 1]), np.ones((2, 3)), norms + 4, present, memory=0.0
    )
    assert later.gradient.tolist() == [6.0, 0.0]
    assert later.measured.tolist() == [2.0, 0.0]


def test_success_is_a_clipped_weighted_mean():
    means = np.array([[1.0, 0.0], [0.5, 0.5], [3.0, 1.0], [-1.0, 0.0]])
    np.testing.assert_allclose(success(means, np.array([3.0, 1.0])), [0.75, 0.5, 1.0, 0.0])


def test_uniform_ignores_the_statistics():
    statistics = successes([1, 5, 8], 8)
    assert uniform(statistics, ONE, budget=24, floor=0, cap=24).tolist() == [8, 8, 8]


RULES = {
    name: make(name, [f"{knob}={value}" for knob, value in knobs_of(rule).items()])
    for name, rule in allocation.BY_NAME.items()
}


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_rule_keeps_budget_and_bounds(name):
    rng = np.random.default_rng(5)
    rule = RULES[name]
    for _ in range(50):
        count = int(rng.integers(1, 9))
        rewards = rng.integers(0, 2, (1, count, 6, 2)) * rng.choice([1.0, 1e-4, 50.0])
        statistics = after(rewards, rng.random(rewards.shape) > rng.choice([0.0, 0.5, 1.0]))
        statistics = observe_gradients(
            statistics,
            np.arange(count),
            rng.random((count, 6)),
            rng.random((count, 6)),
            rng.random((count, 6)) > 0.5,
            memory=1.0,
        )
        budget = int(rng.integers(2 * count, 24 * count + 1))
        sizes = rule(statistics, np.array([1.0, 0.5]), budget=budget, **BOUNDS)
        assert sizes.sum() == budget
        assert ((sizes >= 2) & (sizes <= 24)).all()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("neymann", (), "unknown allocation rule 'neymann'; did you mean 'neyman'?"),
        ("neyman", ("alpha=1",), "neyman has no knob 'alpha'"),
        ("dynamo", ("masterd=1",), "dynamo has no knob 'masterd'; did you mean 'mastered'?"),
        ("dynamo", ("mastered=all",), "'mastered=all' is not mastered=<float>"),
    ],
)
def test_errors_are_one_clear_line(name, options, message):
    with pytest.raises(UserError) as error:
        make(name, options)
    assert str(error.value) == message


def test_rejects_knobs_out_of_range():
    statistics = successes([1, 2], 4)
    with pytest.raises(ValueError, match="alpha=-1"):
        gvm(statistics, ONE, budget=8, floor=1, cap=7, alpha=-1.0)
    with pytest.raises(ValueError, match="least_priority=-1"):
        dynamo(statistics, ONE, budget=8, floor=1, cap=7, least_priority=-1.0)
    for knobs, message in (
        ({"estimator": "rlo"}, "unknown 'rlo'; did you mean 'rloo'"),
        ({"prior": 1.0}, "prior=1.0 must lie"),
        ({"tilt": -1.0}, "tilt=-1.0 must not"),
        ({"estimator": "dr_grpo"}, "floor=1 must be at least 3 for dr_grpo"),
    ):
        with pytest.raises(ValueError, match=message):
            vip(statistics, ONE, budget=8, floor=1, cap=7, **knobs)
    config = AllocationConfig("vip", options=("estimator=dr_grpo",))
    with pytest.raises(UserError, match=r"allocation\.options, of vip: .*floor=2 must be"):
        config.check(8, {"right": 1.0})


@pytest.mark.parametrize(("estimator", "floor"), [("rloo", 2), ("dr_grpo", 3)])
def test_vip_is_the_best_of_all_allocations(estimator, floor):
    def variance(sizes, chances):
        by_size = {"rloo": lambda n: 1 / (n - 1), "dr_grpo": lambda n: (n - 1) / n**2}[estimator]
        return sum(p * (1 - p) * by_size(n) for p, n in zip(chances, sizes, strict=True))

    for right in ([1, 4, 8], [2, 2, 7], [8, 8, 5]):
        statistics = successes(right, 8)
        chances = np.clip(np.array(right) / 8, 1e-6, 1 - 1e-6)
        sizes = vip(statistics, ONE, budget=24, floor=floor, cap=14, estimator=estimator)
        every = [n for n in itertools.product(range(floor, 15), repeat=3) if sum(n) == 24]
        best = min(variance(n, chances) for n in every)
        assert sizes.sum() == 24
        assert variance(sizes, chances) == pytest.approx(best, rel=1e-9)


def test_vip_for_rloo_is_in_proportion_to_the_deviation_from_the_second_completion_on():
    right = np.array([1, 16, 30, 32, 48])
    deviation = np.sqrt(right / 64 * (1 - right / 64))
    sizes = vip(successes(right, 64), ONE, budget=500, floor=2, cap=400)
    expected = 1 + (500 - 5) * deviation / deviation.sum()
    np.testing.assert_allclose(sizes, expected, atol=1)


def test_vip_expects_the_prior_of_unknown_problems_and_tilts_to_rare_successes():
    unknown = initial_statistics(1, 1)
    pairs = zip(columns(successes([4, 1], 8)), columns(unknown), strict=True)
    mixed = ProblemStatistics(*(np.concatenate(pair) for pair in pairs))
    half, rare, new = vip(mixed, ONE, budget=60, floor=2, cap=60)
    assert half > new > rare
    _, rare, new = vip(mixed, ONE, budget=61, floor=2, cap=60, prior=0.125)
    assert abs(new - rare) <= 1
    plain = vip(successes([2, 14], 16), ONE, budget=40, floor=2, cap=40)
    tilted = vip(successes([2, 14], 16), ONE, budget=40, floor=2, cap=40, tilt=7e-4)
    assert plain.tolist() == [20, 20]
    assert tilted[0] > 25


# SAGE's curriculum.


def sage_by_loop(rates, budget, floor, cap, width=0.1, damping=0.1):
    """Completions given band by band; within a band in proportion to the scores, not rounded."""
    target = 1 - sum(rates) / len(rates)
    distances = [abs(p - target) for p in rates]
    sizes, rest = [float(floor)] * len(rates), float(budget - floor * len(rates))
    for band in range(int(1 / width) + 1):
        rows = [
            i
            for i, d in enumerate(distances)
            if (band == 0 or d > band * width + 1e-7) and d <= (band + 1) * width + 1e-7
        ]
        scores = {i: (1 - rates[i]) / (rates[i] * (1 - rates[i]) + damping) ** 0.5 for i in rows}
        share = min(rest, len(rows) * (cap - floor))
        rest, open_ = rest - share, set(rows)
        while share > 1e-9:  # shares beyond the cap go to the others of the band
            whole = sum(scores[i] for i in open_)
            full = {i for i in open_ if share * scores[i] / whole >= cap - floor}
            for i in full or open_:
                sizes[i] += cap - floor if full else share * scores[i] / whole
            share = share - len(full) * (cap - floor) if full else 0
            open_ -= full
    return sizes


@pytest.mark.parametrize("budget", [30, 48, 70, 80])
def test_sage_gives_the_bands_one_after_another_in_proportion_to_the_score(budget):
    right = np.array([1, 3, 4, 6, 7, 8, 9, 12, 14, 15])
    sizes = sage(successes(right, 16), ONE, budget=budget, floor=2, cap=8)
    expected = sage_by_loop(list(right / 16), budget, 2, 8)
    assert sizes.sum() == budget
    assert np.abs(sizes - expected).max() < 1 + 1e-6


def test_sage_moves_to_harder_problems_as_the_model_gets_better():
    weak, strong = (
        sage(successes(right, 16), ONE, budget=40, floor=2, cap=30)
        for right in ([1, 2, 3, 12], [4, 13, 14, 15])
    )
    # Mean rates of 0.28 and 0.72: those near 0.72 are next, and those near 0.28.
    assert weak[3] == weak.max() == 30
    assert strong[0] == strong.max() == 30


def test_sage_prefers_confident_errors_within_a_band_and_ignores_solved_problems():
    wide = {"width": 1.0, "budget": 300, "floor": 0, "cap": 300}
    never, half, always = sage(successes([0, 8, 16], 16), ONE, **wide)
    score = 0.5 / np.sqrt(0.25 + 0.1)
    np.testing.assert_allclose(half / never, score * np.sqrt(0.1), rtol=0.02)
    assert always == 0
    sharper = sage(successes([0, 8, 16], 16), ONE, damping=0.01, **wide)
    assert sharper[1] / sharper[0] < half / never


def test_sage_names_knobs_out_of_range():
    for knobs in ({"width": 0.0}, {"width": 1.1}, {"damping": 0.0}, {"damping": np.inf}):
        with pytest.raises(ValueError, match=f"{next(iter(knobs))}="):
            sage(successes([1, 2], 4), ONE, budget=8, floor=1, cap=7, **knobs)
    with pytest.raises(ValueError, match="a budget of 20 cannot be divided"):
        sage(successes([1, 2], 4), ONE, budget=20, floor=1, cap=7)
