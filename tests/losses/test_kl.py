"""KL estimators against loops, and the divergence that each gradient descends."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_oracles import POISONS, REDUCTIONS, poisoned, ragged_batch, reduced

from dvaojax import losses

LOOPS = {
    "k1": lambda d: d,
    "k2": lambda d: d * d / 2.0,
    "k3": lambda d: np.exp(-d) + d - 1.0,
}
DIVERGENCE_OF_GRADIENT = {"k1": None, "k2": "reverse", "k3": "forward"}
LOGITS = np.random.default_rng(0).normal(0.0, 0.7, (2, 9))


def reverse_kl(logits, reference):
    log_pi, log_ref = jax.nn.log_softmax(logits), jax.nn.log_softmax(reference)
    return jnp.sum(jnp.exp(log_pi) * (log_pi - log_ref))


def expected(estimator, logits, reference):
    """The mean over every token, weighted by how often the policy samples it."""
    log_pi = jax.nn.log_softmax(logits)
    values = estimator(log_pi, jax.nn.log_softmax(reference))
    return jnp.sum(jax.lax.stop_gradient(jnp.exp(log_pi)) * values)


@pytest.fixture(params=sorted(losses.KL_ESTIMATORS))
def name(request):
    return request.param


@pytest.fixture
def estimator(name):
    return losses.KL_ESTIMATORS[name]


def test_against_a_loop(name, estimator):
    rng = np.random.default_rng(1)
    logp, reference = -rng.exponential(1.0, (2, 200))
    with jax.enable_x64(True):
        values = estimator(jnp.asarray(logp), jnp.asarray(reference))
    loop = [LOOPS[name](a - b) for a, b in zip(logp, reference, strict=True)]
    np.testing.assert_allclose(values, loop, rtol=1e-9, atol=1e-14)


def test_k1_and_k3_are_unbiased_and_k2_is_not():
    with jax.enable_x64(True):
        logits, reference = jnp.asarray(LOGITS)
        divergence = reverse_kl(logits, reference)
        np.testing.assert_allclose(expected(losses.k1, logits, reference), divergence, rtol=1e-12)
        np.testing.assert_allclose(expected(losses.k3, logits, reference), divergence, rtol=1e-12)
        assert abs(expected(losses.k2, logits, reference) - divergence) > 1e-4 * divergence


def test_divergence_whose_gradient_each_estimator_follows(name, estimator):
    with jax.enable_x64(True):
        logits, reference = jnp.asarray(LOGITS)
        gradient = jax.grad(lambda x: expected(estimator, x, reference))(logits)
        descended = {
            None: jnp.zeros_like(logits),
            "reverse": jax.grad(lambda x: reverse_kl(x, reference))(logits),
            "forward": jax.grad(lambda x: reverse_kl(reference, x))(logits),
        }
    right = DIVERGENCE_OF_GRADIENT[name]
    np.testing.assert_allclose(gradient, descended.pop(right), rtol=1e-10, atol=1e-14)
    for wrong in descended.values():
        assert not np.allclose(gradient, wrong, rtol=1e-3, atol=1e-6)


def test_k2_and_k3_are_zero_for_equal_policies_and_never_negative():
    rng = np.random.default_rng(2)
    logp = -jnp.asarray(rng.exponential(2.0, 1000), jnp.float32)
    reference = logp + jnp.asarray(rng.normal(0.0, 1.0, 1000), jnp.float32)
    for estimator in (losses.k2, losses.k3):
        chex.assert_trees_all_equal(estimator(logp, logp), jnp.zeros(1000))
        assert jnp.min(estimator(logp, reference)) >= -1e-7


def test_k3_stops_growing_instead_of_overflowing():
    value_and_grad = jax.value_and_grad(losses.k3)
    value, grad = value_and_grad(jnp.float32(-500.0), jnp.float32(0.0))
    assert jnp.isfinite(value)
    assert grad == 0.0
    # In the other direction the gradient towards the reference remains.
    value, grad = value_and_grad(jnp.float32(0.0), jnp.float32(-500.0))
    np.testing.assert_allclose([value, grad], [499.0, 1.0], rtol=1e-6)


def test_the_penalty_against_a_loop(name, estimator, transform):
    batch = ragged_batch(0)
    means = transform(
        lambda a, b: {
            reduction: losses.kl_penalty(
                a, b, where=batch.where, estimator=estimator, reduce=reduce
            )
            for reduction, reduce in REDUCTIONS.items()
        }
    )(batch.logp, batch.logp_old)
    for reduction, mean in means.items():
        total, count = reduced(
            reduction,
            lambda i: LOOPS[name](float(batch.logp[i]) - float(batch.logp_old[i])),
            batch.where,
        )
        np.testing.assert_allclose(mean.total, total, rtol=1e-4, atol=1e-6)
        assert mean.count == count


def test_the_penalty_sends_no_gradient_to_the_reference(estimator):
    batch = ragged_batch(1)
    grads = jax.grad(
        lambda a, b: losses.kl_penalty(a, b, where=batch.where, estimator=estimator).value, (0, 1)
    )(batch.logp, batch.logp_old)
    assert jnp.any(grads[0] != 0.0)
    chex.assert_trees_all_equal(grads[1], jnp.zeros_like(grads[1]))


def test_values_in_padding_are_ignored(estimator, transform):
    batch = ragged_batch(2)
    value_and_grad = transform(
        jax.value_and_grad(
            lambda a, b: losses.kl_penalty(a, b, where=batch.where, estimator=estimator).value
        )
    )
    clean = value_and_grad(batch.logp, batch.logp_old)
    assert np.isfinite(clean[1]).all()
    for poison in POISONS:
        dirty = [poisoned(x, batch.where, poison) for x in (batch.logp, batch.logp_old)]
        chex.assert_trees_all_equal(value_and_grad(*dirty), clean)
