"""JAX's cache of compiled programs, from which a restart reads what an earlier start compiled."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax
from etils import epath
from jax.experimental.compilation_cache import compilation_cache

from dvaojax import hub
from dvaojax.errors import writing
from dvaojax.run import bucket

NAME = ".compilation-cache"
"""Name of the directory, next to those of the runs, that is used by default."""

_OPTION = "jax_compilation_cache_dir"


@contextlib.contextmanager
def caching_programs(setting: str, runs: Path | epath.Path) -> Iterator[None]:
    """Compiled programs are kept in a directory until the context ends.

    By default that is the directory that JAX is set to use, such as by
    `JAX_COMPILATION_CACHE_DIR`, and otherwise `runs/.compilation-cache`.

    Args:
        setting: `config.compilation_cache`: a directory; "none" for no cache; empty for the
            default.
        runs: parent of the run's directory.

    Raises:
        UserError: the directory that the setting names cannot be written.
    """
    if setting not in ("", "none") and not hub.is_address(setting):  # JAX also writes to buckets
        with writing(Path(setting)):
            Path(setting).mkdir(parents=True, exist_ok=True)
    before = directory_in_use()
    default = before or str(bucket.absolute(runs) / NAME)
    chosen = {"": default, "none": None}.get(setting, setting)
    if chosen == before:
        yield
        return
    _use(chosen)
    try:
        yield
    finally:
        _use(before)


def directory_in_use() -> str | None:
    """The directory of JAX's cache; None where there is no cache."""
    return getattr(jax.config, _OPTION)


def _use(directory: str | None) -> None:
    """Has JAX use another directory, even if it has compiled something already."""
    jax.config.update(_OPTION, directory)
    compilation_cache.reset_cache()
