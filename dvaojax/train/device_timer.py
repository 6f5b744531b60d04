"""Start and end times of work on the devices, measured without blocking the dispatching thread."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Self

import jax


class Span(NamedTuple):
    """An interval of `time.perf_counter`, in seconds.

    Attributes:
        start: when the devices were free to begin.
        end: when the result was available.
    """

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.end - self.start


class DeviceTimer:
    """Times work in the order of its dispatch, which is the order in which it runs.

    A separate thread waits for one result after the other; the dispatching thread never waits. A
    span starts when the work was dispatched or, if that is later, when the previous timed work
    ended. Work that is not timed counts towards the next span.
    """

    def __init__(self):
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device-timer")
        self._free = 0.0

    def time(self, result: Any) -> Future[Span]:
        """The span of the work that computes `result`, a pytree of arrays just dispatched.

        The arrays must not be donated before they are available.
        """
        return self._thread.submit(self._wait, result, time.perf_counter())

    def _wait(self, result: Any, dispatched: float) -> Span:
        jax.block_until_ready(result)
        span = Span(max(dispatched, self._free), time.perf_counter())
        self._free = span.end
        return span

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.shutdown(cancel_futures=True)
