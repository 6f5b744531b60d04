"""Wall-clock times of functions that hand work to a device."""

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import jax

Key = TypeVar("Key", bound=Hashable)


def seconds_of(function: Callable[..., Any], *arguments: Any) -> float:
    """Seconds of one call, until the device has finished what it returned."""
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start


def best_seconds(function: Callable[..., Any], *arguments: Any, rounds: int) -> float:
    """The shortest of several calls, after one that compiles: what the machine can do."""
    seconds_of(function, *arguments)
    return min(seconds_of(function, *arguments) for _ in range(rounds))


def medians(
    calls: Mapping[Key, Callable[[], Any]], *, rounds: int, repeats: Callable[[Key], int]
) -> dict[Key, float]:
    """Median seconds of each call, after one that compiles.

    They take turns, so that a busy machine slows all of them alike.

    Args:
        calls: what is timed.
        rounds: turns through all.
        repeats: how often each is called in a turn.
    """
    for call in calls.values():
        call()
    seconds: dict[Key, list[float]] = {key: [] for key in calls}
    for _ in range(rounds):
        for key, call in calls.items():
            seconds[key] += [seconds_of(call) for _ in range(repeats(key))]
    return {key: statistics.median(times) for key, times in seconds.items()}
