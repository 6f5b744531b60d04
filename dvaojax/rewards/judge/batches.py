"""Batches of questions to a judge: their failures, their cost, and the end of a run without one."""

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple

from dvaojax.rewards.calls import RewardError, most_frequent
from dvaojax.rewards.judge.client import Judge, JudgeAnswer, Messages, ReplyValue, Usage


class JudgedBatch(NamedTuple, Generic[ReplyValue]):
    """Answers to a batch of questions.

    Attributes:
        values: of each question; None where it failed.
        messages: one line about the failures; none without a failure.
        measures: number and cost of the questions, for `Scores.measures`.
    """

    values: list[ReplyValue | None]
    messages: list[str]
    measures: dict[str, float]


class BatchedJudge:
    """A judge that is asked batch by batch, with a limit of batches without any answer in a row."""

    def __init__(self, judge: Judge):
        """Stores the judge; nothing is sent yet."""
        self._judge = judge
        self._failed_in_a_row = 0

    def ask(
        self,
        questions: Sequence[Messages],
        read: Callable[[str], ReplyValue | None],
        seeds: Sequence[int] = (),
    ) -> JudgedBatch[ReplyValue]:
        """Asks all questions of a batch.

        Args:
            questions: the messages of each question.
            read: parses a reply; None if it is invalid and the question should be repeated.
            seeds: as in `Judge.ask`.

        Raises:
            RewardError: too many consecutive batches without a single answer.
            UserError: the judge's cache is damaged.
        """
        answers, usage = self._judge.ask(questions, read, seeds)
        self._count_failed_batches(answers)
        values = [answer.value for answer in answers]
        return JudgedBatch(values, _messages(answers), _measures(usage, answers))

    def _count_failed_batches(self, answers: Sequence[JudgeAnswer]) -> None:
        if not answers:
            return
        answered = any(answer.value is not None for answer in answers)
        self._failed_in_a_row = 0 if answered else self._failed_in_a_row + 1
        config = self._judge.config
        if self._failed_in_a_row >= config.max_failed_batches:
            raise RewardError(
                f"the judge at {config.url} answered none of {len(answers)} questions, in "
                f"{self._failed_in_a_row} batches in a row (judge.max_failed_batches): "
                f"{_reasons(answers)}; --resume continues from the last checkpoint"
            )


def _reasons(answers: Sequence[JudgeAnswer]) -> str:
    return most_frequent(answer.failure for answer in answers if answer.value is None)


def _messages(answers: Sequence[JudgeAnswer]) -> list[str]:
    failed = sum(answer.value is None for answer in answers)
    if not failed:
        return []
    return [f"judge: {failed} of {len(answers)} questions failed: {_reasons(answers)}"]


def _measures(usage: Usage, answers: Sequence[JudgeAnswer]) -> dict[str, float]:
    return {
        "judge/questions": len(answers),
        "judge/failed": sum(answer.value is None for answer in answers),
        "judge/calls": usage.calls,
        "judge/cached": usage.cached,
        "judge/tokens_in": usage.tokens_in,
        "judge/tokens_out": usage.tokens_out,
        "judge/seconds_per_call": usage.waited_seconds / usage.calls if usage.calls else 0.0,
    }
