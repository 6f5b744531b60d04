"""The process of tests: runs the tests of one program after the other, each in its own child.

`sandbox` starts this module in a minimal Python process, away from every program. For each test it
connects a new channel between a child of this process and the process of the program. The child
runs the statements of the test with functions that send their arguments through the channel and
return the received value. Values arrive as data in exact built-in types, so comparisons run no code
of the program. Standard library only.
"""

import ast
import builtins
import contextlib
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dvaojax.rewards.programs import confinement
from dvaojax.rewards.programs.program_process import CHANNEL, LARGEST_REQUEST, fork_with, line_of
from dvaojax.rewards.programs.serialisation import (
    RemoteValue,
    decode,
    encode,
    read_frame,
    write_frame,
)

_MOST_CALLS_AHEAD = 1000


def serve(requests: int) -> None:
    """Runs the tests of one request after the other until the requests end.

    A request is a socket to the process of a program, and a frame. Every test is answered by a
    frame with its verdict.
    """
    incoming = socket.socket(fileno=requests)
    incoming.send(b"+")
    with contextlib.suppress(BrokenPipeError):
        while True:
            _, files, _, _ = socket.recv_fds(incoming, 1, 1)
            if not files:
                return
            with socket.socket(fileno=files[0]) as control:
                request = read_frame(requests, LARGEST_REQUEST)
                for verdict in _verdicts(request, control, requests):
                    write_frame(requests, verdict)


def _verdicts(request: dict, control: socket.socket, requests: int) -> Iterator[Mapping[str, Any]]:
    end = time.monotonic() + request["seconds"]
    for test in request["tests"]:
        now = time.monotonic()
        deadline = min(now + request["seconds_per_test"], end)
        if deadline <= now:
            yield _failed("no time left for this test")
            continue
        yield _run_in_child({**request, "test": test}, control, requests, deadline)


def _run_in_child(request: dict, control: socket.socket, requests: int, deadline: float) -> dict:
    """The verdict of one test."""
    ours, theirs = socket.socketpair()
    verdict, writer = os.pipe()
    try:
        socket.send_fds(control, [b"+"], [theirs.fileno()])
    except OSError:
        for file in (ours.detach(), verdict, writer):
            os.close(file)
        return _failed("the program's process died")
    finally:
        theirs.close()
    child = fork_with([ours.fileno(), writer], lambda: _run_test(request))
    ours.close()
    os.close(writer)
    try:
        return _read_verdict(verdict, requests, deadline)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(verdict)


def _read_verdict(verdict: int, requests: int, deadline: float) -> dict:
    """The verdict of the test's process, or the reason why there is none."""
    content = b""
    while (left := deadline - time.monotonic()) > 0:
        poll = select.poll()
        poll.register(verdict, select.POLLIN)
        poll.register(requests, 0)  # ends the wait if the caller has died
        for file, _ in poll.poll(left * 1000):
            piece = os.read(verdict, 4096) if file == verdict else b""
            if not piece:
                return json.loads(content) if content else _failed("the test's process died")
            content += piece
    return _failed("took too long")


def _failed(reason: str) -> dict:
    return {"passed": False, "reason": reason}


def _reply(largest: int) -> Any:
    """The program's answer to the previous message: a value, or a raised built-in exception."""
    frame = read_frame(CHANNEL, largest)
    if frame is None:
        raise RuntimeError("the program's process died")
    if "raised" in frame:
        raise _exception(*frame["raised"])
    return decode(frame["value"], RemoteValue)


def _run_test(request: dict) -> None:
    """Runs the test with functions that call the program, and writes the verdict."""
    limits, largest = request["limits"], request["largest_reply"]
    confinement.set_resource_limits(**limits)

    def function(name: str) -> Callable[..., Any]:
        def call(*positional: Any, **named: Any) -> Any:
            write_frame(CHANNEL, _call(name, positional, named))
            return _reply(largest)

        return call

    verdict = {"passed": True, "reason": ""}
    try:
        ahead = _predicted_calls(request) if request["calls_ahead"] else []
        write_frame(CHANNEL, {"sources": request["sources"], "limits": limits, "ahead": ahead})
        _reply(largest)
        _execute(request, function, ast.parse(request["test"]))
    except BaseException as error:
        verdict = _failed(f"{type(error).__name__}: {line_of(error)}")
    os.write(CHANNEL + 1, json.dumps(verdict).encode())


def _execute(request: dict, function: Callable[[str], Any], test: ast.Module) -> None:
    namespace: dict[str, Any] = {"__name__": "test"}
    exec(compile(request["context"], "<context>", "exec", dont_inherit=True), namespace)
    namespace |= {alias: function(name) for alias, name in request["names"].items()}
    exec(compile(test, "<test>", "exec", dont_inherit=True), namespace)


class _Unknown:
    """A placeholder of a returned value: every operation on it gives a placeholder."""

    def __getattr__(self, name: str) -> "_Unknown":
        return self

    def __call__(self, *_: Any, **__: Any) -> "_Unknown":
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    __getitem__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __call__
    __truediv__ = __rtruediv__ = __pow__ = __neg__ = __abs__ = __lt__ = __le__ = __call__
    __gt__ = __ge__ = __call__


def _predicted_calls(request: dict) -> list[Mapping[str, Any]]:
    """The calls that the test would make if it asserted nothing, as far as they can be predicted.

    A program on a server is run once for all of them. Calls whose arguments depend on returned
    values are predicted wrongly, and are then made one at a time.
    """
    calls: list[Mapping[str, Any]] = []

    def function(name: str) -> Callable[..., Any]:
        def call(*positional: Any, **named: Any) -> Any:
            if len(calls) == _MOST_CALLS_AHEAD:
                raise SystemExit
            calls.append(_call(name, positional, named))
            return _Unknown()

        return call

    with contextlib.suppress(BaseException):
        _execute(request, function, _without_assertions(request["test"]))
    return calls


def _without_assertions(test: str) -> ast.Module:
    """The test with every assertion reduced to the evaluation of its condition."""

    class Reduce(ast.NodeTransformer):
        def visit_Assert(self, node: ast.Assert) -> ast.Try:
            ignore = ast.ExceptHandler(ast.Name("Exception", ast.Load()), None, [ast.Pass()])
            return ast.Try([ast.Expr(node.test)], [ignore], [], [])

    return ast.fix_missing_locations(Reduce().visit(ast.parse(test)))


def _call(name: str, positional: tuple, named: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"name": name, "arguments": encode((positional, dict(named)), _refuse_to_send)}


def _exception(name: str, line: str) -> Exception:
    """The program's exception as a built-in one, but none that would end a loop of the test."""
    kind = getattr(builtins, name, None)
    if not isinstance(kind, type) or not issubclass(kind, Exception):
        kind = RuntimeError
    unsuitable = issubclass(kind, StopIteration | StopAsyncIteration | UnicodeError)
    return RuntimeError(f"{name}: {line}") if unsuitable or kind.__name__ != name else kind(line)


def _refuse_to_send(value: Any) -> int:
    raise TypeError(f"a {type(value).__name__} cannot be sent to the program")
