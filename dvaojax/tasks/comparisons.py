"""Answers compared with a baseline answer by a judge, in both orders.

A row of your own data is a `prompt` and an `answer`, which is the answer to be surpassed, such as a
greedy answer of the policy before training; its metadata may have a `rubric`, the criteria of the
comparison as text. A judge on an OpenAI-compatible server compares each completion with that answer
(`rewards.preferences.PairwiseScorer`).
"""

import dataclasses
from collections.abc import Mapping

from dvaojax.data.records import ProblemRecord
from dvaojax.errors import UserError
from dvaojax.rewards.judge import Judge, JudgeConfig
from dvaojax.rewards.preferences import Baseline, PairwiseScorer
from dvaojax.tasks.prepared import PreparedTask, shown_conversation, where_in_source
from dvaojax.types import RewardFunction


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparisons(PreparedTask):
    """Your own prompts and baseline answers; the fields not listed here are `PreparedTask`'s.

    The objective is `preferred`: 0, 1/2 or 1, the fraction of the judge's two verdicts, one for
    each order, that prefer the completion. Rubric-ARM (arXiv:2602.01511) compares with a greedy
    answer of the present policy; here it is a fixed one from the data.

    Attributes:
        judge: compares the answers.
    """

    judge: JudgeConfig = JudgeConfig()

    name = "comparisons"

    @property
    def objectives(self) -> Mapping[str, RewardFunction]:
        """Empty, since the judge scores the only objective."""
        return {}

    @property
    def scored_objectives(self) -> tuple[str, ...]:
        """`preferred`."""
        return PairwiseScorer.objectives

    def scorer(self) -> PairwiseScorer:
        """The judge; no question is sent yet."""
        return PairwiseScorer(Judge(self.judge))

    def reference(self, record: ProblemRecord) -> Baseline:
        """The conversation, the baseline answer and the rubric.

        Raises:
            UserError: the row has no such answer, its rubric is not text, or a message has
                `tool_calls`, which the judge is not shown.
        """
        where = where_in_source(record)
        rubric = record.metadata.get("rubric", "")
        if not isinstance(record.answer, str) or not record.answer.strip():
            raise UserError(f"{where}: the answer is not text, to compare completions with")
        if not isinstance(rubric, str):
            raise UserError(f"{where}: the rubric is not text: write its criteria as one string")
        return Baseline(shown_conversation(record), record.answer, rubric)
