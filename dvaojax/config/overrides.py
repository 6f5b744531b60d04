"""Settings from the command line (`--set optimizer.learning_rate=3e-4`) and experiment files.

A configuration is a frozen dataclass of numbers, strings, mappings and further dataclasses. Its
type hints determine the values that a key accepts. Mistakes are reported in one line.
"""

import contextlib
import dataclasses
import enum
import io
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from dvaojax import plugins
from dvaojax.config.migration import RENAMED_KEYS
from dvaojax.errors import UserError, suggest

Config = TypeVar("Config")


def apply(config: Config, settings: Sequence[str]) -> Config:
    """A configuration with some of its values replaced.

    All settings take effect at once, so that values that depend on each other can be changed
    together; if a key is set twice, the later setting takes effect.

    Args:
        config: a frozen dataclass, possibly of further ones; it is not modified.
        settings: `key=value` each. The key is the dotted path of a field or of a mapping's entry
            (`weights.accuracy`). A section whose first field is `name` may be set by the section's
            own key: `loss=gspo` means `loss.name=gspo`. The value is read as the field's type; the
            items of a sequence are separated by commas. Entries that a mapping may get are listed
            with their types in `further_keys` of the configuration.

    Raises:
        UserError: a setting without `=`, an unknown key, a value of another type, or one that the
            configuration's own checks reject.
    """
    values: dict[str, Any] = {}
    hints = {**getattr(config, "further_keys", {})}
    hints |= {key: hint for key, hint, _ in _leaves(config)}
    short_forms = dict(_short_forms(config))
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals and key.endswith(".py"):
            raise UserError(f"write {key} before --set, which takes key=value only")
        if not equals or not key:
            raise UserError(f"setting {setting!r} has no value: write key=value")
        key = short_forms.get(key, key)
        if key not in hints:
            raise UserError(_unknown_key(key, hints))
        values[key] = _parse(key, text, hints[key])
    try:
        return _replace(config, values)
    except ValueError as error:  # from the __post_init__ of a configuration
        raise UserError(str(error)) from error


def settings(config: Any) -> list[str]:
    """All settings of a configuration with their values, in the form that `apply` accepts."""
    return [f"{key}={_text_of(value)}" for key, _, value in _leaves(config)]


def type_hints(config: Any) -> dict[str, Any]:
    """The type of every setting by its dotted path."""
    return {key: hint for key, hint, _ in _leaves(config)}


def load_experiment(
    path: Path,
    *,
    function: str = "get_config",
    otherwise: Callable[[Any], Any] | None = None,
) -> Any:
    """The configuration of an experiment file, the result of its `get_config()`.

    Args:
        path: a Python file.
        function: name of another function to call, such as "get_smoke_config".
        otherwise: applied to the result of `get_config()` if the file lacks `function`; by default
            that is an error.

    Raises:
        UserError: there is no such file, it cannot be run, or it returns no configuration.
    """
    plugins.require_file(path, "there is no experiment file")
    module = plugins.run_file(path)
    is_absent = otherwise is not None and not hasattr(module, function)
    if is_absent:
        function = "get_config"
    make = getattr(module, function, None)
    if not callable(make):
        raise UserError(f"{path} is not an experiment file: it has no function {function}()")
    with plugins.blaming(str(path)):
        config = make()
    if not dataclasses.is_dataclass(config):
        raise UserError(f"{path}: {function}() returned {config!r}, not a configuration")
    return otherwise(config) if otherwise is not None and is_absent else config


def _leaves(value: Any, hint: Any = None, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The dotted path, the type hint and the value of everything that can be set."""
    dotted = f"{path}." if path else ""
    if _is_section(value):
        hints = typing.get_type_hints(type(value))
        for field in dataclasses.fields(value):
            if field.init:
                child = getattr(value, field.name)
                yield from _leaves(child, hints[field.name], dotted + field.name)
    elif isinstance(value, Mapping):
        _, entry_hint = typing.get_args(hint) or (str, str)
        for name, entry in value.items():
            yield dotted + str(name), entry_hint, entry
    else:
        yield path, hint, value


def _short_forms(config: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The key of each section whose first field is `name`, and the key of that field."""
    for field in dataclasses.fields(config):
        section = getattr(config, field.name)
        if _is_section(section):
            key = f"{path}{field.name}"
            if next(iter(dataclasses.fields(section)), field).name == "name":
                yield key, f"{key}.name"
            yield from _short_forms(section, f"{key}.")


def _text_of(value: Any) -> str:
    """A value in the form that `_parse` reads."""
    if isinstance(value, tuple | list | set | frozenset):
        return ",".join(map(_text_of, value))
    return value.name if isinstance(value, enum.Enum) else str(value)


def _is_section(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _unknown_key(key: str, hints: Mapping[str, Any]) -> str:
    """The error for a key that cannot be set."""
    if RENAMED_KEYS.get(key) in hints:
        return f"{key} is now {RENAMED_KEYS[key]}"
    section, _, name = key.rpartition(".")
    if section.endswith(".options") and section in hints:
        return f"unknown key {key!r}; write {section}={name}=VALUE"
    inside = [path for path in hints if path.startswith(f"{key}.")]
    if inside:
        return f"{key} is a section: set one of {', '.join(inside)}"
    return f"unknown key {suggest(key, hints)}"


def _parse(key: str, text: str, hint: Any) -> Any:
    """Parses `text` as `hint` with tyro, as the value of an option."""
    if text == "None" and types.NoneType in typing.get_args(hint):
        return None  # tyro reads an optional section as a subcommand, not as a value
    if hint is bool and text.lower() in ("true", "false"):
        text = text.capitalize()
    option = dataclasses.make_dataclass("Setting", [("value", hint)])
    arguments = [f"--value={text}"]
    if _is_sequence(hint):
        arguments = ["--value", *(text.split(",") if text else [])]
    discarded = io.StringIO()
    try:
        with contextlib.redirect_stdout(discarded), contextlib.redirect_stderr(discarded):
            return tyro.cli(option, args=arguments).value
    except SystemExit as error:
        raise UserError(f"{key}={text}: {text!r} is not {_describe(hint)}") from error


def _is_sequence(hint: Any) -> bool:
    return typing.get_origin(hint) in (tuple, list, set, frozenset, Sequence)


def _describe(hint: Any) -> str:
    """A type in words."""
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return " or ".join(_describe(member) for member in typing.get_args(hint))
    if _is_sequence(hint):
        items = [_describe(item) for item in typing.get_args(hint) if item is not Ellipsis]
        return f"a sequence of {', '.join(items)}, separated by commas"
    words = {bool: "true or false", int: "an int", float: "a float", types.NoneType: "None"}
    return words.get(hint) or getattr(hint, "__name__", str(hint))


def _replace(value: Any, values: Mapping[str, Any]) -> Any:
    """`value` with the values at the dotted paths replaced, from the leaves up."""
    here: dict[str, Any] = {}
    below: dict[str, dict[str, Any]] = {}
    for path, new in values.items():
        name, _, rest = path.partition(".")
        if isinstance(value, Mapping):
            here[path] = new
        elif rest:
            below.setdefault(name, {})[rest] = new
        else:
            here[name] = new
    for name, inner in below.items():
        here[name] = _replace(getattr(value, name), inner)
    if isinstance(value, Mapping):
        return {**value, **here}
    return dataclasses.replace(value, **here) if here else value
