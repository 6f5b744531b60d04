"""Rows with two responses of which the better one is known, for rubrics and for judges."""

import hashlib
import json
from typing import Any

from dvaojax.data.records import ProblemRecord
from dvaojax.errors import UserError
from dvaojax.rewards.preferences import Preference, ResponsePair
from dvaojax.tasks.prepared import shown_conversation, where_in_source


def read_preference(record: ProblemRecord) -> Preference:
    """The preference of a record.

    The metadata has the better response as `chosen` and the other one as `rejected`, each as text
    or as messages whose last one is the assistant's, and possibly a `rubric` as text. Which of the
    two is response A depends on a hash of conversation and responses, so that half of the better
    ones are.

    Raises:
        UserError: a response or the rubric is missing or is not text, both responses are equal, or
            a message of the prompt has `tool_calls`, which the judge is not shown.
    """
    where, metadata = where_in_source(record), record.metadata
    chosen, rejected = (
        _response(f"{where}: {name!r}", metadata.get(name)) for name in ("chosen", "rejected")
    )
    if chosen == rejected:
        raise UserError(f"{where}: 'chosen' and 'rejected' are equal, which is no preference")
    rubric = metadata.get("rubric") or ""
    if not isinstance(rubric, str):
        raise UserError(f"{where}: the rubric is not text: write its criteria as one string")
    conversation = shown_conversation(record)
    content = json.dumps([conversation, chosen, rejected]).encode()
    if hashlib.sha256(content).digest()[0] % 2:
        return Preference(ResponsePair(conversation, chosen, rejected, rubric), "A")
    return Preference(ResponsePair(conversation, rejected, chosen, rubric), "B")


def _response(where: str, value: Any) -> str:
    """The text of a response, given as text or as messages.

    Raises:
        UserError: it is neither.
    """
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        last = value[-1]
        value = last.get("content") if last.get("role") == "assistant" else None
    if not isinstance(value, str):
        raise UserError(
            f"{where} is neither text nor messages of which the last is the assistant's: a "
            "preference has the columns prompt, chosen and rejected"
        )
    return value
