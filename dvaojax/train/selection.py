"""The choice of the problems of the next steps among candidates, by the gradients of both.

Before a round, groups are sampled for its candidates and for the trusted problems with the present
policy, scored like those of a step, and turned into projected gradients with the advantages of the
run's aggregator, whose state stays as it is. The completions are not trained on. All of it is
determined by the state of the run, so that a resumed run makes the same choices.
"""

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import Array

from dvaojax import allocation
from dvaojax.config import Config, trusted_problems
from dvaojax.data.stream import training_stream
from dvaojax.learning.train_step import TrainState
from dvaojax.train import hosts
from dvaojax.train.allocation_state import (
    Allocation,
    DataState,
    Uniform,
    allocation_weights,
    make_allocation,
    make_rounds,
    statistics_rows,
)
from dvaojax.train.batches import PromptBatches
from dvaojax.train.collect import Collector
from dvaojax.train.keys import KeyPurpose, run_key
from dvaojax.train.program import GroupGradientFunction, Program
from dvaojax.train.references import reference_width
from dvaojax.types import Experience, Prompt, PromptStream, Scorer

# (state, data) -> data with the problems of the next steps, and measures of the choice if one was
# made.
Select = Callable[[TrainState, DataState], tuple[DataState, dict[str, float]]]


@dataclasses.dataclass(frozen=True)
class FixedPrompts:
    """A stream that repeats its problems in their order.

    Attributes:
        prompts: the problems; at least one.
    """

    prompts: Sequence[Prompt]

    def take(self, positions: Iterable[int]) -> list[Prompt]:
        """The problems at these positions, which begin at 0."""
        return [self.prompts[position % len(self.prompts)] for position in positions]


class _Sampled(NamedTuple):
    """Groups that were sampled and scored, one row per problem.

    Attributes:
        rows: `[M]`, of the problems in the statistics.
        projections: `[M, D]` float32, 0 where the advantages are.
        norms: `[M]` float32, the same.
    """

    rows: np.ndarray
    projections: np.ndarray
    norms: np.ndarray


@dataclasses.dataclass(frozen=True)
class Selector:
    """Chooses the problems of each round before its first step is sampled.

    Attributes:
        config: of the run.
        candidates: samples and scores the problems of the training stream.
        trusted: samples and scores the trusted problems; None where there are none.
        group_gradients: of the run's program.
        rule: `gradalign` with its options.
        rounds: of the run.
    """

    config: Config
    candidates: Collector
    trusted: Collector | None
    group_gradients: GroupGradientFunction
    rule: allocation.AllocationRule
    rounds: allocation.Rounds

    def __call__(self, state: TrainState, data: DataState) -> tuple[DataState, dict[str, float]]:
        """Chooses the problems of the round that the next step belongs to, if it has none yet."""
        number, chosen = self.rounds.number(data.position), data.chosen
        if chosen is None or chosen[number, 0] >= 0:
            return data, {}
        started = time.perf_counter()
        settings = self.config.allocation.selection
        sources = range(number * settings.candidates, (number + 1) * settings.candidates)
        data, rows = self._observed(state, data, number, sources)
        sizes = self.rule(
            allocation.at(data.statistics, rows),
            allocation_weights(self.config),
            budget=settings.chosen * self.config.group_size,
            floor=0,
            cap=self.config.group_size,
        )
        chosen = chosen.copy()
        chosen[number] = np.array(sources)[sizes > 0]
        seconds = {"selection_seconds": time.perf_counter() - started}
        return data._replace(chosen=chosen), self._measures(data, rows, sizes > 0) | seconds

    def _observed(
        self, state: TrainState, data: DataState, number: int, sources: Sequence[int]
    ) -> tuple[DataState, np.ndarray]:
        """Statistics after the candidates of a round were sampled, and their rows `[M]`."""
        evidence, statistics = self.config.allocation.evidence, data.statistics
        if evidence == "nothing":
            return data, self._rows(sources)
        key = jax.random.fold_in(run_key(self.config, KeyPurpose.PROJECTIONS), number)
        sampled, statistics = self._sample(self.candidates, state, sources, statistics, key)
        direction = sampled.projections.sum(axis=0, dtype=np.float64)
        own = allocation.cosines(sampled.projections, direction)
        alignment = np.zeros_like(own)
        if evidence == "trusted" and self.trusted is not None:
            first = number * self.config.allocation.selection.trusted
            positions = range(first, first + self.config.allocation.selection.trusted)
            others, _ = self._sample(self.trusted, state, positions, statistics, key)
            direction = others.projections.sum(axis=0, dtype=np.float64)
            alignment = allocation.cosines(sampled.projections, direction)
        statistics = allocation.observe_alignment(
            statistics, sampled.rows, alignment=alignment, own_alignment=own, norms=sampled.norms
        )
        return data._replace(statistics=statistics), sampled.rows

    def _rows(self, sources: Sequence[int]) -> np.ndarray:
        """`[M]`, the rows of problems in the statistics."""
        batches, size = self.candidates.batches, self.config.prompts_per_step
        firsts = range(0, len(sources), size)
        return np.concatenate([batches.at(sources[first : first + size]).rows for first in firsts])

    def _sample(
        self,
        collector: Collector,
        state: TrainState,
        positions: Sequence[int],
        statistics: allocation.ProblemStatistics,
        key: Array,
    ) -> tuple[_Sampled, allocation.ProblemStatistics]:
        """Gradients of the problems at positions of the collector, and updated statistics."""
        params, size = state.learner.params, self.config.prompts_per_step
        parts: list[_Sampled] = []
        for first in positions[::size]:
            rollout, data = collector.start_rollout(params, DataState(first, statistics))
            collected, data = collector.collect(params, rollout, data)
            statistics = data.statistics
            parts.append(self._gradients(state, collected.experience, collected.rows, key))
        return _Sampled(*map(np.concatenate, zip(*parts, strict=True))), statistics

    def _gradients(
        self, state: TrainState, experience: Experience, rows: np.ndarray, key: Array
    ) -> _Sampled:
        """Projected gradients of a batch; none where only rewards count."""
        if self.config.allocation.evidence == "rewards":
            return _Sampled(rows, np.zeros((len(rows), 1)), np.zeros(len(rows)))
        gradients, largest = hosts.whole(self.group_gradients(state, experience, key))
        has_advantage = largest >= self.config.allocation.selection.zero_advantage
        projections = np.where(has_advantage[:, None], gradients.projections, 0)
        return _Sampled(rows, projections, np.where(has_advantage, gradients.norms, 0))

    def _measures(
        self, data: DataState, rows: np.ndarray, is_chosen: np.ndarray
    ) -> dict[str, float]:
        """Means over the candidates and over the chosen ones."""
        statistics = allocation.at(data.statistics, rows)
        rate = allocation.success(statistics.mean, allocation_weights(self.config))
        columns = {
            "alignment": np.asarray(statistics.alignment),
            "own_alignment": np.asarray(statistics.own_alignment),
            "gradient_norm": np.asarray(statistics.gradient_norm),
            "success": rate,
        }
        return {
            f"selection/{which}/{name}": float(values[where].mean())
            for which, where in (("candidates", slice(None)), ("chosen", is_chosen))
            for name, values in columns.items()
        }


def make_selector(config: Config, program: Program, scorer: Scorer) -> Select:
    """The choice of problems of a run; it keeps the data as they are if the run chooses none."""
    rounds = make_rounds(config)
    if rounds is None:
        return keep_all

    def collector(
        stream: PromptStream, groups: Allocation, purpose: KeyPurpose, rows: dict[int, int] | None
    ) -> Collector:
        size = config.prompts_per_step
        batches = PromptBatches(
            config.task, stream, program.by_group, prompts_per_step=size, kept=1, row_of=rows
        )
        return Collector(
            batches=batches,
            tokenizer=config.task.tokenizer,
            scorer=scorer,
            sampler=program.sample,
            allocation=groups,
            refills=0,
            mask_truncated=config.loss.mask_truncated,
            repeats=config.rewards.repeats,
            reference_width=reference_width(config.task) if config.has_self_certainty else 0,
            key=run_key(config, purpose),
        )

    trusted, stream = trusted_problems(config), training_stream(config.task, seed=config.seed)
    uniform = Uniform(config.group_size)
    return Selector(
        config=config,
        candidates=collector(
            stream, make_allocation(config), KeyPurpose.CANDIDATES, statistics_rows(config)
        ),
        trusted=collector(FixedPrompts(trusted), uniform, KeyPurpose.TRUSTED, None)
        if trusted
        else None,
        group_gradients=program.group_gradients,
        rule=allocation.make(config.allocation.name, config.allocation.options),
        rounds=rounds,
    )


def keep_all(state: TrainState, data: DataState) -> tuple[DataState, dict[str, float]]:
    """The data unchanged: every problem is trained on."""
    del state
    return data, {}
