"""Sobol points and the trade-offs of VPO that are drawn from them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import qmc
from slowness import slow_but

from dvaojax.aggregators._core import sobol
from dvaojax.aggregators.vpo import set_value, trade_offs

KEY = jax.random.key(3)


def test_sobol_points_are_those_of_scipy():
    expected = qmc.Sobol(sobol.MOST_DIMENSIONS, scramble=False, bits=30).random(128)
    points = sobol.points(100, sobol.MOST_DIMENSIONS)
    np.testing.assert_array_equal(points / 2.0**30, expected[:100])
    with pytest.raises(ValueError, match="22 dimensions; there are direction numbers for 21"):
        sobol.points(4, 22)


def test_scrambled_points_fill_every_interval_and_differ_between_sequences():
    uniform = np.asarray(sobol.scrambled(KEY, sequences=3, count=64, dimensions=4), np.float64)
    cells = np.sort((uniform * 64).astype(int), axis=1)
    np.testing.assert_array_equal(cells, np.broadcast_to(np.arange(64)[:, None], cells.shape))
    assert np.ptp(uniform[:, 0], axis=0).min() > 0.01
    other = sobol.scrambled(jax.random.key(9), sequences=3, count=64, dimensions=4)
    assert np.abs(uniform - other).max() > 0.1


@pytest.mark.parametrize("concentration", slow_but([1.0], [0.2, 1.0, 5.0]))
def test_sobol_trade_offs_have_the_distribution_of_independent_ones_and_less_noise(concentration):
    weights = jnp.broadcast_to(jnp.array([2.0, 1.0, 1.0, 0.0]), (200, 4))
    vectors = jnp.asarray(np.random.default_rng(0).random((3, 4)), jnp.float32)

    def draw(sequence):
        knobs = {"draws": 64, "concentration": concentration, "sequence": sequence}
        drawn = jax.jit(functools.partial(trade_offs, **knobs))(KEY, weights)
        values = jax.vmap(set_value, (None, None, 0))(vectors, np.ones(3, bool), drawn)
        return np.asarray(drawn, np.float64), np.asarray(values, np.float64)

    (drawn, values), (expected, noisy) = draw("sobol"), draw("independent")
    np.testing.assert_allclose(drawn.sum(-1), 1, atol=1e-5)
    assert np.all(drawn[..., 3] == 0)
    np.testing.assert_allclose(drawn.mean((0, 1)), [0.5, 0.25, 0.25, 0], atol=2e-3)
    np.testing.assert_allclose(drawn.var((0, 1)), expected.var((0, 1)), rtol=0.1)
    for quantile in (0.1, 0.5, 0.9):
        np.testing.assert_allclose(
            np.quantile(drawn[..., 0], quantile), np.quantile(expected[..., 0], quantile), atol=0.02
        )
    np.testing.assert_allclose(values.mean(), noisy.mean(), atol=4 * noisy.std() / 200**0.5)
    assert values.std() < noisy.std() / 2
