"""Content of a run's `config.json`: the configuration as JSON, and every start."""

import dataclasses
import datetime
import enum
import importlib.metadata
import math
import platform
import sys
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax

import dvaojax
from dvaojax.errors import UserError

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "chex", "numpy")


def config_to_json(config: Any) -> dict[str, Any]:
    """A configuration as JSON, in the order of its fields.

    A nested dataclass whose class is not the declared one (such as `task: Task`) also contains its
    class, as `{"class": "module:Name", ...}`. Infinite and undefined floats become the strings
    "inf", "-inf" and "nan".

    Args:
        config: a dataclass of numbers, strings, paths, enums, sequences, mappings and dataclasses.

    Raises:
        UserError: a value has another type.
    """
    hints = typing.get_type_hints(type(config))
    return {
        field.name: _to_json(getattr(config, field.name), hints[field.name])
        for field in dataclasses.fields(config)
        if field.init
    }


def with_defaults(recorded: Any, config: Any) -> Any:
    """A recorded configuration with the fields that a class of this version has in addition.

    A field that is added to a class does nothing by default, so that an earlier run can continue.

    Args:
        recorded: JSON of `config_to_json`, perhaps of an earlier version.
        config: a configuration of this version; its classes have the defaults.
    """
    if not isinstance(recorded, dict) or not dataclasses.is_dataclass(config):
        return recorded
    hints = typing.get_type_hints(type(config))
    filled = dict(recorded)
    for field in dataclasses.fields(config):
        if field.name in recorded:
            inner = getattr(config, field.name)
            filled[field.name] = with_defaults(recorded[field.name], inner)
        elif field.init and (default := _default(field)) is not dataclasses.MISSING:
            filled[field.name] = _to_json(default, hints[field.name])
    return filled


def _default(field: dataclasses.Field) -> Any:
    """The default of a field; `dataclasses.MISSING` if it has none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _to_json(value: Any, declared: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        cls = type(value)
        class_entry = {} if declared is cls else {"class": f"{cls.__module__}:{cls.__qualname__}"}
        return class_entry | config_to_json(value)
    if isinstance(value, Mapping):
        return {str(key): _to_json(item, None) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item, None) for item in value]
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    raise UserError(f"a configuration cannot hold {value!r:.80} ({type(value).__name__})")


def describe_start() -> dict[str, Any]:
    """Time, command, versions and devices of this process."""
    devices = jax.devices()
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "argv": sys.argv,
        "versions": {
            "dvaojax": dvaojax.__version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        "devices": {
            "platform": devices[0].platform,
            "kind": devices[0].device_kind,
            "count": len(devices),
            "processes": jax.process_count(),
        },
    }


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping with dotted keys."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        key: leaf
        for name, item in value.items()
        for key, leaf in flatten(item, f"{prefix}.{name}" if prefix else name).items()
    }


def first_difference(
    before: Any, now: Any, *, ignore: Collection[str] = ()
) -> tuple[str, Any, Any] | None:
    """The first dotted key at which two JSON values differ, with both values; None if equal.

    Args:
        before: nested mappings.
        now: likewise; a key that one of them lacks counts as None.
        ignore: dotted keys that may differ.
    """
    old, new = flatten(before), flatten(now)
    keys = sorted((old.keys() | new.keys()) - set(ignore))
    return next(
        ((key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)), None
    )
