"""The clipped surrogate: its branches, bounds and errors; see also `test_every_loss.py`."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_oracles import REDUCTIONS, ragged_batch, reduced, surrogate_term

from dvaojax.losses import clipped_surrogate, methods

KNOBS = [
    {},
    {"clip_low": 0.2, "clip_high": 0.28},
    {"clip_low": 0.0, "clip_high": 0.0},
    {"clip_low": 1.0, "clip_high": 5.0},
    {"clip_low": 0.1, "clip_high": 0.3, "dual_clip": 1.5},
]


def one_token(log_ratio, advantage, **knobs):
    """The loss of a single token."""
    shape = (1, 1)
    logp = jnp.reshape(log_ratio, shape)
    advantages = jnp.full(1, advantage, logp.dtype)
    where = jnp.ones(shape, bool)
    loss, _ = clipped_surrogate(logp, jnp.zeros_like(logp), advantages, where=where, **knobs)
    return loss.value


slope_of_one_token = jax.jit(
    jax.grad(one_token), static_argnames=("clip_low", "clip_high", "dual_clip")
)


@pytest.mark.parametrize("knobs", KNOBS)
def test_against_a_loop(knobs, transform):
    def loss(logp, logp_old, advantages, where):
        return {
            name: clipped_surrogate(logp, logp_old, advantages, where=where, reduce=r, **knobs)[0]
            for name, r in REDUCTIONS.items()
        }

    batch = ragged_batch(0, dtype=np.float64)
    with jax.enable_x64(True):
        double = jax.device_get(transform(loss)(*map(jnp.asarray, batch)))
    single = jax.device_get(transform(loss)(*ragged_batch(0)))
    for name in REDUCTIONS:
        total, count = reduced(
            name,
            lambda i: surrogate_term(
                batch.logp[i] - batch.logp_old[i], batch.advantages[i[:-1]], **knobs
            ),
            batch.where,
        )
        assert double[name].total.dtype == np.float64
        np.testing.assert_allclose(double[name].total, total, rtol=1e-12)
        np.testing.assert_allclose(single[name].total, total, rtol=1e-5)
        assert double[name].count == single[name].count == count


@pytest.mark.parametrize(
    ("ratio", "advantage", "is_flat"),
    [
        (1.0, 2.0, False),
        (1.0, -2.0, False),
        (1.19, 2.0, False),
        (1.21, 2.0, True),
        (0.5, 2.0, False),
        (0.81, -2.0, False),
        (0.79, -2.0, True),
        (1.5, -2.0, False),
        (2.9, -2.0, False),
        (3.1, -2.0, True),
        (1.0, 0.0, True),
    ],
)
def test_the_slope_on_every_branch_equals_finite_differences(ratio, advantage, is_flat):
    knobs = {"clip_low": 0.2, "clip_high": 0.2, "dual_clip": 3.0}
    with jax.enable_x64(True):
        slope = float(slope_of_one_token(math.log(ratio), advantage, **knobs))
    step = 1e-6
    higher = surrogate_term(math.log(ratio) + step, advantage, **knobs)
    lower = surrogate_term(math.log(ratio) - step, advantage, **knobs)
    assert slope == pytest.approx((higher - lower) / (2 * step), rel=1e-7, abs=1e-9)
    assert slope == pytest.approx(0.0 if is_flat else -advantage * ratio, rel=1e-12)


@pytest.mark.parametrize("knobs", KNOBS)
@pytest.mark.parametrize("advantage", [-1.5, 2.0])
def test_at_ratio_one_the_slope_is_minus_the_advantage_for_every_clip(advantage, knobs):
    value, slope = jax.value_and_grad(lambda x: one_token(x, advantage, **knobs))(jnp.float32(0.0))
    assert value == slope == -advantage


def test_only_the_dual_clip_bounds_the_loss_of_a_negative_advantage():
    # exp(2) is far above any clip range; the dual clip bounds it.
    log_ratio = jnp.float32(2.0)
    assert one_token(log_ratio, -1.0) == pytest.approx(math.exp(2.0), rel=1e-6)
    assert one_token(log_ratio, -1.0, dual_clip=3.0) == 3.0
    # The objective, -3 instead of the ratio times -1, is no less than dual_clip times A.
    assert "for A < 0 no less than `dual_clip` · A" in methods.ROWS["clipped_surrogate"].equation


@pytest.mark.parametrize("log_ratio", [-1e4, -math.inf, 1e4])
@pytest.mark.parametrize("advantage", [-1.0, 1.0])
def test_unbounded_log_ratio_gives_finite_loss_and_no_gradient(log_ratio, advantage):
    value_and_grad = jax.value_and_grad(lambda x: one_token(x, advantage))
    value, slope = value_and_grad(jnp.float32(log_ratio))
    assert value == pytest.approx(surrogate_term(log_ratio, advantage), rel=1e-5)
    assert slope == 0.0


def test_each_token_is_multiplied_by_its_own_advantage():
    # At ratio 1 the derivative by a token is minus its advantage: every token has a different one.
    tags = np.arange(1.0, 25.0, dtype=np.float32).reshape(2, 3, 4)
    zeros, where = np.zeros_like(tags), tags > 0
    grad = jax.grad(lambda x: clipped_surrogate(x, zeros, tags, where=where)[0].total)(zeros)
    chex.assert_trees_all_equal(grad, -tags)


def test_arguments_are_not_modified():
    batch = ragged_batch(7)
    before = [x.copy() for x in batch]
    clipped_surrogate(batch.logp, batch.logp_old, batch.advantages, where=batch.where)
    chex.assert_trees_all_equal(list(batch), before)


@pytest.mark.parametrize(
    "knobs", [{"clip_low": -0.1}, {"clip_low": 1.1}, {"clip_high": -0.1}, {"dual_clip": 1.0}]
)
def test_rejects_clip_ranges_without_one(knobs):
    with pytest.raises(ValueError, match="clip range must contain 1"):
        one_token(jnp.float32(0.0), 1.0, **knobs)


@pytest.mark.parametrize("shape", [(8,), (4, 8), (8, 4, 1), (8, 4, 7)])
def test_rejects_advantages_of_another_shape(shape):
    batch = ragged_batch(0)
    with pytest.raises(AssertionError):
        clipped_surrogate(batch.logp, batch.logp_old, jnp.ones(shape), where=batch.where)
