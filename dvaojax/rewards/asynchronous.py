"""Asynchronous reward functions, awaited together in an event loop of their own thread.

The loop is separate from one that the program runs itself, such as that of a notebook, and is the
same for all batches, so that clients with open connections can be kept between them.
"""

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from dvaojax.rewards.calls import Call, CallResult, attempt, failed
from dvaojax.types import AsyncRewardFunction, RewardFunction

_SECONDS_TO_CLOSE = 2.0  # for calls that ignore that they are cancelled


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a reward function is an `async def`, also in a `partial` or as `__call__`."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004
    )


def split_functions(
    objectives: Mapping[str, Callable[..., Any]],
) -> tuple[dict[str, RewardFunction], dict[str, AsyncRewardFunction]]:
    """The functions that return a reward, and the asynchronous ones."""
    own: dict[str, RewardFunction] = {}
    awaited: dict[str, AsyncRewardFunction] = {}
    for name, function in objectives.items():
        (awaited if is_async(function) else own)[name] = function
    return own, awaited


class AsyncCalls:
    """Awaits calls of asynchronous reward functions; `close` ends its thread."""

    def __init__(
        self,
        functions: Mapping[str, AsyncRewardFunction],
        *,
        concurrency: int,
        timeout_seconds: float | None,
    ):
        """Stores the functions; the first call starts the thread.

        Args:
            functions: objective -> its function.
            concurrency: largest number of calls that are awaited at the same time.
            timeout_seconds: limit for one call, from its start; None for no limit.
        """
        self._functions = dict(functions)
        self._concurrency = concurrency
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._loop: _LoopThread | None = None
        self._closed = False

    def outcomes(self, calls: Sequence[Call]) -> Generator[CallResult, None, None]:
        """Starts the calls and returns their results in the same order; from any thread.

        Calls that are left when the iterator is closed are cancelled.

        Raises:
            RuntimeError: the functions are no longer available, after `close`.
        """
        if not calls:
            return self._results(None, [])
        loop = self._running_loop()
        return self._results(loop, [loop.submit(self._call(call, loop)) for call in calls])

    def close(self) -> None:
        """Cancels unfinished calls, and ends the thread."""
        with self._lock:
            self._closed = True
            if self._loop is not None:
                self._loop.stop()
                self._loop = None

    def _running_loop(self) -> "_LoopThread":
        with self._lock:
            if self._closed:
                raise RuntimeError("the reward suite is closed")
            if self._loop is None:
                self._loop = _LoopThread(self._concurrency)
            return self._loop

    def _results(
        self, loop: "_LoopThread | None", futures: Sequence[Future[CallResult]]
    ) -> Generator[CallResult, None, None]:
        try:
            for future in futures:
                assert loop is not None
                yield self._result(loop, future)
        finally:
            for future in futures:
                future.cancel()

    def _result(self, loop: "_LoopThread", future: Future[CallResult]) -> CallResult:
        """The result of a call, unless a call that awaits nothing keeps the loop from running."""
        limit = self._timeout_seconds
        while not loop.blocked_by:
            try:
                return future.result(limit)
            except TimeoutError:
                # The future itself has no limit: its call may be waiting for others to end.
                if limit is not None and not loop.responds(within=limit):
                    self._abandon(loop)
        if future.done():
            return future.result()
        return CallResult(
            None,
            f"{loop.blocked_by} ran for more than {limit or 0:g} s without awaiting anything, and "
            "no other call could run: await what takes long, or use `def` and rewards.workers",
        )

    def _abandon(self, loop: "_LoopThread") -> None:
        """Leaves a thread that does not respond; the next batch starts another."""
        loop.blocked_by = loop.task_name()
        with self._lock:
            if self._loop is loop:
                self._loop = None

    async def _call(self, call: Call, loop: "_LoopThread") -> CallResult:
        async with loop.free:
            # A task, so that a call that ignores its cancellation is not waited for.
            task = asyncio.create_task(self._attempt(call), name=call.objective)
            try:
                await asyncio.wait([task], timeout=self._timeout_seconds)
            finally:
                is_done = task.done()
                task.cancel()
        if is_done:
            return task.result()
        return CallResult(None, f"took longer than {self._timeout_seconds:g} s")

    async def _attempt(self, call: Call) -> CallResult:
        """Awaits one call; anything it raises is a failure, and does not end the thread."""
        try:
            value = await self._functions[call.objective](call.completion, call.prompt.reference)
        except BaseException as error:
            return failed(error)
        return attempt(lambda *_: value, call.completion, call.prompt.reference)


class _LoopThread:
    """An event loop that runs in a thread until `stop`.

    Attributes:
        blocked_by: objective whose call keeps the loop from running; empty if none does.
    """

    blocked_by: str = ""

    def __init__(self, concurrency: int):
        started = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(started, concurrency)),
            name="asynchronous-rewards",
            daemon=True,
        )
        self._thread.start()
        started.wait()

    async def _serve(self, started: threading.Event, concurrency: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        self.free = asyncio.Semaphore(concurrency)
        started.set()
        await self._stopped.wait()

    def submit(self, coroutine: Any) -> Future[CallResult]:
        """Starts a coroutine."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def responds(self, *, within: float) -> bool:
        """Whether the loop runs its callbacks within so many seconds."""
        answered = threading.Event()
        self._loop.call_soon_threadsafe(answered.set)
        return answered.wait(within)

    def task_name(self) -> str:
        """Name of the task that is running now."""
        task = asyncio.current_task(self._loop)
        return "a call" if task is None else task.get_name()

    def stop(self) -> None:
        """Cancels all tasks and ends the thread, unless it does not respond."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(_SECONDS_TO_CLOSE)
