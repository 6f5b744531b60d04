"""Runs a program against a test in separate processes with limits on all resources.

Each process that runs tests starts one minimal Python process without site packages. It imports
nothing from the caller, in particular no JAX, and forks for every test. See `program_runner` for
that process, and `process_restrictions` for what a program cannot do and why this is not a security
boundary. POSIX only.
"""

import atexit
import dataclasses
import os
import select
import subprocess
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dvaojax.rewards.programs.serialisation import read_frame, write_frame

_HERE = Path(__file__).parent

# Makes the package importable under its own name without running its `__init__` files.
_BOOTSTRAP = """
import sys, types
for name, path in zip(("dvaojax", "dvaojax.rewards", "dvaojax.rewards.programs"), sys.argv[1:]):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [path]
import bisect, collections, copy, datetime, functools, heapq, itertools, math, operator
import random, re, string, typing
from dvaojax.rewards.programs.program_runner import serve
serve(0, 1)
"""

_LARGEST_REPLY = 2**20
_GRACE_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Limits:
    """Resource limits of a program and of the test that calls it.

    Attributes:
        cpu_seconds: processor time, for each of the two.
        wall_seconds: time from start to verdict, including waiting.
        memory_bytes: address space, for each of the two.
        message_bytes: size of one returned value as JSON.

    Raises:
        ValueError: one of them is not positive.
    """

    cpu_seconds: int = 4
    wall_seconds: float = 12.0
    memory_bytes: int = 2**29
    message_bytes: int = 2**20

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(f"{field.name}={getattr(self, field.name)} must be positive")


DEFAULT_LIMITS = Limits()


class Verdict(NamedTuple):
    """Result of a test.

    Attributes:
        passed: whether every assertion held.
        reason: why it failed, in one line; empty if it passed.
    """

    passed: bool
    reason: str = ""


class SandboxError(RuntimeError):
    """Programs cannot be run on this machine: the sandbox process does not start or has died."""


def run_test(
    sources: Sequence[str],
    test: str,
    *,
    names: Mapping[str, str],
    context: str = "",
    limits: Limits = DEFAULT_LIMITS,
) -> Verdict:
    """Runs one test of a program. May be called from any thread; calls run one at a time.

    Args:
        sources: the program, in pieces that are run one after the other in one namespace.
        test: statements with assertions; it passes if they run without an exception.
        names: name in the test -> function of the program. Arguments and results are passed by
            value.
        context: statements before the test, such as its imports.
        limits: of the program and of the test.

    Raises:
        SandboxError: the sandbox process cannot run it.
    """
    request = _request(sources, names=names, context=context, limits=limits)
    with _lock:
        child = _running_process()
        try:
            return child.run_test(request, test)
        except BaseException:
            close()
            raise


def _request(
    sources: Sequence[str], *, names: Mapping[str, str], context: str, limits: Limits
) -> dict[str, Any]:
    """The first frame that `program_runner` receives, before the test."""
    return {
        "sources": list(sources),
        "names": dict(names),
        "context": context,
        "limits": dataclasses.asdict(limits),
    }


def has_kernel_filter() -> bool:
    """Whether programs are restricted by the kernel, and not only by removed Python modules."""
    with _lock:
        return _running_process().has_filter


class _SandboxProcess:
    """The minimal Python process and the pipes to it."""

    def __init__(self):
        packages = (_HERE.parents[1], _HERE.parents[0], _HERE)
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-s", "-S", "-c", _BOOTSTRAP, *map(str, packages)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            env={"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"},
            start_new_session=True,
        )
        pipes = self._process.stdin, self._process.stdout
        self._pipes = [pipe for pipe in pipes if pipe is not None]
        try:
            self.has_filter = bool(self._receive(_GRACE_SECONDS)["filter"])
        except BaseException:
            self.close()
            raise
        if not self.has_filter:
            warnings.warn(
                "no seccomp filter on this system: access to the network, other processes and "
                "files is only prevented by removing Python modules",
                RuntimeWarning,
                stacklevel=1,
            )

    @property
    def is_alive(self) -> bool:
        return self._owner == os.getpid() and self._process.poll() is None

    def run_test(self, request: dict, test: str) -> Verdict:
        try:
            for frame in (request, test):
                write_frame(self._pipes[0].fileno(), frame)
        except BrokenPipeError as error:
            raise SandboxError("the process that runs programs has died") from error
        return Verdict(**self._receive(request["limits"]["wall_seconds"] + _GRACE_SECONDS))

    def _receive(self, seconds: float) -> dict:
        file = self._pipes[1].fileno()
        if not select.select([file], [], [], seconds)[0]:
            raise SandboxError(f"no reply from the process that runs programs for {seconds:g} s")
        reply = read_frame(file, _LARGEST_REPLY)
        if reply is None:
            raise SandboxError("the process that runs programs has died")
        return reply

    def close(self) -> None:
        """Ends the process and thereby all its children."""
        for pipe in self._pipes:
            pipe.close()
        if self._owner != os.getpid():
            return
        try:
            self._process.wait(timeout=_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


_lock = threading.Lock()
_processes: list[_SandboxProcess] = []


def _running_process() -> _SandboxProcess:
    """The sandbox process of this process; started if there is none or it has died.

    A new one first has to pass a trivial test: otherwise every program would count as wrong.
    """
    if not (_processes and _processes[-1].is_alive):
        close()
        _processes.append(_SandboxProcess())
        one = _request(["one = int"], names={"one": "one"}, context="", limits=DEFAULT_LIMITS)
        verdict = _processes[-1].run_test(one, "assert one(1) == 1")
        if not verdict.passed:
            close()
            raise SandboxError(f"programs cannot be run on this machine: {verdict.reason}")
    return _processes[-1]


def close() -> None:
    """Ends the sandbox process; the next test starts another."""
    while _processes:
        _processes.pop().close()


atexit.register(close)
