"""The settings of a run as text: each key with its value, meaning, default and choices."""

import dataclasses
import enum
import typing
from collections.abc import Iterator, Mapping, Sequence
from textwrap import TextWrapper
from typing import Any

from dvaojax import aggregators, allocation, losses, sharding
from dvaojax.cli import docstrings
from dvaojax.config import Config, overrides
from dvaojax.learning.optimizer import SCHEDULES

_INDENT = "    "
_WIDTH = 100

# Choices of settings whose type is only a string.
_CHOICES: Mapping[str, Sequence[str]] = {
    "aggregator.name": tuple(aggregators.METHODS),
    "allocation.name": tuple(allocation.BY_NAME),
    "loss.capo.preset": tuple(losses.capo.PRESETS),
    "loss.name": (*losses.BY_NAME, *losses.PAIR_LOSSES),
    "mesh.sampler": tuple(sharding.SAMPLER_RULES),
    "optimizer.schedule": SCHEDULES,
}
_PLUGINS = ("aggregator.name", "loss.name", "allocation.name")


def page(config: Config, *, defaults: Config) -> str:
    """Every setting as a line `key=value`, with its description in indented lines below.

    Args:
        config: the values to list.
        defaults: of the run; a value that differs is listed with its default.
    """
    usual = dict(setting.split("=", 1) for setting in overrides.settings(defaults))
    meanings = dict(_meanings(config))
    hints = overrides.type_hints(config)
    blocks = []
    for setting in overrides.settings(config):
        key, _, value = setting.partition("=")
        described = [meanings.get(key, "")]
        described += _choices(key, hints[key])
        if usual.get(key, value) != value:
            described.append(f"Default: {usual[key]}.")
        blocks.append("\n".join([setting, *_wrapped(" ".join(filter(None, described)))]))
    return "\n".join(blocks)


def _meanings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted path -> meaning of every field, from the docstrings of the sections."""
    entries: dict[str, str] = {}
    for cls in reversed(type(value).__mro__):
        entries |= docstrings.parse(cls).entries if cls is not object else {}
    for field in dataclasses.fields(value):
        key, child = f"{path}{field.name}", getattr(value, field.name)
        if dataclasses.is_dataclass(child):
            yield from _meanings(child, f"{key}.")
        elif isinstance(child, Mapping):
            yield from ((f"{key}.{name}", f"{field.name}: {entries[field.name]}") for name in child)
        elif field.name in entries:
            yield key, _sentence(entries[field.name])


def _choices(key: str, hint: Any) -> list[str]:
    """The choices of a setting, where there are few."""
    names: Sequence[str] = _CHOICES.get(key, ())
    members = [hint, *typing.get_args(hint)]
    if hint is bool:
        names = ("true", "false")
    elif typing.get_origin(hint) is typing.Literal:
        names = [str(name) for name in typing.get_args(hint)]
    elif any(isinstance(member, type) and issubclass(member, enum.Enum) for member in members):
        kinds = [m for m in members if isinstance(m, type) and issubclass(m, enum.Enum)]
        names = [choice.name for kind in kinds for choice in kind]
    if not names:
        return []
    own = ", or FILE.py:FUNCTION" if key in _PLUGINS else ""
    return [f"One of: {', '.join(names)}{own}."]


def _sentence(text: str) -> str:
    return text if text.endswith((".", ":")) else f"{text}."


def _wrapped(text: str) -> list[str]:
    wrapper = TextWrapper(_WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
    return wrapper.wrap(text[:1].upper() + text[1:])
