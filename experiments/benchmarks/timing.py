"""Wall-clock times of functions that run on a device."""

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import jax

Key = TypeVar("Key", bound=Hashable)


def seconds_of(function: Callable[..., Any], *arguments: Any) -> float:
    """Seconds of one call, until its results are ready."""
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start


def best_seconds(function: Callable[..., Any], *arguments: Any, rounds: int) -> float:
    """The shortest of several calls, after one that compiles."""
    seconds_of(function, *arguments)
    return min(seconds_of(function, *arguments) for _ in range(rounds))


def medians(
    calls: Mapping[Key, Callable[[], Any]], *, rounds: int, repeats: Callable[[Key], int]
) -> dict[Key, float]:
    """Median seconds of each call, after one that compiles.

    The calls take turns, so that other load affects all of them equally.

    Args:
        calls: functions to be timed.
        rounds: number of rounds through all calls.
        repeats: key -> number of calls per round.
    """
    for call in calls.values():
        call()
    seconds: dict[Key, list[float]] = {key: [] for key in calls}
    for _ in range(rounds):
        for key, call in calls.items():
            seconds[key] += [seconds_of(call) for _ in range(repeats(key))]
    return {key: statistics.median(times) for key, times in seconds.items()}
