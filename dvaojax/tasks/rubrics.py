"""Answers graded by a judge with a rubric, for several objectives: HealthBench.

The conversations of HealthBench (arXiv 2505.08775) have criteria written by physicians, each with
points. A judge on an OpenAI-compatible server decides which criteria an answer meets
(`rewards.rubric`), and the objectives are computed from its grades.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

from dvaojax.data.records import ProblemRecord
from dvaojax.rewards.judge import Judge, JudgeConfig
from dvaojax.rewards.rubric import (
    Rubric,
    RubricObjective,
    RubricScorer,
    axes,
    overall,
    read_rubric,
    single_items,
)
from dvaojax.tasks.prepared import PreparedTask, shown_conversation
from dvaojax.types import RewardFunction, Scorer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rubrics(PreparedTask):
    """HealthBench; the fields not listed here are `PreparedTask`'s.

    HealthBench has a single split. Every tenth conversation is held out and never used for
    training.

    Attributes:
        reading: "overall": one objective, the score of the whole rubric; "axes": one for each of
            HealthBench's five axes; "items": one for each item of the rubric, up to `items`.
        items: number of objectives of the reading "items".
        judge: grades the answers.

    Raises:
        ValueError: the number of items is below 1.
    """

    train: str = "healthbench/test"
    test: tuple[str, ...] = ("healthbench/test",)
    max_prompt_length: int = 2048
    reading: Literal["overall", "axes", "items"] = "axes"
    items: int = 17
    judge: JudgeConfig = JudgeConfig()

    name = "rubrics"

    def __post_init__(self):
        super().__post_init__()
        if self.items < 1:
            raise ValueError(f"task.items={self.items} must be at least 1")

    @property
    def objectives(self) -> Mapping[str, RewardFunction]:
        """Empty, since all objectives are scored by the judge."""
        return {}

    @property
    def scored_objectives(self) -> tuple[str, ...]:
        """Objectives graded by the judge: the whole rubric, axes or items, as set by `reading`."""
        return tuple(self._rubric_objectives)

    def scorer(self) -> Scorer:
        """The judge with its objectives; no question is sent yet."""
        return RubricScorer(self._rubric_objectives, Judge(self.judge))

    def records(self, name: str, split: str) -> Sequence[ProblemRecord]:
        """Every tenth record for "test", the others for "train"."""
        every = super().records(name, split)
        held_out = split == "test"
        return [every[i] for i in range(len(every)) if (i % 10 == 9) == held_out]

    def reference(self, record: ProblemRecord) -> Rubric:
        """The conversation and the criteria of its answer.

        Raises:
            UserError: a message has `tool_calls`, which the judge's question would leave out.
        """
        shown_conversation(record)
        return read_rubric(record.prompt, record.metadata["rubrics"])

    @property
    def _rubric_objectives(self) -> Mapping[str, RubricObjective]:
        if self.reading == "overall":
            return {"score": overall()}
        return axes() if self.reading == "axes" else single_items(self.items)
