"""Reward functions in worker processes, with a time limit for each call.

The processes are started afresh and never forked from the calling process, which may run JAX. A
call that exceeds its limit is ended by killing its process, also in the middle of C code and from
any calling thread; a new process replaces it.
"""

import multiprocessing
import pickle
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool

import pebble

from dvaojax.rewards.calls import Call, CallResult, attempt, failed
from dvaojax.types import RewardFunction


class Workers:
    """A pool of processes that hold the reward functions; `close` ends it."""

    def __init__(
        self,
        objectives: Mapping[str, RewardFunction],
        *,
        workers: int,
        timeout_seconds: float | None,
    ):
        """Stores the functions; the first call starts the processes.

        Raises:
            TypeError: a function cannot be sent to another process.
        """
        pickled = {name: _pickled(name, function) for name, function in objectives.items()}
        # A fork server imports the program once for all workers; without one, each imports it.
        methods = multiprocessing.get_all_start_methods()
        self._timeout_seconds = timeout_seconds
        self._pool = pebble.ProcessPool(
            max_workers=workers,
            initializer=_load,
            initargs=(pickled,),
            context=multiprocessing.get_context(
                "forkserver" if "forkserver" in methods else "spawn"
            ),
        )

    def outcomes(self, calls: Sequence[Call]) -> Iterator[CallResult]:
        """Schedules the calls and returns their results in the same order.

        Raises:
            RuntimeError: no worker could start; raised when a result is read.
        """
        futures = [
            self._pool.schedule(
                _attempt_here,
                args=(objective, pickle.dumps((completion, prompt.reference))),
                timeout=self._timeout_seconds,
            )
            for objective, completion, prompt in calls
        ]
        return map(self._outcome, futures)

    def close(self) -> None:
        """Ends the processes and with them all unfinished calls."""
        self._pool.stop()
        self._pool.join()

    def _outcome(self, future: Future) -> CallResult:
        try:
            return future.result()
        except TimeoutError:
            return CallResult(None, f"took longer than {self._timeout_seconds:g} s")
        except pebble.ProcessExpired as death:
            return CallResult(None, f"its process died with exit code {death.exitcode}")
        except BrokenProcessPool as error:
            raise RuntimeError(
                "the reward workers could not start: guard the program's entry point with "
                "`if __name__ == '__main__'` in a module or file, or use workers=0"
            ) from error


def _pickled(name: str, function: RewardFunction) -> bytes:
    try:
        return pickle.dumps(function)
    except Exception as error:
        raise TypeError(
            f"objective {name!r} cannot be sent to worker processes ({error}): "
            "define it at the top level of a module, or use workers=0"
        ) from error


# The rest runs in the worker processes.

_functions: dict[str, RewardFunction | CallResult] = {}
"""Objective -> its function, or the failure to load it. Filled when the process starts, so that
no call's time limit includes the imports."""


def _load(pickled: Mapping[str, bytes]) -> None:
    for name, function in pickled.items():
        try:
            _functions[name] = pickle.loads(function)
        except BaseException as error:  # importing its module may end the program
            _functions[name] = failed(error)


def _attempt_here(objective: str, arguments: bytes) -> CallResult:
    function = _functions[objective]
    if isinstance(function, CallResult):
        return function
    try:
        return attempt(function, *pickle.loads(arguments))
    except BaseException as error:
        return failed(error)
