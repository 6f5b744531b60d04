"""How a run's completions are shared out: what is known of each problem, and what follows from it.

Everything is on the host and the same in every process: the rewards of a step are known to all of
them, and so is which problem each group belongs to.
"""

import dataclasses
from typing import NamedTuple, Protocol

import numpy as np

from dvaojax import allocation
from dvaojax.allocation import Statistics
from dvaojax.config import Config
from dvaojax.types import Scores


class Reading(NamedTuple):
    """How far the problems were read, and what their completions have told; in every checkpoint.

    Attributes:
        position: in the stream, of the next problem.
        statistics: a row a problem; none where the run's allocation looks at none.
    """

    position: int
    statistics: Statistics


class Allocation(Protocol):
    """How many completions each problem of a step gets."""

    def sizes(self, statistics: Statistics, rows: np.ndarray, /) -> np.ndarray:
        """`[B]` int32, of the problems whose rows `[B]` these are."""
        ...

    def observe(self, statistics: Statistics, rows: np.ndarray, scores: Scores, /) -> Statistics:
        """The statistics after the groups of these problems were scored."""
        ...


@dataclasses.dataclass(frozen=True)
class Uniform:
    """The same for every problem; nothing is kept of any.

    Attributes:
        group_size: completions of each.
    """

    group_size: int

    def sizes(self, statistics: Statistics, rows: np.ndarray, /) -> np.ndarray:
        """`[B]` int32, all the same."""
        del statistics
        return np.full(len(rows), self.group_size, np.int32)

    def observe(self, statistics: Statistics, rows: np.ndarray, scores: Scores, /) -> Statistics:
        """The statistics as they were."""
        del rows, scores
        return statistics


@dataclasses.dataclass(frozen=True)
class ByRule:
    """By a rule of `dvaojax.allocation`, from the statistics of the problems.

    Attributes:
        rule: with its knobs.
        weights: `[K]` of the objectives that it looks at.
        group_size: completions of a problem on average, which the budget follows from.
        floor: fewest completions of a problem.
        cap: most completions of a problem.
        memory: what earlier completions of a problem count.
    """

    rule: allocation.Rule
    weights: np.ndarray
    group_size: int
    floor: int
    cap: int
    memory: float

    def sizes(self, statistics: Statistics, rows: np.ndarray, /) -> np.ndarray:
        """`[B]` int32, what the rule says of the problems whose rows `[B]` these are."""
        seen = allocation.at(statistics, rows)
        budget = len(rows) * self.group_size
        sizes = self.rule(seen, self.weights, budget=budget, floor=self.floor, cap=self.cap)
        return sizes.astype(np.int32)

    def observe(self, statistics: Statistics, rows: np.ndarray, scores: Scores, /) -> Statistics:
        """The statistics with the rewards `[B, G, K]` of these problems."""
        return allocation.observe(statistics, rows, scores.rewards, scores.mask, memory=self.memory)


def make_allocation(config: Config) -> Allocation:
    """What the configuration asks for."""
    settings = config.allocation
    if settings.name == "uniform":
        return Uniform(config.group_size)
    return ByRule(
        rule=allocation.make(settings.name, settings.options),
        weights=allocation_weights(config),
        group_size=config.group_size,
        floor=settings.floor,
        cap=config.largest_group,
        memory=settings.memory,
    )


def allocation_weights(config: Config) -> np.ndarray:
    """`[K]`, what each objective counts in the allocation."""
    chosen = config.allocation.objective
    counts = {chosen: 1.0} if chosen else config.weights
    return np.array([counts.get(name, 0.0) for name in config.objectives])


def row_of(config: Config) -> dict[int, int] | None:
    """A training problem's index to its row in the statistics; None where none are kept."""
    if config.allocation.name == "uniform":
        return None
    prompts = config.task.prompts("train")
    return {prompt.index: row for row, prompt in enumerate(prompts)}


def nothing_known(config: Config) -> Statistics:
    """The statistics before the first step."""
    rows = 0 if config.allocation.name == "uniform" else len(config.task.prompts("train"))
    return allocation.nothing_known(rows, len(config.objectives))
