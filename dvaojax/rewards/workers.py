"""Reward functions in processes of their own, each call with a time limit.

The processes are started afresh and never forked from this one, which may run JAX. A call that
exceeds its limit is ended by killing its process, whatever it is busy with and from whatever thread
it was asked for; a new process takes its place.
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
    """A pool of processes that hold the functions; `close` ends it."""

    def __init__(
        self,
        objectives: Mapping[str, RewardFunction],
        *,
        workers: int,
        timeout_seconds: float | None,
    ):
        """Starts no process yet; the first call does.

        Raises:
            TypeError: a function cannot be sent to another process.
        """
        pickled = {name: _pickled(name, function) for name, function in objectives.items()}
        # A fork server imports the program once for all workers; where there is none, each does.
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
        """The outcome of each call, in their order; the workers share them out.

        Raises:
            RuntimeError: on reading an outcome, where no worker could start.
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
        """Ends the processes, and with them every call that is still under way."""
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
                "the reward workers could not start: the program has to be a module or a file that "
                "starts below `if __name__ == '__main__'`; workers=0 needs none"
            ) from error


def _pickled(name: str, function: RewardFunction) -> bytes:
    try:
        return pickle.dumps(function)
    except Exception as error:
        raise TypeError(
            f"objective {name!r} cannot be sent to worker processes ({error}): "
            "define it at the top level of a module, or use workers=0"
        ) from error


# What follows runs in the worker processes.

_functions: dict[str, RewardFunction | CallResult] = {}
"""Objective -> its function, or why it could not be loaded. Filled when the process starts, so that
no call's time limit pays for the imports."""


def _load(pickled: Mapping[str, bytes]) -> None:
    for name, function in pickled.items():
        try:
            _functions[name] = pickle.loads(function)
        except Exception as error:
            _functions[name] = failed(error)


def _attempt_here(objective: str, arguments: bytes) -> CallResult:
    function = _functions[objective]
    if isinstance(function, CallResult):
        return function
    try:
        return attempt(function, *pickle.loads(arguments))
    except (Exception, SystemExit) as error:
        return failed(error)
