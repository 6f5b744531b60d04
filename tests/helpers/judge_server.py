"""A real local HTTP server with the chat-completions protocol, correct or faulty."""

import dataclasses
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from loopback_server import LoopbackServer, QuietHandler

TOKENS_IN, TOKENS_OUT = 100, 7


@dataclasses.dataclass(frozen=True)
class Act:
    """The server's reaction to one request.

    Attributes:
        body: of the response.
        status: of the response.
        headers: in addition to the length.
        delay: seconds before the response.
        pace: seconds between two bytes of the body; 0 sends it at once.
        sent: number of bytes sent before the connection breaks; None for all of them.
        raw: what is sent instead of a response; the connection ends afterwards.
        endless: what is then sent again and again until the client leaves.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    delay: float = 0.0
    pace: float = 0.0
    sent: int | None = None
    raw: bytes = b""
    endless: bytes = b""


def say(text: Any, **how: Any) -> Act:
    """A response in the format of the protocol."""
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": TOKENS_IN, "completion_tokens": TOKENS_OUT}
    body = {"choices": [{"index": 0, "message": message}], "usage": usage}
    return Act(json.dumps(body).encode(), **how)


def grade(met: Any, **how: Any) -> Act:
    """A grade in the requested format."""
    return say(json.dumps({"explanation": "Checked.", "criteria_met": met}), **how)


def asked(request: dict) -> tuple[str, str]:
    """The graded answer and the criterion of a request."""
    (message,) = request["messages"]
    conversation = re.search(r"^\[\n.*?^\]$", message["content"], re.DOTALL | re.MULTILINE)
    criterion = re.search(r"^\[[+-][\d.]+\] (.*)$", message["content"], re.MULTILINE)
    assert conversation is not None
    assert criterion is not None
    return json.loads(conversation[0])[-1]["content"], criterion[1]


def honest(request: dict) -> Act:
    """Grades items of the form `says <text>`."""
    answer, criterion = asked(request)
    return grade(criterion.removeprefix("says ") in answer)


class JudgeServer(LoopbackServer):
    """Answers as a judge does.

    Attributes:
        url: for a client's configuration.
        requests: the received bodies in order.
        headers: their headers.
        most_at_once: maximum number of concurrent requests.
    """

    def __init__(self, act: Callable[[int, dict], Act], *, port: int = 0):
        """Starts to listen; requests are answered from entering the context on.

        Args:
            act: reaction to a request, given its number from 0 and its body.
            port: to listen on; 0 chooses a free one.
        """
        super().__init__(_Handler, port=port)
        self.url += "/v1"
        self.requests: list[dict] = []
        self.headers: list[Mapping[str, str]] = []
        self.most_at_once = self._at_once = 0
        self._act, self._lock = act, threading.Lock()

    def answer(self, body: bytes, headers: Mapping[str, str]) -> Act:
        with self._lock:
            number = len(self.requests)
            self.requests.append(json.loads(body))
            self.headers.append(headers)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        act = self._act(number, self.requests[number])
        time.sleep(act.delay)
        with self._lock:
            self._at_once -= 1
        return act


class _Handler(QuietHandler):
    protocol_version = "HTTP/1.1"
    owner: JudgeServer

    def do_POST(self) -> None:
        assert self.path == "/v1/chat/completions"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        act = self.owner.answer(body, dict(self.headers))
        try:
            if act.raw:
                self.wfile.write(act.raw)
                while act.endless:
                    self.wfile.write(act.endless)
            if act.raw or act.sent == 0:
                self._hang_up()
                return
            self.send_response(act.status)
            for name, value in act.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(act.body)))
            self.end_headers()
            for piece in [act.body[i : i + 1] for i in range(len(act.body))] if act.pace else []:
                self.wfile.write(piece)
                time.sleep(act.pace)
            if not act.pace:
                self.wfile.write(act.body[: act.sent])
            if act.sent is not None:
                self._hang_up()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
