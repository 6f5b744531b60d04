"""Settings of all tests: eight CPU devices, no implicit promotion of ranks or types.

Compilation takes most of the tests' time, and the tested facts do not depend on optimisations. So
XLA runs without most of them, in this process and in the processes that tests start.
"""

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session")
def cache_directory(tmp_path_factory):
    """The compilation cache of this test session; see `tiny_run.compilation_cache`."""
    return tmp_path_factory.getbasetemp() / "compiled"


@pytest.fixture(params=["eager", "jit"])
def transform(request):
    """The identity and `jax.jit`: a test that takes it runs both ways."""
    return {"eager": lambda function: function, "jit": jax.jit}[request.param]


def pytest_collection_modifyitems(items):
    """Runs the README tests first: the longest tests are among them."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")
