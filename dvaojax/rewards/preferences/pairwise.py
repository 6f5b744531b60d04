"""A reward for policies: a judge prefers the completion to a baseline answer, in both orders."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dvaojax.rewards.judge import BatchedJudge, Judge
from dvaojax.rewards.preferences.comparison import ResponsePair, comparison_question, read_verdict
from dvaojax.rewards.thinking import visible_answer
from dvaojax.types import Completion, Prompt, Scores


@dataclasses.dataclass(frozen=True)
class Baseline:
    """The reference of a completion that is compared with another answer.

    Attributes:
        conversation: role and content of each message that the completion answers.
        answer: what the completion is compared with.
        rubric: criteria of the comparison; empty for none.
    """

    conversation: tuple[tuple[str, str], ...]
    answer: str
    rubric: str = ""


class PairwiseScorer:
    """Scores completions by a judge that compares each with its prompt's `Baseline`.

    The reward of Rubric-ARM's policies (arXiv:2602.01511): the judge is asked twice, with the
    completion as response A and as response B. The reward is the fraction of the two verdicts that
    prefer it: 0, 1/2 or 1, where 1/2 means that the order decided. The paper's text leaves open how
    it combines the two orders; their mean is our reading. Text before the last `</think>` is not
    compared.

    If one of the two questions failed, the reward is masked and counted as failed. A completion
    without a visible character is not sent to the judge and gets 0.

    There is no protection against the judge's own weaknesses: a completion that persuades the judge
    is rewarded.
    """

    objectives = ("preferred",)

    def __init__(self, judge: Judge):
        """Stores the judge; nothing is sent to it yet."""
        self._judge = BatchedJudge(judge)

    def score(
        self, completions: Sequence[Sequence[Completion]], prompts: Sequence[Prompt], /
    ) -> Scores:
        """Scores every completion; each prompt's reference is a `Baseline`.

        `judge/order_decided` is the number of completions whose verdicts depend on the order.

        Raises:
            RewardError: too many consecutive batches without a single answer.
            UserError: the judge's cache is damaged.
        """
        shape = (len(completions), len(completions[0]), 1)
        rewards, mask = np.zeros(shape, np.float32), np.ones(shape, bool)
        texts = {
            (b, g): visible_answer(completion.text)
            for b, group in enumerate(completions)
            for g, completion in enumerate(group)
        }
        asked = [index for index, text in texts.items() if text]
        questions = [
            comparison_question(comparison)
            for b, g in asked
            for comparison in _both_orders(prompts[b].reference, texts[b, g])
        ]
        seeds = [completions[b][g].scoring for b, g in asked for _ in range(2)]
        batch = self._judge.ask(questions, read_verdict, seeds)
        pairs = list(zip(batch.values[::2], batch.values[1::2], strict=True))
        for index, (as_first, as_second) in zip(asked, pairs, strict=True):
            mask[index] = as_first is not None and as_second is not None
            rewards[index] = ((as_first == "A") + (as_second == "B")) / 2 if mask[index] else 0.0
        return Scores(
            rewards,
            mask,
            {"preferred": int(mask.size - mask.sum())},
            batch.messages,
            {**batch.measures, "judge/order_decided": float((rewards == 0.5).sum())},
        )


def _both_orders(baseline: Baseline, answer: str) -> tuple[ResponsePair, ResponsePair]:
    """The answer as response A, then as response B."""
    conversation, rubric = baseline.conversation, baseline.rubric
    return (
        ResponsePair(conversation, answer, baseline.answer, rubric),
        ResponsePair(conversation, baseline.answer, answer, rubric),
    )
