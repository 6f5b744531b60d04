"""Judging by rubrics: a completion is a verdict on two responses, with its reasons.

The judge of Rubric-ARM (arXiv:2602.01511). The rows are preferences of your own
(`tasks.preferences`), each with a rubric.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from dvaojax.data.records import Message, ProblemRecord
from dvaojax.errors import UserError
from dvaojax.rewards.preferences import (
    Preference,
    addresses_every_criterion,
    comparison_question,
    criteria,
    read_verdict,
    right_verdict,
)
from dvaojax.tasks.preferences import read_preference
from dvaojax.tasks.prepared import PreparedTask, where_in_source
from dvaojax.types import Completion, RewardFunction


@dataclasses.dataclass(frozen=True, kw_only=True)
class RubricJudging(PreparedTask):
    """Verdicts on your own preferences; all fields are `PreparedTask`'s.

    The prompt is the question that other runs send to a judge on a server, so that a trained judge
    can be served to them. The objectives are `accuracy`, 1 for the verdict that is known to be
    right, and `format`, 1 if every criterion of the rubric is addressed in the requested layout.
    Evaluations with several samples vote on the verdict.
    """

    name = "rubric_judging"
    answer_objective = "accuracy"

    @property
    def objectives(self) -> Mapping[str, RewardFunction]:
        """`accuracy` and `format`, 0 or 1; the paper adds them with equal weights."""
        return {"accuracy": right_verdict, "format": addresses_every_criterion}

    def answer(self, completion: Completion) -> str | None:
        """The verdict of a completion."""
        return read_verdict(completion.text)

    def messages(self, record: ProblemRecord) -> Sequence[Message]:
        """The question with responses and rubric; raises the errors of `reference`."""
        return comparison_question(self.reference(record).comparison)

    def reference(self, record: ProblemRecord) -> Preference:
        """The two responses, the rubric and the better response.

        Raises:
            UserError: as for `read_preference`, or there is no rubric with a numbered criterion.
        """
        preference = read_preference(record)
        if not criteria(preference.comparison.rubric):
            raise UserError(
                f"{where_in_source(record)}: there is no rubric whose criteria are numbered lines, "
                "`1. ...`: add one as 'rubric' to its metadata"
            )
        return preference
