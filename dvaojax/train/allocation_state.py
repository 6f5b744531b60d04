"""Allocation of a run's completions: the statistics of each problem, and the group sizes.

All of it is on the host and equal in every process: every process knows the rewards of a step and
the problem of each group.
"""

import dataclasses
from typing import NamedTuple, Protocol

import numpy as np

from dvaojax import allocation, plugins
from dvaojax.allocation import ProblemStatistics
from dvaojax.config import Config
from dvaojax.types import Scores


class DataState(NamedTuple):
    """Position in the prompt stream and statistics of the problems; part of every checkpoint.

    Attributes:
        position: of the next problem in the stream.
        statistics: one row per problem; no rows where the run's allocation does not use any.
        chosen: `[R, N]` int32 where problems are chosen in rounds: the positions in the stream of
            those of each round, -1 for later rounds; else None.
        failed_levels: `[N]` int32, for each problem the number of levels of hints that have not
            helped since it was last solved without one; None in runs without hints.
    """

    position: int
    statistics: ProblemStatistics
    chosen: np.ndarray | None = None
    failed_levels: np.ndarray | None = None


class Allocation(Protocol):
    """Chooses how many completions each problem of a step gets."""

    def sizes(self, statistics: ProblemStatistics, rows: np.ndarray, /) -> np.ndarray:
        """Group sizes `[B]` int32 of the problems with these rows `[B]` in the statistics."""
        ...

    def observe(
        self, statistics: ProblemStatistics, rows: np.ndarray, scores: Scores, /
    ) -> ProblemStatistics:
        """The statistics after the groups of the problems with these rows `[B]` were scored."""
        ...


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Groups of equal size; no statistics are kept.

    Attributes:
        group_size: completions of each problem.
    """

    group_size: int

    def sizes(self, statistics: ProblemStatistics, rows: np.ndarray, /) -> np.ndarray:
        """`[B]` int32, all equal to `group_size`."""
        del statistics
        return np.full(len(rows), self.group_size, np.int32)

    def observe(
        self, statistics: ProblemStatistics, rows: np.ndarray, scores: Scores, /
    ) -> ProblemStatistics:
        """The statistics unchanged, for any rows `[B]`."""
        del rows, scores
        return statistics


@dataclasses.dataclass(frozen=True)
class ByRule:
    """Group sizes by a rule of `dvaojax.allocation`, from the statistics of the problems.

    Attributes:
        name: of the rule, for errors.
        rule: with its options.
        weights: `[K]` of the objectives that it uses.
        group_size: average completions of a problem, which determines the budget.
        floor: fewest completions of a problem.
        cap: most completions of a problem.
        memory: weight of earlier completions of a problem in its statistics.
        counts: of `allocation.COUNTS`, what the statistics are of.
    """

    name: str
    rule: allocation.AllocationRule
    weights: np.ndarray
    group_size: int
    floor: int
    cap: int
    memory: float
    counts: str = "rewards"

    def sizes(self, statistics: ProblemStatistics, rows: np.ndarray, /) -> np.ndarray:
        """Group sizes `[B]` int32 of the problems with these rows `[B]` in the statistics."""
        selected = allocation.at(statistics, rows)
        budget = len(rows) * self.group_size
        bounds = {"budget": budget, "floor": self.floor, "cap": self.cap}
        with plugins.blaming(self.name):
            sizes = np.asarray(self.rule(selected, self.weights, **bounds))
        allocation.check_sizes(self.name, sizes, count=len(rows), **bounds)
        return sizes.astype(np.int32)

    def observe(
        self, statistics: ProblemStatistics, rows: np.ndarray, scores: Scores, /
    ) -> ProblemStatistics:
        """The statistics updated with the rewards `[B, G, K]` of these problems."""
        rewards = self._counted(scores)
        return allocation.observe(statistics, rows, rewards, scores.mask, memory=self.memory)

    def observe_gradients(
        self, statistics: ProblemStatistics, rows: np.ndarray, scores: Scores, norms: np.ndarray
    ) -> ProblemStatistics:
        """The statistics updated with the gradient norms `[B, G]` of the completions of these.

        A completion counts that was scored on an objective with a weight; an objective that it was
        not scored on has the mean of its problem.
        """
        means = statistics.mean[rows][:, None]
        rewards = np.where(scores.mask, self._counted(scores), means)
        return allocation.observe_gradients(
            statistics,
            rows,
            allocation.success(rewards, self.weights),
            norms,
            np.any(scores.mask & (self.weights > 0), axis=-1),
            memory=self.memory,
        )

    def _counted(self, scores: Scores) -> np.ndarray:
        """`[B, G, K]`, what the statistics are of."""
        if self.counts == "above_mean":
            return allocation.above_mean(scores.rewards, scores.mask)
        return scores.rewards


def make_allocation(config: Config) -> Allocation:
    """The allocation that the configuration selects."""
    settings = config.allocation
    if settings.name == "uniform":
        return Uniform(config.group_size)
    if settings.selects:
        # Rounds choose the problems, and the groups of a step are of one size.
        return dataclasses.replace(
            _by_rule(config), rule=allocation.uniform, floor=config.group_size
        )
    return _by_rule(config)


def _by_rule(config: Config) -> ByRule:
    settings = config.allocation
    return ByRule(
        name=settings.name,
        rule=allocation.make(settings.name, settings.options),
        weights=allocation_weights(config),
        group_size=config.group_size,
        floor=settings.floor,
        cap=config.largest_group,
        memory=settings.memory,
        counts=settings.counts,
    )


def allocation_weights(config: Config) -> np.ndarray:
    """Weights `[K]` of the objectives in the allocation."""
    chosen = config.allocation.objective
    counts = {chosen: 1.0} if chosen else config.weights
    return np.array([counts.get(name, 0.0) for name in config.objectives])


def statistics_rows(config: Config) -> dict[int, int] | None:
    """Index of a training problem -> its row in the statistics; None where none are kept."""
    if config.allocation.name == "uniform" and not config.hints.objective:
        return None
    prompts = config.task.prompts("train")
    return {prompt.index: row for row, prompt in enumerate(prompts)}


def initial_data_state(config: Config) -> DataState:
    """The data state before the first step."""
    rows = 0 if config.allocation.name == "uniform" else len(config.task.prompts("train"))
    statistics = allocation.initial_statistics(rows, len(config.objectives))
    hinted = len(config.task.prompts("train")) if config.hints.objective else 0
    data = DataState(0, statistics, failed_levels=np.zeros(hinted, np.int32) if hinted else None)
    if not config.allocation.selects:
        return data
    settings = config.allocation.selection
    rounds = -(-max(config.num_steps, config.pipeline_depth) // settings.every)
    chosen = np.full((rounds, settings.chosen), -1, np.int32)
    return data._replace(statistics=allocation.with_alignment(statistics), chosen=chosen)


def make_rounds(config: Config) -> allocation.Rounds | None:
    """The rounds in which problems are chosen; None where they are not chosen."""
    if not config.allocation.selects:
        return None
    steps = config.allocation.selection.every
    return allocation.Rounds(steps * config.prompts_per_step, config.seed)
