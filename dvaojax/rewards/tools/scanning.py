"""Finds `<tool_call>` blocks in a text, with JSON read as JSON.

A tag or `</think>` in a string of a call belongs to the string: it ends neither the block nor the
thought.
"""

import json
import re
from typing import Any, NamedTuple

from dvaojax.rewards.thinking import END_OF_THINKING

TOOL_CALL = ("<tool_call>", "</tool_call>")

_MOST_BLOCKS = 1000
_SPACE = re.compile(r"\s*")
_DECODER = json.JSONDecoder()


class JsonValue(NamedTuple):
    """A JSON value in a text.

    Attributes:
        value: as Python's `json` reads it.
        start: index of its first character.
        end: index after its last one.
    """

    value: Any
    start: int
    end: int


class CallBlock(NamedTuple):
    """The content of a `<tool_call>` block.

    Attributes:
        start: index after the opening tag.
        end: index of the closing tag; `start` if the block cannot be read.
        values: the JSON values between the tags; None if there is something else, or no end.
    """

    start: int
    end: int
    values: tuple[JsonValue, ...] | None


def call_blocks(text: str) -> list[CallBlock]:
    """The blocks of a text, from left to right, also those that cannot be read.

    In a text with more than 1,000 opening tags none is read: every attempt takes time.
    """
    blocks, position = [], 0
    if text.count(TOOL_CALL[0]) > _MOST_BLOCKS:
        start = text.find(TOOL_CALL[0]) + len(TOOL_CALL[0])
        return [CallBlock(start, start, None)]
    while (start := text.find(TOOL_CALL[0], position)) >= 0:
        blocks.append(_block(text, start + len(TOOL_CALL[0])))
        position = blocks[-1].end
    return blocks


def _block(text: str, start: int) -> CallBlock:
    values, position = [], _after_space(text, start)
    while not text.startswith(TOOL_CALL[1], position):
        try:
            value, end = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError):
            return CallBlock(start, start, None)
        values.append(JsonValue(value, position, end))
        position = _after_space(text, end)
    return CallBlock(start, position, tuple(values))


def _after_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return position if match is None else match.end()


def outline(text: str) -> str:
    """The text, of the same length, with dots for the characters of calls that can be read."""
    pieces, position = [], 0
    for start, end, _ in call_blocks(text):
        pieces += [text[position:start], re.sub(r"\S", ".", text[start:end])]
        position = end
    return "".join([*pieces, text[position:]])


def answer_text(text: str) -> str:
    """The text after the last `</think>` outside of calls; the whole text if there is none."""
    return text[len(text) - len(outline(text).rpartition(END_OF_THINKING)[2]) :]
