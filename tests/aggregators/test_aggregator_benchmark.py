"""The NumPy loops of the benchmark compute the same advantages as the aggregators."""

import importlib.util
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from every_aggregator import call, function_of, lengths_for
from slowness import slow_but

from dvaojax.aggregators import BY_NAME

SCRIPT = Path(__file__).parents[2] / "experiments" / "benchmarks" / "aggregators.py"


@pytest.fixture(scope="module")
def benchmark():
    sys.path.insert(0, str(SCRIPT.parent))  # for the modules that the benchmarks share
    spec = importlib.util.spec_from_file_location("benchmark_of_aggregators", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_loops_are_those_of_aggregators(benchmark):
    assert set(benchmark.LOOPS) <= set(BY_NAME)
    assert len(benchmark.LOOPS) >= 30


@pytest.mark.parametrize("name", slow_but(["dvao", "gdpo", "rvpo"], BY_NAME))
def test_loop_equals_the_aggregator(benchmark, name):
    if name not in benchmark.LOOPS:
        pytest.skip("this aggregator is not timed")
    rewards = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    weights = np.array([0.5, 0.3, 0.2], np.float32)
    looped = benchmark.LOOPS[name](rewards, weights, np.asarray(lengths_for(rewards)))
    advantages = call(function_of(name), jnp.asarray(rewards), jnp.asarray(weights))
    np.testing.assert_allclose(advantages, looped, atol=1e-4)
