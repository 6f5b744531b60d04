"""Dialogues with tools from ToolRL (`rlla`: ToolACE, Hammer's masked calls, xLAM)."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from dvaojax.data.records import Message, ProblemRecord, messages
from dvaojax.data.rows import SourceRow
from dvaojax.data.sources.published import GITHUB, DataSet, File, by_split
from dvaojax.rewards.tools import gold_calls
from dvaojax.rewards.tools.scanning import answer_text, outline

_TOOL = re.compile(
    r"^\d+\. Name: (?P<name>.*)\nDescription:(?P<description>.*?)\nParameters: (?P<parameters>.*)$",
    re.MULTILINE | re.DOTALL,
)
_NEXT_TOOL = re.compile(r"(?m)^(?=\d+\. Name: )")


def _parse(rows: Iterable[SourceRow], noted: Counter[str]) -> Iterator[ProblemRecord]:
    """Rows for reinforcement learning, and rows for fine-tuning, which have other fields.

    The answer is the list of calls in the last `<tool_call>` block after the thought; it is empty
    if the dialogue is to be answered with text. Thoughts that contain the tag are counted.
    """
    for row in rows:
        name, prompt = _prompt(row)
        gold = row.field(name, str)
        try:
            calls = gold_calls(gold)
        except ValueError as error:
            row.refuse(name, f"cannot be read: {error}")
        reply = answer_text(gold)
        wants_response = "<response>" in outline(reply)
        if calls is None and not wants_response:
            row.refuse(name, "has neither a <tool_call> nor a <response>")
        thought = gold.removesuffix(reply)
        noted["thoughts that contain <tool_call>, skipped"] += "<tool_call>" in thought
        metadata = {
            "source": "toolrl",
            "row": row.number,
            "wants_call": calls is not None,
            "wants_response": wants_response,
            "tools": _tools(row, prompt[0]["content"]),
            "gold_text": gold,
        }
        answer = [{"name": call.name, "parameters": call.parameters} for call in calls or ()]
        yield ProblemRecord(prompt, answer, metadata)


def _prompt(row: SourceRow) -> tuple[str, tuple[Message, ...]]:
    """Name of the field of the reference answer, and the prompt: a system and a user message."""
    if "instruction" in row.values:
        return "output", (
            {"role": "system", "content": row.field("instruction", str)},
            {"role": "user", "content": row.field("input", str)},
        )
    prompt = messages(row, "prompt")
    if [message["role"] for message in prompt] != ["system", "user"]:
        row.refuse("prompt", "is not a system message and a user message")
    return "reward_model.ground_truth", prompt


def _tools(row: SourceRow, system: str) -> list[dict[str, Any]]:
    """The tools that the system message lists."""
    listed = system.partition("**Available Tools**")[2].partition("**Steps for Each Turn**")[0]
    tools = []
    for entry in _NEXT_TOOL.split(listed)[1:]:
        tool = _TOOL.fullmatch(entry.strip())
        try:
            parameters = json.loads(tool["parameters"]) if tool else None
        except (ValueError, RecursionError):
            parameters = None
        if tool is None or not isinstance(parameters, dict):
            row.refuse("prompt", f"lists a tool that cannot be read: {entry.strip()[:60]!r}")
        description = tool["description"].strip()
        tools.append({"name": tool["name"], "description": description, "parameters": parameters})
    return tools


_TOOLRL = f"{GITHUB}/qiancheng0/ToolRL/8cee13ec0ca72f0461da372a93a6fd8140dbb840/dataset"

TOOLRL = DataSet(
    name="toolrl",
    title="dialogues to be continued with tool calls",
    licence="Apache-2.0; the parts from xLAM and the masked calls are CC BY 4.0 at their origin",
    files={
        "train": File(
            ("train.parquet", "rlla_4k_train.parquet"), f"{_TOOLRL}/rlla_4k/train.parquet"
        ),
        "test": File(
            ("test.parquet", "rlla_4k_test.parquet", "rlla_4k_test.jsonl"),
            f"{_TOOLRL}/rlla_4k/test.parquet",
            "f7f300ebe755fd04985c83e18097d5a94a08619d72809fe06128ed3f00da7554",
        ),
        "sft": File(
            ("rlla_sft.json",),
            f"{_TOOLRL}/rlla_4k_raw/rlla_sft.json",
            "ef42a7b1574f1552d6cc7bf9f060a6425458ff67bae2baf53e945dc640dc125c",
        ),
    },
    parse=by_split(_parse),
)
"""Qian et al., arXiv 2504.13958; the authors' repository."""
