"""Writing rubrics: a completion is a rubric, and a judge that follows it should choose rightly.

The rubric generator of Rubric-ARM (arXiv:2602.01511). The rows are preferences of your own
(`tasks.preferences`). The judge, on an OpenAI-compatible server, is not trained in this run; the
task `rubric_judging` trains one.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from dvaojax.data.records import Message, ProblemRecord
from dvaojax.rewards.judge import Judge, JudgeConfig
from dvaojax.rewards.preferences import Preference, RubricAccuracyScorer, rubric_question
from dvaojax.tasks.preferences import read_preference
from dvaojax.tasks.prepared import PreparedTask, shown_conversation
from dvaojax.types import RewardFunction


@dataclasses.dataclass(frozen=True, kw_only=True)
class RubricWriting(PreparedTask):
    """Rubrics for your own preferences; the fields not listed here are `PreparedTask`'s.

    The policy sees the conversation and no response. The objective is `accuracy`: 1 if the judge
    prefers the better response under the rubric, else 0.

    Attributes:
        judge: compares the responses; the paper's is greedy, a temperature of 0.
    """

    judge: JudgeConfig = JudgeConfig()

    name = "rubric_writing"

    @property
    def objectives(self) -> Mapping[str, RewardFunction]:
        """Empty, since the judge scores the only objective."""
        return {}

    @property
    def scored_objectives(self) -> tuple[str, ...]:
        """`accuracy`."""
        return RubricAccuracyScorer.objectives

    def scorer(self) -> RubricAccuracyScorer:
        """The judge; no question is sent yet."""
        return RubricAccuracyScorer(Judge(self.judge))

    def messages(self, record: ProblemRecord) -> Sequence[Message]:
        """The request for a rubric."""
        return rubric_question(shown_conversation(record))

    def reference(self, record: ProblemRecord) -> Preference:
        """The two responses and the better one; raises the errors of `read_preference`."""
        return read_preference(record)
