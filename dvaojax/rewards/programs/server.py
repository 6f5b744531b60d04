"""Programs on a server with Sandbox Fusion's protocol instead of a sandbox on this machine.

Sandbox Fusion (https://github.com/bytedance/SandboxFusion) runs the code of a `POST /run_code` and
returns its output. The code sent here is the program and the calls of its functions; the output is
their returned values. Expected values are compared on this machine and never sent.
"""

import json
import secrets
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dvaojax.errors import import_extra
from dvaojax.rewards.programs.limits import Limits
from dvaojax.rewards.programs.program_process import LARGEST_REQUEST
from dvaojax.rewards.programs.serialisation import read_frame, write_frame

_WAIT_SECONDS = (0.2, 1.0)  # before the second and the third attempt
_GRACE_SECONDS = 30.0
_LARGEST_REPLY = 2**24
_HERE = Path(__file__).parent

# Runs on the server: the program with all calls so far, whose results are its only output.
_DRIVER = """
import json, os, sys, types
given = json.loads(sys.stdin.read())
for name in ("dvaojax", "dvaojax.rewards", "dvaojax.rewards.programs"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
for name, source in given["modules"]:
    full_name = f"dvaojax.rewards.programs.{name}"
    module = sys.modules[full_name] = types.ModuleType(full_name)
    setattr(sys.modules["dvaojax.rewards.programs"], name, module)
    exec(compile(source, name, "exec"), vars(module))
confinement = sys.modules["dvaojax.rewards.programs.confinement"]
program = sys.modules["dvaojax.rewards.programs.program_process"].RunningProgram()
output, null_device = os.dup(1), os.open(os.devnull, os.O_WRONLY)
os.dup2(null_device, 1)
os.dup2(null_device, 2)

def write(reply):
    line = f"\\n{given['mark']}{json.dumps(reply)}\\n".encode()
    while line:
        line = line[os.write(output, line):]

confinement.set_resource_limits(**given["limits"])
reply = program.start(given["sources"])
write(reply)
if "value" in reply:
    for call in given["calls"]:
        write(program.call(call["name"], call["arguments"]))
os._exit(0)
"""


class ServerError(Exception):
    """The server gave no usable reply, for a reason outside the program."""


class ProgramServer:
    """Client of one server. Thread-safe."""

    def __init__(self, url: str, limits: Limits):
        """Stores the address; nothing is sent yet.

        Raises:
            UserError: httpx is not installed.
        """
        self.limits = limits
        self._httpx = import_extra("httpx", extra="judge")
        self._url = url.rstrip("/")
        if not self._url.endswith("/run_code"):
            self._url += "/run_code"
        names = ("serialisation", "confinement", "program_process")
        self._modules = [(name, (_HERE / f"{name}.py").read_text()) for name in names]

    def run(
        self, sources: Sequence[str], calls: Sequence[Mapping[str, Any]], *, seconds: float
    ) -> tuple[list[Mapping[str, Any]], float]:
        """Runs a program and calls its functions.

        Args:
            sources: the program.
            calls: in order, with encoded arguments.
            seconds: limit of the running time.

        Returns:
            The reply of the program's start and of each call, up to the one at which it ended, and
            the seconds that it took.

        Raises:
            ServerError: the server cannot be reached, is busy, or replies incorrectly.
        """
        mark = secrets.token_hex(16)
        given = {
            "mark": mark,
            "modules": self._modules,
            "sources": list(sources),
            "calls": list(calls),
            "limits": self.limits.for_process(),
        }
        body = {
            "language": "python",
            "code": _DRIVER,
            "stdin": json.dumps(given),
            "run_timeout": seconds,
            "compile_timeout": seconds,
            "memory_limit_MB": -1,
        }
        content = json.dumps(body).encode()
        failure = ""
        for wait in (*_WAIT_SECONDS, None):
            try:
                result = _run_result(self._post(content, seconds + _GRACE_SECONDS))
                return _replies(result["stdout"], mark), result["seconds"]
            except ServerError as error:
                failure = str(error)
            if wait is not None:
                time.sleep(wait)
        raise ServerError(f"rewards.programs.server={self._url}: {failure}")

    def _post(self, content: bytes, seconds: float) -> bytes:
        """The body of a reply, limited in size and in time as a whole."""
        end, body = time.monotonic() + seconds, b""
        # Compressed replies are not requested, so that the limit is that of the memory needed.
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        client = self._httpx.Client(timeout=seconds, verify=self._url.startswith("https://"))
        try:
            with (
                client,
                client.stream("POST", self._url, content=content, headers=headers) as response,
            ):
                if response.status_code != 200:
                    raise ServerError(f"HTTP {response.status_code}")
                for piece in response.iter_raw():
                    body += piece
                    if len(body) > _LARGEST_REPLY:
                        raise ServerError(f"a reply of more than {_LARGEST_REPLY >> 20} MiB")
                    if time.monotonic() > end:
                        raise ServerError(f"no complete reply within {seconds:g} s")
        except (self._httpx.HTTPError, self._httpx.InvalidURL, self._httpx.StreamError) as error:
            raise ServerError(type(error).__name__) from error
        return body


class RemoteProgram:
    """The end of a program's socket that a server answers: `program_process` without a process.

    A context manager: a thread answers the channels until its exit.

    Attributes:
        failure: why the server gave no usable reply; empty if it did.
    """

    def __init__(self, server: ProgramServer, control: socket.socket):
        self.failure = ""
        self._server = server
        self._control = control
        self._seconds = server.limits.problem_seconds
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "RemoteProgram":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with self._control:
            self._control.shutdown(socket.SHUT_RDWR)
            self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                _, channels, _, _ = socket.recv_fds(self._control, 1, 1)
            except OSError:
                return
            if not channels:
                return
            with socket.socket(fileno=channels[0]) as channel:
                try:
                    self._answer(channel.fileno())
                except ServerError as error:
                    self.failure = str(error)
                except OSError:  # the test has ended
                    continue

    def _answer(self, channel: int) -> None:
        """Answers the calls of one test; all calls of one request run in one process."""
        request = read_frame(channel, LARGEST_REQUEST)
        if request is None:
            return
        sources, calls = request["sources"], list(request["ahead"])
        replies, count = self._run(sources, calls), 0
        while count < len(replies):
            write_frame(channel, replies[count])
            call = read_frame(channel, LARGEST_REQUEST)
            if call is None:
                return
            if call != (calls[count] if count < len(calls) else None):
                calls = [*calls[:count], call]
                replies = [*replies[: count + 1], *self._run(sources, calls)[count + 1 :]]
            count += 1

    def _run(self, sources: Sequence[str], calls: Sequence[Mapping[str, Any]]):
        seconds = min(self._server.limits.wall_seconds, self._seconds)
        if seconds <= 0 or self.failure:
            return []
        replies, took = self._server.run(sources, calls, seconds=seconds)
        self._seconds -= took
        return replies


def _run_result(content: bytes) -> dict[str, Any]:
    """The output and the running time of a program.

    Raises:
        ServerError: the reply is not one of the protocol, or reports a failure of the server.
    """
    try:
        reply = json.loads(content)
        status, result = reply["status"], reply["run_result"]
        if status not in ("Success", "Failed"):
            raise ServerError("it reports a failure of its own")
        stdout, seconds = result["stdout"], result["execution_time"]
        if result["status"] not in ("Finished", "TimeLimitExceeded"):
            raise ServerError("it could not run the program")
    except (ValueError, RecursionError, KeyError, IndexError, TypeError) as error:
        raise ServerError("a reply that is not Sandbox Fusion's") from error
    stdout = "" if stdout is None else stdout
    seconds = 0.0 if seconds is None else seconds
    if not isinstance(stdout, str) or isinstance(seconds, bool):
        raise ServerError("a reply that is not Sandbox Fusion's")
    if not isinstance(seconds, int | float) or not 0.0 <= seconds < float("inf"):
        raise ServerError("a reply that is not Sandbox Fusion's")
    return {"stdout": stdout, "seconds": float(seconds)}


def _replies(stdout: str, mark: str) -> list[Mapping[str, Any]]:
    """The replies in a program's output; what else it printed, or broke, is left out."""
    replies = []
    for line in stdout.split("\n"):
        if line.startswith(mark):
            try:
                reply = json.loads(line.removeprefix(mark))
            except (ValueError, RecursionError):
                break
            if not isinstance(reply, dict) or not {"value", "raised"} & reply.keys():
                break
            replies.append(reply)
    return replies
