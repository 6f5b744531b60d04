"""Tests of every loss: loops, finite differences, homogeneity, padding, limits, settings."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_loss import NAMES, loss_results, small_batch
from loss_oracles import (
    KNOBS,
    LOOPS,
    POISONS,
    REDUCTIONS,
    LossInputs,
    inputs_of,
    loop_of,
    poisoned,
    reduced,
    slopes_of_loop,
)

from dvaojax import losses

WITHOUT_BOUND = {"sapo", "lco_mse", "lco_lch", "lco_kld"}
# Losses that are homogeneous only in the advantages and these knobs together.
SCALED_TOGETHER = {
    "clip_cov": ("cov_low", "cov_high"),
    "kl_cov": ("kl_coefficient",),
    "lco_mse": ("beta",),
    "lco_lch": ("beta",),
    "lco_kld": ("beta",),
}


@pytest.fixture(scope="module")
def results():
    """Results of every loss in float32, compiled once for each shape."""
    return loss_results()


@pytest.fixture(scope="module")
def single(results):
    return jax.device_get(results(small_batch()))


@pytest.fixture(scope="module")
def in_double():
    """Results of every loss in float64."""
    function = loss_results()

    def results(batch):
        with jax.enable_x64(True):
            return jax.device_get(function(jax.tree.map(jnp.asarray, batch)))

    return results


@pytest.fixture(scope="module")
def double(in_double):
    return in_double(small_batch(dtype=np.float64))


def test_every_loss_has_an_oracle():
    assert losses.BY_NAME.keys() == LOOPS.keys() == KNOBS.keys()
    assert all(losses.BY_NAME[name].__name__ == name for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_value_and_metrics_against_a_loop(name, double, single):
    batch = small_batch(dtype=np.float64)
    terms = loop_of(name, batch, **KNOBS[name])
    for reduction in REDUCTIONS:
        total, count = reduced(reduction, lambda i: terms[i][0], batch.where)
        np.testing.assert_allclose(double[name].means[reduction].total, total, rtol=1e-9)
        np.testing.assert_allclose(single[name].means[reduction].total, total, rtol=2e-5)
        assert double[name].means[reduction].count == count
    bounded = [is_bounded for _, is_bounded in terms.values()]
    if name not in WITHOUT_BOUND:
        assert 0 < sum(bounded) < len(bounded)
    differences = (batch.logp - batch.logp_old)[batch.where]
    for info in (double[name].info, single[name].info):
        np.testing.assert_allclose(info.clip_fraction.value, np.mean(bounded), rtol=1e-6)
        np.testing.assert_allclose(info.ratio.value, np.exp(differences).mean(), rtol=1e-5)
        divergence = (np.exp(differences) - 1 - differences).mean()
        np.testing.assert_allclose(info.approximate_kl.value, divergence, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_against_finite_differences_of_the_loop(name, double, single):
    slopes = slopes_of_loop(name, small_batch(dtype=np.float64), "sequence_mean", **KNOBS[name])
    assert np.abs(slopes).max() > 0.1
    np.testing.assert_allclose(double[name].slopes[0], slopes, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(single[name].slopes[0], slopes, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_only_reach_the_policy(name, single):
    assert np.any(single[name].slopes[0])
    assert not np.any(single[name].slopes[1])
    assert not np.any(single[name].slopes[2])


def test_at_ratio_one_the_slope_is_minus_the_advantage(in_double):
    batch = small_batch(dtype=np.float64)
    batch = batch._replace(logp=batch.logp_old.copy())
    results = in_double(batch)
    share = np.where(batch.where, 1 / np.maximum(batch.where.sum(-1, keepdims=True), 1), 0)
    advantages = np.broadcast_to(batch.advantages[..., None], share.shape)
    probability = np.exp(batch.logp)
    dropped = np.zeros(share.shape)
    for i, (_, is_dropped) in loop_of("clip_cov", batch, **KNOBS["clip_cov"]).items():
        dropped[i] = is_dropped
    assert 0 < dropped.sum() < batch.where.sum()
    beta = KNOBS["lco_kld"]["beta"]
    optimum = 1 / (1 + (1 / probability - 1) * np.exp(-advantages / beta))
    expected = dict.fromkeys(NAMES, -advantages) | {
        "clip_cov": -advantages * (1 - dropped),
        # The derivative by the log-odds divided by 1 - p.
        "lco_mse": -advantages / (1 - probability),
        "lco_lch": -beta * np.tanh(advantages / beta) / (1 - probability),
        "lco_kld": beta * (probability - optimum) / (1 - probability),
    }
    for name in ("dynamo", "dynamo_code"):  # minus the modulated advantage, the term itself
        expected[name] = np.zeros(share.shape)
        for i, (term, _) in loop_of(name, batch, **KNOBS[name]).items():
            expected[name][i] = term
    for name in NAMES:
        slopes = results[name].slopes[0]
        np.testing.assert_allclose(slopes, share * expected[name], rtol=1e-9, atol=1e-12)


def test_scaling_the_advantages_scales_loss_and_gradient(single):
    """Invariant 65. Knobs with the unit of the advantage are scaled too."""
    factor = 3.0
    knobs = {
        name: {k: v * factor if k in SCALED_TOGETHER.get(name, ()) else v for k, v in own.items()}
        for name, own in KNOBS.items()
    }
    batch = small_batch()
    scaled = loss_results(knobs)(batch._replace(advantages=np.float32(factor) * batch.advantages))
    for name in NAMES:
        usual = single[name]
        for reduction, mean in scaled[name].means.items():
            expected = factor * usual.means[reduction].total
            np.testing.assert_allclose(mean.total, expected, rtol=1e-4, err_msg=name)
        grad = factor * usual.slopes[0]
        np.testing.assert_allclose(scaled[name].slopes[0], grad, rtol=1e-3, atol=1e-5, err_msg=name)
        chex.assert_trees_all_close(scaled[name].info, usual.info, rtol=1e-6)


def test_which_losses_are_homogeneous_in_the_advantages_only(results, single):
    batch = small_batch()
    scaled = results(batch._replace(advantages=np.float32(3.0) * batch.advantages))
    for name in NAMES:
        totals = [r[name].means["token_mean"].total for r in (single, scaled)]
        is_scaled = np.isclose(3 * totals[0], totals[1], rtol=1e-4)
        assert is_scaled == (name not in SCALED_TOGETHER), name


def test_values_in_padding_are_ignored(results, single):
    batch = small_batch()
    empty = ~batch.where.any(axis=-1)
    assert empty.any()
    for poison in POISONS:
        dirty = batch._replace(
            logp=poisoned(batch.logp, batch.where, poison),
            logp_old=poisoned(batch.logp_old, batch.where, poison),
            advantages=poisoned(batch.advantages, ~empty, poison),
        )
        for name, result in jax.device_get(results(dirty)).items():
            chex.assert_trees_all_equal(result.means, single[name].means)
            chex.assert_trees_all_equal(result.info, single[name].info)
            chex.assert_trees_all_equal(result.slopes[0], single[name].slopes[0])


@pytest.mark.slow
def test_wider_padding_and_one_advantage_per_token_change_nothing(single):
    batch = small_batch()
    spread = np.broadcast_to(batch.advantages[..., None], batch.logp.shape)
    batch = batch._replace(advantages=spread)
    wider = type(batch)(*(np.pad(leaf, ((0, 0), (0, 0), (0, 5))) for leaf in batch))
    for name, result in loss_results()(wider).items():
        chex.assert_trees_all_close(result.means, single[name].means, rtol=1e-5)
        chex.assert_trees_all_close(result.info, single[name].info, rtol=1e-5)
        slopes = result.slopes[0]
        np.testing.assert_allclose(slopes[..., :6], single[name].slopes[0], rtol=1e-4, atol=1e-6)
        assert not np.any(slopes[..., 6:])


def test_a_batch_without_a_token_gives_zero_and_zero_gradient(results):
    batch = small_batch()
    for name, result in results(batch._replace(where=np.zeros_like(batch.where))).items():
        for mean in (*result.means.values(), *result.info):
            assert mean.total == mean.count == mean.value == 0.0, name
        assert not np.any(result.slopes[0]), name


def test_nan_on_a_sampled_token_is_not_hidden(results):
    batch = small_batch()
    logp = batch.logp.copy()
    logp[0, 0, 2] = np.nan
    for name, result in results(batch._replace(logp=logp)).items():
        assert np.isnan(result.means["token_mean"].total), name


@pytest.mark.parametrize("logp", [0.0, -1e-9, -1e-3, -80.0, -1e4])
@pytest.mark.parametrize("logp_old", [0.0, -1.0, -1e4])
def test_certain_and_impossible_tokens_give_finite_loss_and_gradient(results, logp, logp_old):
    batch = small_batch()
    logps = [np.where(batch.where, x, 0).astype(np.float32) for x in (batch.logp, batch.logp_old)]
    logps[0][0, 0, :3], logps[1][0, 0, :3] = logp, logp_old
    for name, result in results(batch._replace(logp=logps[0], logp_old=logps[1])).items():
        assert np.isfinite(result.means["token_mean"].total), name
        assert np.all(np.isfinite(result.slopes[0])), name


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        *((name, {"clip_low": -0.1}) for name in ("dapo", "gspo", "gspo_token", "gmpo", "cispo")),
        *((name, {"clip_low": 1.1}) for name in ("dapo", "gspo", "minpro", "clip_cov", "dynamo")),
        *((name, {"least": 0.0}) for name in ("dynamo", "dynamo_code")),
        ("dynamo", {"most": 0.9}),
        *((name, {"clip_high": math.nan}) for name in ("gspo_token", "gmpo", "cispo", "minpro")),
        ("sapo", {"tau_positive": 0.0}),
        ("sapo", {"tau_negative": math.inf}),
        ("dppo_tv", {"delta_low": 0.0}),
        ("dppo_kl", {"delta_high": math.nan}),
        ("dppo_tv", {"ratio_cap": 0.9}),
        ("clip_cov", {"share": 0.0}),
        ("clip_cov", {"cov_low": 5.0}),
        ("clip_cov", {"cov_low": -1.0}),
        ("kl_cov", {"share": 1.5}),
        ("kl_cov", {"kl_coefficient": -1.0}),
        ("kl_cov", {"kl_coefficient": math.inf}),
        *((name, {"beta": 0.0}) for name in ("lco_mse", "lco_lch", "lco_kld")),
    ],
)
def test_rejects_knobs_out_of_range(name, knobs):
    zeros = jnp.zeros((1, 1, 1))
    batch = LossInputs(zeros, zeros, zeros, zeros == 0)
    with pytest.raises(ValueError, match=next(iter(knobs))):
        losses.BY_NAME[name](*batch[:3], where=batch.where, **inputs_of(name, batch), **knobs)


@pytest.mark.parametrize("name", NAMES)
def test_every_knob_changes_the_loss(name):
    """Trap 17: an option that is ignored."""
    batch, loss = small_batch(1, shape=(8, 4, 6)), losses.BY_NAME[name]
    changes = {"dual_clip": 1.2, "ratio_cap": 1.1, "share": 0.05, "cov_low": 0.4, "most": 1.1}
    inputs = inputs_of(name, batch)

    @jax.jit
    def values():
        def value(**knobs):
            settings = {**inputs, **KNOBS[name], **knobs}
            return loss(*batch[:3], where=batch.where, **settings)[0].value

        known = {**losses.knobs_of(loss), **KNOBS[name]}
        changed = {k: value(**{k: changes.get(k, known[k] / 2)}) for k in known}
        return value(), changed

    usual, changed = values()
    assert changed.keys() == losses.knobs_of(loss).keys()
    for knob, value in changed.items():
        assert abs(value - usual) > 1e-4, knob


def test_knobs_and_reductions_are_read_from_the_signatures():
    assert losses.knobs_of(losses.gmpo) == {"clip_low": 0.4, "clip_high": 0.4}
    by_sequence = {
        n for n in NAMES if losses.reduction_of(losses.BY_NAME[n]) is losses.sequence_mean
    }
    assert by_sequence == {"gspo", "gspo_token", "gmpo", "sapo"}
    assert losses.read_knobs(losses.sapo, ["tau_negative=2"], name="sapo") == {"tau_negative": 2.0}
