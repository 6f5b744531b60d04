"""Several reward functions applied to a batch of groups, in this process or in workers."""

import contextlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from dvaojax.rewards.asynchronous import AsyncCalls, split_functions
from dvaojax.rewards.calls import Call, CallResult, attempt, reward_error
from dvaojax.rewards.workers import Workers
from dvaojax.types import AsyncRewardFunction, Completion, Prompt, RewardFunction, Scores


class RewardSuite:
    """Scores every completion of a batch on every objective.

    With `workers=0` the functions run in this process, one after the other, and may be lambdas.
    Otherwise they run in that many worker processes, which end calls that exceed the time limit.
    The functions must then be importable by name, or `partial`s of such functions, and the program
    must guard its entry point with `if __name__ == "__main__"`, as always with `multiprocessing`.

        with RewardSuite({"brevity": partial(within_budget, budget=64)}, workers=4) as suite:
            scores = suite.score(completions, prompts)

    A reward function may be an `async def`, next to others that are not. All calls of such
    functions in a batch are awaited together, in a thread of this process, with or without workers.

    Not to be confused with: a reward model. Nothing here is learned, batched or differentiated.
    """

    def __init__(
        self,
        objectives: Mapping[str, RewardFunction | AsyncRewardFunction],
        *,
        workers: int = 0,
        timeout_seconds: float | None = None,
        concurrency: int = 64,
        on_error: Literal["raise", "mask"] = "raise",
    ):
        """Stores the functions; the first `score` starts the processes.

        Args:
            objectives: name -> reward function, in the order of the columns of the reward array.
            workers: number of worker processes; 0 scores in this process.
            timeout_seconds: limit for one call, requires workers unless all functions are
                asynchronous; None for no limit.
            concurrency: number of calls of asynchronous functions that are awaited together.
            on_error: how to treat a failed call (an exception, a time-out, a dead process, a value
                that is neither a finite number nor None): "raise" raises a `RewardError`, "mask"
                masks the reward, counts the failure and continues.

        Raises:
            ValueError: no objective, a number out of range, or a time limit without workers.
            TypeError: a function cannot be sent to worker processes.
        """
        if not objectives:
            raise ValueError("a reward suite needs at least one objective")
        if workers < 0:
            raise ValueError(f"workers={workers} must not be negative")
        if on_error not in ("raise", "mask"):
            raise ValueError(f"on_error={on_error!r} is neither 'raise' nor 'mask'")
        if timeout_seconds is not None and not timeout_seconds > 0:
            raise ValueError(f"timeout_seconds={timeout_seconds} must be positive")
        if concurrency < 1:
            raise ValueError(f"concurrency={concurrency} must be at least 1")
        own, awaited = split_functions(objectives)
        if timeout_seconds is not None and workers == 0 and own:
            raise ValueError(
                f"timeout_seconds needs workers for {next(iter(own))}, which is not an `async "
                "def`: a call in this process cannot be ended"
            )
        self._names = tuple(objectives)
        self._on_error = on_error
        self._awaited = AsyncCalls(
            awaited, concurrency=concurrency, timeout_seconds=timeout_seconds
        )
        self._functions = own
        self._workers = None
        if workers > 0 and own:
            self._workers = Workers(own, workers=workers, timeout_seconds=timeout_seconds)

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the objectives in the order of the columns."""
        return self._names

    def score(
        self, completions: Sequence[Sequence[Completion]], prompts: Sequence[Prompt]
    ) -> Scores:
        """Scores every completion on every objective. May be called from any thread.

        Args:
            completions: `B` groups of `G` completions.
            prompts: the `B` prompts they answer; each holds the reference of its group.

        Raises:
            ValueError: groups of different sizes, no group, or not one prompt for each group.
            RewardError: a call failed and `on_error` is "raise"; the first one in the batch.
        """
        shape = (len(prompts), _group_size(completions, prompts), len(self._names))
        calls = [
            Call(objective, completion, prompt)
            for prompt, group in zip(prompts, completions, strict=True)
            for completion in group
            for objective in self._names
        ]
        rewards, mask = np.zeros(len(calls), np.float32), np.zeros(len(calls), bool)
        failures, messages = dict.fromkeys(self._names, 0), []
        with contextlib.closing(self._outcomes(calls)) as outcomes:
            for i, (call, outcome) in enumerate(zip(calls, outcomes, strict=True)):
                if outcome.failure:
                    error = reward_error(call, outcome)
                    if self._on_error == "raise":
                        raise error
                    failures[call.objective] += 1
                    messages.append(str(error))
                elif outcome.reward is not None:
                    rewards[i], mask[i] = outcome.reward, True
        return Scores(rewards.reshape(shape), mask.reshape(shape), failures, messages)

    def close(self) -> None:
        """Ends worker processes and unfinished calls; nothing can be scored afterwards."""
        self._awaited.close()
        if self._workers is not None:
            self._workers.close()

    def __enter__(self) -> "RewardSuite":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _outcomes(self, calls: Sequence[Call]) -> Generator[CallResult, None, None]:
        """The results in the order of the calls; the asynchronous ones are started first."""
        is_awaited = [call.objective not in self._functions for call in calls]
        awaited = self._awaited.outcomes([c for c, a in zip(calls, is_awaited, strict=True) if a])
        others = self._other_outcomes([c for c, a in zip(calls, is_awaited, strict=True) if not a])
        try:
            for a in is_awaited:
                yield next(awaited if a else others)
        finally:
            awaited.close()

    def _other_outcomes(self, calls: Sequence[Call]) -> Iterator[CallResult]:
        if self._workers is not None:
            return self._workers.outcomes(calls)
        return (
            attempt(self._functions[objective], completion, prompt.reference)
            for objective, completion, prompt in calls
        )


def _group_size(completions: Sequence[Sequence[Completion]], prompts: Sequence[Prompt]) -> int:
    if len(completions) != len(prompts) or not prompts:
        raise ValueError(f"{len(completions)} groups of completions for {len(prompts)} prompts")
    sizes = {len(group) for group in completions}
    if len(sizes) > 1:
        raise ValueError(f"groups of different sizes: {', '.join(map(str, sorted(sizes)))}")
    return sizes.pop()
