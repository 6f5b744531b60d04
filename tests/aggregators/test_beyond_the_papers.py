"""What our own variants of DVAO do on data whose truth is known.

Their docstrings quote numbers of this kind; `python test_beyond_the_papers.py` prints all of them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dvaojax import aggregators
from dvaojax.aggregators import dvao, dvao_denoised, dvao_interpolated, dvao_of_repeats, dvao_shrunk
from dvaojax.aggregators._core import group
from dvaojax.aggregators.dvao_denoised import average_repeats
from dvaojax.aggregators.dvao_shrunk import Spread, relative_uncertainty, shrunk, spread_of

SEEDS = 100
WEIGHTS = jnp.array([0.5, 0.5])


def cosine(left, right):
    """Of all advantages of a batch with others."""
    return jnp.sum(left * right) / jnp.sqrt(jnp.sum(left**2) * jnp.sum(right**2))


def over_seeds(measure, seeds=SEEDS):
    """The mean of what `measure(key)` returns."""
    keys = jax.random.split(jax.random.key(0), seeds)
    return jax.tree.map(lambda a: float(jnp.mean(a)), jax.jit(jax.vmap(measure))(keys))


# Noisy rewards: 64 groups; the deviations of their signals lie between 0.2 and 1.5.


@functools.cache
def recovered(group_size, noise, num_repeats=1):
    """Cosine with the advantages that DVAO gives the signals alone."""
    deviation = jnp.array(noise)

    def measure(key):
        keys = jax.random.split(key, 3)
        spread = jax.random.uniform(keys[0], (64, 1, 2), minval=0.2, maxval=1.5)
        signal = spread * jax.random.normal(keys[1], (64, group_size, 2))
        errors = jax.random.normal(keys[2], (*signal.shape, num_repeats))
        scores = signal[..., None] + deviation[None, None, :, None] * errors
        rewards, truth = jnp.mean(scores, axis=-1), dvao(signal, WEIGHTS)
        variance = tuple(v * v / num_repeats for v in noise)
        return {
            "dvao": cosine(dvao(rewards, WEIGHTS), truth),
            "known noise": cosine(dvao_denoised(rewards, WEIGHTS, noise=variance), truth),
            "from repeats": cosine(dvao_of_repeats(scores, WEIGHTS), truth),
        }

    return over_seeds(measure)


def test_denoised_a_noisy_judge_no_longer_buys_weight():
    found = recovered(8, (0.0, 1.0))
    assert found["known noise"] > found["dvao"] + 0.03
    found = recovered(8, (0.0, 2.0))
    assert found["known noise"] > found["dvao"] + 0.10


def test_denoised_costs_little_where_there_is_nothing_to_weigh():
    found = recovered(8, (0.5, 0.5))
    assert found["dvao"] - 0.03 < found["known noise"] < found["dvao"] + 0.01


def test_denoised_repeats_say_how_noisy_they_are():
    found = recovered(8, (0.0, 2.0), 2)
    assert abs(found["from repeats"] - found["known noise"]) < 0.003
    assert found["from repeats"] > found["dvao"] + 0.06


def test_denoised_the_noise_of_repeats_is_estimated_without_bias():
    rng = np.random.default_rng(0)
    mask = rng.random((500, 4, 2, 3)) < 0.7
    scores = rng.normal(size=(500, 4, 2, 1)) + rng.normal(size=mask.shape) * [[0.5], [2.0]]
    averages = average_repeats(np.where(mask, scores, np.nan), mask=mask)
    count = mask.sum(-1)
    share = np.where(count > 0, 1 / np.maximum(count, 1), 0).sum(1) / (count > 0).sum(1)
    np.testing.assert_allclose(averages.noise / share, [[0.25, 4.0]] * np.ones((500, 1)), rtol=0.06)
    np.testing.assert_array_equal(averages.mask, count > 0)
    expected = np.where(mask, scores, 0).sum(-1) / np.maximum(count, 1)
    np.testing.assert_allclose(averages.rewards, expected, atol=1e-6)


def test_denoised_by_hand():
    rewards = jnp.array([[[0.0, 0.0], [2.0, 4.0], [4.0, -4.0]]])  # sample variances 4 and 16
    found = dvao_denoised(rewards, jnp.array([1.0, 1.0]), noise=(0.0, 12.0))
    deviation = np.sqrt(np.array([4.0, 16.0]) * 2 / 3)
    weight = deviation * [1.0, 0.5] / (deviation @ [1.0, 0.5])
    expected = (np.asarray(rewards[0]) - [2.0, 0.0]) / deviation @ weight
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    only_first = dvao_denoised(rewards, jnp.array([1.0, 1.0]), noise=(0.0, 16.0))
    np.testing.assert_allclose(only_first, dvao(rewards, jnp.array([1.0, 0.0])), rtol=1e-6)
    assert np.all(dvao_denoised(rewards, jnp.ones(2), noise=17.0) == 0), "nothing but noise"
    np.testing.assert_array_equal(
        dvao_denoised(rewards, jnp.ones(2), noise=0.0), dvao(rewards, jnp.ones(2))
    )


def test_denoised_of_single_scores_is_dvao():
    scores = jax.random.normal(jax.random.key(0), (2, 5, 3, 1))
    weights = jnp.array([0.5, 0.3, 0.2])
    expected = dvao(scores[..., 0], weights)
    np.testing.assert_allclose(dvao_of_repeats(scores, weights), expected, atol=1e-6)
    twice = jnp.concatenate([scores, scores], axis=-1)
    np.testing.assert_allclose(dvao_of_repeats(twice, weights), expected, atol=1e-6)
    half = jnp.ones(twice.shape, bool).at[..., 1].set(False)
    poisoned = twice.at[..., 1].set(jnp.nan)
    np.testing.assert_allclose(dvao_of_repeats(poisoned, weights, mask=half), expected, atol=1e-6)
    with pytest.raises(ValueError, match="30 of 60 rewards are NaN"):
        dvao_of_repeats(poisoned, weights)


# Small groups: 64 groups of two objectives.

KINDS = ("normal, alike", "normal, unlike", "normal, 0.1 or 1", "binary, unlike", "binary, rare")


def drawn(kind, key, shape):
    """Rewards `[B, G, 2]` and the true deviations `[B, 2]` of each group."""
    keys = jax.random.split(key)
    whole = (shape[0], 1, 2)
    if kind.startswith("binary"):
        chance = jax.random.beta(keys[0], *((1, 1) if "unlike" in kind else (0.3, 2)), whole)
        rewards = jax.random.bernoulli(keys[1], chance, shape).astype(jnp.float32)
        return rewards, jnp.sqrt(chance * (1 - chance))[:, 0]
    deviation = {
        "normal, alike": jnp.broadcast_to(jnp.array([0.5, 1.0]), whole),
        "normal, unlike": jax.random.uniform(keys[0], whole, minval=0.1, maxval=1.5),
        "normal, 0.1 or 1": jnp.where(jax.random.bernoulli(keys[0], 0.5, whole), 0.1, 1.0),
    }[kind]
    return deviation * jax.random.normal(keys[1], shape), deviation[:, 0]


@functools.cache
def steadied(kind, group_size):
    """Cosine with the centred sum over its true divisor, and the divisor's relative error."""

    def measure(key):
        rewards, deviation = drawn(kind, key, (64, group_size, 2))
        centred = aggregators.dr_grpo(rewards, WEIGHTS)
        divisor = deviation @ WEIGHTS
        truth = centred / jnp.maximum(divisor, 1e-9)[:, None]
        found = {}
        objectives = group.statistics(group.prepare_batch(rewards, WEIGHTS, None), ddof=1)
        estimates = {
            dvao: objectives.deviation,
            dvao_shrunk: shrunk(objectives.deviation, spread_of(objectives)),
        }
        for method, estimate in estimates.items():
            error = jnp.sqrt(jnp.mean(jnp.square(estimate @ WEIGHTS - divisor)))
            found[f"{method.__name__} error"] = error / jnp.mean(divisor)
            found[f"{method.__name__} cosine"] = cosine(method(rewards, WEIGHTS, ddof=1), truth)
        return found

    return over_seeds(measure)


@pytest.mark.slow
@pytest.mark.parametrize("group_size", [2, 4])
def test_shrunk_the_divisor_is_steadier_in_small_groups(group_size):
    for kind in KINDS:
        found = steadied(kind, group_size)
        assert found["dvao_shrunk error"] < found["dvao error"], kind
        assert found["dvao_shrunk cosine"] > found["dvao cosine"] - 0.01, kind
    alike, unlike = (steadied(kind, group_size) for kind in KINDS[:2])
    assert alike["dvao_shrunk error"] < 0.5 * alike["dvao error"]
    assert unlike["dvao_shrunk cosine"] > unlike["dvao cosine"] + 0.01


def test_shrunk_pairs_are_no_longer_all_one_apart():
    rewards = jnp.array([[0.0, 1.0], [0.0, 0.1], [0.0, 0.3], [0.0, 0.6], [0.0, 0.9]])[..., None]
    np.testing.assert_allclose(dvao(rewards, jnp.ones(1)), [[-1.0, 1.0]] * 5, rtol=1e-6)
    far = dvao_shrunk(rewards, jnp.ones(1))[:, 1]
    assert np.all(far[np.array([0, 4, 3, 2])] > far[np.array([4, 3, 2, 1])])


def test_shrunk_of_one_group_is_dvao():
    rewards = jax.random.normal(jax.random.key(0), (5, 3))
    weights = jnp.array([0.5, 0.3, 0.2])
    np.testing.assert_allclose(dvao_shrunk(rewards, weights), dvao(rewards, weights), rtol=1e-5)


def test_shrunk_the_uncertainty_of_a_deviation_is_that_of_normal_numbers():
    rng = np.random.default_rng(0)
    for n in (2, 3, 4, 16):
        deviation = rng.normal(size=(200_000, n)).std(axis=1, ddof=1)
        expected = deviation.var() / np.mean(deviation**2)
        np.testing.assert_allclose(relative_uncertainty(jnp.float32(n)), expected, rtol=0.02)


def test_shrunk_is_the_best_linear_estimate_of_the_true_deviation():
    """Against every other share between 0 and 1, with deviations that are drawn normally."""
    rng = np.random.default_rng(1)
    true = rng.uniform(0.5, 1.5, 20_000)
    found = (true[:, None] * rng.normal(size=(20_000, 4))).std(axis=1, ddof=1)
    total = (found**2 * relative_uncertainty(jnp.float32(4))).sum()
    spread = Spread(*(jnp.array([x]) for x in (20_000.0, found.sum(), (found**2).sum(), total)))
    estimate = np.asarray(shrunk(jnp.asarray(found, jnp.float32)[:, None], spread))[:, 0]
    bias = found.mean() - true.mean()  # the deviation's own, which no share removes

    def error(estimate):
        return np.mean((estimate - bias - true) ** 2)

    best = min(
        error(found.mean() + kept * (found - found.mean())) for kept in np.linspace(0, 1, 51)
    )
    assert error(estimate) < 1.02 * best < 0.8 * error(found)


@functools.cache
def remembered():
    """Cosine over the last 40 of 60 steps of four pairs each, and both advantages of the first."""
    method = aggregators.make("dvao_shrunk_running", WEIGHTS)

    def step(state, key):
        rewards, deviation = drawn("normal, unlike", key, (4, 2, 2))
        truth = aggregators.dr_grpo(rewards, WEIGHTS) / (deviation @ WEIGHTS)[:, None]
        running, state = method.update(rewards, None, state, None)
        return state, (truth, running, dvao_shrunk(rewards, WEIGHTS), dvao(rewards, WEIGHTS))

    def measure(key):
        _, all_steps = jax.lax.scan(step, method.init(2), jax.random.split(key, 60))
        truth, *found = (a[20:] for a in all_steps)
        names = ("dvao_shrunk_running", "dvao_shrunk", "dvao")
        return {name: cosine(a, truth) for name, a in zip(names, found, strict=True)}

    return over_seeds(measure)


@pytest.mark.slow
def test_shrunk_running_is_shrunk_at_first_and_steadier_later():
    rewards, _ = drawn("normal, unlike", jax.random.key(0), (4, 2, 2))
    method = aggregators.make("dvao_shrunk_running", WEIGHTS)
    first, state = method.update(rewards, None, method.init(2), None)
    np.testing.assert_allclose(first, dvao_shrunk(rewards, WEIGHTS), rtol=1e-5)
    _, again = method.update(rewards, None, state, None)
    np.testing.assert_allclose(again.groups, 1.9 * state.groups, rtol=1e-6)
    found = remembered()
    assert found["dvao_shrunk_running"] > found["dvao_shrunk"] > found["dvao"]


# Between reward combination and DVAO.


@functools.cache
def balanced(group_size=8):
    """Cosine with the centred sum of the signals, by caution, and the largest advantage."""

    def measure(key):
        keys = jax.random.split(key, 3)
        correlation = jax.random.uniform(keys[0], (32, 1), minval=-1.0)
        first, other = jnp.moveaxis(jax.random.normal(keys[1], (32, group_size, 2)), -1, 0)
        second = correlation * first + jnp.sqrt(1 - correlation**2) * other
        signal = jnp.stack([first, second], axis=-1)
        rewards = signal + 0.5 * jax.random.normal(keys[2], signal.shape)
        truth = aggregators.dr_grpo(signal, WEIGHTS)
        return {
            caution: cosine(dvao_interpolated(rewards, WEIGHTS, caution=caution), truth)
            for caution in (0.0, 0.25, 0.5, 0.75, 1.0)
        }

    return over_seeds(measure)


def test_interpolated_more_caution_is_nearer_to_the_signal_when_objectives_conflict():
    found = balanced()
    values = [found[caution] for caution in sorted(found)]
    assert values == sorted(values)
    assert values[-1] > values[0] + 0.01


@pytest.mark.slow
def test_interpolated_has_reward_combination_and_dvao_at_its_ends_and_all_between():
    rewards = jax.random.normal(jax.random.key(0), (50, 6, 3))
    weights = jnp.array([0.5, 0.3, 0.2])
    ends = (aggregators.reward_combination(rewards, weights), dvao(rewards, weights))
    between = [dvao_interpolated(rewards, weights, caution=c) for c in (0.0, 0.3, 0.7, 1.0)]
    np.testing.assert_array_equal(between[0], ends[0])
    np.testing.assert_array_equal(between[-1], ends[1])
    for less, more in zip(between[1:], between[:-1], strict=True):
        assert np.all(np.abs(less) <= np.abs(more))
    agreement = aggregators.diagnostics(rewards, weights).agreement ** 2
    mean_square = jnp.mean(between[1] ** 2, axis=-1)
    np.testing.assert_allclose(mean_square, agreement / (0.3 + 0.7 * agreement), rtol=1e-4)
    with pytest.raises(ValueError, match=r"caution=1.5 must lie in \[0, 1\]"):
        dvao_interpolated(rewards, weights, caution=1.5)


def test_interpolated_any_caution_bounds_what_almost_cancels():
    first = jax.random.uniform(jax.random.key(0), (8, 6))
    rewards = jnp.stack([first, 1 - first + 1e-5 * first[:, ::-1]], axis=-1)
    assert np.max(np.abs(dvao_interpolated(rewards, WEIGHTS, caution=0.1))) < 1e-3


# The optimal baseline.


def test_68_the_baseline_of_opo_leaves_the_least_variance():
    rng = np.random.default_rng(0)
    rewards, lengths = rng.normal(size=7), rng.integers(1, 50, 7).astype(float)
    advantages = aggregators.opo(jnp.asarray(rewards)[:, None], jnp.ones(1), jnp.asarray(lengths))
    baseline = rewards - np.asarray(advantages)
    np.testing.assert_allclose(baseline, baseline[0], atol=1e-6)

    def second_moment(b):
        return np.mean(lengths * (rewards - b) ** 2)

    assert all(second_moment(baseline[0]) < second_moment(baseline[0] + d) for d in (-0.01, 0.01))
    np.testing.assert_allclose((np.asarray(advantages) * lengths).sum(), 0, atol=1e-4)
    same = aggregators.opo(jnp.asarray(rewards)[:, None], jnp.ones(1), jnp.full(7, 9))
    plain = aggregators.dr_grpo(jnp.asarray(rewards)[:, None], jnp.ones(1))
    np.testing.assert_allclose(same, plain, atol=1e-6)


def tables():
    """Every number that a docstring quotes."""
    for size in (4, 8, 16):
        for noise in ((0.0, 0.5), (0.0, 1.0), (0.0, 2.0), (0.5, 0.5)):
            yield f"denoised G={size} {noise} {recovered(size, noise)}"
    yield f"denoised G=8 (0, 2) twice {recovered(8, (0.0, 2.0), 2)}"
    for size in (2, 4, 16):
        for kind in KINDS:
            yield f"shrunk G={size} {kind} {steadied(kind, size)}"
    yield f"shrunk, four pairs a step {remembered()}"
    yield f"interpolated {balanced()}"


if __name__ == "__main__":
    print(*tables(), sep="\n")
