"""Parses function calls in the formats that models are evaluated with.

A parser takes a text and returns its calls: `[]` if there are none, or None if it cannot be read.
Only the text after the last `</think>`, if there is one, is parsed. Nothing is evaluated or
executed.
"""

import ast
import json
import re
import threading
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from dvaojax.rewards.thinking import after_thinking
from dvaojax.rewards.tools.bfcl.expressions import call_name, value_of
from dvaojax.rewards.tools.scanning import TOOL_CALL, answer_text, call_blocks, outline


class FunctionCall(NamedTuple):
    """One parsed call.

    Attributes:
        name: of the function, dots included; from JSON it may be of another type than a string.
        arguments: parameter -> value.
    """

    name: Any
    arguments: dict[Any, Any]


CallParser = Callable[[str], list[FunctionCall] | None]
"""Maps a text to its calls: `[]` if there are none, None if it cannot be read."""

_one_at_a_time = threading.Lock()


def python_calls(text: str) -> list[FunctionCall] | None:
    """Parses a Python list of calls, `[f(x=1), g.h(y="a")]`, as written without native tools.

    Follows the leaderboard's `default_decode_ast_prompting`: backquotes around the list are
    dropped and missing brackets added; positional arguments are lost, bare names become strings and
    inner calls text. Expressions that its code evaluates with `eval` are computed here only if they
    are arithmetic on numbers or sums of strings.
    """
    text = after_thinking(text).strip("`\n ")
    text = text if text.startswith("[") else "[" + text
    text = text if text.endswith("]") else text + "]"
    try:
        match _parsed(text.strip().strip("'")):
            case ast.List(elts=elements):
                return [_python_call(element) for element in elements]
    except (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError):
        pass
    return None


def native_calls(text: str) -> list[FunctionCall] | None:
    """Parses every `<tool_call>` block with a JSON object of `name` and `arguments`, as in Qwen.

    Follows the leaderboard's `QwenFCHandler`: each tag has its own line, and blocks that are not
    JSON are skipped.
    """
    calls = [value for value in map(_json, _blocks(after_thinking(text))) if value is not _NO_JSON]
    try:
        return [_json_call(call["name"], call["arguments"]) for call in calls]
    except (TypeError, LookupError):
        return None


def toolrl_calls(text: str) -> list[FunctionCall] | None:
    """Parses the last `<tool_call>` block: one JSON object of `name` and `parameters` per line.

    As ToolRL evaluates its models on the leaderboard (qiancheng0/ToolRL 8cee13ec, `rlla_qwen.py`):
    unlike in its training, lines that are not calls are skipped, and so is a tool named "none".
    """
    opening, closing = TOOL_CALL
    _, opened, rest = after_thinking(text).rpartition(opening)
    if not opened:
        return []
    calls = []
    for line in rest.partition(closing)[0].strip().split("\n"):
        match _json(line):
            case {"name": str(name), "parameters": arguments} if name.strip().lower() != "none":
                calls.append((name, arguments))
    try:
        return [_json_call(name, arguments) for name, arguments in calls]
    except TypeError:
        return None


def json_calls(text: str) -> list[FunctionCall] | None:
    """Parses every `<tool_call>` block after the thought. Recommended for calls in JSON.

    A block has one or more JSON objects with `name` and `arguments`, or `parameters` as in ToolRL,
    on one line or several. Unlike `native_calls` and `toolrl_calls`, the tags may be on any line, a
    tag in a string of a call is text, and nothing is skipped: if a block cannot be read, the result
    is None.
    """
    blocks = call_blocks(answer_text(text))
    if not all(block.values for block in blocks):
        return None
    values = [each.value for block in blocks for each in block.values or ()]
    try:
        return [_json_call(value["name"], _arguments(value)) for value in values]
    except (TypeError, LookupError):
        return None


def attempts_call(text: str) -> bool:
    """Whether an answer makes a call after its thought, or tries to.

    A call is attempted by a `<tool_call>` tag that is not in a string, in any case, by the marks
    with which other models begin a call (`<function=`, `<|python_tag|>`, `[TOOL_CALLS]`), by a line
    that begins like a list of calls, and by a text that begins like a call in Python or JSON. The
    call may be cut off or broken.
    """
    answer = outline(answer_text(text))
    return _MARK.search(answer) is not None or _ATTEMPT.search(answer) is not None


_MARK = re.compile(
    r"</?(?:tool_calls?|function_calls?|invoke|tool_use)\b|<function=|<\|python_tag\|>|\[TOOL_CALLS\]"
    r"|<[|\N{FULLWIDTH VERTICAL LINE}]tool[_▁]calls?[_▁]",
    re.IGNORECASE,
)


_ATTEMPT = re.compile(
    r"""(?: \A[`\s]*+(?:json|python|tool_code)?\s*+\[? | ^[`\ \t]*+\[ )\s*+
    (?: [^\W\d][\w.]*+\(\s*+(?:\w++\s*+=|\)|\Z)  # name(argument=, name() or an end after name(
      | \{\s*+(?:["']type["']\s*+:\s*+["']function["']\s*+,\s*+|["']id["']\s*+:[^,{}\n]*+,\s*+)*+
        ["'](?:name|function|tool_calls|function_call)["']\s*+: )""",
    re.VERBOSE | re.MULTILINE,
)


def _parsed(text: str) -> ast.expr:
    # Python warns about backslashes in a model's string; warning filters are shared by all threads.
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text, mode="eval").body


def _python_call(element: ast.expr) -> FunctionCall:
    if not isinstance(element, ast.Call):
        raise ValueError("an element of the list is not a call")
    arguments = {keyword.arg: value_of(keyword.value) for keyword in element.keywords}
    return FunctionCall(call_name(element), arguments)


def _json_call(name: Any, arguments: Any) -> FunctionCall:
    if isinstance(name, list | dict) or not isinstance(arguments, dict):
        raise TypeError("a call has a name and an object of arguments")
    return FunctionCall(name, arguments)


def _arguments(call: Any) -> Any:
    return call["arguments"] if "arguments" in call else call["parameters"]


_NO_JSON = object()


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NO_JSON


def _blocks(text: str) -> list[str]:
    """The texts between tags on their own lines, from left to right."""
    opening, closing = f"{TOOL_CALL[0]}\n", f"\n{TOOL_CALL[1]}"
    blocks, start_at = [], 0
    while (start := text.find(opening, start_at)) >= 0:
        start += len(opening)
        end = text.find(closing, start)
        if end < 0:
            break
        blocks.append(text[start:end])
        start_at = end + len(closing)
    return blocks
