"""Calling tools in the form that ToolRL asks for, scored on the calls and on the form.

Trained on ToolRL's dialogues (arXiv 2504.13958) and evaluated on the Berkeley function calling
leaderboard, whose questions are put in the same words: the system message of the training set, with
the leaderboard's functions in place of its tools.
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

# What a training dialogue pays, by the name the configuration gives.
_ACCURACY: Mapping[str, RewardFunction] = {
    "graded": tools.graded,
    "strict": tools.exact_match,
    "correctness": tools.correctness,
    "reference": tools.toolrl_correctness,
}
_FORM: Mapping[str, Any] = {
    "graded": tools.layout,
    "strict": tools.layout,
    "correctness": tools.layout,
    "reference": tools.toolrl_format,
}

_FIRST_TOOL, _AFTER_TOOLS = "\n1. Name: ", "\n\n**Steps for Each Turn**"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tools(PreparedTask):
    """ToolRL's dialogues; the fields not named here are `PreparedTask`'s.

    Attributes:
        grading: what `accuracy` pays in training. "graded": ToolRL's score in [0, 1]; "strict": 1
            for exactly the gold calls; "correctness": the score in [-3, 3]; "reference": that of
            ToolRL's own code, with its own reading of the form. The leaderboard's questions pay 1
            where the calls are right by its own checker, whatever is set here.
    """

    train: str = "toolrl"
    test: tuple[str, ...] = ("bfcl",)
    max_prompt_length: int = 2048
    grading: Grading = "graded"

    name = "tools"

    @property
    def objectives(self) -> Mapping[str, RewardFunction]:
        """`accuracy` of the calls and `format`, as `grading` says."""
        return {
            "accuracy": partial(accuracy, grading=self.grading),
            "format": partial(form, grading=self.grading, opened=self.opened),
        }

    def messages(self, record: ProblemRecord) -> Sequence[Message]:
        """The record's own, or the leaderboard's question in the words of the training set."""
        if not _is_from_leaderboard(record):
            return record.prompt
        said = [
            f"<{message['role']}> {message['content']} </{message['role']}>"
            for message in record.prompt
        ]
        start, end = self._system
        system = start + _listed(record.metadata["function"]) + end
        return (
            {"role": "system", "content": system},
            {"role": "user", "content": "\n".join(["**Dialogue Records History**", *said])},
        )

    def reference(self, record: ProblemRecord) -> Any:
        """The gold text of a dialogue; the leaderboard's functions and accepted calls."""
        if not _is_from_leaderboard(record):
            return record.metadata["gold_text"]
        of = record.metadata
        return bfcl.FunctionProblem(of["category"], of["function"], record.answer or ())

    def category(self, record: ProblemRecord) -> str:
        """The leaderboard's own category, or the name of the set."""
        return str(record.metadata.get("category", record.metadata["source"]))

    @cached_property
    def _system(self) -> tuple[str, str]:
        """What the training set says before its tools and after them.

        Raises:
            UserError: it does not list tools as ToolRL does.
        """
        said = self.records(self.train, "train")[0].prompt[0]["content"]
        before, first, listed = said.partition(_FIRST_TOOL)
        _, after, rest = listed.partition(_AFTER_TOOLS)
        if not first or not after:
            raise UserError(
                f"task.train={self.train}: its first system message does not list tools as ToolRL "
                f"does, so that {', '.join(self.test)} cannot be asked in its words"
            )
        return f"{before}\n", after + rest


def accuracy(completion: Completion, reference: Any, /, *, grading: Grading) -> float | None:
    """Whether the calls are right.

    Args:
        completion: the answer.
        reference: as `Tools.reference` makes it.
        grading: see `Tools`.
    """
    if isinstance(reference, bfcl.FunctionProblem):
        return bfcl.ast_match(completion, reference, decode=bfcl.toolrl_calls)
    return _ACCURACY[grading](completion, reference)


def form(completion: Completion, reference: Any, /, *, grading: Grading, opened: str) -> float:
    """Whether the answer has a thought and then the parts that are asked for, and no other.

    On the leaderboard that is calls; where none of its functions can help, words.

    Args:
        completion: the answer.
        reference: as `Tools.reference` makes it.
        grading: see `Tools`.
        opened: what the prompt has already written.
    """
    if isinstance(reference, bfcl.FunctionProblem):
        wants_words = "irrelevance" in reference.category
        reference = "<response>" if wants_words else "<tool_call>"
    return _FORM[grading](completion, reference, opened=opened)


def _is_from_leaderboard(record: ProblemRecord) -> bool:
    return record.metadata["source"] == "bfcl"


def _listed(functions: Sequence[Mapping[str, Any]]) -> str:
    """Functions as ToolRL's system message lists tools."""
    return "\n".join(
        f"{number}. Name: {function['name']}\nDescription: {function['description']}\n"
        f"Parameters: {json.dumps(function['parameters'].get('properties', {}))}"
        for number, function in enumerate(functions, 1)
    )
