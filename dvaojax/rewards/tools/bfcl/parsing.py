"""Function calls out of an answer's text, in the three spellings that models are evaluated with.

A decoder takes a text and returns its calls, `[]` where it holds none, or None where it cannot be
read. Thoughts are left out: where there is a `</think>`, only what follows the last one counts.
Nothing is ever evaluated or executed.
"""

import ast
import json
import threading
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from dvaojax.rewards.thinking import after_thinking
from dvaojax.rewards.tools.bfcl.expressions import call_name, value_of
from dvaojax.rewards.tools.blocks import TOOL_CALL


class FunctionCall(NamedTuple):
    """One decoded call.

    Attributes:
        name: of the function, dots included; JSON may hold something else than a string.
        arguments: parameter -> value.
    """

    name: Any
    arguments: dict[Any, Any]


CallParser = Callable[[str], list[FunctionCall] | None]
"""A text's calls, `[]` where it holds none, None where it cannot be read."""

_one_at_a_time = threading.Lock()


def python_calls(text: str) -> list[FunctionCall] | None:
    """A Python list of calls, `[f(x=1), g.h(y="a")]`, as models without native tools write it.

    As the leaderboard's `default_decode_ast_prompting` reads it: backquotes around the list are
    dropped, missing brackets added; positional arguments are lost, bare names become strings and
    inner calls text. What its code would `eval` is computed here only where it is arithmetic on
    numbers or a sum of strings.
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
    """Every `<tool_call>` block with a JSON object of `name` and `arguments`, as Qwen writes it.

    As the leaderboard's `QwenFCHandler` reads it: the tags stand on lines of their own, and a block
    that is not JSON is passed over.
    """
    calls = [value for value in map(_json, _blocks(after_thinking(text))) if value is not _NO_JSON]
    try:
        return [_json_call(call["name"], call["arguments"]) for call in calls]
    except (TypeError, LookupError):
        return None


def toolrl_calls(text: str) -> list[FunctionCall] | None:
    """The last `<tool_call>` block, one JSON object of `name` and `parameters` a line.

    As ToolRL evaluates its models on the leaderboard (qiancheng0/ToolRL 8cee13ec, `rlla_qwen.py`):
    unlike in its training, lines that are no call are passed over, and so is a tool named "none".
    """
    opening, closing = TOOL_CALL
    _, found, rest = after_thinking(text).rpartition(opening)
    if not found:
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


def _parsed(text: str) -> ast.expr:
    # Python warns of backslashes in a model's string; what is to be warned of, all threads share.
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text, mode="eval").body


def _python_call(element: ast.expr) -> FunctionCall:
    if not isinstance(element, ast.Call):
        raise ValueError("an element of the list is no call")
    arguments = {keyword.arg: value_of(keyword.value) for keyword in element.keywords}
    return FunctionCall(call_name(element), arguments)


def _json_call(name: Any, arguments: Any) -> FunctionCall:
    if isinstance(name, list | dict) or not isinstance(arguments, dict):
        raise TypeError("a call has a name and an object of arguments")
    return FunctionCall(name, arguments)


_NO_JSON = object()


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NO_JSON


def _blocks(text: str) -> list[str]:
    """What stands between tags on lines of their own, from left to right."""
    opening, closing = f"{TOOL_CALL[0]}\n", f"\n{TOOL_CALL[1]}"
    found, place = [], 0
    while (start := text.find(opening, place)) >= 0:
        start += len(opening)
        place = text.find(closing, start)
        if place < 0:
            break
        found.append(text[start:place])
        place += len(closing)
    return found
