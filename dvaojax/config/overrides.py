"""Settings from the command line (`--set optimizer.learning_rate=3e-4`) and experiment files.

A configuration is a frozen dataclass of numbers, strings, mappings and further dataclasses; its
types are the only description of what may be set to what. Mistakes are answered in one line.
"""

import contextlib
import dataclasses
import enum
import importlib.util
import io
import sys
import traceback
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from dvaojax.errors import UserError, nearest

Config = TypeVar("Config")


def apply(config: Config, settings: Sequence[str]) -> Config:
    """A configuration with some of its values replaced.

    All settings take effect at once, so that values which must fit each other can be changed
    together; of two settings of one key the later counts.

    Args:
        config: a frozen dataclass, possibly of further ones; it is left unchanged.
        settings: `key=value` each. The key is the dotted path of a field or of a mapping's entry
            (`weights.accuracy`). The value is read as the field's type; the items of a sequence
            stand between commas.

    Raises:
        UserError: a setting without `=`, an unknown key, a value of another type, or one that the
            configuration's own checks refuse.
    """
    values: dict[str, Any] = {}
    hints = {key: hint for key, hint, _ in _leaves(config)}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise UserError(f"setting {setting!r} has no value: write key=value")
        if key not in hints:
            raise UserError(_unknown_key(key, config, hints))
        values[key] = _parse(key, text, hints[key])
    try:
        return _replace(config, values)
    except ValueError as error:  # from the __post_init__ of a configuration
        raise UserError(str(error)) from error


def settings(config: Any) -> list[str]:
    """Every setting that a configuration has, with its value, as `apply` takes them."""
    return [f"{key}={_written(value)}" for key, _, value in _leaves(config)]


def load_experiment(path: Path, *, function: str = "get_config") -> Any:
    """The configuration that an experiment file describes: what its `get_config()` returns.

    Args:
        path: a Python file.
        function: name of the function to call instead, such as "get_smoke_config".

    Raises:
        UserError: there is no such file, it cannot be run, or it describes no configuration.
    """
    if not path.is_file():
        siblings = path.parent.glob("*.py") if path.parent.is_dir() else ()
        guess = nearest(path.name, [sibling.name for sibling in siblings])
        hint = f"; the nearest is {path.parent / guess}" if guess else ""
        raise UserError(f"there is no experiment file {path}{hint}")
    module = _run_file(path)
    make = getattr(module, function, None)
    if not callable(make):
        raise UserError(f"{path} describes no experiment: it has no function {function}()")
    with _blaming(path):
        config = make()
    if not dataclasses.is_dataclass(config):
        raise UserError(f"{path}: {function}() returned {config!r}, not a configuration")
    return config


def _leaves(value: Any, hint: Any = None, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every dotted path that can be set, the type of what belongs there, and what stands there."""
    dotted = f"{path}." if path else ""
    if _is_section(value):
        hints = typing.get_type_hints(type(value))
        for field in dataclasses.fields(value):
            if field.init:
                child = getattr(value, field.name)
                yield from _leaves(child, hints[field.name], dotted + field.name)
    elif isinstance(value, Mapping):
        _, of_entries = typing.get_args(hint) or (str, str)
        for name, entry in value.items():
            yield dotted + str(name), of_entries, entry
    else:
        yield path, hint, value


def _written(value: Any) -> str:
    """A value as `_parse` reads it."""
    if isinstance(value, tuple | list | set | frozenset):
        return ",".join(map(_written, value))
    return value.name if isinstance(value, enum.Enum) else str(value)


def _is_section(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _unknown_key(key: str, config: Any, hints: Mapping[str, Any]) -> str:
    inside = [path for path in hints if path.startswith(f"{key}.")]
    if inside:
        return f"{key} is a group of settings: set one of {', '.join(inside)}"
    return f"unknown key {key}: the nearest is {nearest(key, hints)}"


def _parse(key: str, text: str, hint: Any) -> Any:
    """`text` read as `hint` by tyro, as the value of an option."""
    if text == "None" and types.NoneType in typing.get_args(hint):
        return None  # tyro reads an optional section as a subcommand, not as a value
    if hint is bool and text.lower() in ("true", "false"):
        text = text.capitalize()
    option = dataclasses.make_dataclass("Setting", [("value", hint)])
    arguments = [f"--value={text}"]
    if _is_sequence(hint):
        arguments = ["--value", *(text.split(",") if text else [])]
    silence = io.StringIO()
    try:
        with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
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
        return f"a sequence of {', '.join(items)}, with commas between"
    words = {bool: "true or false", int: "an int", float: "a float", types.NoneType: "None"}
    return words.get(hint) or getattr(hint, "__name__", str(hint))


def _replace(value: Any, values: Mapping[str, Any]) -> Any:
    """`value` with what stands under the dotted paths replaced, from the leaves up."""
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


def _run_file(path: Path) -> types.ModuleType:
    """The file as a module under a name of its own, which its dataclasses can be found by."""
    name = f"dvaojax_experiment_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _blaming(path):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong in an experiment file into the line where it went wrong."""
    try:
        yield
    except UserError:
        raise
    except SyntaxError as error:
        raise UserError(f"{path}:{error.lineno}: {error.msg}") from error
    except Exception as error:
        lines = [
            f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)
        ]
        where = f"{path}:{lines[-1]}" if lines else str(path)
        message = " ".join(str(error).split())
        raise UserError(f"{where}: {type(error).__name__}: {message}") from error
