"""Runs the tests of many programs, several programs at the same time.

Each thread has one process for tests, and starts another sandbox for every program. The two are
connected by a socket; see `assertion_process` and `program_process`.
"""

import contextlib
import dataclasses
import functools
import json
import os
import queue
import select
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from dvaojax.rewards.programs.bubblewrap import SandboxError
from dvaojax.rewards.programs.limits import DEFAULT_LIMITS, Limits
from dvaojax.rewards.programs.problems import Problem
from dvaojax.rewards.programs.sandbox import Isolation, SandboxProcess, Side, started
from dvaojax.rewards.programs.serialisation import read_frame, write_frame
from dvaojax.rewards.programs.server import ProgramServer, RemoteProgram
from dvaojax.rewards.programs.settings import DEFAULT_SETTINGS, ProgramsConfig

_LARGEST_VERDICT = 2**20
_GRACE_SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class Trial:
    """A program and the tests that it has to pass.

    Attributes:
        sources: the program, in pieces that are run one after the other in one namespace.
        tests: each passes if its statements run without an exception.
        functions: name in the tests and name in the program, for each function.
        context: statements before each test.
    """

    sources: tuple[str, ...]
    tests: tuple[str, ...]
    functions: tuple[tuple[str, str], ...]
    context: str = ""


def make_trial(program: str, problem: Problem) -> Trial:
    """The trial of a program for a problem."""
    # Indented code is the body of a function whose head is in the prompt.
    continues = program.lstrip("\n")[:1] in (" ", "\t")
    context = problem.context
    sources = (f"{context}\n{program}",) if continues else (context, program)
    return Trial(sources, problem.tests, tuple(problem.functions.items()), context)


class Verdict(NamedTuple):
    """Result of a test.

    Attributes:
        passed: whether every assertion held.
        reason: why it failed, in one line; empty if it passed.
    """

    passed: bool
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Untested:
    """There is no result for a program, for a reason outside it.

    Attributes:
        reason: in one line.
    """

    reason: str


Outcome = tuple[Verdict, ...] | Untested
"""The verdict of each test of a program, or the reason why there is none."""


def run_trials(
    trials: Sequence[Trial],
    *,
    limits: Limits = DEFAULT_LIMITS,
    settings: ProgramsConfig = DEFAULT_SETTINGS,
) -> list[Outcome]:
    """Runs all tests of all programs; equal trials are run once. May be called from any thread.

    Raises:
        SandboxError: programs cannot be run on this machine, or by the server.
    """
    require(settings)
    outcomes = _Batch(limits, settings).run(list(dict.fromkeys(trials)))
    return [outcomes[trial] for trial in trials]


def require(settings: ProgramsConfig) -> None:
    """Runs a trivial program, once per isolation or server; otherwise every program would fail.

    Raises:
        SandboxError: it fails; the line names the reason and the remedy.
    """
    _probe(ProgramsConfig(isolation=settings.isolation, server=settings.server))


@functools.lru_cache(maxsize=8)
def _probe(settings: ProgramsConfig) -> None:
    # Neither module has been imported before, so the library must be readable on both sides.
    program, test = "import colorsys\none = int", "import colorsys\nassert one(1) == 1"
    trial = Trial((program,), (test,), (("one", "one"),))
    outcome = _Batch(DEFAULT_LIMITS, settings).run([trial])[trial]
    if isinstance(outcome, Untested):
        raise SandboxError(outcome.reason)
    if not outcome[0].passed:
        raise SandboxError(f"programs cannot be run on this machine: {outcome[0].reason}")


class _Batch:
    """The threads that run one batch of trials."""

    def __init__(self, limits: Limits, settings: ProgramsConfig):
        self._limits = limits
        self._settings = settings
        self._deadline = time.monotonic() + settings.step_seconds
        self._server = ProgramServer(settings.server, limits) if settings.server else None
        self._running: set[SandboxProcess] = set()
        self._stopped = threading.Event()

    def run(self, trials: Sequence[Trial]) -> dict[Trial, Outcome]:
        """The outcome of each trial."""
        waiting: queue.SimpleQueue[Trial] = queue.SimpleQueue()
        outcomes: dict[Trial, Outcome] = {}
        for trial in trials:
            waiting.put(trial)
        parallel = self._settings.parallel or 2 * _processors()
        count = min(parallel, len(trials))
        with ThreadPoolExecutor(max_workers=max(count, 1)) as threads:
            try:
                futures = [threads.submit(self._work, waiting, outcomes) for _ in range(count)]
                for future in futures:
                    future.result()
            except BaseException:
                self._stop()
                raise
        return outcomes

    def _stop(self) -> None:
        """Ends all processes."""
        self._stopped.set()
        for process in list(self._running):
            process.kill()

    def _work(self, waiting: "queue.SimpleQueue[Trial]", outcomes: dict[Trial, Outcome]) -> None:
        """Runs trials until none is left; a process for tests that has died is replaced."""
        with contextlib.ExitStack() as stack:
            tests = None
            while not self._stopped.is_set():
                try:
                    trial = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    if time.monotonic() >= self._deadline:
                        outcomes[trial] = Untested(self._out_of_time())
                        continue
                    tests = tests or stack.enter_context(self._started("assertion_process"))
                    outcomes[trial] = self._run(trial, tests)
                except SandboxError as error:
                    outcomes[trial] = Untested(str(error))
                    stack.close()
                    tests = None

    @contextlib.contextmanager
    def _started(self, side: Side) -> Iterator[SandboxProcess]:
        isolation: Isolation = "process" if self._server else self._settings.isolation
        with started(side, isolation) as process:
            self._running.add(process)
            try:
                yield process
            finally:
                self._running.discard(process)

    def _run(self, trial: Trial, tests: SandboxProcess) -> Outcome:
        if self._server is not None:
            return self._run_remotely(trial, tests, self._server)
        with self._started("program_process") as program:
            seconds = min(self._limits.problem_seconds, self._deadline - time.monotonic())
            outcome = self._exchange(
                trial, tests, program.socket, seconds, seconds_per_test=self._limits.wall_seconds
            )
            if program.has_failed():
                return Untested("the process of a program could not start another one")
        return outcome

    def _run_remotely(self, trial: Trial, tests: SandboxProcess, server: ProgramServer) -> Outcome:
        ours, theirs = socket.socketpair()
        with ours, RemoteProgram(server, theirs) as program:
            # The server measures the time of programs; here only the step is limited.
            seconds = self._deadline - time.monotonic()
            outcome = self._exchange(trial, tests, ours, seconds, seconds_per_test=seconds)
        return Untested(program.failure) if program.failure else outcome

    def _exchange(
        self,
        trial: Trial,
        tests: SandboxProcess,
        program: socket.socket,
        seconds: float,
        *,
        seconds_per_test: float,
    ) -> Outcome:
        """Has the tests run with a program, and reads their verdicts."""
        limits = self._limits
        request = {
            "sources": trial.sources,
            "tests": trial.tests,
            "names": dict(trial.functions),
            "context": trial.context,
            "limits": limits.for_process(),
            "largest_reply": limits.message_bytes,
            "seconds": seconds,
            "seconds_per_test": seconds_per_test,
            "calls_ahead": self._server is not None,
        }
        try:
            socket.send_fds(tests.socket, [b"+"], [program.fileno()])
            write_frame(tests.socket.fileno(), request)
        except OSError as error:
            raise SandboxError("the process of the tests has died") from error
        end = time.monotonic() + seconds + _GRACE_SECONDS
        verdicts = tuple(Verdict(**_receive(tests, end)) for _ in trial.tests)
        if time.monotonic() >= self._deadline and not all(verdict.passed for verdict in verdicts):
            return Untested(self._out_of_time())
        return verdicts

    def _out_of_time(self) -> str:
        return f"not tested within rewards.programs.step_seconds={self._settings.step_seconds:g}"


def _receive(tests: SandboxProcess, end: float) -> Mapping[str, Any]:
    file = tests.socket.fileno()
    if not select.select([file], [], [], max(end - time.monotonic(), 0.0))[0]:
        raise SandboxError("no reply from the process of the tests")
    try:
        reply = read_frame(file, _LARGEST_VERDICT)
    except (OSError, json.JSONDecodeError) as error:
        raise SandboxError("the process of the tests has died") from error
    if reply is None:
        raise SandboxError("the process of the tests has died")
    return reply


def _processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
