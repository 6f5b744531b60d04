"""The propositions 1 to 58 of the papers, on random examples from hypothesis, in float64.

Rewards and weights are small integers, including ties and constant objectives, so that objectives
cancel either exactly or clearly not.
"""

import functools
import re
from pathlib import Path

import chex
import hypothesis.extra.numpy as hnp
import invariant_assertions as assertions
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_aggregator import examined, function_of, takes_lengths
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dvaojax import aggregators
from dvaojax.aggregators import invariants
from dvaojax.aggregators.invariants import propositions

pytestmark = pytest.mark.slow

ASSERTIONS = Path(assertions.__file__)
B, G, K = 2, 4, 3
LENGTHS = np.array([[3, 50, 7, 1], [20, 2, 9, 400]])
property_test = settings(derandomize=True, deadline=None, max_examples=15, database=None)

INTEGERS = st.integers(-4, 4)
REWARDS = hnp.arrays(np.int64, (B, G, K), elements=INTEGERS).map(lambda x: x / 4)
WEIGHTS = hnp.arrays(np.int64, K, elements=st.integers(1, 6)).map(lambda x: x / x.sum())
POSITIVE = hnp.arrays(np.int64, K, elements=st.integers(1, 5)).map(lambda x: x / 2)
SHIFT = hnp.arrays(np.int64, K, elements=INTEGERS).map(lambda x: x * 8.0)
FACTORS = st.sampled_from([0.25, 0.5, 2.0, 8.0])

CENTRED_SUM = ("dr_grpo", "rloo", "grpo", "reward_combination", "dvao", "lite_ppo")
CENTRED_SUM += ("corr_grpo", "maxrl", "opo", "james_stein")
CENTRED_SUM += ("dvao_denoised", "dvao_interpolated", "dvao_shrunk")
COMBINING = ("reward_combination", "advantage_combination", "dvao")
Z_SCORES = ("advantage_combination", "gdpo", "gdpo_token_weighted", "rvpo", "rvpo_variance_penalty")
Z_SCORES += ("gd2po_hard", "gd2po_snr", "dara_symmetric", "dara_asymmetric")
ON_THE_SCALE_OF_REWARDS = ("dr_grpo", "opo", "rloo", "corr_grpo", "james_stein", "oblr_po")
ON_THE_SCALE_OF_REWARDS += ("optimal_token_baseline",)
# Methods that depend on the zero or on the largest value of a reward.
ANCHORED = ("maxrl", "sa_mrpo", "focal_reward", "augmented_tchebycheff", "sc_ppo")
WITH_LENGTHS = tuple(n for n in aggregators.BY_NAME if takes_lengths(function_of(n)))


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@functools.cache
def exact(name, **knobs):
    """The jitted aggregator `(rewards, weights)`, with all epsilons 0 unless given as knobs."""
    function = function_of(name)
    known = aggregators.knobs_of(function)
    defaults = {k: 0.0 for k in known if k.endswith("epsilon") or k == "delta"}
    if name == "gd2po_snr":
        defaults["threshold"] = 0.77  # not a ratio of any weights here
    bound = functools.partial(function, **{**defaults, **knobs})
    if takes_lengths(function):
        return jax.jit(lambda rewards, weights: bound(rewards, weights, jnp.asarray(LENGTHS)))
    return jax.jit(bound)


def arrays(*values):
    return tuple(jnp.asarray(x, jnp.float64) for x in values)


# Propositions about one batch: `check`.


@functools.cache
def _aggregate_and_check(name, **knobs):
    """A jitted function that aggregates a masked batch, and the chexified check of its result."""
    needs_lengths = takes_lengths(function_of(name))
    function = functools.partial(function_of(name), **knobs)

    @jax.jit
    def aggregate(rewards, weights, mask):
        lengths = (jnp.asarray(LENGTHS),) if needs_lengths else ()
        return function(rewards, weights, *lengths, mask=mask)

    @jax.jit
    def check(rewards, weights, advantages, mask):
        lengths = jnp.asarray(LENGTHS) if needs_lengths else None
        invariants.check(name, rewards, weights, advantages, mask=mask, lengths=lengths, **knobs)

    return aggregate, chex.chexify(check, async_check=False)


@pytest.mark.parametrize("name", examined())
@property_test
@given(
    rewards=st.one_of(REWARDS, hnp.arrays(np.float64, (B, G, K), elements=st.floats(-9, 9))),
    weights=WEIGHTS,
    mask=st.one_of(st.just(np.ones((B, G, K), bool)), hnp.arrays(bool, (B, G, K))),
)
def test_invariants_of_one_batch_hold(name, rewards, weights, mask):
    aggregate, check = _aggregate_and_check(name)
    # In float32, as in a run: rounding errors must not be reported as violations.
    rewards, weights = jnp.asarray(rewards, jnp.float32), jnp.asarray(weights, jnp.float32)
    check(rewards, weights, aggregate(rewards, weights, mask), mask)


@pytest.mark.parametrize("name", COMBINING)
@property_test
@given(rewards=REWARDS, weights=WEIGHTS)
def test_invariants_of_one_batch_hold_for_the_sample_deviation(name, rewards, weights):
    aggregate, check = _aggregate_and_check(name, ddof=1, epsilon=0.01)
    mask = np.ones((B, G, K), bool)
    rewards, weights = arrays(rewards, weights)
    check(rewards, weights, aggregate(rewards, weights, mask), mask)


def test_invariants_of_every_aggregator():
    """Every method but new ones has its own; of others only those of all methods are checked."""
    assert set(invariants.BY_NAME) <= set(aggregators.BY_NAME)
    assert len(invariants.BY_NAME) >= 30
    for listed in invariants.BY_NAME.values():
        assert any(invariant.statement.startswith("34 (") for invariant in listed)
        assert len(listed) >= 3


def test_index_lists_the_numbers_and_functions_that_are_checked():
    index = invariants.PROPOSITIONS
    assert list(index) == sorted(index)
    listed = {invariant for every in invariants.BY_NAME.values() for invariant in every}
    numbers = {
        int(number)
        for invariant in listed
        for number in re.findall(r"\d+", invariant.statement.partition("(")[0])
    }
    assert numbers == {number for number, entry in index.items() if entry.functions} - {38}
    for invariant in listed:
        function = getattr(invariant.excess, "func", invariant.excess)
        if function.__module__ == propositions.__name__:  # not a view
            number = int(re.findall(r"\d+", invariant.statement)[0])
            assert function in index[number].functions, invariant.statement


def test_every_proposition_without_a_function_has_a_test():
    source = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    for number, entry in invariants.PROPOSITIONS.items():
        named = re.search(rf"def test_(\d+_(and|to)_)*{number}_", source)
        in_assertions = re.search(rf'["]{{3}}(\d+ (and|to) )*{number}\b', ASSERTIONS.read_text())
        between = 13 <= number <= 15  # `assert_sensitivities`
        assert entry.functions or named or in_assertions or between, number


# Propositions about two batches.


@pytest.mark.parametrize("name", COMBINING)
@property_test
@given(
    rewards=REWARDS,
    weights=WEIGHTS,
    at=st.tuples(st.integers(0, B - 1), st.integers(0, G - 1), st.integers(0, K - 1)),
    step=st.sampled_from([0.25, 1.0, 16.0]),
)
def test_16_raising_a_reward_never_lowers_its_own_advantage(name, rewards, weights, at, step):
    # In a group without signal the advantages were 0 and may become negative.
    rewards, weights = arrays(rewards, weights)
    assume(bool(jnp.all(exact("reward_combination")(rewards, weights)[at[0]] != 0)))
    assertions.assert_own_reward_never_hurts(exact(name), rewards, weights, at=at, step=step)


@pytest.mark.parametrize(
    "name", ["reward_combination", "dvao", "dvao_interpolated", "dr_grpo", "rloo", "opo"]
)
@property_test
@given(rewards=REWARDS, weights=WEIGHTS, constant=FACTORS)
def test_24_a_constant_objective_is_ignored(name, rewards, weights, constant):
    rewards, weights = arrays(rewards, weights)
    assertions.assert_constant_objective_is_ignored(
        exact(name), rewards, weights, constant=constant, weight=0.5
    )


@property_test
@given(rewards=REWARDS, weights=WEIGHTS)
def test_24_advantage_combination_shrinks_by_the_weight_of_the_constant(rewards, weights):
    rewards, weights = arrays(rewards, weights)
    more = jnp.concatenate([rewards, jnp.ones_like(rewards[..., :1])], -1)
    diluted = jnp.append(weights / 2, 0.5)
    aggregate = exact("advantage_combination")
    chex.assert_trees_all_close(
        aggregate(more, diluted), aggregate(rewards, weights) / 2, atol=1e-9
    )


# Copies of an objective change the correlations that three of these use; the fourth compares the
# weighted distances of the objectives.
DEPENDS_ON_COPIES = ("corr_grpo", "corr_gdpo", "rdpo", "sc_ppo", "augmented_tchebycheff")


@pytest.mark.parametrize("name", examined(without=DEPENDS_ON_COPIES))
@property_test
@given(rewards=REWARDS, weights=WEIGHTS, objective=st.integers(0, K - 1))
def test_25_an_objective_may_be_split(name, rewards, weights, objective):
    # Also for RVPO: its weighted minimum depends on the shares, not on the number of columns.
    rewards, weights = arrays(rewards, weights)
    assertions.assert_split_invariant(exact(name), rewards, weights, objective=objective)


@pytest.mark.parametrize("name", COMBINING)
@property_test
@given(rewards=REWARDS, weights=WEIGHTS)
def test_26_completions_may_be_doubled(name, rewards, weights):
    rewards, weights = arrays(rewards, weights)
    assertions.assert_duplication_invariant(exact(name, ddof=0), rewards, weights)


@pytest.mark.parametrize("name", COMBINING)
def test_26_fails_for_the_sample_deviation(name):
    rewards, weights = arrays(np.random.default_rng(0).normal(size=(B, G, K)), [0.5, 0.3, 0.2])
    with pytest.raises(ValueError, match="invariant 26"):
        assertions.assert_duplication_invariant(exact(name, ddof=1), rewards, weights)


# The lengths are not reordered here; the folds of SC-PPO depend on the order of the groups.
@pytest.mark.parametrize("name", examined(without=(*WITH_LENGTHS, "sc_ppo")))
@property_test
@given(
    rewards=REWARDS,
    weights=WEIGHTS,
    orders=st.tuples(*(st.permutations(range(n)) for n in (B, G, K))),
)
def test_27_order_does_not_matter(name, rewards, weights, orders):
    rewards, weights = arrays(rewards, weights)
    groups, completions, objectives = (jnp.asarray(order) for order in orders)
    assertions.assert_permutation_equivariant(
        exact(name),
        rewards,
        weights,
        groups=groups,
        completions=completions,
        objectives=objectives,
    )


@pytest.mark.parametrize("name", examined(without=(*ANCHORED, "saw_grpo", "saw_gdpo")))
@property_test
@given(rewards=REWARDS, weights=WEIGHTS, shift=SHIFT)
def test_28_a_shift_is_ignored(name, rewards, weights, shift):
    rewards, weights, shift = arrays(rewards, weights, shift)
    assertions.assert_shift_invariant(exact(name), rewards, weights, shift=shift)


@pytest.mark.parametrize("name", examined(without=ANCHORED[1:]))
@property_test
@given(rewards=REWARDS, weights=WEIGHTS, scale=FACTORS)
def test_29_all_rewards_may_be_scaled(name, rewards, weights, scale):
    rewards, weights = arrays(rewards, weights)
    power = 1 if name in ON_THE_SCALE_OF_REWARDS else 0
    assertions.assert_joint_scale(exact(name), rewards, weights, scale=scale, power=power)


@pytest.mark.parametrize("name", examined(*Z_SCORES, "rdpo"))
@property_test
@given(rewards=REWARDS, weights=WEIGHTS, scales=POSITIVE)
def test_30_an_objective_may_be_scaled(name, rewards, weights, scales):
    rewards, weights, scales = arrays(rewards, weights, scales)
    assertions.assert_objective_scale_invariant(exact(name), rewards, weights, scales=scales)


@pytest.mark.parametrize("name", examined(*CENTRED_SUM))
@property_test
@given(rewards=REWARDS, weights=WEIGHTS, scales=POSITIVE)
def test_30_a_scale_is_a_weight(name, rewards, weights, scales):
    rewards, weights, scales = arrays(rewards, weights, scales)
    assertions.assert_objective_scale_is_a_weight(exact(name), rewards, weights, scales=scales)


@pytest.mark.parametrize("name", examined())
@property_test
@given(rewards=REWARDS, weights=WEIGHTS, scale=FACTORS)
def test_31_all_weights_may_be_scaled(name, rewards, weights, scale):
    rewards, weights = arrays(rewards, weights)
    on_weights = ("advantage_combination", "rdpo", "corr_gdpo")
    power = 1 if name in (*ON_THE_SCALE_OF_REWARDS, *on_weights) else 0
    assertions.assert_weight_scale(exact(name), rewards, weights, scale=scale, power=power)


@pytest.mark.parametrize(
    "name",
    examined(*CENTRED_SUM, "advantage_combination", "gdpo", "gd2po_hard", "gd2po_snr", "rdpo"),
)
@property_test
@given(rewards=REWARDS, weights=WEIGHTS)
def test_32_odd(name, rewards, weights):
    rewards, weights = arrays(rewards, weights)
    assertions.assert_odd(exact(name), rewards, weights)


def test_32_rvpo_is_not_odd():
    rewards, weights = arrays(np.random.default_rng(0).normal(size=(B, G, K)), [0.5, 0.3, 0.2])
    with pytest.raises(ValueError, match="invariant 32"):
        assertions.assert_odd(exact("rvpo"), rewards, weights)


@pytest.mark.parametrize("name", examined(*Z_SCORES))
@property_test
@given(
    rewards=REWARDS,
    weights=WEIGHTS,
    scales=hnp.arrays(np.int64, (B, K), elements=st.integers(1, 8)),
    shifts=hnp.arrays(np.int64, (B, K), elements=INTEGERS),
)
def test_40_each_group_may_have_its_own_scale(name, rewards, weights, scales, shifts):
    rewards, weights, scales, shifts = arrays(rewards, weights, scales, shifts)
    assertions.assert_group_affine_invariant(
        exact(name), rewards, weights, scales=scales, shifts=shifts
    )


# Propositions about two methods.


@pytest.mark.parametrize(("ddof", "epsilon"), [(0, 0.0), (1, 0.0), (0, 0.1), (1, 1e-6)])
@property_test
@given(rewards=REWARDS, weights=WEIGHTS)
def test_1_and_33_dvao_is_within_rc(ddof, epsilon, rewards, weights):
    rewards, weights = arrays(rewards, weights)
    dvao, rc = (exact(n, ddof=ddof, epsilon=epsilon) for n in ("dvao", "reward_combination"))
    assertions.assert_within(dvao, rc, rewards, weights)


def test_1_fails_where_the_deviations_differ():
    base = np.random.default_rng(0).normal(size=(B, G, 1))
    rewards, weights = arrays(base * np.array([1.0, 2.0, 3.0]), [0.5, 0.3, 0.2])
    with pytest.raises(ValueError, match="invariant 1 "):
        assertions.assert_within(
            exact("dvao", ddof=0), exact("reward_combination", ddof=1), rewards, weights
        )


def test_7_uncorrelated_objectives():
    signs = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])  # orthogonal columns
    rewards, weights = arrays(np.stack([signs, 1 - 2 * signs]), np.full(K, 1 / K))
    for name, value in zip(COMBINING, (1.0, 1 / K, 1 / K), strict=True):
        assertions.assert_mean_square(exact(name), rewards, weights, value)


def test_8_advantage_combination_is_not_bounded_by_the_others():
    rng = np.random.default_rng(0)
    weights = jnp.array([0.7, 0.2, 0.1], jnp.float64)
    rewards = jnp.asarray(rng.normal(size=(200, B, G, K)))
    rc, ac, dvao = (jax.vmap(exact(n), (0, None))(rewards, weights) for n in COMBINING)
    assert 0.1 < jnp.mean(jnp.any(jnp.abs(ac) > jnp.abs(rc) + 1e-6, axis=-1)) < 1
    gap = jnp.mean(ac**2, axis=-1) - jnp.mean(dvao**2, axis=-1)
    assert jnp.any(gap > 1e-6)
    assert jnp.any(gap < -1e-6)
    assert jnp.any(ac * rc < -1e-6), "the sign may differ, too (9)"


@property_test
@given(base=hnp.arrays(np.int64, (B, G, 1), elements=INTEGERS), scales=POSITIVE, weights=WEIGHTS)
def test_18_perfect_correlation(base, scales, weights):
    rewards, weights = arrays(base * scales + np.arange(K), weights)
    statement = "18 (perfect correlation)"
    rc, ac, dvao = map(exact, COMBINING)
    assertions.assert_agree(dvao, rc, rewards, weights, statement)
    assertions.assert_agree(dvao, ac, rewards, weights, statement)


@property_test
@given(rewards=hnp.arrays(np.int64, (B, G, 1), elements=INTEGERS))
def test_19_one_objective(rewards):
    rewards, weights = arrays(rewards, [1.0])
    statement = "19 (one objective)"
    for left, right in [(0, 1), (1, 2)]:
        names = COMBINING[left], COMBINING[right]
        assertions.assert_agree(*map(exact, names), rewards, weights, statement)
    assertions.assert_agree(
        exact("dvao", ddof=1), exact("grpo", ddof=1), rewards, weights, statement
    )


@property_test
@given(
    columns=hnp.arrays(np.int64, (B, G), elements=INTEGERS),
    orders=st.lists(st.permutations(range(G)), min_size=K, max_size=K),
    weights=WEIGHTS,
)
def test_20_equal_deviations(columns, orders, weights):
    rewards = np.stack([columns[:, order] for order in orders], axis=-1)
    rewards, weights = arrays(rewards, weights)
    assertions.assert_agree(
        exact("dvao"),
        exact("advantage_combination"),
        rewards,
        weights,
        "20 (equal deviations)",
    )


@property_test
@given(rewards=REWARDS, weights=WEIGHTS, ddof=st.integers(0, 1))
def test_21_weights_over_deviations_undo_the_weights(rewards, weights, ddof):
    rewards, weights = arrays(rewards, weights)
    assertions.assert_weights_undo_deviations(
        exact("dvao", ddof=ddof),
        exact("advantage_combination", ddof=ddof),
        rewards,
        weights,
        ddof=ddof,
    )


@property_test
@given(rewards=REWARDS, weights=WEIGHTS, objective=st.integers(0, K - 1))
def test_22_a_single_objective_varies(rewards, weights, objective):
    rewards = np.where(np.arange(K) == objective, rewards, 0.3)
    rewards, weights = arrays(rewards, weights)
    rc, ac, dvao = map(exact, COMBINING)
    statement = "22 (one objective varies)"
    assertions.assert_agree(dvao, rc, rewards, weights, statement)
    assertions.assert_agree(ac, lambda r, w: w[objective] * dvao(r, w), rewards, weights, statement)


@pytest.mark.parametrize("name", examined(*CENTRED_SUM))
@property_test
@given(rewards=REWARDS, weights=WEIGHTS)
def test_23_exact_cancellation(name, rewards, weights):
    last = (1 - rewards[..., :-1] @ weights[:-1]) / weights[-1]
    rewards, weights = arrays(np.concatenate([rewards[..., :-1], last[..., None]], -1), weights)
    assertions.assert_cancels(exact(name), rewards, weights)


def test_35_and_41_a_pair_with_rewards_0_1_and_0_2():
    rewards, weights = arrays([[[0, 0], [0, 1]], [[0, 0], [1, 1]]], [0.5, 0.5])
    rc, ac, dvao = map(exact, COMBINING)
    np.testing.assert_allclose(rc(rewards, weights), [[-1, 1], [-1, 1]])
    np.testing.assert_allclose(dvao(rewards, weights), [[-1, 1], [-1, 1]])
    np.testing.assert_allclose(ac(rewards, weights), [[-0.5, 0.5], [-1, 1]])
    sample = exact("advantage_combination", ddof=1)(rewards, weights * 2)
    np.testing.assert_allclose(sample[:, 1], [0.5**0.5, 2**0.5])
    np.testing.assert_allclose(exact("grpo", ddof=1)(rewards, weights)[:, 1], [0.5**0.5] * 2)
    whitened = exact("gdpo")(rewards, weights)
    np.testing.assert_allclose(whitened[1], 2 * whitened[0])


@pytest.mark.parametrize(
    ("name", "patterns"),
    [
        ("grpo", (2, 4, 7)),
        ("dvao", (2, 6, 11)),
        ("advantage_combination", (3, 6, 14)),
        ("dr_grpo", (3, 6, 10)),
    ],
)
def test_42_distinct_advantage_patterns_of_two_binary_rewards(name, patterns):
    weights = jnp.array([0.5, 0.5], jnp.float64)
    for size, expected in zip((2, 3, 4), patterns, strict=True):
        bits = np.arange(4**size)[:, None] >> np.arange(2 * size) & 1
        rewards = jnp.asarray(bits.reshape(-1, size, 2), jnp.float64)
        advantages = np.sort(exact(name)(rewards, weights), axis=-1)
        assert len(np.unique(np.round(advantages, 6) + 0.0, axis=0)) == expected


@property_test
@given(rewards=REWARDS, weights=WEIGHTS)
def test_39_ddof_of_the_groups_does_not_matter_to_gdpo(rewards, weights):
    rewards, weights = arrays(rewards, weights)

    def whitened_sample_scores(rewards, weights):
        scores = exact("advantage_combination", ddof=1)(rewards, weights)
        deviation = jnp.std(scores)
        return jnp.where(deviation > 1e-6, scores / deviation, 0)

    assertions.assert_agree(
        exact("gdpo", ddof=0), whitened_sample_scores, rewards, weights, "39 (equal group sizes)"
    )


@property_test
@given(rewards=REWARDS, weights=WEIGHTS)
def test_56_rvpo_without_sharpness_is_gdpo(rewards, weights):
    rewards, weights = arrays(rewards, weights)
    statement = "56 (sharpness 0)"
    assertions.assert_agree(
        exact("rvpo", sharpness=0.0), exact("gdpo"), rewards, weights, statement
    )
    assertions.assert_agree(
        exact("rvpo_variance_penalty", penalty=0.0), exact("gdpo"), rewards, weights, statement
    )


@property_test
@given(rewards=REWARDS, weights=WEIGHTS)
def test_57_lite_ppo_is_the_share_of_the_variance_within_groups(rewards, weights):
    rewards, weights = arrays(rewards, weights)
    sums = rewards @ weights
    assume(float(jnp.std(sums)) > 1e-6)
    advantages = exact("lite_ppo", ddof=0)(rewards, weights)
    expected = 1 - jnp.var(jnp.mean(sums, axis=1)) / jnp.var(sums)
    np.testing.assert_allclose(jnp.mean(advantages**2), expected, atol=1e-9)
    one = slice(0, 1)
    assertions.assert_agree(
        exact("lite_ppo", ddof=1), exact("grpo", ddof=1), rewards[one], weights, "57 (one group)"
    )


@property_test
@given(rewards=REWARDS, weights=WEIGHTS)
def test_58_rloo_is_dr_grpo_times_g_over_g_minus_1(rewards, weights):
    rewards, weights = arrays(rewards, weights)
    expected = exact("dr_grpo")(rewards, weights) * G / (G - 1)
    np.testing.assert_allclose(exact("rloo")(rewards, weights), expected, atol=1e-12)


# The soft minimum.

Z = hnp.arrays(np.float64, (B, G, K), elements=st.floats(-4, 4))
SHARES = hnp.arrays(np.int64, (B, K), elements=st.integers(1, 6)).map(
    lambda x: x / x.sum(axis=-1, keepdims=True)
)


@property_test
@given(scores=Z, shares=SHARES, low=st.floats(1e-6, 2), ratio=st.floats(1, 50))
def test_50_and_51_between_the_mean_and_the_minimum(scores, shares, low, ratio):
    scores, shares = arrays(scores, shares)
    assertions.assert_soft_minimum(scores, shares, low=low, high=low * ratio)


@property_test
@given(scores=Z, shares=SHARES)
def test_50_limits_of_the_soft_minimum(scores, shares):
    scores, shares = arrays(scores, shares)
    mean = jnp.einsum("bgk,bk->bg", scores, shares)
    near_mean = aggregators.soft_minimum(scores, shares, sharpness=1e-10)
    np.testing.assert_allclose(near_mean, mean, atol=1e-8)
    sharp = aggregators.soft_minimum(scores, shares, sharpness=1e10)
    np.testing.assert_allclose(sharp, scores.min(axis=-1), atol=1e-8)


@property_test
@given(scores=Z, shares=SHARES, sharpness=st.floats(1e-4, 0.05))
def test_52_expansion_of_the_soft_minimum(scores, shares, sharpness):
    scores, shares = arrays(scores, shares)
    assertions.assert_soft_minimum_expansion(scores, shares, sharpness=sharpness)


@property_test
@given(
    scores=Z,
    others=Z,
    shares=SHARES,
    sharpness=st.floats(0.01, 5),
    shift=st.floats(-5, 5),
    scale=st.floats(0.1, 5),
)
def test_53_soft_minimum_is_a_mean(scores, others, shares, sharpness, shift, scale):
    scores, others, shares = arrays(scores, others, shares)
    assertions.assert_soft_minimum_is_a_mean(
        scores, others, shares, sharpness=sharpness, shift=shift, scale=scale
    )


def test_55_constant_objectives_bound_the_value():
    shares = jnp.full((1, 2), 0.5, jnp.float64)
    scores = jnp.array([[[50.0, 0.0], [-50.0, 0.0], [3.0, 3.0]]], jnp.float64)
    value = aggregators.soft_minimum(scores, shares, sharpness=1.0)
    np.testing.assert_allclose(value, [[np.log(2), np.log(2) - 50, 3.0]], atol=1e-9)
