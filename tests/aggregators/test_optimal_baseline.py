"""Baselines by gradient norms: limits, the least variance on a policy that can be enumerated."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slowness import slow_but

from dvaojax import aggregators
from dvaojax.aggregators import oblr_po, opo, optimal_token_baseline, rloo
from dvaojax.errors import UserError
from dvaojax.integrations.measured import require_no_norms
from dvaojax.models import logit_gradient_norms

B, G, K, T = 3, 4, 2, 5
WEIGHTS = np.array([0.7, 0.3])
RNG = np.random.default_rng(0)
REWARDS, NORMS = RNG.random((B, G, K)), RNG.random((B, G)) + 0.1


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def test_equal_weights_are_rloo_and_only_ratios_matter():
    same = oblr_po(REWARDS, WEIGHTS, np.full((B, G), 0.3))
    np.testing.assert_allclose(same, rloo(REWARDS, WEIGHTS), atol=1e-12)
    scaled = oblr_po(REWARDS, WEIGHTS, 1e6 * NORMS)
    np.testing.assert_allclose(scaled, oblr_po(REWARDS, WEIGHTS, NORMS), atol=1e-12)


def test_lengths_are_opo_without_the_own_reward():
    lengths = RNG.integers(1, 50, (B, G))
    advantages = np.asarray(oblr_po(REWARDS, WEIGHTS, lengths))
    for b, g in np.ndindex(B, G):
        others = np.arange(G) != g
        # OPO's baseline of the others is the reward minus the advantage of any of them.
        rest = np.asarray(opo(REWARDS[b, others], WEIGHTS, lengths[b, others]))
        baseline = (REWARDS[b, others] @ WEIGHTS - rest)[0]
        np.testing.assert_allclose(advantages[b, g], REWARDS[b, g] @ WEIGHTS - baseline, atol=1e-12)


def test_baseline_does_not_depend_on_the_own_reward_and_weight():
    by_reward, by_norm = jax.jit(jax.jacobian(lambda r, n: oblr_po(r, WEIGHTS, n), (0, 1)))(
        jnp.asarray(REWARDS), jnp.asarray(NORMS)
    )
    for i in np.ndindex(B, G):
        np.testing.assert_allclose(by_reward[*i, *i], WEIGHTS, atol=1e-12)
        assert by_norm[*i, *i] == 0


def test_without_weight_of_others_the_advantage_is_zero():
    norms = np.zeros((B, G))
    norms[:, 0] = 2.0
    advantages = np.asarray(oblr_po(REWARDS, WEIGHTS, norms))
    np.testing.assert_array_equal(advantages[:, 0], 0)
    expected = (REWARDS[:, 1:] - REWARDS[:, :1]) @ WEIGHTS
    np.testing.assert_allclose(advantages[:, 1:], expected, atol=1e-12)


def test_missing_norms_are_named():
    method = aggregators.make("oblr_po", WEIGHTS)
    assert method.needs == ("gradient_weights",)
    with pytest.raises(ValueError, match="oblr_po needs the squared gradient norms"):
        method.update(jnp.asarray(REWARDS), None, (), None)
    with pytest.raises(AssertionError, match=r"gradient_weights has shape \[3\]"):
        oblr_po(REWARDS, WEIGHTS, NORMS[:, 0])


def test_trainers_that_compute_no_norms_refuse_the_method():
    for name in ("oblr_po", "optimal_token_baseline"):
        with pytest.raises(UserError, match=rf"{name} needs the squared gradient norms .*: opo "):
            require_no_norms(name, aggregators.make(name, WEIGHTS))
    require_no_norms("opo", aggregators.make("opo", WEIGHTS))


# The variance of the gradient of a policy whose completions can be enumerated.


def enumerated():
    """Probabilities, rewards, scores and squared norms of all completions of a small policy."""
    logits = np.random.default_rng(1).normal(size=(3, 2, 3)) * 2.0  # position, last token, token
    completions = np.array(list(np.ndindex(3, 3, 3)))

    def logprob(table, tokens):
        rows = jax.nn.log_softmax(table)
        return rows[0, 0, tokens[0]] + sum(
            rows[t, jnp.minimum(tokens[t - 1], 1), tokens[t]] for t in (1, 2)
        )

    table = jnp.asarray(logits)
    values = jax.vmap(logprob, (None, 0))(table, completions)
    scores = jax.vmap(jax.grad(logprob), (None, 0))(table, completions.astype(np.int32))
    scores = np.asarray(scores).reshape(len(completions), -1)
    probability = np.exp(values)
    probability /= probability.sum()
    rewards = (probability >= np.median(probability)).astype(float)
    return probability, rewards, scores, np.square(scores).sum(1)


def estimates(groups, size):
    """Name -> gradient estimates `[groups, parameters]`, and the gradient."""
    probability, rewards, scores, norms = enumerated()
    drawn = np.random.default_rng(2).choice(len(rewards), (groups, size), p=probability)
    one = np.ones(1)
    advantages = {
        "none": rewards[drawn],
        "rloo": rloo(rewards[drawn][..., None], one),
        "oblr_po": oblr_po(rewards[drawn][..., None], one, norms[drawn]),
    }
    means = {n: np.einsum("bg,bgp->bp", a, scores[drawn]) / size for n, a in advantages.items()}
    return means, (probability * rewards) @ scores


@pytest.mark.slow
@pytest.mark.parametrize(("size", "is_better"), [(64, True), (4, False)])
def test_gradient_is_unbiased_and_the_variance_smaller_in_large_groups(size, is_better):
    """The weighted mean of few rewards is noisier than the plain one."""
    means, gradient = estimates(80_000 // size, size)
    squares = {name: np.square(values - gradient).sum(1) for name, values in means.items()}
    for values in means.values():
        error = values.std(0) / math.sqrt(len(values))
        assert np.all(np.abs(values.mean(0) - gradient) <= 5 * error + 1e-12)
    gain = squares["rloo"] - squares["oblr_po"]
    error = gain.std() / math.sqrt(len(gain))
    assert (1 if is_better else -1) * gain.mean() > 3 * error
    assert squares["rloo"].mean() < squares["none"].mean()


def test_baseline_of_infinitely_many_others_is_the_minimum():
    """The trace of the variance of (r - b) s is least at E[r |s|^2] / E[|s|^2]."""
    probability, rewards, scores, norms = enumerated()
    best = (probability * rewards * norms).sum() / (probability * norms).sum()

    def trace(baseline):
        samples = (rewards - baseline)[:, None] * scores
        mean = probability @ samples
        return (probability * np.square(samples - mean).sum(1)).sum()

    assert all(trace(best) < trace(best + step) for step in (-0.05, -0.01, 0.01, 0.05))
    assert trace(best) < trace((probability * rewards).sum())


# Squared norms by the logits.


@pytest.mark.parametrize("chunk_size", slow_but([4], [1, 4, 100]))
def test_norms_by_the_logits_are_those_of_the_gradient(chunk_size):
    hidden, matrix = RNG.normal(size=(2, 7, 6)), RNG.normal(size=(6, 11))
    tokens, temperature = RNG.integers(0, 11, (2, 7)), 0.7

    def logprob(logits, token):
        return jax.nn.log_softmax(logits)[token]

    norms, logprobs = logit_gradient_norms(
        jnp.asarray(hidden),
        jnp.asarray(matrix),
        jnp.asarray(tokens),
        temperature=temperature,
        chunk_size=chunk_size,
    )
    for i in np.ndindex(tokens.shape):
        logits = jnp.asarray(hidden[i] @ matrix / temperature)
        gradient = jax.grad(logprob)(logits, tokens[i])
        np.testing.assert_allclose(norms[i], np.square(gradient).sum(), rtol=1e-9)
        np.testing.assert_allclose(logprobs[i], logprob(logits, tokens[i]), rtol=1e-9)


def test_norm_of_a_certain_token_is_zero_and_of_a_surprising_one_two():
    hidden = jnp.asarray([[[40.0], [40.0]]])
    matrix = jnp.asarray([[1.0, 0.0, 0.0]])
    norms, _ = logit_gradient_norms(hidden, matrix, jnp.asarray([[0, 1]]))
    np.testing.assert_allclose(norms, [[0, 2]], atol=1e-12)


# verl's baseline for each token.


def token_loop(rewards, weights, norms, where, mask):
    out = np.zeros(where.shape)
    for b, g, t in np.argwhere(where):
        for k in np.flatnonzero(mask[b, g]):
            present = [j for j in range(where.shape[1]) if where[b, j, t] and mask[b, j, k]]
            counts = [sum(norms[b, j, s] for s in range(t + 1) if where[b, j, s]) for j in present]
            total = sum(n * rewards[b, j, k] for n, j in zip(counts, present, strict=True))
            out[b, g, t] += weights[k] * (rewards[b, g, k] - total / sum(counts))
    return out


def token_batch(size):
    """Norms and tokens of completions of different lengths, with tool output inside; a mask."""
    rng = np.random.default_rng(size)
    where = np.arange(T) < rng.integers(1, T + 1, (B, size, 1))
    where[..., 2] = False
    norms = np.where(where, rng.random((B, size, T)) + 0.1, np.nan)
    mask = rng.random((B, size, K)) < 0.8
    mask[0, -1] = False
    return norms, where, mask


@pytest.mark.parametrize("size", [G, 1])
def test_token_baseline_against_a_loop(size):
    rewards = REWARDS[:, :size]
    norms, where, mask = token_batch(size)
    for scored in (np.ones_like(mask), mask):
        poisoned = np.where(scored, rewards, np.nan)
        advantages = optimal_token_baseline(poisoned, WEIGHTS, norms, where, mask=scored)
        expected = token_loop(rewards, WEIGHTS, norms, where, scored)
        np.testing.assert_allclose(advantages, expected, atol=1e-12)
        assert size == 1 or np.abs(expected).max() > 0.1


def test_token_baseline_is_that_of_verl_for_one_objective():
    """`sum_i R_i W_it / (sum_i W_it + 1e-8)` at each position, W the running sum of the norms."""
    norms, where, _ = token_batch(G)
    advantages = optimal_token_baseline(REWARDS[..., :1], np.ones(1), norms, where)
    running = np.cumsum(np.where(where, norms, 0), axis=-1) * where
    returns = REWARDS[..., :1] * where
    baseline = (returns * running).sum(1) / (running.sum(1) + 1e-8)
    expected = (returns - baseline[:, None]) * where
    np.testing.assert_allclose(advantages, expected, atol=1e-6)


def test_token_baseline_in_its_limits():
    where = np.ones((B, G, T), bool)
    norms = RNG.random((B, G, T)) + 0.1
    constant = optimal_token_baseline(np.full((B, G, K), 0.7), WEIGHTS, norms, where)
    np.testing.assert_array_equal(constant, 0)
    expected = np.asarray(aggregators.dr_grpo(REWARDS, WEIGHTS))[..., None]
    for same in (np.ones((B, G, T)), np.zeros((B, G, T))):
        equal = optimal_token_baseline(REWARDS, WEIGHTS, same, where)
        np.testing.assert_allclose(equal, np.broadcast_to(expected, (B, G, T)), atol=1e-12)
    lengths = RNG.integers(1, 50, (B, G))
    single = optimal_token_baseline(REWARDS, WEIGHTS, lengths[..., None], where[..., :1])
    np.testing.assert_allclose(single[..., 0], opo(REWARDS, WEIGHTS, lengths), atol=1e-12)
    scaled = optimal_token_baseline(REWARDS, WEIGHTS, 1e6 * norms, where)
    unscaled = optimal_token_baseline(REWARDS, WEIGHTS, norms, where)
    np.testing.assert_allclose(scaled, unscaled, atol=1e-12)


def test_token_baseline_has_the_least_variance_of_a_token():
    """At the last position the weighted mean is the least squares fit with the norms as weights."""
    where = np.ones((B, G, T), bool)
    norms = RNG.random((B, G, T)) + 0.1
    last = np.asarray(optimal_token_baseline(REWARDS, WEIGHTS, norms, where))[..., -1]
    weights = norms.sum(-1)

    def loss(shift):
        return (weights * np.square(last + shift)).sum(1)

    assert all(np.all(loss(0) < loss(shift)) for shift in (-0.1, -0.01, 0.01, 0.1))


def test_token_baseline_refuses_arrays_of_other_shapes():
    norms, where, _ = token_batch(G)
    with pytest.raises(AssertionError, match=r"token_gradient_weights has shape \[4, 5\]"):
        optimal_token_baseline(REWARDS, WEIGHTS, norms[0], where)
    with pytest.raises(AssertionError, match=r"where has shape \[3, 4, 4\]"):
        optimal_token_baseline(REWARDS, WEIGHTS, norms, where[..., 1:])
    method = aggregators.make("optimal_token_baseline", WEIGHTS)
    assert method.is_per_token
    with pytest.raises(ValueError, match="needs the squared gradient norms of the tokens"):
        method.update(jnp.asarray(REWARDS), None, (), None)
