"""When the devices began and finished what they were given, without anybody waiting for them."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Self

import jax


class Span(NamedTuple):
    """A stretch of `time.perf_counter`, in seconds.

    Attributes:
        start: when the devices were free to begin.
        end: when the result was there.
    """

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """From its beginning to its end."""
        return self.end - self.start


class DeviceClock:
    """Times what is dispatched, in the order of its dispatch, which is the order it is run in.

    A thread waits for one result after the other; the thread that dispatches never does. Work
    begins when it was dispatched or, if that is later, when the work before it was done. What is
    not timed counts towards whatever is timed next.
    """

    def __init__(self):
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device-clock")
        self._free = 0.0

    def time(self, result: Any) -> Future[Span]:
        """The span of the work that makes `result`, a pytree of arrays just dispatched.

        The arrays must not be donated before they are there.
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
