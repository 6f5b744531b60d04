"""CAPO's shifts against full matrices and finite differences; what is kept and counted."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dvaojax import models
from dvaojax.losses import capo, constant_length, magnitudes, sequence_mean, token_mean
from dvaojax.losses.capo import AdamRows, Distribution, Shifts, Thresholds

V, D, M = 7, 4, 12
RATE, TEMPERATURE = 0.03, 0.7
RNG = np.random.default_rng(0)
MATRIX = RNG.normal(size=(D, V))
STATES = RNG.normal(size=(1, M, D)) * 2
TOKENS = RNG.integers(0, V, (1, M)).astype(np.int32)
ADVANTAGES = np.where(np.arange(M) % 5 == 4, 0.0, RNG.normal(size=M) * 2)[None]
MEAN, SQUARE = 0.3 * RNG.normal(size=(V, D)), RNG.random((V, D))


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def softmax(logits):
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def adam_step(gradient, rows, updates):
    """Adam's ascent step from its definition, on the rows of the head of some tokens."""
    if updates == 0:
        return gradient
    mean = 0.9 * MEAN[rows] + 0.1 * gradient
    square = 0.95 * SQUARE[rows] + 0.05 * gradient**2
    corrected = mean / (1 - 0.9 ** (updates + 1)), square / (1 - 0.95 ** (updates + 1))
    return corrected[0] / (np.sqrt(corrected[1]) + 1e-8)


def by_matrices(i, *, updates=None, count=V):
    """Probabilities, step and both shifts of token i; `updates` for Adam, on the likeliest rows."""
    state, token, advantage = STATES[0, i] / TEMPERATURE, TOKENS[0, i], ADVANTAGES[0, i]
    rows = np.argsort(-(MATRIX.T @ state))[:count]
    probabilities = softmax(MATRIX[:, rows].T @ state)
    difference = (rows == token) - probabilities
    gradient = advantage * np.outer(difference, state)
    step = gradient if updates is None else adam_step(gradient, rows, updates)
    logits = step @ state
    fisher = np.diag(probabilities) - np.outer(probabilities, probabilities)
    along = (difference @ logits) ** 2
    objective = RATE * (gradient * step).sum()
    objective += 0.5 * RATE**2 * advantage * (along - logits @ fisher @ logits)
    return rows, step, 0.5 * RATE**2 * along, objective


def summarized(summary):
    inputs = map(jnp.asarray, (STATES, MATRIX, TOKENS))
    return models.summarized_logprobs(*inputs, summary, temperature=TEMPERATURE, chunk_size=5)


def sgd():
    logp, _, sums = summarized(models.other_power_sums)
    squares = jnp.sum(jnp.square(STATES / TEMPERATURE), axis=-1)
    return capo.sgd_shifts(
        jnp.asarray(ADVANTAGES), Distribution(logp, *sums), squares, jnp.asarray(RATE)
    )


def adam(updates, count):
    _, _, (probabilities, rows) = summarized(partial(models.most_likely, count=count))
    moments = AdamRows(
        jnp.asarray(MEAN)[rows], jnp.asarray(SQUARE)[rows], jnp.asarray(updates), 0.9, 0.95
    )
    return capo.adam_shifts(
        jnp.asarray(ADVANTAGES),
        probabilities,
        rows == TOKENS[..., None],
        jnp.asarray(STATES / TEMPERATURE),
        moments,
        jnp.asarray(RATE),
    )


CASES = {
    "sgd": (sgd, {}),
    "adam": (partial(adam, 6, V), {"updates": 6}),
    "most likely": (partial(adam, 6, 3), {"updates": 6, "count": 3}),
    "first update": (partial(adam, 0, V), {"updates": 0}),
}


@pytest.mark.parametrize("name", CASES)
def test_shifts_are_those_of_full_matrices(name):
    computed, options = CASES[name]
    shifts = jax.jit(computed)()
    expected = np.array([by_matrices(i, **options)[2:] for i in range(M)]).T
    np.testing.assert_allclose(shifts.policy[0], expected[0], rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(shifts.objective[0], expected[1], rtol=1e-9, atol=1e-14)
    assert np.all(shifts.policy >= 0)
    is_zero = ADVANTAGES == 0
    assert np.all(shifts.objective[is_zero] == 0)
    if name == "sgd":
        np.testing.assert_array_equal(shifts.policy[is_zero], 0)


def test_before_its_first_update_adam_is_the_sgd_model():
    for left, right in zip(*jax.jit(lambda: (sgd(), adam(0, V)))(), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("updates", [None, 6])
def test_shifts_are_the_second_order_change_of_objective_and_policy(updates):
    """Central differences of the importance-weighted advantage along the step."""
    size = 1e-4
    for i in range(M):
        rows, step, policy, objective = by_matrices(i, updates=updates)
        state, token = STATES[0, i] / TEMPERATURE, TOKENS[0, i]

        def logp(scale, rows=rows, step=step, state=state, token=token):
            moved = MATRIX[:, rows].T + scale * step
            return np.log(softmax(moved @ state)[rows == token][0])

        def weighted(scale, logp=logp, i=i):
            return ADVANTAGES[0, i] * np.exp(logp(scale) - logp(0.0))

        first = (weighted(size) - weighted(-size)) / (2 * size)
        second = (weighted(size) - 2 * weighted(0.0) + weighted(-size)) / size**2
        by_differences = RATE * first + 0.5 * RATE**2 * second
        np.testing.assert_allclose(objective, by_differences, rtol=1e-4, atol=1e-7)
        slope = (logp(size) - logp(-size)) / (2 * size)
        np.testing.assert_allclose(policy, 0.5 * (RATE * slope) ** 2, rtol=1e-5, atol=1e-12)


def test_mean_policy_shift_of_a_step_is_the_divergence():
    """Half the expected squared change of the log-probability, over tokens drawn at random."""
    probabilities, step = softmax(RNG.normal(size=V)), 1e-4 * RNG.normal(size=V)
    moved = softmax(np.log(probabilities) + step)
    divergence = np.sum(probabilities * np.log(probabilities / moved))
    change = (np.eye(V) - probabilities) @ step
    np.testing.assert_allclose(probabilities @ (0.5 * change**2), divergence, rtol=1e-3)


def test_a_small_rate_keeps_all_and_the_objective_shift_is_not_odd_in_the_advantage():
    squares, distribution = (
        jnp.full(2, 9.0),
        Distribution(*jnp.asarray([[-1.0] * 2, [0.2] * 2, [0.1] * 2])),
    )
    advantages = jnp.asarray([1.5, -1.5])
    tight = Thresholds(1e-12, 1e-6)
    for rate, kept in ((1e-9, True), (0.1, False)):
        shifts = jax.jit(capo.sgd_shifts)(advantages, distribution, squares, jnp.asarray(rate))
        assert np.all(capo.keeps(shifts, tight) == kept)
    assert abs(shifts.objective.sum()) > 1e-3
    assert shifts.policy[0] == shifts.policy[1]


def test_a_nearly_certain_token_has_precise_shifts_in_float32():
    logits = np.array([[0.0, -14.0, -15.0]])
    with jax.enable_x64(False):
        chosen = jnp.zeros(1, jnp.int32)
        weights = jnp.asarray(np.exp(logits), jnp.float32)
        total = jnp.sum(weights, axis=-1)
        sums = models.other_power_sums(weights, total, chosen)
        distribution = Distribution(-jnp.log1p(total - 1), *sums)
        got = jax.jit(capo.sgd_shifts)(
            jnp.ones(1), distribution, jnp.full(1, 4.0), jnp.float32(0.1)
        )
    probabilities = softmax(logits[0])
    length = np.square(np.eye(3)[0] - probabilities).sum()
    np.testing.assert_allclose(got.policy[0], 0.5 * (0.1 * 4 * length) ** 2, rtol=0.2)
    assert got.policy[0] < 1e-20


# Kept tokens, and how they are counted.


def test_thresholds_are_exclusive_symmetric_and_off_at_infinity():
    shifts = Shifts(jnp.asarray([0.1, 0.2, 0.0, jnp.nan]), jnp.asarray([0.0, 0.1, -0.3, 0.1]))
    assert list(capo.keeps(shifts, Thresholds(0.2, 0.3))) == [True, False, False, True]
    assert list(capo.keeps(shifts, Thresholds(math.inf, 0.3))) == [True, True, False, True]
    assert list(capo.keeps(shifts, Thresholds(0.1, math.inf))) == [False, False, True, True]
    for wrong in (Thresholds(0.0, 1.0), Thresholds(1.0, -1.0), Thresholds(math.nan, 1.0)):
        with pytest.raises(ValueError, match="must be positive"):
            capo.keeps(shifts, wrong)


REDUCTIONS = {
    "token_mean": token_mean,
    "sequence_mean": sequence_mean,
    "constant_length": partial(constant_length, length=5.0),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_kept_tokens_are_counted_as_in_the_official_code(name):
    values = RNG.normal(size=(4, 5))
    where = np.arange(5) < np.array([5, 3, 4, 0])[:, None]
    keep = RNG.random((4, 5)) > 0.4
    keep[1] = False  # a sequence whose tokens are all left out
    mean = capo.over_kept(REDUCTIONS[name], jnp.asarray(keep))(
        jnp.asarray(np.where(where, values, np.nan)), jnp.asarray(where)
    )
    both = where & keep
    sums, counts = np.where(both, values, 0).sum(1), both.sum(1)
    expected = {
        "token_mean": sums.sum() / counts.sum(),
        # Three sequences were sampled; the divisor is max(1, tokens that are kept).
        "sequence_mean": (sums / np.maximum(counts, 1)).sum() / 3,
        "constant_length": (sums / 5).sum() / 3,
    }[name]
    np.testing.assert_allclose(mean.value, expected, rtol=1e-12)
    everything = capo.over_kept(REDUCTIONS[name], jnp.ones((4, 5), bool))
    for with_mask, without in zip(
        everything(jnp.asarray(values), jnp.asarray(where)),
        REDUCTIONS[name](jnp.asarray(values), jnp.asarray(where)),
        strict=True,
    ):
        assert with_mask == without


def test_presets_are_the_papers_thresholds():
    bounds = {name: preset.thresholds for name, preset in capo.PRESETS.items()}
    assert bounds == {
        "capo": Thresholds(1e-4, 1e-2),
        "dr_capo": Thresholds(1e-3, 5e-4),
        "rein_capo": Thresholds(1e-5, 1e-1),
    }
    assert {preset.step for preset in capo.PRESETS.values()} == {"adam"}


# Quantiles.


def test_quantiles_of_added_histograms_are_those_of_all_tokens():
    values = np.exp(RNG.normal(size=(4, 50)) * 3) * RNG.choice([-1, 1], (4, 50))
    where = RNG.random((4, 50)) > 0.3
    padded = np.where(where, values, np.nan)
    histogram = jax.jit(magnitudes.histogram)
    parts = [
        histogram(jnp.asarray(padded[p], jnp.float32), jnp.asarray(where[p]))
        for p in (slice(0, 1), slice(1, 4))
    ]
    quantile = jax.jit(magnitudes.quantile)
    whole = jax.tree.map(lambda a, b: a + b, *parts)
    for share in (0.5, 0.9, 0.99):
        exact = np.quantile(np.abs(values[where]), share, method="inverted_cdf")
        computed = quantile(whole, share)
        np.testing.assert_allclose(computed.value, exact, rtol=0.0611)
        assert computed.count == 1
    nothing = histogram(jnp.zeros((1, 3)), jnp.zeros((1, 3), bool))
    assert quantile(nothing, 0.5) == (0, 0)
    zeros = histogram(jnp.asarray([[0.0, 0.0, 1e30]]), jnp.ones((1, 3), bool))
    assert quantile(zeros, 0.5).value == 0
    assert quantile(zeros, 0.9).value > 1e3
