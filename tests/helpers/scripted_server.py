"""A server of a model's directory whose answers are scripted, as a program: MODEL NAME PORT.

A rubric names the directory, and there is none for one of the topics. The verdict is for the
response that thanks.
"""

import sys
from http.server import ThreadingHTTPServer
from typing import Any

from chat_handler import ChatHandler


def answer(question: str, model: str) -> str:
    """A rubric or a verdict in the requested layout."""
    if "Verdict:" not in question and "a bus" in question:
        return "I do not know."
    if "Verdict:" not in question:
        return f"1. It thanks.\n2. It is short ({model})."
    start = question.index('"response A"')
    thanks = "Thanks" in question[start : question.index('"response B"')]
    return f"Criterion 1: so.\nCriterion 2: so.\nJustification: so.\nVerdict: {'BA'[thanks]}"


class Handler(ChatHandler):
    """Answers the last message."""

    def answer(self, request: dict[str, Any]) -> str:
        return answer(request["messages"][-1]["content"], self.model)


if __name__ == "__main__":
    Handler.model, Handler.name, port = sys.argv[1:]
    ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
