"""Strict JAX for every test: eight CPU devices, no silent promotion of ranks or types."""

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(params=["eager", "jit"])
def transform(request):
    """The identity or `jax.jit`: a test that takes it runs both ways."""
    return {"eager": lambda function: function, "jit": jax.jit}[request.param]


@pytest.fixture(scope="module")
def quick_compilation():
    """XLA without most of its optimisations: for modules with many programs that run once."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
