"""Types of the values of a configuration, which Python itself does not check.

A configuration from an experiment file may hold a list where a mapping belongs, a string for a
number, or a class instead of its instance. Without this check they would be noticed somewhere in
the run.
"""

import dataclasses
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from dvaojax.config.schema import Config
from dvaojax.errors import UserError
from dvaojax.types import Task


def check_types(config: Config) -> None:
    """Checks every field against its type hint; the task only against its protocol.

    Raises:
        UserError: a value has another type; the line names the key and what to write instead.
    """
    weights = config.weights
    if isinstance(weights, Sequence) and isinstance(config.task, Task):
        names = config.objectives
        example = dict.fromkeys(names, 1.0)
        if len(weights) == len(names):
            example = dict(zip(names, weights, strict=True))
        raise UserError(f"weights={weights!r:.80} is a list: write weights={example}")
    _check_section(config, "")


def _check_section(section: Any, path: str) -> None:
    """Checks the fields of a dataclass."""
    hints = typing.get_type_hints(type(section))
    for field in dataclasses.fields(section):
        if field.init:
            value, hint = getattr(section, field.name), hints[field.name]
            _check(value, hint, f"{path}{field.name}")


def _check(value: Any, hint: Any, key: str) -> None:
    """Checks one value, and the values inside it."""
    if not _fits(value, hint):
        kind = "a class" if isinstance(value, type) else f"of type {type(value).__name__}"
        raise UserError(f"{key}={value!r:.80} is {kind}, not {_wanted(value, hint)}")
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(value, tuple | list) and origin in (tuple, list, Sequence):
        for i, item in enumerate(value):
            _check(item, arguments[0], f"{key}[{i}]")
    elif isinstance(value, Mapping) and origin is Mapping:
        for name, item in value.items():
            _check(item, arguments[1], f"{key}.{name}")
    elif hint is not Task and dataclasses.is_dataclass(value):
        _check_section(value, f"{key}.")


def _fits(value: Any, hint: Any) -> bool:
    """Whether the value itself is of the hint's type, without the values inside it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if isinstance(hint, types.UnionType) or origin is typing.Union:
        return any(_fits(value, member) for member in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin in (tuple, list, Sequence):
        return isinstance(value, tuple | list)
    if origin is not None:
        return isinstance(value, origin)
    if isinstance(value, type):  # a class instead of its instance
        return False
    if hint in (int, float):
        numbers = int if hint is int else int | float
        return isinstance(value, numbers) and not isinstance(value, bool)
    return isinstance(value, hint)


def _wanted(value: Any, hint: Any) -> str:
    """The expected kind of value, in words."""
    if hint is Task:
        if isinstance(value, type):
            return f"an instance: write {value.__name__}()"
        names = [name for name in dir(Task) if name[0] != "_" and not hasattr(value, name)]
        return f"a task: it lacks {', '.join(names)}"
    if dataclasses.is_dataclass(hint):
        return f"a section: write {getattr(hint, '__name__', hint)}(...)"
    return inspect.formatannotation(hint).removeprefix("collections.abc.")
