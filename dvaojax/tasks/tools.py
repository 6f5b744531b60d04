"""Calling tools in ToolRL's format, scored on the calls and on the format.

Trained on ToolRL's dialogues (arXiv 2504.13958) and evaluated on the Berkeley function calling
leaderboard. The leaderboard's questions use the training set's system message, with the
leaderboard's functions in place of its tools.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Literal

from dvaojax.data.records import Message, ProblemRecord
from dvaojax.errors import UserError
from dvaojax.rewards import tools
from dvaojax.rewards.tools import bfcl
from dvaojax.tasks.prepared import PreparedTask
from dvaojax.types import Completion, RewardFunction

Grading = Literal["graded", "strict", "correctness", "reference"]

# Rewards of a training dialogue by the setting `grading`.
_ACCURACY: Mapping[str, RewardFunction] = {
    "graded": tools.graded,
    "strict": tools.exact_match,
    "correctness": tools.correctness,
    "reference": tools.toolrl_correctness,
}
_FORMAT: Mapping[str, Any] = {
    "graded": tools.layout,
    "strict": tools.layout,
    "correctness": tools.layout,
    "reference": tools.toolrl_format,
}

_FIRST_TOOL, _AFTER_TOOLS = "\n1. Name: ", "\n\n**Steps for Each Turn**"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tools(PreparedTask):
    """ToolRL's dialogues; the fields not listed here are `PreparedTask`'s.

    Attributes:
        grading: definition of `accuracy` in training. "graded": ToolRL's score in [0, 1]; "strict":
            1 for exactly the gold calls; "correctness": the score in [-3, 3]; "reference": that of
            ToolRL's own code, with its own check of the format. On the leaderboard `accuracy` is 1
            if the calls are right by its checker, with "reference" read by ToolRL's own code.
    """

    train: str = "toolrl"
    test: tuple[str, ...] = ("bfcl",)
    max_prompt_length: int = 2048
    grading: Grading = "graded"

    name = "tools"

    @property
    def objectives(self) -> Mapping[str, RewardFunction]:
        """`accuracy` of the calls and `format`, as defined by `grading`."""
        return {
            "accuracy": partial(call_accuracy, grading=self.grading),
            "format": partial(call_format, grading=self.grading, opened=self.opened),
        }

    def messages(self, record: ProblemRecord) -> Sequence[Message]:
        """The record's own messages, or a leaderboard question in the training set's format."""
        if not _is_from_leaderboard(record):
            return record.prompt
        history = [
            f"<{message['role']}> {message['content']} </{message['role']}>"
            for message in record.prompt
        ]
        start, end = self._system
        system = start + _listed(record.metadata["function"]) + end
        return (
            {"role": "system", "content": system},
            {"role": "user", "content": "\n".join(["**Dialogue Records History**", *history])},
        )

    def reference(self, record: ProblemRecord) -> Any:
        """The gold text of a dialogue; the leaderboard's functions and accepted calls."""
        if not _is_from_leaderboard(record):
            return record.metadata["gold_text"]
        category, functions = record.metadata["category"], record.metadata["function"]
        return bfcl.FunctionProblem(category, functions, record.answer or ())

    def category(self, record: ProblemRecord) -> str:
        """The leaderboard's own category, or the name of the set."""
        return str(record.metadata.get("category", record.metadata["source"]))

    @cached_property
    def _system(self) -> tuple[str, str]:
        """The training set's system message before and after the list of tools.

        Raises:
            UserError: the message does not list tools as ToolRL does.
        """
        message = self.records(self.train, "train")[0].prompt[0]["content"]
        before, first, listed = message.partition(_FIRST_TOOL)
        _, after, rest = listed.partition(_AFTER_TOOLS)
        if not first or not after:
            raise UserError(
                f"task.train={self.train}: its first system message does not list tools as ToolRL "
                f"does, so {', '.join(self.test)} cannot be asked in its format"
            )
        return f"{before}\n", after + rest


def call_accuracy(completion: Completion, reference: Any, /, *, grading: Grading) -> float | None:
    """Whether the calls are right.

    Args:
        completion: the answer.
        reference: see `Tools.reference`.
        grading: see `Tools`.
    """
    if isinstance(reference, bfcl.FunctionProblem):
        if grading == "reference":
            return bfcl.leaderboard_match(completion, reference, decode=bfcl.toolrl_calls)
        return bfcl.ast_match(completion, reference, decode=bfcl.json_calls)
    return _ACCURACY[grading](completion, reference)


def call_format(
    completion: Completion, reference: Any, /, *, grading: Grading, opened: str
) -> float:
    """Whether the answer has a thought, then the required parts, and nothing else.

    On the leaderboard these are calls, or a response in words if no function is relevant.

    Args:
        completion: the answer.
        reference: see `Tools.reference`.
        grading: see `Tools`.
        opened: text that the prompt has already written.
    """
    if isinstance(reference, bfcl.FunctionProblem):
        wants_words = "irrelevance" in reference.category
        reference = "<response>" if wants_words else "<tool_call>"
    return _FORMAT[grading](completion, reference, opened=opened)


def _is_from_leaderboard(record: ProblemRecord) -> bool:
    return record.metadata["source"] == "bfcl"


def _listed(functions: Sequence[Mapping[str, Any]]) -> str:
    """The list of functions in the format of ToolRL's system message."""
    return "\n".join(
        f"{number}. Name: {function['name']}\nDescription: {function['description']}\n"
        f"Parameters: {json.dumps(function['parameters'].get('properties', {}))}"
        for number, function in enumerate(functions, 1)
    )
