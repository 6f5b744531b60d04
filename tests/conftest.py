"""Settings of all tests: eight CPU devices, no implicit promotion of ranks or types.

Compilation takes most of the tests' time, and the tested facts do not depend on optimisations. So
XLA runs without most of them, and without its new emitters of fused operations, which compile the
aggregators 2.6 times more slowly. All processes of a test session share one compilation cache: the
workers of pytest-xdist and the processes that tests start inherit these variables. A directory in
`JAX_COMPILATION_CACHE_DIR` is kept for the next session.
"""

import gc
import os
import tempfile

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="dvaojax-tests-")  # removed at exit
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # JAX's CUDA plugin else complains without a GPU
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"  # lowering records no source lines

import jax
import pytest

_flags = ["--xla_cpu_parallel_codegen_split_count=1"]
if jax.__version_info__ < (0, 11):  # XLA ends the process at a flag that it no longer has
    _flags.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(_flags))

# Traced programs stay in JAX's caches, so full collections find little and take long.
gc.set_threshold(100_000, 50, 50)

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(params=["eager", "jit"])
def transform(request):
    """The identity and `jax.jit`: a test that takes it runs both ways."""
    return {"eager": lambda function: function, "jit": jax.jit}[request.param]


def pytest_collection_modifyitems(items):
    """Runs the main job first: it is the longest test."""
    items.sort(key=lambda item: item.path.name != "test_main_job.py")
