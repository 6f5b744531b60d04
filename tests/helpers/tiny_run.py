"""The main job in miniature, for tests that open the doors: seconds instead of minutes."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

# Every part of the main job but the warm start; eight groups lie on eight devices.
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
def compiled_once(directory: Path) -> Iterator[None]:
    """Compiles in a hurry, and keeps what is compiled in a directory for the next tiny run."""
    settings = {
        "jax_compilation_cache_dir": str(directory),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
        "jax_disable_most_optimizations": True,  # in processes of their own too
    }
    before = {name: jax.config.values[name] for name in settings}
    try:
        for name, value in settings.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()  # a cache that was looked for in vain is looked for again
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
