"""Our variants of DVAO on synthetic data whose true signals and deviations are known.

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

pytestmark = pytest.mark.slow

SEEDS = 100
WEIGHTS = jnp.array([0.5, 0.5])


def cosine(left, right):
    """Cosine similarity of two sets of advantages of a batch."""
    return jnp.sum(left * right) / jnp.sqrt(jnp.sum(left**2) * jnp.sum(right**2))


def over_seeds(measure, seeds=SEEDS):
    """Mean of `measure(key)` over seeds."""
    keys = jax.random.split(jax.random.key(0), seeds)
    return jax.tree.map(lambda a: float(jnp.mean(a)), jax.jit(jax.vmap(measure))(keys))


# Noisy rewards: 64 groups whose signals have deviations between 0.2 and 1.5.


@functools.cache
def cosines_with_noise(group_size, noise, num_repeats=1):
    """Cosine with the advantages of DVAO for the signals without noise."""
    deviation = jnp.array(noise)

    def measure(key):
        keys = jax.random.split(key, 3)
        spread = jax.random.uniform(keys[0], (64, 1, 2), minval=0.2, maxval=1.5)
        signal = spread * jax.random.normal(keys[1], (64, group_size, 2))
        errors = jax.random.normal(keys[2], (*signal.shape, num_repeats))
        scores = signal[..., None] + deviation[None, None, :, None] * errors
        rewards, reference = jnp.mean(scores, axis=-1), dvao(signal, WEIGHTS)
        variance = tuple(v * v / num_repeats for v in noise)
        return {
            "dvao": cosine(dvao(rewards, WEIGHTS), reference),
            "known noise": cosine(dvao_denoised(rewards, WEIGHTS, noise=variance), reference),
            "from repeats": cosine(dvao_of_repeats(scores, WEIGHTS), reference),
        }

    return over_seeds(measure)


def test_denoised_noisy_judge_gets_no_larger_weight():
    measured = cosines_with_noise(8, (0.0, 1.0))
    assert measured["known noise"] > measured["dvao"] + 0.03
    measured = cosines_with_noise(8, (0.0, 2.0))
    assert measured["known noise"] > measured["dvao"] + 0.10


def test_denoised_costs_little_if_both_objectives_are_equally_noisy():
    measured = cosines_with_noise(8, (0.5, 0.5))
    assert measured["dvao"] - 0.03 < measured["known noise"] < measured["dvao"] + 0.01


def test_denoised_noise_can_be_estimated_from_repeats():
    measured = cosines_with_noise(8, (0.0, 2.0), 2)
    assert abs(measured["from repeats"] - measured["known noise"]) < 0.003
    assert measured["from repeats"] > measured["dvao"] + 0.06


def test_denoised_noise_estimate_of_repeats_is_unbiased():
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


def test_denoised_worked_example():
    rewards = jnp.array([[[0.0, 0.0], [2.0, 4.0], [4.0, -4.0]]])  # sample variances 4 and 16
    measured = dvao_denoised(rewards, jnp.array([1.0, 1.0]), noise=(0.0, 12.0))
    deviation = np.sqrt(np.array([4.0, 16.0]) * 2 / 3)
    weight = deviation * [1.0, 0.5] / (deviation @ [1.0, 0.5])
    expected = (np.asarray(rewards[0]) - [2.0, 0.0]) / deviation @ weight
    np.testing.assert_allclose(measured[0], expected, rtol=1e-5)
    only_first = dvao_denoised(rewards, jnp.array([1.0, 1.0]), noise=(0.0, 16.0))
    np.testing.assert_allclose(only_first, dvao(rewards, jnp.array([1.0, 0.0])), rtol=1e-6)
    assert np.all(dvao_denoised(rewards, jnp.ones(2), noise=17.0) == 0), "only noise"
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

KINDS = ("normal, equal", "normal, varied", "normal, 0.1 or 1", "binary, varied", "binary, rare")


def drawn(kind, key, shape):
    """Rewards `[B, G, 2]` and the true deviations `[B, 2]` of each group."""
    keys = jax.random.split(key)
    whole = (shape[0], 1, 2)
    if kind.startswith("binary"):
        chance = jax.random.beta(keys[0], *((1, 1) if "varied" in kind else (0.3, 2)), whole)
        rewards = jax.random.bernoulli(keys[1], chance, shape).astype(jnp.float32)
        return rewards, jnp.sqrt(chance * (1 - chance))[:, 0]
    deviation = {
        "normal, equal": jnp.broadcast_to(jnp.array([0.5, 1.0]), whole),
        "normal, varied": jax.random.uniform(keys[0], whole, minval=0.1, maxval=1.5),
        "normal, 0.1 or 1": jnp.where(jax.random.bernoulli(keys[0], 0.5, whole), 0.1, 1.0),
    }[kind]
    return deviation * jax.random.normal(keys[1], shape), deviation[:, 0]


@functools.cache
def errors_of_divisors(kind, group_size):
    """Cosine with the advantages for the true divisor, and relative error of the divisor."""

    def measure(key):
        rewards, deviation = drawn(kind, key, (64, group_size, 2))
        centred = aggregators.dr_grpo(rewards, WEIGHTS)
        divisor = deviation @ WEIGHTS
        reference = centred / jnp.maximum(divisor, 1e-9)[:, None]
        measured = {}
        objectives = group.statistics(group.prepare_batch(rewards, WEIGHTS, None), ddof=1)
        estimates = {
            dvao: objectives.deviation,
            dvao_shrunk: shrunk(objectives.deviation, spread_of(objectives)),
        }
        for method, estimate in estimates.items():
            error = jnp.sqrt(jnp.mean(jnp.square(estimate @ WEIGHTS - divisor)))
            measured[f"{method.__name__} error"] = error / jnp.mean(divisor)
            measured[f"{method.__name__} cosine"] = cosine(
                method(rewards, WEIGHTS, ddof=1), reference
            )
        return measured

    return over_seeds(measure)


@pytest.mark.slow
@pytest.mark.parametrize("group_size", [2, 4])
def test_shrunk_divisor_is_more_accurate_in_small_groups(group_size):
    for kind in KINDS:
        measured = errors_of_divisors(kind, group_size)
        assert measured["dvao_shrunk error"] < measured["dvao error"], kind
        assert measured["dvao_shrunk cosine"] > measured["dvao cosine"] - 0.01, kind
    equal, varied = (errors_of_divisors(kind, group_size) for kind in KINDS[:2])
    assert equal["dvao_shrunk error"] < 0.5 * equal["dvao error"]
    assert varied["dvao_shrunk cosine"] > varied["dvao cosine"] + 0.01


def test_shrunk_advantages_of_pairs_depend_on_their_distance():
    rewards = jnp.array([[0.0, 1.0], [0.0, 0.1], [0.0, 0.3], [0.0, 0.6], [0.0, 0.9]])[..., None]
    np.testing.assert_allclose(dvao(rewards, jnp.ones(1)), [[-1.0, 1.0]] * 5, rtol=1e-6)
    far = dvao_shrunk(rewards, jnp.ones(1))[:, 1]
    assert np.all(far[np.array([0, 4, 3, 2])] > far[np.array([4, 3, 2, 1])])


def test_shrunk_of_one_group_is_dvao():
    rewards = jax.random.normal(jax.random.key(0), (5, 3))
    weights = jnp.array([0.5, 0.3, 0.2])
    np.testing.assert_allclose(dvao_shrunk(rewards, weights), dvao(rewards, weights), rtol=1e-5)


def test_shrunk_uncertainty_is_that_of_the_deviation_of_normal_numbers():
    rng = np.random.default_rng(0)
    for n in (2, 3, 4, 16):
        deviation = rng.normal(size=(200_000, n)).std(axis=1, ddof=1)
        expected = deviation.var() / np.mean(deviation**2)
        np.testing.assert_allclose(relative_uncertainty(jnp.float32(n)), expected, rtol=0.02)


def test_shrunk_is_the_best_linear_estimate_of_the_true_deviation():
    """Compared with other shares between 0 and 1, for normal rewards."""
    rng = np.random.default_rng(1)
    true = rng.uniform(0.5, 1.5, 20_000)
    measured = (true[:, None] * rng.normal(size=(20_000, 4))).std(axis=1, ddof=1)
    total = (measured**2 * relative_uncertainty(jnp.float32(4))).sum()
    roots = np.sqrt([(measured**2).sum(), total])
    spread = Spread(*(jnp.array([x]) for x in (20_000.0, measured.sum(), *roots)))
    estimate = np.asarray(shrunk(jnp.asarray(measured, jnp.float32)[:, None], spread))[:, 0]
    bias = measured.mean() - true.mean()  # of the deviation itself, which no share removes

    def error(estimate):
        return np.mean((estimate - bias - true) ** 2)

    best = min(
        error(measured.mean() + kept * (measured - measured.mean()))
        for kept in np.linspace(0, 1, 51)
    )
    assert error(estimate) < 1.02 * best < 0.8 * error(measured)


@functools.cache
def cosines_of_running_deviations():
    """Cosine over the last 40 of 60 steps of four pairs each."""
    method = aggregators.make("dvao_shrunk_running", WEIGHTS)

    def step(state, key):
        rewards, deviation = drawn("normal, varied", key, (4, 2, 2))
        reference = aggregators.dr_grpo(rewards, WEIGHTS) / (deviation @ WEIGHTS)[:, None]
        running, state = method.update(rewards, None, state, None)
        return state, (reference, running, dvao_shrunk(rewards, WEIGHTS), dvao(rewards, WEIGHTS))

    def measure(key):
        _, all_steps = jax.lax.scan(step, method.init(2), jax.random.split(key, 60))
        reference, *measured = (a[20:] for a in all_steps)
        names = ("dvao_shrunk_running", "dvao_shrunk", "dvao")
        return {name: cosine(a, reference) for name, a in zip(names, measured, strict=True)}

    return over_seeds(measure)


@pytest.mark.slow
def test_shrunk_running_equals_shrunk_at_first_and_is_more_accurate_later():
    rewards, _ = drawn("normal, varied", jax.random.key(0), (4, 2, 2))
    method = aggregators.make("dvao_shrunk_running", WEIGHTS)
    first, state = method.update(rewards, None, method.init(2), None)
    np.testing.assert_allclose(first, dvao_shrunk(rewards, WEIGHTS), rtol=1e-5)
    _, again = method.update(rewards, None, state, None)
    np.testing.assert_allclose(again.groups, 1.9 * state.groups, rtol=1e-6)
    measured = cosines_of_running_deviations()
    assert measured["dvao_shrunk_running"] > measured["dvao_shrunk"] > measured["dvao"]


# Interpolation between reward combination and DVAO.


@functools.cache
def cosines_by_caution(group_size=8):
    """Cosine with the centred sum of the signals, by caution."""

    def measure(key):
        keys = jax.random.split(key, 3)
        correlation = jax.random.uniform(keys[0], (32, 1), minval=-1.0)
        first, other = jnp.moveaxis(jax.random.normal(keys[1], (32, group_size, 2)), -1, 0)
        second = correlation * first + jnp.sqrt(1 - correlation**2) * other
        signal = jnp.stack([first, second], axis=-1)
        rewards = signal + 0.5 * jax.random.normal(keys[2], signal.shape)
        reference = aggregators.dr_grpo(signal, WEIGHTS)
        return {
            caution: cosine(dvao_interpolated(rewards, WEIGHTS, caution=caution), reference)
            for caution in (0.0, 0.25, 0.5, 0.75, 1.0)
        }

    return over_seeds(measure)


def test_interpolated_more_caution_is_closer_to_the_signal_if_objectives_conflict():
    measured = cosines_by_caution()
    values = [measured[caution] for caution in sorted(measured)]
    assert values == sorted(values)
    assert values[-1] > values[0] + 0.01


@pytest.mark.slow
def test_interpolated_limits_are_reward_combination_and_dvao_and_it_is_monotone():
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


def test_interpolated_caution_bounds_objectives_that_almost_cancel():
    first = jax.random.uniform(jax.random.key(0), (8, 6))
    rewards = jnp.stack([first, 1 - first + 1e-5 * first[:, ::-1]], axis=-1)
    assert np.max(np.abs(dvao_interpolated(rewards, WEIGHTS, caution=0.1))) < 1e-3


# The optimal baseline.


def test_68_baseline_of_opo_minimises_the_variance():
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
    """All numbers that the docstrings quote."""
    for size in (4, 8, 16):
        for noise in ((0.0, 0.5), (0.0, 1.0), (0.0, 2.0), (0.5, 0.5)):
            yield f"denoised G={size} {noise} {cosines_with_noise(size, noise)}"
    yield f"denoised G=8 (0, 2) twice {cosines_with_noise(8, (0.0, 2.0), 2)}"
    for size in (2, 4, 16):
        for kind in KINDS:
            yield f"shrunk G={size} {kind} {errors_of_divisors(kind, size)}"
    yield f"shrunk, four pairs a step {cosines_of_running_deviations()}"
    yield f"interpolated {cosines_by_caution()}"


if __name__ == "__main__":
    print(*tables(), sep="\n")
