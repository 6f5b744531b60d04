"""Ends the processes of a run when one of them is lost or has failed, instead of waiting for it.

A process that was killed or stopped leaves the others in a collective operation or in a barrier,
where they would wait for minutes or for ever. So every process has two threads. One gives a sign of
life through the key-value store of JAX's coordination service, which runs in process 0, and reads
those of others: process 0 reads all, the others only that of process 0. The other thread counts the
seconds since the last sign of each, and ends its process where they are too many. The first process
that finds another one lost, or that fails itself, writes the failure, which all of them read.

A process whose threads continue while its work has stopped, such as in a reward function that never
returns, is not lost; `rewards.timeout_seconds` ends that.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import platform
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from etils import epath
from jax._src import distributed  # JAX has no public access to its key-value store

from dvaojax import files
from dvaojax.errors import RESTART, UserError, first_line, root_cause, storage_failure
from dvaojax.rewards import RewardError
from dvaojax.run import native_output
from dvaojax.run.saved_checkpoints import SavedCheckpoints
from dvaojax.train.failures import TrainingError
from dvaojax.train.interrupts import Interrupted

_FAILED = 1  # exit code
_GRACE_SECONDS = 5.0  # for a failure that all processes know about, and for the last messages
_ENDED = "ended"
_BROKEN_CONNECTION = re.compile(
    r"Gloo|NCCL|UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED|Socket closed|[Hh]eartbeat"
    r"|Connection (reset|closed|refused)|[Cc]oordination service|[Bb]arrier"
)
_OURS = (UserError, RewardError, TrainingError, KeyboardInterrupt)
_FATAL = "JAX distributed service detected fatal errors"
_numbers = itertools.count()


@dataclasses.dataclass(frozen=True)
class HostFailure:
    """Why the processes of a run end.

    Attributes:
        process: index of the process that is the cause.
        host: its machine; empty if it is not known.
        is_lost: whether it was lost, or failed in its own code.
        message: what happened.
    """

    process: int
    host: str
    is_lost: bool
    message: str


class HostWatch:
    """Watches the other processes of a run; a context manager around all of its work."""

    def __init__(self, seconds: float, directory: Path | epath.Path):
        """Stores its arguments.

        Args:
            seconds: without a sign of life after which a process is lost.
            directory: of the run.
        """
        state: Any = distributed.global_state
        self._client, self._me, self._count = state.client, state.process_id, state.num_processes
        self._seconds, self._directory = seconds, directory
        self._interval = min(max(seconds / 12, 0.1), 5.0)
        self._prefix = f"dvaojax/watch/{next(_numbers)}/"
        others = range(1, self._count) if self._me == 0 else (0,)
        self._seconds_since = dict.fromkeys(others, 0.0)
        self._signs: dict[int, str] = {}
        self._ended: set[int] = set()
        self._closed, self._known, self._ending = (threading.Event() for _ in range(3))
        self._printing = threading.Lock()
        self.release: Callable[[], None] = lambda: None
        self.screen, self.log = 2, Path(files.ERRORS)
        self.has_failed = False
        self._threads = [
            threading.Thread(target=work, daemon=True)
            for work in (self._exchange_signs, self._count_seconds)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and not isinstance(error, Interrupted):
            self.report(error)
        self._closed.set()
        for thread in self._threads:  # JAX ends the store's client when the process ends
            thread.join(_GRACE_SECONDS)
        self._say_ended()
        if self.has_failed:
            self._wait_for_others()

    def report(self, error: BaseException) -> None:
        """Tells the other processes that this one fails; waits if they may be the reason."""
        if self.has_failed:
            return
        if _is_broken_connection(error):
            # The failure ends this process; without one, the error is its own.
            self._known.wait(self._seconds + 3 * self._interval)
        self.has_failed = True
        reason = f"{type(error).__name__}: {first_line(root_cause(error))}"
        message = storage_failure(error) or reason
        self._publish(HostFailure(self._me, platform.node(), is_lost=False, message=message))

    def _exchange_signs(self) -> None:
        """Gives signs of life and reads those of others, until the process ends."""
        for number in itertools.count():
            # No answer is no sign of life of process 0.
            with contextlib.suppress(Exception):
                self._set(self._own_key(), f"{number} {platform.node()}")
                self._read()
            if self._closed.wait(self._interval):
                return

    def _read(self) -> None:
        common = self._all("common")
        if "failure" in common:
            self._end(HostFailure(**json.loads(common["failure"])))
        signs = self._all("signs") if self._me == 0 else {"0": common.get("0", "")}
        for process in self._seconds_since:
            sign = signs.get(str(process), "")
            if sign.startswith(_ENDED):
                self._ended.add(process)
            if sign and sign != self._signs.get(process):
                self._signs[process], self._seconds_since[process] = sign, 0.0

    def _count_seconds(self) -> None:
        """Ends the process when the last sign of another one is too old.

        Seconds are counted while this thread runs, so that a process which was stopped itself does
        not find all others lost when it continues.
        """
        while not self._closed.wait(self._interval):
            for process in self._seconds_since:
                self._seconds_since[process] += self._interval
                if self._seconds_since[process] > self._seconds and process not in self._ended:
                    failure = self._lost(process)
                    if self._me == 0:
                        self._publish(failure)
                    self._end(failure)

    def _lost(self, process: int) -> HostFailure:
        host = self._signs.get(process, " ").partition(" ")[2]
        return HostFailure(
            process, host, is_lost=True, message=f"no sign of life for {self._seconds:g} s"
        )

    def _end(self, failure: HostFailure) -> None:
        """Ends this process, unless a failure is on its way to end it."""
        if self._ending.is_set():
            return
        self._ending.set()
        self._known.set()
        grace = self._seconds if failure.process == self._me else _GRACE_SECONDS
        if not failure.is_lost and self._closed.wait(grace):
            return
        self.end_at_once(self.line(failure), RESTART if failure.is_lost else _FAILED)

    def end_at_once(self, line: str, code: int) -> None:
        """Prints a line, and ends the process without leaving its contexts; the first call does."""
        if not self._printing.acquire(blocking=False):
            time.sleep(4 * _GRACE_SECONDS)  # an abort would continue if this returned
            return
        text = f"dvaojax: {line}\n".encode(errors="backslashreplace")
        for descriptor in {self.screen, 2}:  # the screen, and `error.log`
            with contextlib.suppress(OSError):
                os.write(descriptor, text)
        self._say_ended()
        _attempt(self.release)
        self._wait_for_others()
        os._exit(code)

    def end_after_abort(self) -> None:
        """Ends the process when a library written in C++ aborts it."""
        log, text = self.log, ""
        with contextlib.suppress(OSError):
            text = log.read_bytes()[-8192:].decode(errors="replace")
        if _FATAL not in text:
            self.end_at_once(f"a library ended process {self._me}: see {log}", _FAILED)
        lost = max(self._seconds_since, key=lambda process: self._seconds_since[process])
        failure = dataclasses.replace(self._lost(lost), message="its connection was closed")
        self.end_at_once(self.line(failure), RESTART)

    def line(self, failure: HostFailure) -> str:
        """One line: the cause, the newest complete checkpoint, and how the run continues."""
        who = f"process {failure.process} of {self._count}"
        if failure.host:
            who += f" on {failure.host}"
        step = _newest_step(self._directory)
        saved = "no checkpoint is complete" if step is None else f"checkpoint {step} is complete"
        if failure.is_lost:
            what, how = f"was lost: {failure.message}", "--resume=auto on all hosts"
        else:
            what, how = f"failed: {failure.message}", "--resume=auto, once the cause is removed"
        return (
            f"{who} {what}; {saved} in {self._directory}: continue with the same command and {how}"
        )

    def _wait_for_others(self) -> None:
        """Process 0 has the store that the others read; it ends after them."""
        waiting = time.monotonic() + 2 * _GRACE_SECONDS
        while self._me == 0 and time.monotonic() < waiting:
            with contextlib.suppress(Exception):
                signs = self._all("signs")
                if all(
                    signs.get(str(process), "").startswith(_ENDED) or seconds > self._seconds / 2
                    for process, seconds in self._seconds_since.items()
                ):
                    return
            time.sleep(0.1)

    def _publish(self, failure: HostFailure) -> None:
        """Writes the failure, unless there is one."""
        text = json.dumps(dataclasses.asdict(failure))
        _attempt(lambda: self._client.key_value_set(f"{self._prefix}common/failure", text))

    def _say_ended(self) -> None:
        _attempt(lambda: self._set(self._own_key(), f"{_ENDED} {platform.node()}"))

    def _own_key(self) -> str:
        return "common/0" if self._me == 0 else f"signs/{self._me}"

    def _set(self, key: str, value: str) -> None:
        self._client.key_value_set(self._prefix + key, value, allow_overwrite=True)

    def _all(self, directory: str) -> Mapping[str, str]:
        """The entries of a directory, by the last part of their keys."""
        entries = self._client.key_value_dir_get(f"{self._prefix}{directory}/")
        return {key.rpartition("/")[2]: value for key, value in entries}


_current: HostWatch | None = None


@contextlib.contextmanager
def watching_hosts(seconds: float, directory: Path | epath.Path) -> Iterator[None]:
    """Watches the other processes of a run in the body; does nothing with one process.

    Args:
        seconds: without a sign of life after which a process is lost.
        directory: of the run.
    """
    global _current
    if distributed.global_state.client is None or distributed.global_state.num_processes == 1:
        yield
        return
    _current = HostWatch(seconds, directory)
    with _current:
        yield


def tell_others(error: BaseException) -> None:
    """Tells the other processes that this one fails; they may be waiting for it."""
    if _current is not None:
        _current.report(error)


@contextlib.contextmanager
def telling_others() -> Iterator[None]:
    """Tells the other processes at once if the body fails; they may be waiting for this one."""
    try:
        yield
    except Interrupted:
        raise
    except BaseException as error:
        tell_others(error)
        raise


@contextlib.contextmanager
def native_output_in(log: Path, release: Callable[[], None]) -> Iterator[None]:
    """With several processes, writes what libraries in C++ print to a file instead of the screen.

    Args:
        log: the file.
        release: called before the process ends without leaving its contexts.
    """
    if _current is None:
        yield
        return
    _current.release, _current.log = release, log
    with (
        native_output.written_to(log) as _current.screen,
        native_output.calling_on_abort(_current.end_after_abort),
    ):
        try:
            yield
        finally:
            _current.screen = 2


def ended_well() -> bool:
    """Whether this process has left the watch without a failure, or has never been one of many."""
    return distributed.global_state.client is None or (
        _current is not None and not _current.has_failed
    )


def _attempt(work: Callable[[], None]) -> None:
    """Tries something for a few seconds; calls to a store that has gone do not return."""

    def quietly() -> None:
        with contextlib.suppress(Exception):
            work()

    thread = threading.Thread(target=quietly, daemon=True)
    thread.start()
    thread.join(_GRACE_SECONDS)


def _is_broken_connection(error: BaseException) -> bool:
    """Whether an error may be the effect of another process's end."""
    if isinstance(error, _OURS):
        return False
    return any(_BROKEN_CONNECTION.search(str(part)) for part in (error, root_cause(error)))


def _newest_step(directory: Path | epath.Path) -> int | None:
    """The newest checkpoint's step; None if there is none, or a bucket does not answer."""
    steps: list[int | None] = []
    _attempt(lambda: steps.append(SavedCheckpoints(directory / files.CHECKPOINTS).latest_step))
    return steps[0] if steps else None
