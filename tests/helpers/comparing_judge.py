"""Questions and answers of a judge that compares two responses."""

import json
from typing import Any

from judge_server import Act, say


def compared(request: dict) -> tuple[str, str, list[dict[str, str]]]:
    """Response A, response B and the conversation of a request."""
    (message,) = request["messages"]
    text = message["content"]
    material = json.JSONDecoder().raw_decode(text[text.index("{") :])[0]
    return material["response A"], material["response B"], material["conversation"]


def verdict(letter: Any, **how: Any) -> Act:
    """An answer that ends in a verdict."""
    return say(f"Justification: it is better.\nVerdict: {letter}", **how)


def longer(request: dict) -> Act:
    """Prefers the longer response, and the first one of two of the same length."""
    first, second, _ = compared(request)
    return verdict("A" if len(first) >= len(second) else "B")
