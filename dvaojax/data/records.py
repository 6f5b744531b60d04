"""The common form of a problem, into which every dataset is converted."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dvaojax.data.rows import SourceRow
from dvaojax.errors import UserError

Message = Mapping[str, str]  # {"role": ..., "content": ...}, as chat templates take them

ROLES = ("system", "user", "assistant", "tool")


@dataclasses.dataclass(frozen=True)
class ProblemRecord:
    """A conversation to be answered, and the data with which rewards judge the answer.

    Attributes:
        prompt: messages with a `role` and a `content`; the model's chat template renders them to
            text later.
        answer: a string for mathematics, never a float; JSON for tools and programs; None if the
            dataset has no reference answer but rubrics or instructions, which are in the metadata.
        metadata: JSON. `source` is the name of the dataset or file and `row` the index of the row
            in it; the other keys depend on the dataset.
    """

    prompt: tuple[Message, ...]
    answer: Any
    metadata: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The record as an object of a JSON lines file."""
        return {
            "prompt": [dict(message) for message in self.prompt],
            "answer": self.answer,
            "metadata": dict(self.metadata),
        }


def user(content: str) -> tuple[Message, ...]:
    """A prompt of one message."""
    return ({"role": "user", "content": content},)


def messages(row: SourceRow, name: str) -> tuple[Message, ...]:
    """The conversation in a field of a row.

    Raises:
        UserError: the field is not a list of messages, or ends with an assistant message.
    """
    conversation = row.field(name, list)
    if not conversation:
        raise UserError(f"{row.where}: {name!r} has no message")
    for number, message in enumerate(conversation):
        location = f"{row.where}: {name!r}[{number}]"
        if not isinstance(message, dict):
            raise UserError(f"{location} is not a message, an object with a role and a content")
        if message.get("role") not in ROLES:
            raise UserError(f"{location} has the role {message.get('role')!r}, not one of {ROLES}")
        if not isinstance(message.get("content"), str):
            raise UserError(f"{location} has no 'content' that is a string")
    if conversation[-1]["role"] == "assistant":
        raise UserError(f"{row.where}: {name!r} ends with an assistant message, not a question")
    return tuple({"role": m["role"], "content": m["content"]} for m in conversation)
