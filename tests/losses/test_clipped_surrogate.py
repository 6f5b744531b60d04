import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_oracles import POISONS, REDUCTIONS, poisoned, ragged_batch, reduced, surrogate_term

from dvaojax.losses import clipped_surrogate

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


def test_the_numbers_of_the_step_against_a_loop():
    knobs = {"clip_low": 0.1, "clip_high": 0.3, "dual_clip": 1.5}
    batch = ragged_batch(1)
    batch.advantages[0] = 0.0
    _, info = clipped_surrogate(
        batch.logp, batch.logp_old, batch.advantages, where=batch.where, **knobs
    )
    ratios, clipped, divergences = [], [], []
    for i in zip(*np.nonzero(batch.where), strict=True):
        d = float(batch.logp[i]) - float(batch.logp_old[i])
        advantage, ratio = batch.advantages[i[:-1]], math.exp(d)
        ratios.append(ratio)
        divergences.append(ratio - 1.0 - d)
        clipped.append(
            (advantage > 0.0 and ratio > 1.3) or (advantage < 0.0 and (ratio < 0.9 or ratio > 1.5))
        )
    assert 0 < sum(clipped) < len(clipped)
    np.testing.assert_allclose(info.ratio.value, np.mean(ratios), rtol=1e-5)
    np.testing.assert_allclose(info.clip_fraction.value, np.mean(clipped), rtol=1e-6)
    np.testing.assert_allclose(info.approximate_kl.value, np.mean(divergences), rtol=1e-5)


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


def test_without_the_dual_clip_a_negative_advantage_is_not_bounded_from_above():
    # exp(2) is far above any clip; the dual clip ends it.
    log_ratio = jnp.float32(2.0)
    assert one_token(log_ratio, -1.0) == pytest.approx(math.exp(2.0), rel=1e-6)
    assert one_token(log_ratio, -1.0, dual_clip=3.0) == 3.0


@pytest.mark.parametrize("log_ratio", [-1e4, -math.inf, 1e4])
@pytest.mark.parametrize("advantage", [-1.0, 1.0])
def test_a_log_ratio_without_bounds_gives_finite_loss_and_no_slope(log_ratio, advantage):
    value_and_grad = jax.value_and_grad(lambda x: one_token(x, advantage))
    value, slope = value_and_grad(jnp.float32(log_ratio))
    assert value == pytest.approx(surrogate_term(log_ratio, advantage), rel=1e-5)
    assert slope == 0.0


def test_nan_on_a_sampled_token_is_not_hidden():
    assert jnp.isnan(one_token(jnp.float32(jnp.nan), 1.0))


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_scaling_the_advantages_scales_loss_and_gradient_and_leaves_the_clip(factor):
    batch = ragged_batch(2)

    def loss(logp, scale):
        mean, info = clipped_surrogate(
            logp, batch.logp_old, scale * batch.advantages, where=batch.where, dual_clip=3.0
        )
        return mean.value, info

    value_and_grad = jax.value_and_grad(loss, has_aux=True)
    (value, info), grad = value_and_grad(batch.logp, np.float32(1.0))
    (scaled, scaled_info), scaled_grad = value_and_grad(batch.logp, np.float32(factor))
    np.testing.assert_allclose(scaled, factor * value, rtol=1e-5)
    chex.assert_trees_all_close(scaled_grad, factor * grad, rtol=1e-5)
    chex.assert_trees_all_equal(scaled_info, info)


def test_gradients_reach_the_policy_alone():
    batch = ragged_batch(3)
    grads = jax.grad(
        lambda *args: clipped_surrogate(*args, where=batch.where)[0].value, argnums=(0, 1, 2)
    )(*batch[:3])
    assert jnp.any(grads[0] != 0.0)
    chex.assert_trees_all_equal(grads[1:], jax.tree.map(jnp.zeros_like, grads[1:]))


def test_an_advantage_per_token_and_one_per_sequence_agree():
    batch = ragged_batch(4)
    spread = np.broadcast_to(batch.advantages[..., None], batch.logp.shape)
    chex.assert_trees_all_equal(
        clipped_surrogate(batch.logp, batch.logp_old, batch.advantages, where=batch.where),
        clipped_surrogate(batch.logp, batch.logp_old, spread, where=batch.where),
    )


def test_each_token_meets_its_own_advantage():
    # At ratio 1 the slope of a token is minus its advantage: tag every one with a number.
    tags = np.arange(1.0, 25.0, dtype=np.float32).reshape(2, 3, 4)
    zeros, where = np.zeros_like(tags), tags > 0
    grad = jax.grad(lambda x: clipped_surrogate(x, zeros, tags, where=where)[0].total)(zeros)
    chex.assert_trees_all_equal(grad, -tags)


@pytest.mark.parametrize("name", sorted(REDUCTIONS))
def test_padding_may_hold_anything(name, transform):
    batch = ragged_batch(5)
    empty = ~batch.where.any(axis=-1)
    assert empty.any()

    @transform
    def value_and_grad(logp, logp_old, advantages):
        def loss(x):
            mean, info = clipped_surrogate(
                x, logp_old, advantages, where=batch.where, reduce=REDUCTIONS[name], dual_clip=3.0
            )
            return mean.value, info

        return jax.value_and_grad(loss, has_aux=True)(logp)

    clean = value_and_grad(*batch[:3])
    assert np.isfinite(clean[1]).all()
    for poison in POISONS:
        dirty = value_and_grad(
            poisoned(batch.logp, batch.where, poison),
            poisoned(batch.logp_old, batch.where, poison),
            poisoned(batch.advantages, ~empty, poison),
        )
        chex.assert_trees_all_equal(dirty, clean)


@pytest.mark.parametrize("name", sorted(REDUCTIONS))
def test_a_batch_without_a_token_gives_zero_and_zero_gradient(name):
    batch = ragged_batch(6)
    nothing = np.zeros_like(batch.where)

    def loss(logp):
        mean, info = clipped_surrogate(
            logp, batch.logp_old, batch.advantages, where=nothing, reduce=REDUCTIONS[name]
        )
        return mean.value, [m.value for m in info]

    (value, info), grad = jax.value_and_grad(loss, has_aux=True)(batch.logp)
    assert value == 0.0
    assert info == [0.0, 0.0, 0.0]
    chex.assert_trees_all_equal(grad, jnp.zeros_like(grad))


def test_the_callers_arrays_are_left_alone():
    batch = ragged_batch(7)
    before = [x.copy() for x in batch]
    clipped_surrogate(batch.logp, batch.logp_old, batch.advantages, where=batch.where)
    chex.assert_trees_all_equal(list(batch), before)


@pytest.mark.parametrize(
    "knobs", [{"clip_low": -0.1}, {"clip_low": 1.1}, {"clip_high": -0.1}, {"dual_clip": 1.0}]
)
def test_a_clip_range_without_one_is_refused(knobs):
    with pytest.raises(ValueError, match="clip range must contain 1"):
        one_token(jnp.float32(0.0), 1.0, **knobs)


@pytest.mark.parametrize("shape", [(8,), (4, 8), (8, 4, 1), (8, 4, 7)])
def test_advantages_of_another_shape_are_refused(shape):
    batch = ragged_batch(0)
    with pytest.raises(AssertionError):
        clipped_surrogate(batch.logp, batch.logp_old, jnp.ones(shape), where=batch.where)
