"""A server of a model's directory whose answers are scripted, as a program: MODEL NAME PORT.

A rubric names the directory, and there is none for one of the topics. The verdict is for the
response that thanks.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def answer(question: str, model: str) -> str:
    """A rubric or a verdict in the requested layout."""
    if "Verdict:" not in question and "a bus" in question:
        return "I do not know."
    if "Verdict:" not in question:
        return f"1. It thanks.\n2. It is short ({model})."
    start = question.index('"response A"')
    thanks = "Thanks" in question[start : question.index('"response B"')]
    return f"Criterion 1: so.\nCriterion 2: so.\nJustification: so.\nVerdict: {'BA'[thanks]}"


class Handler(BaseHTTPRequestHandler):
    """The two addresses of the protocol that are used."""

    model = name = ""

    def do_GET(self) -> None:
        self._send({"data": [{"id": self.name, "root": self.model}]})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert request["model"] == self.name
        text = answer(request["messages"][-1]["content"], self.model)
        self._send({"choices": [{"message": {"role": "assistant", "content": text}}]})

    def _send(self, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    Handler.model, Handler.name, port = sys.argv[1:]
    ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
