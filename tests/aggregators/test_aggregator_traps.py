"""Bugs that similar systems have shipped; the numbers are those of tests/TRAPS.md."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_aggregator import apply, call, examined, function_of

from dvaojax import aggregators

WEIGHTS = jnp.array([0.5, 0.3, 0.2])
NOT_DIVIDING = ("dr_grpo", "opo", "rloo", "james_stein", "oblr_po", "optimal_token_baseline")
DROPPING = ("gd2po_hard", "gd2po_snr")  # completions in conflict get 0
# Constant groups get the distance to the batch's mean, or a part of it.
WITHOUT_GROUPS = ("reinforce_plus_plus", "james_stein")
# Methods that use conflict as a signal, or weigh its two sides differently.
SIGNALLED = ("rvpo", "rvpo_variance_penalty", "saw_grpo", "saw_gdpo", "sa_mrpo", "focal_reward")
SIGNALLED += ("augmented_tchebycheff", "sc_ppo")
# Methods that whiten about a mean that is not the group's (propositions 37 and 54), or after
# completions were dropped or scores stretched.
GROUPS_DO_NOT_SUM_TO_ZERO = ("rvpo", "rvpo_variance_penalty", "gdpo_token_weighted")
GROUPS_DO_NOT_SUM_TO_ZERO += (*DROPPING, *WITHOUT_GROUPS, "reinforce_plus_plus_baseline")
GROUPS_DO_NOT_SUM_TO_ZERO += ("dara_asymmetric", "opo", "corr_gdpo", "oblr_po")
GROUPS_DO_NOT_SUM_TO_ZERO += ("optimal_token_baseline",)


def with_knobs(name, rewards, weights, **knobs):
    assert rewards.shape == (2, 5, 3)
    return call(function_of(name), rewards, weights, **knobs)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.fixture(params=examined())
def name(request):
    return request.param


@pytest.mark.parametrize("name", examined(without=WITHOUT_GROUPS))
def test_trap_01_constant_groups_are_exactly_zero(name):
    values = [0.1, 0.3, 0.35, 0.7, 1 / 3, -1e6 / 7, 1e-20, 1e34, 0.0]
    for size in (1, 7):
        rewards = jnp.asarray(np.broadcast_to(np.array(values)[:, None, None], (9, size, 3)))
        rewards = rewards.astype(jnp.float32)
        assert np.all(apply(name, rewards, WEIGHTS) == 0)
        mixed = rewards.at[:2].set(normal(2, size, 3))
        assert np.all(apply(name, mixed, WEIGHTS)[2:] == 0), "in a batch with other groups"
    assert np.all(apply(name, rewards.astype(jnp.bfloat16), WEIGHTS) == 0)


def test_trap_02_small_differences_are_not_reduced():
    rewards = jnp.array([1.00000, 1.00001, 1.00001, 2.00001, 2.00000, 2.00001]).reshape(2, 3, 1)
    values = np.asarray(rewards, np.float64)
    expected = (values - values.mean(1, keepdims=True)) / values.std(1, keepdims=True)
    actual = aggregators.reward_combination(rewards, jnp.ones(1))
    np.testing.assert_allclose(actual, expected[..., 0], rtol=1e-5)
    sample = (values - values.mean(1, keepdims=True)) / (
        values.std(1, ddof=1, keepdims=True) + 1e-6
    )
    np.testing.assert_allclose(aggregators.grpo(rewards, jnp.ones(1)), sample[..., 0], rtol=1e-5)


def test_trap_02_neighbouring_floats_are_distinguished():
    low = np.float32(1.0)
    rewards = jnp.asarray([[low], [np.nextafter(low, np.float32(2))]])
    for method in (aggregators.reward_combination, aggregators.dvao):
        np.testing.assert_allclose(method(rewards, jnp.ones(1)), [-1, 1], rtol=1e-6)


@pytest.mark.parametrize("name", examined(without=(*NOT_DIVIDING, *SIGNALLED)))
@pytest.mark.parametrize("total", [1.0, 0.3, 100.0])
def test_trap_03_rewards_that_cancel_give_no_noise(name, total):
    first = jax.random.uniform(jax.random.key(0), (8, 6))
    rewards = jnp.stack([first, total - first], axis=-1)
    advantages = apply(name, rewards, jnp.array([0.5, 0.5]))
    limit = 1e-5 if total <= 1 else 1e-4  # rounding error of 100 - x in float32
    limit *= 10 if name == "rdpo" else 1  # which amplifies the common part
    assert np.max(np.abs(advantages)) < limit


def test_trap_03_rvpo_is_zero_for_binary_rewards_that_cancel():
    first = jnp.tile(jnp.array([0.0, 1.0, 1.0, 0.0, 0.0, 1.0]), (8, 1))
    rewards = jnp.stack([first, 1 - first], axis=-1)
    for name in ("rvpo", "rvpo_variance_penalty"):
        assert np.max(np.abs(apply(name, rewards, jnp.array([0.5, 0.5])))) < 1e-5


@pytest.mark.parametrize(("ddof", "largest"), [(0, 7**0.5), (1, 7 / 8**0.5)])
def test_trap_04_largest_score_depends_on_ddof(ddof, largest):
    rewards = jnp.zeros((8, 1)).at[3].set(1.0)
    for name in ("grpo", "reward_combination", "advantage_combination", "dvao"):
        advantages = function_of(name)(rewards, jnp.ones(1), ddof=ddof, epsilon=0.0)
        np.testing.assert_allclose(advantages[3], largest, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "knobs", "expected"),
    [
        ("dr_grpo", {}, [[-1, 1], [-2, 2]]),
        ("rloo", {}, [[-2, 2], [-4, 4]]),
        ("grpo", {"epsilon": 0.0}, [[-(0.5**0.5), 0.5**0.5]] * 2),
        ("grpo", {"epsilon": 0.0, "ddof": 0}, [[-1, 1]] * 2),
        ("grpo", {"epsilon": 1.0, "ddof": 0}, [[-0.5, 0.5], [-2 / 3, 2 / 3]]),
        (
            "lite_ppo",
            {"epsilon": 0.0, "ddof": 0},
            [[-(0.4**0.5), 0.4**0.5], [-(1.6**0.5), 1.6**0.5]],
        ),
    ],
)
def test_trap_05_golden_numbers_for_every_option(name, knobs, expected):
    rewards = jnp.array([[0.0, 2.0], [-1.0, 3.0]])[..., None]  # means 1 and 1
    np.testing.assert_allclose(
        function_of(name)(rewards, jnp.ones(1), **knobs), expected, rtol=1e-6
    )


def agreeing(name):
    """Rewards `[2, 5, 3]`, with correlated objectives for methods that drop conflicts."""
    rewards = normal(2, 5, 3)
    return 0.3 * rewards + normal(2, 5, 1, seed=4) if name in DROPPING else rewards


def test_trap_06_every_completion_affects_every_advantage(name):
    rewards = agreeing(name)
    base = apply(name, rewards, WEIGHTS)
    for i in range(5):
        moved = apply(name, rewards.at[0, i].add(0.7), WEIGHTS)
        stays = (moved == 0) & (base == 0) if name in DROPPING else np.zeros_like(base, bool)
        assert np.all((np.abs(moved - base) > 1e-5)[0] | stays[0])
        assert not np.all(stays[0])


def test_trap_07_identical_prompts_stay_separate_groups():
    rewards = normal(2, 5, 3)
    for name in ("grpo", "dvao", "advantage_combination", "rloo", "dr_grpo"):
        with_another = apply(name, rewards, WEIGHTS)
        with_itself = apply(name, rewards.at[1].set(rewards[0] + 10.0), WEIGHTS)
        for group in with_itself:
            np.testing.assert_allclose(group, with_another[0], atol=1e-5)


def test_trap_07_short_group_equals_a_masked_one(name):
    rewards, mask = normal(2, 5, 3), np.ones((2, 5, 3), bool)
    mask[1, 3:] = False
    padded = apply(name, rewards, WEIGHTS, mask=mask)
    refilled = apply(name, rewards.at[1, 3:].set(99.0), WEIGHTS, mask=mask)
    np.testing.assert_array_equal(padded, refilled)
    assert np.all(padded[1, 3:] == 0)
    if name in ("grpo", "dvao", "advantage_combination", "rloo", "dr_grpo", "reward_combination"):
        short = apply(name, rewards[1:, :3], WEIGHTS)
        np.testing.assert_allclose(padded[1:, :3], short, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", examined(without=WITHOUT_GROUPS))
def test_trap_08_groups_of_one_are_zero_and_groups_of_two_finite(name):
    assert np.all(apply(name, normal(9, 1, 3), WEIGHTS) == 0)
    assert np.all(np.isfinite(apply(name, normal(2, 2, 3), WEIGHTS)))


def test_trap_08_pair_has_advantages_of_one_over_root_two():
    advantages = aggregators.grpo(jnp.array([[0.0], [1.0]]), jnp.ones(1), epsilon=0.0)
    np.testing.assert_allclose(advantages, [-(0.5**0.5), 0.5**0.5], rtol=1e-6)


@pytest.mark.parametrize("name", examined(without=GROUPS_DO_NOT_SUM_TO_ZERO))
def test_trap_09_advantages_sum_to_zero_in_every_group(name):
    mask = np.random.default_rng(3).random((2, 5, 3)) < 0.8
    advantages = apply(name, normal(2, 5, 3), WEIGHTS, mask=mask)
    np.testing.assert_allclose(np.sum(advantages, axis=1), 0, atol=1e-5)


def test_trap_10_leave_one_out_has_no_deviation():
    assert aggregators.knobs_of(aggregators.rloo) == {}
    with pytest.raises(ValueError, match="rloo has no knob 'ddof'"):
        aggregators.make("rloo", WEIGHTS, ddof=1)


def test_trap_11_swapped_pair_cancels(name):
    rewards = jnp.array([[[1.0, 0.0, 7.0], [0.0, 1.0, 7.0]]] * 2)
    np.testing.assert_allclose(apply(name, rewards, jnp.array([0.5, 0.5, 0])), 0, atol=1e-6)
    assert "(1, 0) and (0, 1)" in aggregators.gdpo.__doc__, "documented"


def test_trap_12_every_objective_is_used(name):
    rewards = agreeing(name)
    base = apply(name, rewards, WEIGHTS)
    for k in range(3):
        moved = apply(name, rewards.at[0, 0, k].add(2.0), WEIGHTS)
        assert not np.allclose(moved, base, atol=1e-4)


def test_trap_13_penalty_changes_the_advantages(name):
    rewards = normal(2, 5, 3)
    penalty = -jnp.abs(normal(2, 5, seed=1))
    penalised = apply(name, rewards.at[..., 2].set(penalty), WEIGHTS)
    unpenalised = apply(name, rewards.at[..., 2].set(0), WEIGHTS)
    assert not np.allclose(penalised, unpenalised, atol=1e-3)


def test_trap_14_weights_are_matched_by_name():
    weights = {"accuracy": 0.5, "brevity": 0.3, "format": 0.2}
    one = aggregators.named_weights(weights, ["accuracy", "brevity", "format"])
    other = aggregators.named_weights(weights, ["format", "accuracy", "brevity"])
    rewards = normal(2, 4, 3)
    np.testing.assert_allclose(
        aggregators.dvao(rewards, one),
        aggregators.dvao(rewards[..., jnp.array([2, 0, 1])], other),
        atol=1e-6,
    )


def test_trap_15_unscored_completion_does_not_affect_others(name):
    rewards, mask = normal(2, 5, 3), np.ones((2, 5, 3), bool)
    mask[0, 3] = False
    advantages = apply(name, rewards.at[0, 3].set(jnp.nan), WEIGHTS, mask=mask)
    other = apply(name, rewards.at[0, 3].set(1e6), WEIGHTS, mask=mask)
    np.testing.assert_array_equal(advantages, other)
    assert np.all(advantages[0, 3] == 0)
    assert np.all(np.isfinite(advantages))


def test_trap_15_unscored_objective_counts_as_the_groups_mean(name):
    rewards, mask = normal(2, 5, 3), np.ones((2, 5, 3), bool)
    mask[0, 3, 1] = False
    advantages = apply(name, rewards.at[0, 3, 1].set(jnp.nan), WEIGHTS, mask=mask)
    assert np.all(np.isfinite(advantages))
    if name in ("dr_grpo", "lite_ppo"):  # the mean does not change their divisor
        mean = jnp.mean(rewards[0, mask[0, :, 1], 1])
        filled = apply(name, rewards.at[0, 3, 1].set(mean), WEIGHTS)
        np.testing.assert_allclose(advantages, filled, atol=1e-6)


def test_trap_16_scale_dominance():
    rewards, scales = normal(2, 5, 3), jnp.array([1.0, 1.0, 300.0])
    scaled = rewards * scales[None, None] + jnp.array([5.0, -2.0, 0.0])[None, None]
    for name in ("advantage_combination", "gdpo", "rvpo"):
        np.testing.assert_allclose(
            with_knobs(name, scaled, WEIGHTS, epsilon=0.0),
            with_knobs(name, rewards, WEIGHTS, epsilon=0.0),
            atol=2e-5,
        )
    # These are not invariant; a scale acts as a weight.
    for name in ("reward_combination", "dvao"):
        scaled_up = apply(name, scaled, WEIGHTS)
        assert np.any(np.sign(scaled_up) != np.sign(apply(name, rewards, WEIGHTS)))
        np.testing.assert_allclose(scaled_up, apply(name, rewards, WEIGHTS * scales), atol=1e-5)


def test_trap_17_no_knob_is_ignored(name):
    function = function_of(name)
    others = {"ddof": 0, "epsilon": 0.3, "variance_epsilon": 0.3, "sharpness": 3.0, "penalty": 2.0}
    others |= {"delta": 0.3, "lower": -1.0, "upper": 3.0, "gamma": 2.0, "cap": 1.2}
    others |= {"threshold": 0.1, "ideal": 0.2, "augmentation": 0.5, "shrinkage": 0.5}
    others |= {"target": 0.4, "priority_floor": 0.9, "priority_power": 2.0, "saturation": 0.9}
    others |= {"caution": 0.1, "noise": 0.5}
    others |= {"gates": (0.0, -np.inf, -np.inf), "min_accepted": 6}
    rewards = normal(2, 5, 3).at[0, :, 2].set(0.5)
    base = apply(name, rewards, WEIGHTS)
    for knob, default in aggregators.knobs_of(function).items():
        value = others[knob] if default != others[knob] else 1
        assert not np.allclose(with_knobs(name, rewards, WEIGHTS, **{knob: value}), base, atol=1e-4)
    assert set(inspect.signature(function).parameters) == {
        "scores" if name == "dvao_of_repeats" else "rewards",
        "weights",
        "mask",
        *aggregators.further_arguments(function),
        *aggregators.knobs_of(function),
    }


def test_trap_18_whitening_over_tokens_is_another_estimator():
    rewards = jnp.array([1.0, 1.0, 0.0, 0.0]).reshape(1, 4, 1)
    lengths = jnp.array([[10, 10, 1000, 1000]])
    tokens = aggregators.gdpo_token_weighted(rewards, jnp.ones(1), lengths)
    np.testing.assert_allclose(tokens, [[10.0, 10.0, -0.1, -0.1]], rtol=5e-4)
    sequences = aggregators.gdpo(rewards, jnp.ones(1))
    np.testing.assert_allclose(sequences, [[0.8660, 0.8660, -0.8660, -0.8660]], rtol=5e-4)
    equal = aggregators.gdpo_token_weighted(rewards, jnp.ones(1), jnp.ones((1, 4)))
    np.testing.assert_allclose(equal, sequences, rtol=5e-4)


def test_trap_20_inputs_are_not_modified(name):
    rewards = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    weights = np.array([0.5, 0.3, 0.2], np.float32)
    mask = np.ones((2, 5, 3), bool)
    before = rewards.copy(), weights.copy(), mask.copy()
    apply(name, rewards, weights, mask=mask)
    for now, then in zip((rewards, weights, mask), before, strict=True):
        np.testing.assert_array_equal(now, then)
