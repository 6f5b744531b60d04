"""Answers that a judge grades by a rubric, several objectives at once: HealthBench.

The conversations of HealthBench (arXiv 2505.08775) come with what physicians want to see in an
answer, each with its points. A judge behind an OpenAI-compatible server says which of them one
meets (`rewards.rubric`), and the objectives are read off its grades.
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
from dvaojax.tasks.prepared import PreparedTask
from dvaojax.types import RewardFunction, Scorer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rubrics(PreparedTask):
    """HealthBench; the fields not named here are `PreparedTask`'s.

    HealthBench comes in one split. A tenth of its conversations are held out, each tenth one, and
    never trained on.

    Attributes:
        reading: "overall" is one objective, the score of the whole rubric; "axes" has one for each
            of HealthBench's five axes; "items" has one for each item of the rubric, up to `items`.
        items: objectives of the reading "items".
        judge: who grades.

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
        """None that is scored here."""
        return {}

    @property
    def scored_objectives(self) -> tuple[str, ...]:
        """What the judge grades: the whole rubric, axes or items, as `reading` says."""
        return tuple(self._rubric_objectives)

    def scorer(self) -> Scorer:
        """The judge with its objectives; nothing is asked yet."""
        return RubricScorer(self._rubric_objectives, Judge(self.judge))

    def records(self, name: str, split: str) -> Sequence[ProblemRecord]:
        """Each tenth record to evaluate, the others to train on."""
        every = super().records(name, split)
        held_out = split == "test"
        return [every[i] for i in range(len(every)) if (i % 10 == 9) == held_out]

    def reference(self, record: ProblemRecord) -> Rubric:
        """The conversation and what to look for in its answer."""
        return read_rubric(record.prompt, record.metadata["rubrics"])

    @property
    def _rubric_objectives(self) -> Mapping[str, RubricObjective]:
        if self.reading == "overall":
            return {"score": overall()}
        return axes() if self.reading == "axes" else single_items(self.items)
