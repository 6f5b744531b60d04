"""Masked sums and moments compared with exact fractions, also without values and at extremes."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvaojax import numerics

FLOATS = st.floats(-1e3, 1e3, width=32)


def moments_of(values, where=None, **kwargs):
    values = jnp.asarray(values, jnp.float32)
    where = jnp.ones(values.shape, bool) if where is None else jnp.asarray(where)
    return jax.jit(numerics.moments, static_argnames="ddof")(values, where, **kwargs)


def exact_moments(values, ddof):
    """Mean and variance of float32 numbers without rounding."""
    numbers = [Fraction(float(v)) for v in values]
    mean = sum(numbers) / len(numbers)
    return mean, sum((x - mean) ** 2 for x in numbers) / (len(numbers) - ddof)


@settings(derandomize=True, deadline=None, max_examples=60, database=None)
@given(
    values=st.lists(FLOATS, min_size=7, max_size=7),
    offset=st.sampled_from([0.0, 1e3, 1e6]),
    ddof=st.integers(0, 1),
)
def test_moments_are_exact_to_rounding_for_any_offset(values, offset, ddof):
    values = (np.array(values) + offset).astype(np.float32)
    mean, variance = exact_moments(values, ddof)
    m = moments_of(values, ddof=ddof)
    spread = float(np.ptp(values.astype(np.float64)))
    if spread < 1e-37:
        assert m.deviation == 0
        return
    np.testing.assert_allclose(float(m.deviation), float(variance) ** 0.5, rtol=2e-6)
    expected = [float(Fraction(float(v)) - mean) for v in values]
    np.testing.assert_allclose(m.centred, expected, atol=1e-6 * spread)
    np.testing.assert_allclose(m.mean, float(mean), rtol=1e-6, atol=1e-6 * spread)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.35, -1e30, 1e-30, 0.0])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_equal_values_have_exactly_zero_deviation(value, size):
    m = moments_of(np.full(size, value), ddof=1)
    assert np.all(m.centred == 0)
    assert m.deviation == 0
    assert m.mean == jnp.float32(value)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e12, 1e30])
def test_squares_neither_overflow_nor_underflow(scale):
    m = moments_of(np.array([1.0, 2.0, 4.0]) * scale)
    np.testing.assert_allclose(m.deviation / np.float32(scale), np.std([1, 2, 4]), rtol=1e-5)


def test_masked_values_may_be_nan_or_infinite():
    where = np.array([True, False, True, True, False])
    poisoned = np.array([1.0, np.nan, 2.0, 4.0, np.inf])
    m = moments_of(poisoned, where)
    assert m.count == 3
    np.testing.assert_allclose(m.mean, 7 / 3, rtol=1e-6)
    np.testing.assert_allclose(m.centred, [-4 / 3, 0, -1 / 3, 5 / 3, 0], atol=1e-6)
    np.testing.assert_allclose(m.deviation, np.std([1, 2, 4]), rtol=1e-6)

    def scalar(x):
        return jnp.sum(numerics.moments(x, jnp.asarray(where)).deviation)

    gradient = jax.grad(scalar)(jnp.asarray(poisoned, jnp.float32))
    np.testing.assert_allclose(gradient, np.asarray(m.centred) / (3 * m.deviation), atol=1e-6)


def test_no_value_and_a_single_value():
    for where in ([False, False], [True, False]):
        for ddof in (0, 1):
            m = moments_of([3.0, np.nan], where, ddof=ddof)
            assert m.count == sum(where)
            assert m.mean == 3.0 * sum(where)
            assert m.deviation == 0
            assert np.all(m.centred == 0)


def test_ddof_is_zero_or_one():
    with pytest.raises(ValueError, match="ddof must be 0"):
        numerics.moments(jnp.ones(3), jnp.ones(3, bool), ddof=2)


def test_standardise_treats_the_rest_of_a_cancellation_as_rounding_error():
    def divide(deviation):
        ones = jnp.ones(3)
        return numerics.standardise(ones, ones, deviation=deviation * ones, scale=ones)

    assert np.all(divide(1e-4) == 0)
    assert np.all(divide(1e-3) == 1)
    assert np.all(divide(0.0) == 0)


def test_safe_divide_and_safe_sqrt_have_finite_gradients():
    x = jnp.array([0.0, 4.0])
    np.testing.assert_array_equal(numerics.safe_sqrt(x), [0, 2])
    np.testing.assert_array_equal(jax.grad(lambda y: numerics.safe_sqrt(y).sum())(x), [0, 0.25])
    np.testing.assert_array_equal(numerics.safe_divide(jnp.ones(2), x), [0, 0.25])
    by_denominator = jax.grad(lambda y: numerics.safe_divide(jnp.ones(2), y).sum())(x)
    np.testing.assert_array_equal(by_denominator, [0, -1 / 16])


def test_masked_sums_and_means():
    values, where = jnp.array([[1.0, jnp.nan], [3.0, 5.0]]), jnp.array([[1, 0], [1, 1]], bool)
    assert numerics.masked_sum(values, where) == 9
    np.testing.assert_array_equal(numerics.masked_sum(values, where, axis=1), [1, 8])
    mean = numerics.masked_mean(values, where)
    assert (mean.total, mean.count, mean.value) == (9, 3, 3)
    gradient = jax.grad(lambda x: numerics.masked_sum(x, where))(values)
    np.testing.assert_array_equal(gradient, where)
    assert numerics.masked_mean(values, jnp.zeros_like(where)).value == 0
