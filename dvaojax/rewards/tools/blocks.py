"""Tool calls in ToolRL's format: a `<tool_call>` block with one JSON object per line.

    <think> The user wants the news. </think>
    <tool_call>
    {"name": "GetNews", "parameters": {"page": "1"}}
    </tool_call>

The gold answer that every reward of this package takes as its reference is such a text, including
the thought.

Not to be confused with: the `arguments` of a chat template's tool calls, read by `bfcl.parsing`.
"""

import itertools
import json
from typing import Any, NamedTuple

from dvaojax.rewards.tools.scanning import TOOL_CALL, answer_text, call_blocks

RESPONSE = ("<response>", "</response>")


class ToolCall(NamedTuple):
    """One call: the tool's name and its parameters as JSON values."""

    name: str
    parameters: dict[str, Any]


def wants_calls(text: str) -> bool:
    """Whether an answer contains a `<tool_call>` after its thought."""
    return TOOL_CALL[0] in answer_text(text)


def tool_calls(text: str) -> tuple[ToolCall, ...] | None:
    """The calls of the last block after the thought; None if it cannot be read.

    The block has to be closed, and each of its lines that is not blank has to be one JSON object
    with a string `name` and an object `parameters`; the tags may be on the same lines. One bad line
    invalidates the block, since a program could not run it as a whole. A `<tool_call>` that is only
    mentioned in the thought or in a string is not a block.
    """
    answer = answer_text(text)
    values = next((block.values for block in reversed(call_blocks(answer))), None)
    if not values:
        return None
    gaps = [answer[one.end : other.start] for one, other in itertools.pairwise(values)]
    lines = [answer[each.start : each.end] for each in values]
    if not all("\n" in gap for gap in gaps) or any("\n" in line for line in lines):
        return None
    try:
        return tuple(_tool_call(each.value) for each in values)
    except ValueError:
        return None


def gold_calls(gold: str) -> tuple[ToolCall, ...] | None:
    """The calls of a gold answer; None if it makes none and responds in words.

    Raises:
        ValueError: it contains a `<tool_call>` that cannot be read.
    """
    if not wants_calls(gold):
        return None
    calls = tool_calls(gold)
    if calls is None:
        raise ValueError(f"the calls of a gold answer cannot be read: {answer_text(gold)!r:.300}")
    return calls


def first_block(text: str) -> list[Any]:
    """The JSON values of the first block, thoughts included, as ToolRL's trainer reads them.

    Nothing is checked: the values may have any type, and if the only closing tag precedes the
    block, the block extends to the end of the text.

    Raises:
        ValueError: a tag is missing, or a line is not JSON.
        RecursionError: a line is nested too deeply.
    """
    opening, closing = TOOL_CALL
    if opening not in text or closing not in text:
        raise ValueError("no tool call")
    block = text.split(opening)[1].split(closing)[0]
    return [json.loads(line) for line in block.strip().split("\n")]


def _tool_call(value: Any) -> ToolCall:
    match value:
        case {"name": str(name), "parameters": dict(parameters)}:
            return ToolCall(name, parameters)
        case _:
            raise ValueError(f"{value!r:.80} is not a call")
