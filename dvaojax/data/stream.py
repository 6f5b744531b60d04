"""An endless, seeded order over a task's problems, without state: a position says it all."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dvaojax.types import Prompt


@dataclasses.dataclass(frozen=True)
class PromptStream:
    """The problems in a new order every epoch.

    Position `n` holds the same problem whatever was read before and whoever reads it, so a run
    that resumes needs to remember one number and hosts need not agree on anything else.

    Attributes:
        prompts: the problems; at least one.
        seed: of the orders.
    """

    prompts: Sequence[Prompt]
    seed: int

    def __post_init__(self):
        if not self.prompts:
            raise ValueError("a task needs at least one problem to train on")

    def take(self, position: int, count: int) -> list[Prompt]:
        """The problems at positions `position` to `position + count - 1`."""
        taken: list[Prompt] = []
        while len(taken) < count:
            epoch, offset = divmod(position + len(taken), len(self.prompts))
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.prompts))
            taken += [self.prompts[i] for i in order[offset : offset + count - len(taken)]]
        return taken
