"""An endless, seeded order over a task's problems, without state: a position says it all."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from dvaojax.types import Prompt, PromptStream, Task, TaskWithStream


@dataclasses.dataclass(frozen=True)
class ShuffledPrompts:
    """The problems in a new order every epoch.

    Position `n` holds the same problem whatever was read before and whoever reads it, so a run
    that resumes needs to remember one number and hosts need not agree on anything else.

    Attributes:
        prompts: the problems; at least one.
        seed: of the orders.

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
        taken, orders = [], {}
        for position in positions:
            epoch, offset = divmod(position, len(self.prompts))
            if epoch not in orders:
                generator = np.random.default_rng([self.seed, epoch])
                orders[epoch] = generator.permutation(len(self.prompts))
            taken.append(self.prompts[orders[epoch][offset]])
        return taken


def training_stream(task: Task, *, seed: int) -> PromptStream:
    """A task's training problems in its own order, or else in a plain one.

    Raises:
        ValueError: the task has no training problem.
    """
    if isinstance(task, TaskWithStream):
        return task.stream("train", seed)
    return ShuffledPrompts(task.prompts("train"), seed)
