"""Sends values between the processes of a test and a program as JSON through pipes.

The receiver gets exact built-in types: an instance of a subclass arrives as its base type, so that
no method written by the program takes part in a comparison. A value that cannot be represented as
JSON remains in its process and is referred to by a number. Uses the standard library only, since
it runs in the children of `sandbox`.
"""

import json
import os
from collections import deque
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from decimal import Decimal
from fractions import Fraction
from typing import Any

_SMALL = 2**53
_CONTAINERS: dict[str, Callable[[list], Any]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": deque,
    "iterator": iter,
}


class RemoteValue:
    """A value that remains in the program's process; equal only to itself."""

    def __init__(self, number: int):
        self.number = number


def encode(value: Any, keep: Callable[[Any], int]) -> Any:
    """Encodes a value as JSON.

    Args:
        value: any value. Iterators are consumed.
        keep: stores a value that cannot be represented as JSON and returns its number.
    """

    def several(items: Any) -> list:
        return [encode(item, keep) for item in items]

    match value:
        case None | bool():
            return value
        case str():
            return str.__str__(value)
        case int():
            number = int.__index__(value)
            return number if abs(number) < _SMALL else {"int": hex(number)}
        case float():
            return float.__float__(value)
        case complex():
            return {"complex": [value.real, value.imag]}
        case bytes() | bytearray():
            return {type(value).__name__: value.hex()}
        case Decimal():
            return {"Decimal": str(value)}
        case Fraction():
            return {"Fraction": [hex(value.numerator), hex(value.denominator)]}
        case range():
            return {"range": [hex(end) for end in (value.start, value.stop, value.step)]}
        case dict():
            return {"dict": [several(pair) for pair in dict.items(value)]}
        case Iterator() | KeysView() | ValuesView() | ItemsView():
            return {"iterator": several(value)}
        case list() | tuple() | set() | frozenset() | deque():
            kinds = (list, tuple, set, frozenset, deque)
            name = next(kind.__name__ for kind in kinds if isinstance(value, kind))
            return {name: several(value)}
        case RemoteValue():
            return {"kept": value.number}
        case _:
            return {"kept": keep(value)}


def decode(value: Any, kept: Callable[[int], Any]) -> Any:
    """Decodes a value that was encoded by `encode`.

    Args:
        value: JSON.
        kept: maps the number of a stored value to its replacement.

    Raises:
        ValueError: it contains a bare list, which `encode` never produces.
        Exception: it was not produced by `encode` for other reasons, or is nested too deeply.
    """
    if not isinstance(value, dict):
        if isinstance(value, list):
            raise ValueError("a bare list is not an encoded value")
        return value
    ((kind, parts),) = value.items()
    if kind in _CONTAINERS:
        return _CONTAINERS[kind]([decode(part, kept) for part in parts])
    match kind:
        case "int":
            return int(parts, 16)
        case "complex":
            return complex(*parts)
        case "bytes":
            return bytes.fromhex(parts)
        case "bytearray":
            return bytearray.fromhex(parts)
        case "Decimal":
            return Decimal(parts)
        case "Fraction":
            return Fraction(*(int(part, 16) for part in parts))
        case "range":
            return range(*(int(part, 16) for part in parts))
        case "dict":
            return {decode(key, kept): decode(item, kept) for key, item in parts}
        case "kept":
            return kept(parts)
    raise ValueError(f"{kind!r} is not an encoded type")


def read_frame(file: int, largest: int) -> Any:
    """Reads one JSON value from a pipe; None if the pipe has ended.

    Raises:
        ValueError: the value has more than `largest` bytes.
    """
    size = int.from_bytes(_read(file, 8), "big")
    if size > largest:
        raise ValueError(f"an answer of {size:,} bytes, more than {largest:,}")
    content = _read(file, size)
    return json.loads(content) if len(content) == size > 0 else None


def write_frame(file: int, value: Any) -> None:
    """Writes one JSON value to a pipe."""
    content = json.dumps(value).encode()
    content = len(content).to_bytes(8, "big") + content
    while content:
        content = content[os.write(file, content) :]


def _read(file: int, size: int) -> bytes:
    """Reads `size` bytes; fewer if the pipe has ended."""
    content = b""
    while len(content) < size and (piece := os.read(file, min(size - len(content), 2**20))):
        content += piece
    return content
