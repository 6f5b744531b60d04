"""Settings of a tiny run of the main job, and a compilation cache that tests share."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache as jax_cache

import dvaojax

HELPERS = Path(__file__).parent

# All parts of the main job except the warm start. Eight groups fit eight devices.
TINY = [
    "num_steps=2",
    "prompts_per_step=8",
    "group_size=2",
    "max_new_tokens=8",
    "learning.micro_batches=1",
    "model.width=16",
    "model.num_layers=1",
    "model.num_heads=1",
    "model.num_kv_heads=1",
    "model.head_width=8",
    "model.ff_width=16",
    "evaluation.num_prompts=8",
    "warm_start.num_steps=0",
    "warm_start.batch_size=8",
    "warm_start.micro_batches=1",
    "checkpoints.every=1",
]


@contextlib.contextmanager
def compilation_cache(directory: Path) -> Iterator[None]:
    """Compiles with few optimisations, and caches compiled programs in a directory."""
    settings = {
        "jax_compilation_cache_dir": str(directory),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
        "jax_disable_most_optimizations": True,  # child processes have not loaded conftest.py
    }
    before = {name: jax.config.values[name] for name in settings}
    try:
        for name, value in settings.items():
            jax.config.update(name, value)
        jax_cache.reset_cache()  # JAX opens its cache only once
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        jax_cache.reset_cache()


def child_environment(directory: Path) -> dict[str, str]:
    """The environment of a child process on the CPU with the same compilation cache.

    The child can import `dvaojax` and the modules of `tests/helpers`.
    """
    return {
        **os.environ,
        "PYTHONPATH": f"{Path(dvaojax.__file__).parents[1]}{os.pathsep}{HELPERS}",
        "JAX_COMPILATION_CACHE_DIR": str(directory),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_PLATFORMS": "cpu",
    }
