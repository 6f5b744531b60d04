"""JAX's cache of compiled programs, from which a restart reads what an earlier start compiled."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

NAME = ".compilation-cache"
"""Name of the directory, next to those of the runs, that is used by default."""


@contextlib.contextmanager
def caching_programs(setting: str, runs: Path) -> Iterator[None]:
    """Compiled programs are kept in a directory until the context ends.

    By default that is the directory that JAX was told to use, such as by
    `JAX_COMPILATION_CACHE_DIR`, and otherwise `runs/.compilation-cache`.

    Args:
        setting: `config.compilation_cache`: a directory; "none" for no cache; empty for the
            default.
        runs: parent of the run's directory.
    """
    before = jax.config.jax_compilation_cache_dir
    default = before or str(runs.absolute() / NAME)
    chosen = {"": default, "none": None}.get(setting, setting)
    if chosen == before:
        yield
        return
    _use(chosen)
    try:
        yield
    finally:
        _use(before)


def _use(directory: str | None) -> None:
    """Has JAX use another directory, even if it has compiled something already."""
    jax.config.update("jax_compilation_cache_dir", directory)
    compilation_cache.reset_cache()
