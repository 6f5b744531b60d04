"""Runs one test of one program in two processes that are started for it.

`sandbox` starts this module in a minimal Python process. For every request this process forks
twice: one child runs the program and answers calls of its functions, the other runs the test, whose
assertions are about the returned values. The program never shares a process with the test and
cannot see it. If it exits, prints, lies about equality or redefines names, that affects only its
own process. The only way for it to get a reward is to return correct values.

Uses the standard library only, and this package's `process_restrictions` and `serialisation`.
"""

import builtins
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
import types
from collections.abc import Callable
from typing import Any

from dvaojax.rewards.programs.process_restrictions import (
    make_filter,
    remove_modules,
    set_resource_limits,
)
from dvaojax.rewards.programs.serialisation import (
    RemoteValue,
    decode,
    encode,
    read_frame,
    write_frame,
)

_CHANNEL = 3
"""The first open file of a child after standard input, output and error, which are /dev/null."""

_LARGEST_REQUEST = 2**30


def serve(requests: int, replies: int) -> None:
    """Runs tests until the requests end. A request is two frames, the program and the test."""
    install_filter = make_filter()
    write_frame(replies, {"filter": install_filter is not None})
    with contextlib.suppress(BrokenPipeError):
        while (request := read_frame(requests, _LARGEST_REQUEST)) is not None:
            write_frame(replies, _run_request(request, requests, install_filter))


def _run_request(request: dict, requests: int, install_filter: Callable[[], None] | None) -> dict:
    deadline = time.monotonic() + request["limits"]["wall_seconds"]
    directory = tempfile.mkdtemp(prefix="dvaojax-program-")
    ours, theirs = socket.socketpair()
    verdict, writer = os.pipe()
    children = []
    try:

        def confined(work: Callable[[], None], *files: int) -> None:
            children.append(_start(work, files, directory, request["limits"], install_filter))

        # Started before the test is read, so that the program's memory contains nothing of it.
        confined(lambda: _answer_calls(request), theirs.fileno())
        test = read_frame(requests, _LARGEST_REQUEST)
        confined(lambda: _run_test(request, test), ours.fileno(), writer)
        ours.close()
        theirs.close()
        os.close(writer)
        return _verdict(verdict, requests, deadline)
    finally:
        for child in children:
            for kill in (os.killpg, os.kill):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        os.close(verdict)
        shutil.rmtree(directory, ignore_errors=True)


def _verdict(verdict: int, requests: int, deadline: float) -> dict:
    """The verdict of the test's process, or the reason why there is none."""
    content = b""
    while (left := deadline - time.monotonic()) > 0:
        poll = select.poll()
        poll.register(verdict, select.POLLIN)
        poll.register(requests, 0)  # ends the wait if the caller has died
        for file, _ in poll.poll(left * 1000):
            piece = os.read(verdict, 4096) if file == verdict else b""
            if not piece:
                died = {"passed": False, "reason": "the test's process died"}
                return json.loads(content) if content else died
            content += piece
    return {"passed": False, "reason": "took too long"}


def _start(
    work: Callable[[], None],
    files: tuple[int, ...],
    directory: str,
    limits: dict,
    install_filter: Callable[[], None] | None,
) -> int:
    """Starts a restricted process that does the work with these files, from `_CHANNEL` on."""
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        null_device = os.open(os.devnull, os.O_RDWR)
        kept = (null_device, null_device, null_device, *files)
        for target, file in enumerate([fcntl.fcntl(f, fcntl.F_DUPFD, 100) for f in kept]):
            os.dup2(file, target)
        os.closerange(len(kept), 256)
        os.chdir(directory)
        set_resource_limits(cpu_seconds=limits["cpu_seconds"], memory_bytes=limits["memory_bytes"])
        (install_filter or remove_modules)()
        work()
    except BaseException:
        os._exit(1)
    os._exit(0)


def _answer_calls(request: dict) -> None:
    """Runs the program, then its functions as long as there are calls."""
    program = types.ModuleType("program")
    sys.modules["program"] = program
    kept: list[Any] = []

    def keep(value: Any) -> int:
        kept.append(value)
        return len(kept) - 1

    def answer(action: Callable[[], Any]) -> bool:
        try:
            reply, succeeded = {"value": encode(action(), keep)}, True
        except BaseException as error:
            reply, succeeded = {"raised": [type(error).__name__, _line(error)]}, False
        write_frame(_CHANNEL, reply)
        return succeeded

    def run() -> None:
        for source in request["sources"]:
            exec(compile(source, "<program>", "exec", dont_inherit=True), vars(program))

    if not answer(run):
        return
    while (call := read_frame(_CHANNEL, _LARGEST_REQUEST)) is not None:

        def act(call: dict = call) -> Any:
            positional, named = decode(call["arguments"], kept.__getitem__)
            return getattr(program, call["name"])(*positional, **named)

        answer(act)


def _run_test(request: dict, test: str) -> None:
    """Runs the test with functions that call the program's process, and writes the verdict."""

    def reply() -> Any:
        frame = read_frame(_CHANNEL, request["limits"]["message_bytes"])
        if frame is None:
            raise RuntimeError("the program's process died")
        if "raised" in frame:
            raise _exception(*frame["raised"])
        return decode(frame["value"], RemoteValue)

    def function(name: str) -> Callable[..., Any]:
        def call(*positional: Any, **named: Any) -> Any:
            arguments = encode((positional, named), _refuse_to_send)
            write_frame(_CHANNEL, {"name": name, "arguments": arguments})
            return reply()

        return call

    verdict = {"passed": True, "reason": ""}
    try:
        reply()
        namespace: dict[str, Any] = {"__name__": "test"}
        exec(compile(request["context"], "<context>", "exec", dont_inherit=True), namespace)
        namespace |= {alias: function(name) for alias, name in request["names"].items()}
        exec(compile(test, "<test>", "exec", dont_inherit=True), namespace)
    except BaseException as error:
        verdict = {"passed": False, "reason": f"{type(error).__name__}: {_line(error)}"}
    os.write(_CHANNEL + 1, json.dumps(verdict).encode())


def _exception(name: str, line: str) -> Exception:
    """The program's exception as a built-in one, but none that would end a loop of the test."""
    kind = getattr(builtins, name, None)
    if not isinstance(kind, type) or not issubclass(kind, Exception):
        kind = RuntimeError
    unsuitable = issubclass(kind, StopIteration | StopAsyncIteration | UnicodeError)
    return RuntimeError(f"{name}: {line}") if unsuitable or kind.__name__ != name else kind(line)


def _refuse_to_send(value: Any) -> int:
    raise TypeError(f"a {type(value).__name__} cannot be sent to the program")


def _line(error: BaseException) -> str:
    try:
        return " ".join(str(error).split())[:200]
    except BaseException:
        return ""
