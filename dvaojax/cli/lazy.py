"""Modules that are imported on first use, so that help does not wait for JAX."""

import importlib
import types
from typing import Any


class LazyModule(types.ModuleType):
    """A module that is imported when one of its attributes is read for the first time.

    Modules of subcommands name what they need twice: below `if TYPE_CHECKING` for type checkers
    and editors, and in the other branch as a `LazyModule` of the same name.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)
