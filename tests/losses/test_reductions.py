"""Reductions against loops, and their limits."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_oracles import POISONS, REDUCTIONS, poisoned, ragged_batch, reduced

from dvaojax import losses


@pytest.fixture(params=sorted(REDUCTIONS))
def name(request):
    return request.param


@pytest.fixture
def reduce(name):
    return REDUCTIONS[name]


def test_every_reduction_has_an_oracle():
    assert sorted(losses.REDUCTIONS) == sorted(REDUCTIONS)


def test_against_a_loop(name, reduce, transform):
    for seed in range(5):
        batch = ragged_batch(seed)
        mean = transform(reduce)(batch.logp, batch.where)
        total, count = reduced(name, lambda i, x=batch.logp: float(x[i]), batch.where)
        np.testing.assert_allclose(mean.total, total, rtol=1e-5)
        assert mean.count == count


def test_any_number_of_leading_axes(reduce):
    batch = ragged_batch(0)
    flat = reduce(batch.logp.reshape(-1, 6), batch.where.reshape(-1, 6))
    chex.assert_trees_all_close(reduce(batch.logp, batch.where), flat, rtol=1e-6)
    rows = [reduce(x, w) for x, w in zip(batch.logp[0], batch.where[0], strict=True)]
    chex.assert_trees_all_close(
        jax.tree.map(lambda *parts: sum(parts), *rows),
        reduce(batch.logp[0], batch.where[0]),
        rtol=1e-5,
    )


def test_the_mean_of_ones_is_one():
    where = ragged_batch(0).where
    ones = jnp.ones(where.shape)
    assert losses.token_mean(ones, where).value == 1.0
    np.testing.assert_allclose(losses.sequence_mean(ones, where).value, 1.0, rtol=1e-6)


def test_constant_length_is_the_divisor():
    ones = jnp.ones((3, 5))
    mean = losses.constant_length(ones, ones > 0, length=5)
    assert mean.value == 1.0
    assert losses.constant_length(ones, ones > 0, length=10).value == 0.5


def test_masking_a_sequence_equals_removing_it(reduce):
    batch = ragged_batch(3, shape=(6, 5))
    kept = np.array([True, False, True, True, False, True])
    masked = reduce(batch.logp, batch.where & kept[:, None])
    removed = reduce(batch.logp[kept], batch.where[kept])
    chex.assert_trees_all_close(masked, removed, rtol=1e-6)


def test_padding_does_not_count(reduce):
    batch = ragged_batch(4)
    longer = [np.pad(x, [(0, 0), (0, 0), (0, 3)]) for x in (batch.logp, batch.where)]
    chex.assert_trees_all_close(reduce(*longer), reduce(batch.logp, batch.where), rtol=1e-6)


def test_values_in_padding_are_ignored(reduce, transform):
    batch = ragged_batch(5)
    value_and_grad = transform(jax.value_and_grad(lambda x: reduce(x, batch.where).value))
    clean = value_and_grad(batch.logp)
    assert np.isfinite(clean[1]).all()
    for poison in POISONS:
        dirty = value_and_grad(poisoned(batch.logp, batch.where, poison))
        chex.assert_trees_all_equal(dirty, clean)


def test_nothing_to_count_is_zero_with_zero_gradient(reduce, transform):
    where = jnp.zeros((2, 3), bool)
    value, grad = transform(jax.value_and_grad(lambda x: reduce(x, where).value))(
        jnp.full((2, 3), jnp.nan)
    )
    assert value == 0.0
    chex.assert_trees_all_equal(grad, jnp.zeros((2, 3)))


def test_bfloat16_is_counted_in_float32(name, reduce):
    # 1,000 tokens: bfloat16 cannot represent all integers above 256.
    ones = jnp.ones((10, 100), jnp.bfloat16)
    mean = reduce(ones, ones > 0)
    assert mean.total.dtype == mean.count.dtype == jnp.float32
    assert mean.count == (1000 if name == "token_mean" else 10)


def test_rejects_wrong_shapes_and_types(reduce):
    with pytest.raises(AssertionError):
        reduce(jnp.ones((2, 3)), jnp.ones((2, 1), bool))
    with pytest.raises(AssertionError):
        reduce(jnp.ones((2, 3)), jnp.ones((2, 3)))


@pytest.mark.parametrize("length", [0, -1.0, float("nan")])
def test_rejects_constant_lengths_that_are_not_positive(length):
    with pytest.raises(ValueError, match="must be positive"):
        losses.constant_length(jnp.ones((2, 3)), jnp.ones((2, 3), bool), length=length)
