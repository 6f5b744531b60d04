"""The process of a program: runs it afresh for every test, and answers calls of its functions.

`sandbox` starts this module in a minimal Python process. The process receives one channel per test
and forks a child for it. The child runs the program and then its functions, as often as the test at
the other end of the channel asks for. It never receives an assertion or an expected value: tests
are run by `assertion_process` in another sandbox, and only the arguments of a call and its returned
value pass through the channel. Standard library only.
"""

import fcntl
import os
import signal
import socket
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dvaojax.rewards.programs import confinement
from dvaojax.rewards.programs.serialisation import decode, encode, read_frame, write_frame

CHANNEL = 3
"""The only open file of a child next to standard input, output and error, which are /dev/null."""

LARGEST_REQUEST = 2**30


class RunningProgram:
    """A program in this process, with the values that cannot be sent to the test."""

    def __init__(self):
        self._module = types.ModuleType("program")
        self._kept: list[Any] = []

    def start(self, sources: Sequence[str]) -> Mapping[str, Any]:
        """Runs the program, in pieces in one namespace; returns the reply to the test."""
        sys.modules["program"] = self._module

        def run() -> None:
            for source in sources:
                code = compile(source, "<program>", "exec", dont_inherit=True)
                exec(code, vars(self._module))

        return self._reply(run)

    def call(self, name: str, arguments: Any) -> Mapping[str, Any]:
        """Calls a function with encoded arguments; returns the reply to the test."""

        def act() -> Any:
            positional, named = decode(arguments, self._kept.__getitem__)
            return getattr(self._module, name)(*positional, **named)

        return self._reply(act)

    def _keep(self, value: Any) -> int:
        self._kept.append(value)
        return len(self._kept) - 1

    def _reply(self, action: Callable[[], Any]) -> Mapping[str, Any]:
        try:
            return {"value": encode(action(), self._keep)}
        except BaseException as error:
            return {"raised": [type(error).__name__, line_of(error)]}


def line_of(error: BaseException) -> str:
    """The message of an exception in one line; its own methods may fail."""
    try:
        return " ".join(str(error).split())[:200]
    except BaseException:
        return ""


def serve(control: int) -> None:
    """Starts a child for every channel that arrives, and ends it before the next one."""
    files, child = socket.socket(fileno=control), 0
    files.send(b"+")
    while True:
        _, channels, _, _ = socket.recv_fds(files, 1, 1)
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        if not channels:
            return
        try:
            child = fork_with([channels[0]], _answer_calls)
        except OSError:
            files.send(b"!")  # too many processes on this machine, which is not the program's fault
            return
        os.close(channels[0])


def fork_with(files: Sequence[int], work: Callable[[], None]) -> int:
    """Starts a process that has only these files, from `CHANNEL` on, and no other open ones."""
    child = os.fork()
    if child:
        return child
    try:
        confinement.end_with_parent()
        null_device = os.open(os.devnull, os.O_RDWR)
        kept = (null_device, null_device, null_device, *files)
        for target, file in enumerate([fcntl.fcntl(f, fcntl.F_DUPFD, 100) for f in kept]):
            os.dup2(file, target)
        os.closerange(len(kept), 256)
        work()
    except BaseException:
        os._exit(1)
    os._exit(0)


def _answer_calls() -> None:
    request, program = read_frame(CHANNEL, LARGEST_REQUEST), RunningProgram()
    confinement.set_resource_limits(**request["limits"])
    reply = program.start(request["sources"])
    write_frame(CHANNEL, reply)
    while "value" in reply and (call := read_frame(CHANNEL, LARGEST_REQUEST)) is not None:
        write_frame(CHANNEL, program.call(call["name"], call["arguments"]))
