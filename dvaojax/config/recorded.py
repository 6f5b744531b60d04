"""The configuration of an earlier run, from its `config.json`."""

from collections.abc import Collection
from typing import Any

from dvaojax.config.from_json import from_json
from dvaojax.config.migration import migrate
from dvaojax.config.schema import Config
from dvaojax.errors import UserError
from dvaojax.types import Task


def config_from_json(value: Any, *, classes: Collection[type] = ()) -> Config:
    """The configuration that a run recorded in its `config.json`.

    Plug-ins that it names are not loaded.

    Args:
        value: the entry `config` of that file, as this or an earlier version wrote it.
        classes: tasks outside this package that it may name.

    Raises:
        UserError: it is not a configuration of this version, or its task may not be used.
    """
    config = from_json(Config, migrate(value), key="config", classes=classes)
    if not isinstance(config.task, Task):
        raise UserError(f"config.task: {type(config.task).__name__} is not a task")
    return config
