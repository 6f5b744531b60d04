"""Claims of each paper about its loss, and differences between losses that are easily confused."""

import functools
import math
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_oracles import bernoulli_kl, odds, ragged_batch

from dvaojax import losses
from dvaojax.losses.bernoulli import binary_kl, log_odds
from dvaojax.losses.minpro import smallest_before

pytestmark = pytest.mark.slow


def slopes(loss, log_ratios, advantages, *, logp_old=None, **knobs):
    """Gradient of a loss's total by the tokens of a few sequences without padding."""
    x = jnp.atleast_2d(jnp.asarray(log_ratios, jnp.float32))
    old = jnp.full_like(x, -1.0) if logp_old is None else jnp.atleast_2d(jnp.asarray(logp_old))
    advantages = jnp.asarray(advantages, jnp.float32)
    return compiled(loss, **knobs)(old + x, old, advantages, jnp.ones(x.shape, bool))[0]


def gradient_and_means(loss, batch, **knobs):
    """Gradient of a loss's total by the log-probabilities, and (loss, metrics)."""
    return compiled(loss, **knobs)(*batch)


@functools.cache
def compiled(loss, **knobs):
    """The gradient of a loss, compiled once for each shape."""

    def total(logp, logp_old, advantages, where):
        mean, info = loss(logp, logp_old, advantages, where=where, **knobs)
        return mean.total, (mean, info)

    return jax.jit(jax.grad(total, has_aux=True))


def test_dapo_is_the_clipped_surrogate_with_different_settings():
    batch = ragged_batch(0)
    settings = {"clip_low": 0.2, "clip_high": 0.28, "reduce": losses.token_mean}
    expected = gradient_and_means(losses.clipped_surrogate, batch, **settings)
    chex.assert_trees_all_equal(gradient_and_means(losses.dapo, batch), expected)


def test_the_two_forms_of_gspo_agree_for_one_advantage_per_sequence():
    batch, knobs = ragged_batch(1), {"clip_low": 0.1, "clip_high": 0.1}
    for reduce in (losses.sequence_mean, losses.token_mean):
        whole = gradient_and_means(losses.gspo, batch, reduce=reduce, **knobs)
        token = gradient_and_means(losses.gspo_token, batch, reduce=reduce, **knobs)
        chex.assert_trees_all_close(whole, token, rtol=1e-5, atol=1e-7)


def test_the_two_forms_of_gspo_differ_for_one_advantage_per_token():
    advantages = [[1.0, -1.0, 3.0]]
    whole = slopes(losses.gspo, [0.0, 0.0, 0.0], advantages)
    token = slopes(losses.gspo_token, [0.0, 0.0, 0.0], advantages)
    np.testing.assert_allclose(whole, [[-1 / 3, -1 / 3, -1 / 3]], rtol=1e-6)
    np.testing.assert_allclose(token, [[-1 / 3, 1 / 3, -1.0]], rtol=1e-6)


def test_the_ratio_of_gspo_is_a_geometric_mean_and_at_most_the_arithmetic_one():
    """Invariant 65."""
    batch = ragged_batch(2, shape=(50, 1, 7))
    batch.where[:, :, 0] = True
    # For a negative advantage the ratio has no upper bound, so that the loss equals the ratio.
    loss = jax.jit(partial(losses.gspo, reduce=losses.sequence_mean, clip_low=1.0))
    for b in range(50):
        where = batch.where[b]
        mean, info = loss(batch.logp[b], batch.logp_old[b], -jnp.ones(1), where=where)
        ratios = np.exp((batch.logp[b] - batch.logp_old[b])[where].astype(np.float64))
        np.testing.assert_allclose(mean.value, np.prod(ratios) ** (1 / len(ratios)), rtol=1e-5)
        assert mean.value <= info.ratio.value * (1 + 1e-6)


def test_outlier_token_loses_its_gradient_in_gmpo_and_all_lose_it_in_gspo():
    log_ratios = [0.0, 0.0, 3.0]
    alone = slopes(losses.gmpo, log_ratios, [1.0])[0]
    together = slopes(losses.gspo, log_ratios, [1.0])[0]
    assert alone[2] == 0.0
    np.testing.assert_allclose(alone[:2], -math.exp(0.4 / 3) / 3, rtol=1e-6)
    assert not np.any(together)


def test_cispo_keeps_a_gradient_exactly_where_the_clipped_surrogate_has_none():
    log_ratios, advantages = [[1.0, 0.1, -1.0]] * 2, [1.0, -1.0]
    clipped = slopes(losses.dapo, log_ratios, advantages)
    kept = slopes(losses.cispo, log_ratios, advantages)
    assert np.array_equal(clipped == 0, [[True, False, False], [False, False, True]])
    weights = np.minimum(np.exp(log_ratios), 1.28)
    np.testing.assert_allclose(kept, -np.array([[1.0], [-1.0]]) * weights, rtol=1e-5)


def test_smallest_prefix_ratio_never_grows_and_bounds_the_weight():
    """Invariant 66."""
    batch = ragged_batch(3, shape=(40, 4, 9))
    log_ratio = np.where(batch.where, batch.logp - batch.logp_old, np.nan)
    smallest = np.asarray(smallest_before(jnp.asarray(log_ratio), jnp.asarray(batch.where)))
    exceeded = 0
    for row in np.ndindex(batch.where.shape[:-1]):
        tokens = np.flatnonzero(batch.where[row])
        ratios, prefix = np.exp(log_ratio[row][tokens]), np.exp(smallest[row][tokens])
        if len(tokens):
            assert prefix[0] == 1.0
        assert np.all(np.diff(prefix[1:]) <= 0)
        for t in range(1, len(tokens)):
            np.testing.assert_allclose(prefix[t], ratios[:t].min(), rtol=1e-6)
            if ratios[:t].min() <= 1:
                assert prefix[t] * ratios[t] <= ratios[t]
            exceeded += prefix[t] * ratios[t] > ratios[t]
    assert exceeded > 0


@pytest.mark.parametrize("tau", [0.1, 1.0, 7.0])
def test_the_gate_of_sapo_has_slope_one_and_decays_on_both_sides(tau):
    """Invariant 65; unlike a clip, the gradient decays in both directions."""
    knobs = {"tau_positive": tau, "tau_negative": 2 * tau, "reduce": losses.token_mean}
    log_ratios = np.log([0.5, 0.8, 1.0, 1.2, 1.5])
    for advantage in (1.0, -1.0):
        by_ratio = slopes(losses.sapo, log_ratios, [advantage], **knobs)[0] / np.exp(log_ratios)
        sizes = -advantage * np.asarray(by_ratio)
        assert np.all(np.diff(sizes[:3]) > 0)
        assert np.all(np.diff(sizes[2:]) < 0)
        np.testing.assert_allclose(sizes[2], 1.0, rtol=1e-5)


def test_dppo_stops_a_likely_token_that_falls_and_not_an_unlikely_one_that_doubles():
    def slope(loss, old, new, advantage):
        ratio = math.log(new / old)
        return slopes(loss, [ratio], [advantage], logp_old=jnp.asarray([[math.log(old)]]))[0, 0]

    for dppo in (losses.dppo_tv, losses.dppo_kl):
        assert slope(dppo, 0.99, 0.8, -1.0) == 0.0
        np.testing.assert_allclose(slope(dppo, 0.99, 0.8, 1.0), -0.8 / 0.99, rtol=1e-5)
        np.testing.assert_allclose(slope(dppo, 0.001, 0.002, 1.0), -2.0, rtol=1e-5)
    assert slope(losses.clipped_surrogate, 0.99, 0.8, -1.0) != 0.0
    assert slope(losses.clipped_surrogate, 0.001, 0.002, 1.0) == 0.0


def test_log_odds_and_binary_kl_against_plain_formulas():
    probabilities = [1e-12, 1e-3, 0.3, 0.5, 0.9, 0.999]
    logp = jnp.log(jnp.asarray(probabilities, jnp.float32))
    expected = [odds(p) for p in probabilities]
    np.testing.assert_allclose(log_odds(logp, least=1e-6), expected, rtol=1e-4, atol=1e-6)
    for p, x in zip(probabilities, logp, strict=True):
        divergences = binary_kl(jnp.full_like(logp, x), logp, least=1e-6)
        expected = [bernoulli_kl(p, q) for q in probabilities]
        np.testing.assert_allclose(divergences, expected, rtol=1e-3, atol=1e-6)


def test_log_odds_of_a_certain_token_are_bounded_without_gradient():
    for logp in (0.0, -1e-6):
        value, slope = jax.value_and_grad(partial(log_odds, least=1e-4))(jnp.float32(logp))
        np.testing.assert_allclose(value, -math.log(1e-4), rtol=1e-3)
        assert slope == 0.0


LCO = [losses.lco_mse, losses.lco_lch, losses.lco_kld]


@pytest.mark.parametrize("loss", LCO)
def test_lco_is_convex_in_the_logit_and_smallest_at_the_tilted_policy(loss):
    """Invariant 69: with one token's advantage the optimum is pi_old exp(A / beta), normalised."""
    advantage, beta, logits = 1.3, 0.8, np.array([0.4, -0.3, 1.1])
    grid = np.linspace(-6.0, 6.0, 241)

    def value(logit):
        logp = jax.nn.log_softmax(jnp.asarray([logit, *logits[1:]]))[0].reshape(1, 1)
        old = jax.nn.log_softmax(jnp.asarray(logits))[0].reshape(1, 1)
        where = jnp.ones((1, 1), bool)
        return loss(logp, old, jnp.asarray([advantage]), where=where, beta=beta)[0].value

    with jax.enable_x64(True):
        values = np.asarray(jax.jit(jax.vmap(value))(jnp.asarray(grid)))
        at_optimum = jax.jit(jax.value_and_grad(value))(logits[0] + advantage / beta)
    np.testing.assert_allclose(at_optimum, [0.0, 0.0], atol=1e-12)
    curvature = np.diff(values, 2)
    if loss is losses.lco_kld:  # its curvature is that of softplus
        assert np.all(curvature > 0)
    assert np.all(curvature > -1e-12)
    assert values.min() >= 0


@pytest.mark.parametrize("loss", LCO)
def test_lco_pulls_back_a_token_with_advantage_zero_unlike_a_policy_gradient(loss):
    pull = slopes(loss, [[0.3, -0.3]], [0.0])[0]
    assert pull[0] > 0 > pull[1]
    assert not np.any(slopes(losses.clipped_surrogate, [[0.3, -0.3]], [0.0]))


def test_covariance_losses_select_nothing_in_a_zero_variance_group():
    batch = ragged_batch(4)
    for constant in (0.0, 0.1, 0.7, 1 / 3):
        constant_batch = batch._replace(advantages=np.full_like(batch.advantages, constant))
        for loss, knobs in ((losses.clip_cov, {"cov_low": 0.0}), (losses.kl_cov, {})):
            _, (_, info) = gradient_and_means(loss, constant_batch, **knobs)
            unbounded = gradient_and_means(losses.clipped_surrogate, constant_batch)[1][
                1
            ].clip_fraction
            expected = unbounded.total if loss is losses.clip_cov else 0.0
            assert info.clip_fraction.total == expected


def test_kl_cov_selects_its_share_of_every_group_and_at_least_one():
    batch = ragged_batch(5, shape=(6, 4, 25))
    batch.where[:] = True
    for share, number in ((1e-4, 1), (0.055, 5), (0.2, 20)):
        _, (_, info) = gradient_and_means(losses.kl_cov, batch, share=share)
        assert info.clip_fraction.total == 6 * number


def dropped_tokens(batch, share):
    """The tokens that Clip-Cov drops at ratio 1: those without a gradient."""
    batch = batch._replace(logp=batch.logp_old.copy())
    grad, _ = gradient_and_means(losses.clip_cov, batch, share=share, cov_low=0.05, cov_high=0.6)
    return (np.asarray(grad) == 0) & batch.where


def test_clip_cov_drops_candidates_uniformly_at_random():
    """Not the largest, not the first: all candidates are dropped about equally often."""
    batch = ragged_batch(6, shape=(400, 4, 8))
    batch.where[:] = True
    candidates, dropped = dropped_tokens(batch, 1.0), dropped_tokens(batch, 0.08)
    assert not np.any(dropped & ~candidates)
    num_candidates = candidates.sum(axis=(1, 2))
    assert np.array_equal(dropped.sum(axis=(1, 2)), np.minimum(num_candidates, 2))
    # The rank of a dropped token among the candidates of its group is uniformly distributed.
    ranks = []
    for b in np.flatnonzero(num_candidates >= 5):
        flat = np.flatnonzero(candidates[b])
        ranks += [(np.searchsorted(flat, p) + 0.5) / len(flat) for p in np.flatnonzero(dropped[b])]
    assert len(ranks) > 300
    assert abs(np.mean(ranks) - 0.5) < 4 * math.sqrt(1 / 12 / len(ranks))


def test_random_choice_of_clip_cov_does_not_depend_on_other_groups_or_padding():
    batch = ragged_batch(7, shape=(20, 4, 8))
    whole = dropped_tokens(batch, 0.08)
    half = dropped_tokens(type(batch)(*(leaf[10:] for leaf in batch)), 0.08)
    assert np.array_equal(whole[10:], half)
    assert whole.any()
    wider = type(batch)(*(np.pad(x, [(0, 0), (0, 0), (0, 3)][: x.ndim]) for x in batch))
    assert np.array_equal(dropped_tokens(wider, 0.08)[..., :8], whole)
