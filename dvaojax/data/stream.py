"""Endless, seeded order of a task's problems; stateless: indexed by position."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from dvaojax.types import Prompt, PromptStream, Task, TaskWithStream


@dataclasses.dataclass(frozen=True)
class ShuffledPrompts:
    """The problems in a new order every epoch.

    Position `n` is always the same problem, so a resumed run needs only its position, and hosts
    need no further coordination.

    Attributes:
        prompts: the problems; at least one.
        seed: seed of the shuffles.

    Raises:
        ValueError: there is no problem.
    """

    prompts: Sequence[Prompt]
    seed: int

    def __post_init__(self):
        if not self.prompts:
            raise ValueError("a task needs at least one problem to train on")

    def take(self, positions: Iterable[int]) -> list[Prompt]:
        """The problems at these positions, which begin at 0."""
        problems, orders = [], {}
        for position in positions:
            epoch, offset = divmod(position, len(self.prompts))
            if epoch not in orders:
                generator = np.random.default_rng([self.seed, epoch])
                orders[epoch] = generator.permutation(len(self.prompts))
            problems.append(self.prompts[orders[epoch][offset]])
        return problems


def training_stream(task: Task, *, seed: int) -> PromptStream:
    """A task's training problems in the task's own order, or shuffled by `ShuffledPrompts`.

    Raises:
        ValueError: the task has no training problem.
    """
    if isinstance(task, TaskWithStream):
        return task.stream("train", seed)
    return ShuffledPrompts(task.prompts("train"), seed)
