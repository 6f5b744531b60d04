"""Answers that call tools, and the real gold answers of the shared data."""

import json
from collections.abc import Sequence
from typing import Any

from shared_data import shared

from dvaojax.types import Completion

THOUGHT = "<think> t </think>\n"


def answered(text: str) -> Completion:
    """A completion that ended with a stop token."""
    return Completion(text, token_ids=(0,), stopped=True)


def block(calls: Sequence[Any]) -> str:
    """Calls in a `<tool_call>` block, one per line."""
    return "\n".join(["<tool_call>", *map(json.dumps, calls), "</tool_call>"])


def call(name: str, **parameters: Any) -> dict[str, Any]:
    """One call in ToolRL's format."""
    return {"name": name, "parameters": parameters}


def gold_texts() -> dict[str, str]:
    """Name -> gold answer, for every available ToolRL row."""
    lines = shared("toolrl", "rlla_4k_test.jsonl").read_text().splitlines()
    test = [json.loads(line)["reward_model"]["ground_truth"] for line in lines]
    tuning = [row["output"] for row in json.loads(shared("toolrl", "rlla_sft.json").read_text())]
    return {
        **{f"test {row}": text for row, text in enumerate(test)},
        **{f"fine-tuning {row}": text for row, text in enumerate(tuning)},
    }


def lines_of(*parts: str) -> list[Any]:
    """The objects of a file with one JSON object per line."""
    return [json.loads(line) for line in shared(*parts).read_text().splitlines()]


HOSTILE = {
    "empty": "",
    "spaces": " " * 100_000,
    "one character": "a" * 100_000,
    "one brace": "{" * 100_000,
    "one opening tag, over and over": "<tool_call>\n" * 9_000,
    "one closing tag, over and over": "\n</tool_call>" * 9_000,
    "ends of thoughts": "<think>" + "</think>\n<tool_call>\n" * 5_000,
    "ends of thoughts, then words": "<think>" + "</think>\n<response>" * 6_000,
    "a lone surrogate": "\ud800",
    "NUL": "\x00",
    "nested braces": "{" * 10_000 + "}" * 10_000,
    "nested brackets": "[" * 10_000 + "]" * 10_000,
    "nested objects": '{"a":' * 10_000 + "1" + "}" * 10_000,
    "minus signs": "-" * 100_000 + "1",
    "sums": "1+" * 50_000 + "1",
    "a power": "9**9**9**9",
    "attributes": "a" + ".b" * 50_000,
    "a number too long": "9" * 100_000,
    "a backslash": "\\",
}
"""Texts that a policy may write and that break naive parsers."""

CONTEXTS = {
    "alone": "{}",
    "in a block": THOUGHT + "<tool_call>\n{}\n</tool_call>",
    "as parameters": THOUGHT + '<tool_call>\n{{"name": "f", "parameters": {}}}\n</tool_call>',
    "as an argument": "[f(x={})]",
}

HOSTILE_ANSWERS = {
    f"{name}, {where}": context.format(text)
    for name, text in HOSTILE.items()
    for where, context in CONTEXTS.items()
}
