"""The answers of a server of chat completions in tests: its models, and one completion."""

import json
from http.server import BaseHTTPRequestHandler
from typing import Any


class ChatHandler(BaseHTTPRequestHandler):
    """The two addresses of the protocol that are used; a subclass defines `answer`.

    Attributes:
        name: of the served model.
        model: directory of the served model; the root in the list of models.
    """

    name = model = ""

    def answer(self, request: dict[str, Any]) -> str:
        """The text of the completion."""
        raise NotImplementedError

    def do_GET(self) -> None:
        self._send({"data": [{"id": self.name, "root": self.model}]})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert request["model"] == self.name
        message = {"role": "assistant", "content": self.answer(request)}
        self._send({"choices": [{"message": message}]})

    def _send(self, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
