"""Propositions 43 to 49, and properties of single methods that have no number.

Comments give the deviation (`ddof`) for which a proposition holds. All tests are in float64;
epsilons are 0 where a proposition is exact.
"""

import functools

import chex
import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_aggregator import FAMILIES, call, function_of, lengths_for, takes_lengths
from hypothesis import given, settings
from hypothesis import strategies as st
from invariant_assertions import assert_split_invariant

from dvaojax import aggregators
from dvaojax.aggregators import dara, gd2po, invariants, saw
from dvaojax.aggregators._core import group
from dvaojax.aggregators._core.least_squares import least_quadratic
from dvaojax.aggregators.sc_ppo import combine, cross_fitted_weights

pytestmark = pytest.mark.slow

B, G, K = 4, 5, 3
WEIGHTS = np.array([0.5, 0.3, 0.2])
property_test = settings(derandomize=True, deadline=None, max_examples=15, database=None)
REWARDS = hnp.arrays(np.int64, (B, G, K), elements=st.integers(0, 4)).map(lambda x: x / 4)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def rewards():
    return jnp.asarray(np.random.default_rng(0).random((B, G, K)))


def exact(name, rewards, weights=WEIGHTS, **knobs):
    """Advantages with all epsilons 0."""
    function = function_of(name)
    defaults = {k: 0.0 for k in aggregators.knobs_of(function) if k.endswith("epsilon")}
    return call(function, jnp.asarray(rewards), jnp.asarray(weights), **{**defaults, **knobs})


def same(left, right, tolerance=1e-9):
    np.testing.assert_allclose(left, right, atol=tolerance, rtol=0)


def batch_of(rewards, weights=WEIGHTS):
    return group.prepare_batch(jnp.asarray(rewards), jnp.asarray(weights), None)


@pytest.mark.nightly
def test_invariants_hold_and_report_rolled_groups_for_every_method_of_the_second_family():
    """Tolerance 1e-5 in float32; `test_aggregator_invariants` uses random examples."""
    rng = np.random.default_rng(1)
    rewards = rng.integers(0, 3, (B, G, K)) / 2
    rewards[1] = 0.5
    mask = rng.random((B, G, K)) < 0.9
    lengths = lengths_for(rewards)

    @jax.jit
    def aggregate(rewards, mask):
        return {
            name: call(function_of(name), rewards, WEIGHTS, mask=mask)
            for name in FAMILIES["others"]
        }

    def check(rewards, advantages, mask):
        for name, values in advantages.items():
            needs = takes_lengths(function_of(name))
            invariants.check(
                name, rewards, WEIGHTS, values, mask=mask, lengths=lengths if needs else None
            )

    rewards = jnp.asarray(rewards, jnp.float32)
    advantages = aggregate(rewards, mask)
    checked = chex.chexify(jax.jit(check), async_check=False)
    checked(rewards, advantages, mask)
    for name in advantages:
        with pytest.raises(ValueError, match=r"invariant \d+ .* violated in (group \d|the batch)"):
            checked(rewards, {**advantages, name: jnp.roll(advantages[name], 1, axis=0)}, mask)


# 43: SA-MRPO. Any ddof, the same in both; exact for epsilon 0.


def test_43_without_gamma_it_is_gdpo(rewards):
    for ddof in (0, 1):
        same(exact("sa_mrpo", rewards, gamma=0.0, ddof=ddof), exact("gdpo", rewards, ddof=ddof))


@pytest.mark.parametrize("gamma", [0.25, 0.5, 2.0])
def test_43_equal_saturation_is_gdpo_for_any_gamma(rewards, gamma):
    level = rewards - rewards.mean((0, 1), keepdims=True) + 0.5
    same(exact("sa_mrpo", level, gamma=gamma), exact("gdpo", level, ddof=0))


def test_43_saturated_objective_has_weight_zero_and_finite_gradients(rewards):
    saturated = rewards.at[..., 1].set(1.0)
    without = exact("sa_mrpo", saturated[..., jnp.array([0, 2])], WEIGHTS[[0, 2]])
    same(exact("sa_mrpo", saturated), without)

    def total(r):
        return jnp.sum(exact("sa_mrpo", r) ** 2)

    assert np.all(np.isfinite(jax.jit(jax.grad(total))(saturated)))


def test_43_bounds_may_differ_between_objectives(rewards):
    wide = np.asarray(rewards) * [1.0, 6.0, 1.0] - [0.0, 3.0, 0.0]
    scaled = exact("sa_mrpo", wide, lower=[0.0, -3.0, 0.0], upper=[1.0, 3.0, 1.0])
    same(scaled, exact("sa_mrpo", rewards))
    with pytest.raises(ValueError, match="of a knob for 3 objectives"):
        exact("sa_mrpo", rewards, lower=[0.0, 1.0])


# 44: DARA. The sums of squares depend on ddof; the factors do not.


def sparse(rewards, counts):
    """Rewards in which objective k varies only in the first `counts[k]` groups."""
    varies = np.arange(B)[:, None, None] < np.asarray(counts)
    return jnp.where(varies, rewards, 0.5)


@pytest.mark.parametrize("counts", [(4, 2, 1), (3, 3, 1), (2, 4, 0)])
def test_44_factors_compensate_for_rarity(rewards, counts):
    rare = sparse(rewards, counts)
    factors = np.asarray(dara.factors(batch_of(rare), cap=5.0))
    assert np.all((factors >= 1) & (factors <= 5))
    assert factors[np.argmax(counts)] == 1
    assert np.all(factors[np.equal(counts, 0)] == 5)
    uncapped = np.asarray(counts)[np.less(factors, 5)] / B
    same(factors[factors < 5] ** 2 * uncapped, max(counts) / B)
    assert np.all(dara.factors(batch_of(rare), cap=1.2) <= 1.2)


@pytest.mark.parametrize(("ddof", "energy"), [(1, G - 1), (0, G)])
def test_44_squared_scores_sum_over_the_groups_that_vary(rewards, ddof, energy):
    counts = (4, 2, 1)
    scores = group.standard_scores(batch_of(sparse(rewards, counts)), ddof=ddof, epsilon=0.0)
    same(jnp.sum(scores.values**2, axis=(0, 1)), np.multiply(counts, energy))


def test_44_equally_dense_objectives_give_gdpo(rewards):
    for name in ("dara_symmetric", "dara_asymmetric"):
        same(exact(name, rewards), exact("gdpo", rewards))


def test_44_only_positive_scores_are_stretched():
    scores = jnp.array([[[1.0, -1.0], [-2.0, 2.0]]])
    same(dara.stretch(scores, jnp.array([1.0, 3.0])), [[[1.0, -1.0], [-2.0, 6.0]]])


# 45: GD2PO, any ddof; exact.


@property_test
@given(rewards=REWARDS)
def test_45_q_is_within_one_and_is_one_without_conflict(rewards):
    scores = group.standard_scores(batch_of(rewards), ddof=1, epsilon=0.0).values
    q = np.abs(gd2po.consensus(scores, WEIGHTS))
    conflict = np.asarray(gd2po.in_conflict(scores, WEIGHTS))
    has_signal = np.any(np.abs(np.asarray(scores)) > 1e-6, axis=-1)
    assert np.all(q <= 1 + 1e-12)
    same(q[~conflict & has_signal], 1, 1e-7)
    assert np.all(q[conflict] < 1 - 1e-9)


@property_test
@given(rewards=REWARDS)
def test_45_dropped_completions_are_zero_and_limits_of_the_threshold(rewards):
    scores = group.standard_scores(batch_of(rewards), ddof=1, epsilon=0.0).values
    conflict = np.asarray(gd2po.in_conflict(scores, WEIGHTS))
    hard = exact("gd2po_hard", rewards)
    assert np.all(hard[conflict] == 0)
    same(exact("gd2po_snr", rewards, threshold=1.0), hard)
    same(exact("gd2po_snr", rewards, threshold=0.0), exact("gdpo", rewards))


def test_45_objective_without_weight_does_not_conflict(rewards):
    weights = jnp.array([1.0, 0.0, 0.0])
    same(exact("gd2po_hard", rewards, weights), exact("gdpo", rewards, weights))


def test_45_by_hand():
    # No z-scores of opposite signs: all three completions are kept, then whitened.
    rewards = jnp.array([[[2.0, 2.0], [1.0, 0.0], [0.0, 1.0]]])
    advantages = exact("gd2po_hard", rewards, jnp.ones(2), ddof=0)
    scores = (2 - 1) / np.sqrt(2 / 3)
    same(advantages[0, 0] > 0, True)
    kept = np.array([2 * scores, -scores, -scores])  # the others have one 0 and one negative score
    same(advantages[0], (kept - kept.mean()) / kept.std())


# 46: SC-PPO, exact (up to the ridge of 1 %).


def products_of(rng, size, rank=8):
    vectors = rng.normal(size=(rank, size))
    return jnp.asarray(vectors.T @ vectors / rank + 0.01 * np.eye(size))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_46_least_norm_is_optimal_and_no_objective_decreases(size):
    rng = np.random.default_rng(size)
    for _ in range(20):
        q, p = products_of(rng, size), jnp.asarray(rng.uniform(0.2, 1, size))
        c = least_quadratic(q, p, jnp.ones(size, bool))
        c = c / (p @ c)
        value = c @ q @ c
        assert np.all(c >= 0)
        assert np.all(q @ c >= p * value - 1e-9), (
            "the gain of each objective is at least the least norm"
        )
        others = rng.dirichlet(np.ones(size), size=200) / np.asarray(p)
        assert np.all(np.einsum("nk,kl,nl->n", others, q, others) >= value - 1e-9)


def test_46_two_objectives_by_the_closed_form():
    for q11, q12, q22 in [(1.0, -0.5, 2.0), (1.0, 0.3, 0.2), (0.5, 0.0, 0.5)]:
        q = jnp.array([[q11, q12], [q12, q22]])
        c = least_quadratic(q, jnp.ones(2), jnp.ones(2, bool))
        first = np.clip((q22 - q12) / (q11 + q22 - 2 * q12), 0, 1)
        same(c / jnp.sum(c), [first, 1 - first])


def test_46_saturated_objective_is_not_optimised_and_does_not_decrease():
    q = jnp.array([[1.0, -0.6, 0.1], [-0.6, 1.0, 0.2], [0.1, 0.2, 1.0]])
    is_usable, has_headroom = jnp.ones(3, bool), jnp.array([True, False, True])
    c = combine(q, jnp.array([2.0, 0.3, 1.0]), is_usable, has_headroom)
    same(jnp.sum(c), 1)
    assert np.all(c >= 0)
    assert np.all(q @ c >= -0.01 * np.max(c) - 1e-9)


def test_46_coefficients_are_estimated_on_the_other_fold(rewards):
    def coefficients(r):
        return cross_fitted_weights(
            batch_of(r),
            target=1.0,
            priority_floor=0.05,
            priority_power=0.5,
            saturation=0.05,
            ddof=1,
            epsilon=0.0,
        )

    before, after = coefficients(rewards), coefficients(rewards.at[1].set(rewards[1] ** 3))
    same(after[1::2], before[1::2])
    assert np.all(np.abs(after - before)[::2].max(axis=-1) > 1e-4)
    same(jnp.sum(before, axis=-1), 1)


def test_46_at_most_ten_objectives():
    with pytest.raises(ValueError, match="11 objectives; at most 10"):
        aggregators.sc_ppo(jnp.zeros((2, 3, 11)), jnp.ones(11))


# 47: SAW. The closed form is for the population's deviation, the rest for any.


@pytest.mark.parametrize("successes", [1, 3, 10, 19])
def test_47_coefficient_of_variation_of_a_binary_reward(successes):
    p = successes / 20
    other = jnp.tile(jnp.array([0.0, 1.0]), 10)
    rewards = jnp.stack([(jnp.arange(20) < successes).astype(float), other], axis=-1)
    weights = saw.weights_by_variation(
        batch_of(rewards[None], jnp.ones(2)), lower=0.0, delta=0.0, ddof=0
    )
    same(weights[0, 0] / weights[0, 1], np.sqrt((1 - p) / p))


def test_47_weights_sum_to_k_and_depend_on_offsets_but_not_on_scales(rewards):
    weights = functools.partial(saw.weights_by_variation, lower=0.0, delta=0.0, ddof=1)
    rewards = np.asarray(rewards)
    base = weights(batch_of(rewards, jnp.ones(K)))
    same(jnp.sum(base, axis=-1), K)
    same(weights(batch_of(rewards * [1.0, 7.0, 0.1], jnp.ones(K))), base)
    assert not np.allclose(weights(batch_of(rewards + np.arange(K), jnp.ones(K))), base)
    constant = weights(batch_of(jnp.zeros((B, G, K)), jnp.ones(K)))
    same(constant, 1)


def test_47_shift_of_the_official_code_is_the_lower_bound(rewards):
    low = np.asarray(rewards) * [6.0, 1.0, 1.0] - [3.0, 0.0, 0.0]
    bounded = exact("saw_gdpo", low, lower=[-3.0, 0.0, 0.0], delta=0.0)
    same(bounded, exact("saw_gdpo", rewards, delta=0.0))
    assert not np.allclose(exact("saw_gdpo", low), bounded, atol=1e-3)


# 48: MO-GRPO, which is advantage combination; any ddof.


def test_48_correlations_of_an_objective_with_the_advantage(rewards):
    ones = jnp.ones(K)
    for r in np.asarray(rewards):
        rho, covariance = np.corrcoef(r.T), np.cov(r.T)
        deviation = np.sqrt(np.diag(covariance))
        summed = np.asarray(exact("reward_combination", r[None], ones))[0]
        expected = covariance.sum(1) / (deviation * np.sqrt(covariance.sum()))
        same([np.corrcoef(r[:, k], summed)[0, 1] for k in range(K)], expected)
        for ddof in (0, 1):
            separate = np.asarray(exact("advantage_combination", r[None], ones, ddof=ddof))[0]
            expected = rho.sum(1) / np.sqrt(rho.sum())
            same([np.corrcoef(r[:, k], separate)[0, 1] for k in range(K)], expected)


# 49: CorrGRPO, any ddof (s and C of the same); epsilon 0.


def test_49_corr_grpo_is_rc_times_a_ratio_of_two_roots(rewards):
    rc = exact("reward_combination", rewards)
    for r, corr, combined in zip(rewards, exact("corr_grpo", rewards), rc, strict=True):
        rho = np.corrcoef(np.asarray(r).T)
        s = np.asarray(WEIGHTS) * np.std(np.asarray(r), axis=0)
        same(corr, np.sqrt(s @ rho @ s) / np.sqrt(rho.sum()) * combined)


def test_49_unit_deviations_give_rc_and_copies_the_centred_reward(rewards):
    ones = jnp.ones(K)
    unit = (rewards - rewards.mean(1, keepdims=True)) / jnp.std(rewards, axis=1, keepdims=True)
    same(exact("corr_grpo", unit, ones), exact("reward_combination", unit, ones))
    copies = jnp.repeat(rewards[..., :1], K, axis=-1)
    same(exact("corr_grpo", copies, ones), copies[..., 0] - copies[..., 0].mean(1, keepdims=True))


def test_corr_gdpo_is_whitened_gdpo_up_to_one_factor(rewards):
    tokens = exact("gdpo_token_weighted", rewards)
    ratios = np.asarray(exact("corr_gdpo", rewards) / tokens)
    same(ratios, ratios[0, 0])
    assert ratios[0, 0] > 0
    # Over the batch the columns of one objective, split in two, are perfectly correlated.
    one = rewards[..., :1]
    pair = exact("corr_gdpo", jnp.concatenate([one, one], -1), jnp.ones(2))
    same(pair, exact("corr_gdpo", one, jnp.ones(1)))


def test_james_stein_lies_between_rloo_and_the_other_groups(rewards):
    same(exact("james_stein", rewards[:1]), exact("rloo", rewards[:1]))
    equal = jnp.broadcast_to(rewards[:1], rewards.shape)  # no differences between groups
    total = np.asarray(equal[0] @ WEIGHTS)
    share = (B - 1) / B
    rest = (total.sum() - total) / (G - 1)
    expected = total - (1 - share) * rest - share * total.mean()
    same(exact("james_stein", equal), np.broadcast_to(expected, (B, G)))
    apart = rewards + 1e6 * jnp.arange(float(B))[:, None, None]
    same(exact("james_stein", apart), exact("rloo", apart), 1e-4)


def test_james_stein_baseline_does_not_depend_on_the_own_reward(rewards):
    derivatives = jax.jacrev(lambda r: exact("james_stein", r))(rewards)
    for g, i in np.ndindex(B, G):
        same(derivatives[g, i, g, i], WEIGHTS)


def test_25_does_not_hold_for_corr_grpo():
    rewards = jnp.asarray(np.random.default_rng(0).normal(size=(B, G, K)))
    with pytest.raises(ValueError, match="invariant 25"):
        assert_split_invariant(
            functools.partial(exact, "corr_grpo"), rewards, jnp.asarray(WEIGHTS), objective=0
        )


# Properties without a number.


@pytest.mark.parametrize("successes", [1, 2, 4])
def test_maxrl_of_a_binary_reward(successes):
    rewards = (jnp.arange(5) < successes).astype(float)[None, :, None]
    p = successes / 5
    expected = np.where(np.arange(5) < successes, (1 - p) / p, -1.0)
    same(exact("maxrl", rewards, jnp.ones(1))[0], expected)


def test_reinforce_plus_plus_needs_no_group():
    rewards = jnp.array([[1.0], [0.0], [0.0], [1.0]])[..., None]  # groups of one, all constant
    advantages = exact("reinforce_plus_plus", rewards, jnp.ones(1))
    assert np.all(np.sign(advantages[:, 0]) == [1, -1, -1, 1])
    assert np.all(exact("reinforce_plus_plus_baseline", rewards, jnp.ones(1)) == 0)
    tokens = np.asarray(lengths_for(rewards)).ravel()
    same(np.sum(tokens * np.asarray(advantages).ravel()), 0)
    assert np.all(exact("reinforce_plus_plus", rewards * 0 + 0.1, jnp.ones(1)) == 0)
    mask = jnp.array([True, True, False, True])[:, None, None]
    masked = exact("reinforce_plus_plus", rewards, jnp.ones(1), mask=mask)
    assert masked[2] == 0


def test_reinforce_plus_plus_is_whitened_over_tokens(rewards):
    lengths = np.asarray(lengths_for(rewards), float)
    for name, values in [
        ("reinforce_plus_plus", rewards @ WEIGHTS),
        ("reinforce_plus_plus_baseline", exact("dr_grpo", rewards)),
    ]:
        mean = np.average(values, weights=lengths)
        variance = np.sum(lengths * (values - mean) ** 2) / (lengths.sum() - 1)
        same(exact(name, rewards), (values - mean) / np.sqrt(variance))


def test_tchebycheff_reaches_points_that_no_weighted_sum_reaches():
    # A non-convex front: its middle is below the line between its ends.
    rewards = jnp.array([[[1.0, 0.0], [0.4, 0.4], [0.0, 1.0]]])
    for share in np.linspace(0.05, 0.95, 19):
        weights = jnp.array([share, 1 - share])
        assert np.argmax(exact("grpo", rewards, weights)) != 1
    assert np.argmax(exact("augmented_tchebycheff", rewards, jnp.array([0.5, 0.5]))) == 1


def test_tchebycheff_of_one_objective_is_grpo_and_the_augmentation_breaks_ties(rewards):
    one = rewards[..., :1]
    same(exact("augmented_tchebycheff", one, jnp.ones(1)), exact("grpo", one, jnp.ones(1)))
    tied = jnp.array([[[0.2, 0.2], [0.2, 0.9], [0.1, 0.5]]])
    advantages = exact("augmented_tchebycheff", tied, jnp.array([0.5, 0.5]))[0]
    assert advantages[1] > advantages[0]
    plain = exact("augmented_tchebycheff", tied, jnp.array([0.5, 0.5]), augmentation=0.0)[0]
    same(plain[1], plain[0])


def test_focal_reward_weights_decrease_with_the_groups_mean(rewards):
    same(exact("focal_reward", rewards, gamma=0.0), exact("grpo", rewards))
    easy = rewards.at[..., 0].set((rewards[..., 0] + 19) / 20)
    expected = exact("grpo", easy, weights=WEIGHTS * np.asarray(1 - easy.mean(1)))
    same(exact("focal_reward", easy), expected)


def test_rdpo_counts_copies_once_and_leaves_no_correlation(rewards):
    """Up to the shrinkage of 1e-5, that is to 1e-4."""
    rdpo = jax.jit(functools.partial(exact, "rdpo", shrinkage=1e-5))
    one = rdpo(rewards[..., :1], jnp.ones(1))
    copies = jnp.repeat(rewards[..., :1], 2, axis=-1)
    same(rdpo(copies, jnp.ones(2)), np.sqrt(2) * one, 1e-4)
    columns = [rdpo(rewards, jnp.eye(K)[k]) for k in range(K)]
    flat = jnp.stack(columns).reshape(K, -1)
    same(flat @ flat.T / flat.shape[1], np.eye(K), 1e-4)


def test_rdpo_clips_an_outlier_to_its_rank(rewards):
    large = rewards.at[0, 0, 0].set(1e6)
    larger = rewards.at[0, 0, 0].set(1e9)
    same(exact("rdpo", large)[0], exact("rdpo", larger)[0], 1e-5)
