"""A real local HTTP server with Sandbox Fusion's `/run_code`, correct or faulty."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from loopback_server import LoopbackServer, QuietHandler


def run_code(request: dict[str, Any]) -> dict[str, Any]:
    """Runs the code as the original server does, without its isolation."""
    assert request["language"] == "python"
    start = time.monotonic()
    result: dict[str, Any] = {"status": "Finished", "return_code": 0, "stdout": "", "stderr": ""}
    try:
        done = subprocess.run(
            [sys.executable, "-c", request["code"]],
            input=request["stdin"],
            capture_output=True,
            text=True,
            timeout=request["run_timeout"],
            check=False,
        )
        result |= {"return_code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
    except subprocess.TimeoutExpired as timeout:
        stdout = (timeout.stdout or b"").decode()
        result |= {"status": "TimeLimitExceeded", "return_code": None, "stdout": stdout}
    result["execution_time"] = time.monotonic() - start
    status = "Success" if result["return_code"] == 0 else "Failed"
    return {
        "status": status,
        "message": "",
        "compile_result": None,
        "run_result": result,
        "executor_pod_name": None,
        "files": {},
    }


class CodeServer(LoopbackServer):
    """Answers as Sandbox Fusion does.

    Attributes:
        requests: the received bodies in order.
        paths: their paths.
    """

    def __init__(self, fault: Callable[[int, BaseHTTPRequestHandler], bool] | None = None):
        """Starts to listen.

        Args:
            fault: given the number of a request from 0 and its handler, answers the request
                wrongly and returns true, or leaves it to be answered correctly.
        """
        super().__init__(_Handler)
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self._fault, self._lock = fault, threading.Lock()

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        with self._lock:
            number = len(self.requests)
            self.requests.append(json.loads(body))
            self.paths.append(handler.path)
        if self._fault is None or not self._fault(number, handler):
            respond(handler, 200, json.dumps(run_code(self.requests[number])).encode())


class _Handler(QuietHandler):
    owner: CodeServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client has left
            self.owner.answer(self, body)


def respond(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    """Sends a response."""
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)
