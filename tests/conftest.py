"""Strict JAX for every test: eight CPU devices, no silent promotion of ranks or types.

Compilation is most of what the tests cost, and what they test does not depend on its zeal: XLA goes
without most of its optimisations, in this process and not in those that tests start.
"""

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(params=["eager", "jit"])
def transform(request):
    """The identity or `jax.jit`: a test that takes it runs both ways."""
    return {"eager": lambda function: function, "jit": jax.jit}[request.param]


def pytest_collection_modifyitems(items):
    """The README's tests first: among the slow ones are the longest, which would end alone."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")
