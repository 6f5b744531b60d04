"""Shuffled order of prepared problems, computed by Grain."""

import dataclasses
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from dvaojax.errors import import_extra
from dvaojax.types import Prompt


@dataclasses.dataclass(frozen=True)
class GrainStream:
    """The problems in a new order every epoch, by Grain's global shuffle.

    Stateless: Grain computes which problem is at a position. So a process reads only the problems
    of its own groups, from memory or disk, and a resumed run continues at the position that follows
    from its step number. Other versions of Grain may give another order.

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
        """The problems at these positions, which begin at 0.

        Raises:
            UserError: Grain is not installed.
        """
        return [self._problems[position] for position in positions]

    @cached_property
    def _problems(self) -> Any:
        grain = import_extra("grain", extra="data")
        # With `repeat` after `shuffle`, every epoch is shuffled with a different seed.
        return grain.MapDataset.source(self.prompts).seed(self.seed).shuffle().repeat()
