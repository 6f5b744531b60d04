"""Truncated importance weights against loops, and their combination with losses."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_oracles import POISONS, REDUCTIONS, poisoned, ragged_batch

from dvaojax import losses


def batch_with_sampler():
    """A ragged batch, and log-probabilities of a sampler that is neither of its two policies."""
    batch = ragged_batch(0)
    noise = np.random.default_rng(1).normal(0.0, 0.6, batch.logp.shape)
    return batch, (batch.logp_old + noise).astype(np.float32)


def test_weights_against_a_loop():
    batch, sampler = batch_with_sampler()
    weights = losses.truncated_importance_weights(
        batch.logp_old, sampler, where=batch.where, cap=1.5
    )
    for i in np.ndindex(batch.where.shape):
        ratio = np.exp(np.float64(batch.logp_old[i]) - np.float64(sampler[i]))
        expected = min(ratio, 1.5) if batch.where[i] else 1.0
        np.testing.assert_allclose(weights[i], expected, rtol=1e-5)
    assert 0 < np.mean(weights == np.float32(1.5)) < 1


@pytest.mark.parametrize("name", sorted(REDUCTIONS))
def test_weighted_reduction_weights_terms_and_counts_tokens(name):
    batch, sampler = batch_with_sampler()
    weights = losses.truncated_importance_weights(batch.logp_old, sampler, where=batch.where)
    reduce = REDUCTIONS[name]
    mean = losses.weighted(reduce, weights)(batch.logp, batch.where)
    assert mean.total != reduce(batch.logp, batch.where).total
    chex.assert_trees_all_close(mean, reduce(weights * batch.logp, batch.where), rtol=1e-6)
    assert mean.count == reduce(batch.logp, batch.where).count


@pytest.mark.parametrize("name", ["clipped_surrogate", "cispo", "gspo", "lco_mse"])
def test_a_weight_of_one_changes_nothing(name):
    batch, _ = batch_with_sampler()
    ones = losses.truncated_importance_weights(batch.logp_old, batch.logp_old, where=batch.where)
    loss = losses.BY_NAME[name]
    plain = loss(*batch[:3], where=batch.where)
    weighted = losses.weighted(losses.reduction_of(loss), ones)
    chex.assert_trees_all_equal(loss(*batch[:3], where=batch.where, reduce=weighted), plain)


def test_weight_times_ratio_is_the_ratio_to_the_sampler():
    """Without clip and cap, both denominators give the same loss."""
    batch, sampler = batch_with_sampler()
    open_clip = {"clip_low": 1.0, "clip_high": 1e9}
    weights = losses.truncated_importance_weights(
        batch.logp_old, sampler, where=batch.where, cap=1e9
    )

    def with_weight(logp):
        reduce = losses.weighted(losses.token_mean, weights)
        return losses.clipped_surrogate(
            logp, batch.logp_old, batch.advantages, where=batch.where, reduce=reduce, **open_clip
        )[0].value

    def to_sampler(logp):
        return losses.clipped_surrogate(
            logp, sampler, batch.advantages, where=batch.where, **open_clip
        )[0].value

    chex.assert_trees_all_close(
        jax.value_and_grad(with_weight)(batch.logp),
        jax.value_and_grad(to_sampler)(batch.logp),
        rtol=1e-4,
        atol=1e-6,
    )


def test_weighted_mean_over_samples_of_one_policy_is_the_mean_of_the_other():
    rng = np.random.default_rng(2)
    mu, old, values = rng.dirichlet(np.ones(5)), rng.dirichlet(np.ones(5) * 9), rng.normal(size=5)
    logs = [jnp.log(jnp.asarray(p, jnp.float32))[None] for p in (old, mu)]
    weights = losses.truncated_importance_weights(*logs, where=jnp.ones((1, 5), bool), cap=1e9)
    np.testing.assert_allclose((mu * weights[0] * values).sum(), (old * values).sum(), rtol=1e-5)


def test_padding_is_ignored_and_no_gradient_reaches_the_weights():
    batch, sampler = batch_with_sampler()

    def total(logp_old, sampler):
        weights = losses.truncated_importance_weights(logp_old, sampler, where=batch.where)
        return losses.weighted(losses.token_mean, weights)(batch.logp, batch.where).total

    clean = total(batch.logp_old, sampler)
    for poison in POISONS:
        dirty = [poisoned(x, batch.where, poison) for x in (batch.logp_old, sampler)]
        assert total(*dirty) == clean
    for grad in jax.grad(total, (0, 1))(batch.logp_old, sampler):
        assert not np.any(grad)


@pytest.mark.parametrize("cap", [0.0, 0.9, float("nan")])
def test_rejects_caps_below_one(cap):
    ones = jnp.ones((1, 1))
    with pytest.raises(ValueError, match="cap="):
        losses.truncated_importance_weights(ones, ones, where=ones > 0, cap=cap)
