"""A reward for rubrics: a judge that follows the rubric finds the known preference."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dvaojax.rewards.judge import BatchedJudge, Judge
from dvaojax.rewards.preferences.comparison import comparison_question, read_verdict
from dvaojax.rewards.preferences.rubric_text import read_rubric_text
from dvaojax.types import Completion, Prompt, Scores


class RubricAccuracyScorer:
    """Scores rubrics by the verdicts of a frozen judge on known preferences.

    The reward of Rubric-ARM's rubric generator (arXiv:2602.01511): 1 if the judge, given the
    rubric, prefers the response that is known to be better, else 0. The judge is asked once, with
    the responses in the order of the prompt's `Preference`, whose own rubric is not used.

    If the question failed, the reward is masked and counted as failed. A completion without a
    numbered criterion, after its thoughts, is no rubric: it gets 0 and is not sent to the judge,
    which would otherwise be rewarded for comparing without one. That rule is ours.
    """

    objectives = ("accuracy",)

    def __init__(self, judge: Judge):
        """Stores the judge; nothing is sent to it yet."""
        self._judge = BatchedJudge(judge)

    def score(
        self, completions: Sequence[Sequence[Completion]], prompts: Sequence[Prompt], /
    ) -> Scores:
        """Scores every rubric; each prompt's reference is a `Preference`.

        `judge/without_rubric` is the number of completions without a criterion.

        Raises:
            RewardError: too many consecutive batches without a single answer.
            UserError: the judge's cache is damaged.
        """
        shape = (len(completions), len(completions[0]), 1)
        rewards, mask = np.zeros(shape, np.float32), np.ones(shape, bool)
        rubrics = {
            (b, g): rubric
            for b, group in enumerate(completions)
            for g, completion in enumerate(group)
            if (rubric := read_rubric_text(completion.text)) is not None
        }
        comparisons = [
            dataclasses.replace(prompts[b].reference.comparison, rubric=rubric)
            for (b, _), rubric in rubrics.items()
        ]
        questions = [comparison_question(c) for c in comparisons]
        seeds = [completions[b][g].scoring for b, g in rubrics]
        batch = self._judge.ask(questions, read_verdict, seeds)
        for (b, g), verdict in zip(rubrics, batch.values, strict=True):
            mask[b, g] = verdict is not None
            rewards[b, g] = verdict == prompts[b].reference.preferred
        return Scores(
            rewards,
            mask,
            {"accuracy": int(mask.size - mask.sum())},
            batch.messages,
            {**batch.measures, "judge/without_rubric": float(mask.size - len(rubrics))},
        )
