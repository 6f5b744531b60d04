"""The order of prepared problems, made by Grain."""

import dataclasses
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from dvaojax.errors import import_extra
from dvaojax.types import Prompt


@dataclasses.dataclass(frozen=True)
class GrainStream:
    """The problems in a new order every epoch, as Grain's global shuffle gives it.

    Nothing is iterated over: Grain computes which problem stands at a position, so that a process
    reads those of its own groups alone, in memory or from a disk, and a run that resumes goes on
    at the position that its number of steps says. The order is Grain's; another version of it may
    have another.

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
        """The problems at these positions, which begin at 0.

        Raises:
            UserError: Grain is not installed.
        """
        return [self._problems[position] for position in positions]

    @cached_property
    def _problems(self) -> Any:
        grain = import_extra("grain", extra="data")
        # Repeated after the shuffle, every epoch is shuffled by a seed of its own.
        return grain.MapDataset.source(self.prompts).seed(self.seed).shuffle().repeat()
