"""Dataclasses from JSON, according to the type hints of their fields.

It is the inverse of `dvaojax.run.directory.config_to_json`. A file may name a class
(`{"class": "module:Name", ...}`), but only one of this package or one that the caller has loaded:
reading the configuration of a run does not run code from outside the package.
"""

import contextlib
import dataclasses
import importlib
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from dvaojax.errors import UserError, suggest

Instance = TypeVar("Instance")

_CLASS = "class"
_PACKAGE = "dvaojax"


def from_json(
    cls: type[Instance], value: Any, *, key: str, classes: Collection[type] = ()
) -> Instance:
    """An instance of `cls` from its JSON form.

    Args:
        cls: a dataclass of numbers, strings, sequences, mappings and further dataclasses.
        value: an object with entries for its fields; a field with a default, which may have been
            added later, needs none.
        key: name of the value in errors.
        classes: dataclasses outside this package that the file may name.

    Raises:
        UserError: a key is missing or unknown, a value is not of its field's type, a class may not
            be used, or the configuration's own checks reject a value; the line names the key.
    """
    return _Decoder(tuple(classes)).decode(value, cls, key)


@dataclasses.dataclass(frozen=True)
class _Decoder:
    """Decodes values according to type hints.

    Attributes:
        classes: dataclasses outside this package that a file may name.
    """

    classes: tuple[type, ...]

    def decode(self, value: Any, hint: Any, key: str) -> Any:
        """The value as an instance of the hint's type."""
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if isinstance(value, Mapping) and _is_section(hint):
            return self._section(value, hint, key)
        if isinstance(value, Mapping) and origin is not None and issubclass(origin, Mapping):
            return {k: self.decode(v, arguments[1], f"{key}.{k}") for k, v in value.items()}
        if isinstance(value, list) and origin in (tuple, list, Sequence):
            item = arguments[0]
            return tuple(self.decode(v, item, f"{key}[{i}]") for i, v in enumerate(value))
        if isinstance(hint, types.UnionType) or origin is typing.Union:
            return self._member(value, arguments, key)
        if origin is typing.Literal and value in arguments:
            return value
        if hint is float and (type(value) is int or value in ("inf", "-inf", "nan")):
            return float(value)
        if type(value) is hint:
            return value
        raise UserError(f"{key}={value!r} is not {getattr(hint, '__name__', hint)}")

    def _section(self, value: Mapping[str, Any], declared: type, key: str) -> Any:
        """A dataclass, of the class that the value names, or else of the declared one."""
        value = dict(value)
        cls = declared
        if _CLASS in value:
            cls = self._class_named(str(value.pop(_CLASS)), key)
        if not dataclasses.is_dataclass(cls):
            raise UserError(f"{key} does not name its class")
        hints = typing.get_type_hints(cls)
        fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
        for name in value:
            if name not in fields:
                raise UserError(f"{key}: unknown key {suggest(name, fields)}")
        for name, field in fields.items():  # one with a default may have been added later
            if name not in value and field.default is field.default_factory is dataclasses.MISSING:
                raise UserError(f"{key}.{name} is missing")
        decoded = {
            name: self.decode(item, hints[name], f"{key}.{name}") for name, item in value.items()
        }
        try:
            return cls(**decoded)
        except ValueError as error:  # from its __post_init__
            raise UserError(f"{key}: {error}") from error

    def _member(self, value: Any, members: Sequence[Any], key: str) -> Any:
        """The value as the first member of a union that it fits."""
        for member in members[:-1]:
            with contextlib.suppress(UserError):
                return self.decode(value, member, key)
        return self.decode(value, members[-1], key)

    def _class_named(self, name: str, key: str) -> type:
        """The dataclass with the name `module:Name`."""
        for cls in self.classes:
            if name == f"{cls.__module__}:{cls.__qualname__}":
                return cls
        module, _, class_name = name.partition(":")
        if module.partition(".")[0] != _PACKAGE:
            known = ", ".join(f"{cls.__module__}:{cls.__qualname__}" for cls in self.classes)
            hint = f"it has {known}" if known else "name the experiment file that defines it"
            raise UserError(f"{key}: class {name!r} is not part of {_PACKAGE}; {hint}")
        try:
            named = getattr(importlib.import_module(module), class_name, None)
        except ImportError:
            named = None
        if not (dataclasses.is_dataclass(named) and isinstance(named, type)):
            raise UserError(f"{key}: there is no configuration class {name!r}")
        return named


def _is_section(hint: Any) -> bool:
    """Whether a JSON object means an instance: of a dataclass, or of a protocol of dataclasses."""
    return isinstance(hint, type) and (
        dataclasses.is_dataclass(hint) or getattr(hint, "_is_protocol", False)
    )
