"""The common form of a problem, into which every dataset is converted."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dvaojax.data.rows import SourceRow
from dvaojax.errors import UserError

Message = Mapping[str, Any]  # {"role": ..., "content": ...}, as chat templates take them

ROLES = ("system", "user", "assistant", "tool")

# Further keys of messages, which chat templates read, with their types.
_MORE = {"name": str, "tool_call_id": str, "reasoning_content": str, "tool_calls": list}
_KINDS = {str: "string", list: "list"}


@dataclasses.dataclass(frozen=True)
class ProblemRecord:
    """A conversation to be answered, and the data with which rewards judge the answer.

    Attributes:
        prompt: messages with a `role` and a `content`, and possibly a `name`, `tool_calls`, a
            `tool_call_id` or `reasoning_content`; the model's chat template renders them to text
            later.
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

    All keys of its messages are kept, except those whose value is null, as tables have them.

    Raises:
        UserError: the field is not a list of messages, a message has a key that chat templates do
            not read, or the last one is the assistant's.
    """
    conversation = row.field(name, list)
    if not conversation:
        raise UserError(f"{row.where}: {name!r} has no message")
    read = tuple(
        _message(f"{row.where}: {name!r}[{number}]", message)
        for number, message in enumerate(conversation)
    )
    if read[-1]["role"] == "assistant":
        raise UserError(f"{row.where}: {name!r} ends with an assistant message, not a question")
    return read


def _message(where: str, given: Any) -> Message:
    if not isinstance(given, dict):
        raise UserError(f"{where} is not a message, an object with a role and a content")
    message = {key: value for key, value in given.items() if value is not None}
    if message.get("role") not in ROLES:
        raise UserError(f"{where} has the role {message.get('role')!r}, not one of {ROLES}")
    if message.get("tool_calls"):
        message.setdefault("content", "")  # a turn of calls alone has none
    if not isinstance(message.get("content"), str):
        raise UserError(f"{where} has no 'content' that is a string")
    for key, value in message.items():
        if key not in ("role", "content", *_MORE):
            raise UserError(
                f"{where} has the key {key!r}; messages have a role, a content and possibly "
                f"{', '.join(_MORE)}"
            )
        kind = _MORE.get(key, str)
        if not isinstance(value, kind):
            raise UserError(f"{where} has a {key!r} that is not a {_KINDS[kind]}")
    for call in message.get("tool_calls", ()):
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise UserError(f"{where}: 'tool_calls' has a call without a function and its name")
    return message
