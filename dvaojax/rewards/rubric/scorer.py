"""Scores completions by rubrics that are graded by a judge."""

from collections.abc import Mapping, Sequence

import numpy as np

from dvaojax.rewards.calls import CallResult
from dvaojax.rewards.judge import BatchedJudge, Judge
from dvaojax.rewards.rubric.grading import ItemGrade, question, read_grade
from dvaojax.rewards.rubric.items import Rubric, RubricItem, RubricObjective
from dvaojax.rewards.thinking import visible_answer
from dvaojax.types import Completion, Prompt, Scores


class RubricScorer:
    """Scores completions on objectives computed from the rubrics of their prompts.

    Every item that is selected by an objective is a separate question to the judge, about the text
    after the completion's last `</think>`. If some items of an objective were not graded, it is
    masked and counted as failed, with a placeholder reward of 0. A completion without a visible
    character is not sent to the judge: it gets 0 on every objective that applies to its rubric,
    including those for avoided penalties.

    There is no protection against the judge's own weaknesses: a completion that persuades the judge
    is rewarded.
    """

    def __init__(self, objectives: Mapping[str, RubricObjective], judge: Judge):
        """Stores the objectives; nothing is sent to the judge yet.

        Args:
            objectives: by name, in the order of the columns.
            judge: grades the items.

        Raises:
            ValueError: there is no objective.
        """
        if not objectives:
            raise ValueError("a rubric scorer needs at least one objective")
        self._objectives = dict(objectives)
        self._judge = BatchedJudge(judge)

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the objectives in the order of the columns."""
        return tuple(self._objectives)

    def score(
        self, completions: Sequence[Sequence[Completion]], prompts: Sequence[Prompt], /
    ) -> Scores:
        """Scores every completion on every objective; each prompt's reference is a `Rubric`.

        Raises:
            RewardError: too many consecutive batches without a single answer.
            UserError: the judge's cache is damaged.
        """
        texts = [[visible_answer(completion.text) for completion in group] for group in completions]
        rubrics: list[Rubric] = [prompt.reference for prompt in prompts]
        positions = [
            (b, g, item)
            for b, group in enumerate(texts)
            for g, text in enumerate(group)
            if text
            for item in self._selected_items(rubrics[b])
        ]
        questions = [question(rubrics[b], texts[b][g], item) for b, g, item in positions]
        seeds = [completions[b][g].scoring for b, g, _ in positions]
        batch = self._judge.ask(questions, read_grade, seeds)
        grades = dict(zip(positions, batch.values, strict=True))
        shape = (len(texts), len(texts[0]), len(self._objectives))
        rewards, mask = np.zeros(shape, np.float32), np.zeros(shape, bool)
        failures = dict.fromkeys(self._objectives, 0)
        for b, g in np.ndindex(shape[:2]):
            item_grades = {item: grades.get((b, g, item)) for item in rubrics[b].items}
            for k, (name, objective) in enumerate(self._objectives.items()):
                reward, failure, _ = _outcome(objective, item_grades, is_blank=not texts[b][g])
                failures[name] += bool(failure)
                if reward is not None:
                    rewards[b, g, k], mask[b, g, k] = reward, True
        return Scores(rewards, mask, failures, batch.messages, batch.measures)

    def _selected_items(self, rubric: Rubric) -> list[RubricItem]:
        """The items that an objective uses, each once."""
        selected = [o.choose(rubric.items) for o in self._objectives.values()]
        return list(dict.fromkeys(item for items in selected for item in items))


def _outcome(
    objective: RubricObjective, grades: Mapping[RubricItem, ItemGrade | None], *, is_blank: bool
) -> CallResult:
    """Result of one objective for one completion, from the grades of its rubric's items."""
    items = objective.choose(list(grades))
    points = [item.points for item in items]
    if objective.formula(points, [False] * len(items)) is None:
        return CallResult(None)
    if is_blank:
        return CallResult(0.0)
    chosen_grades = [grades[item] for item in items]
    met = [grade.met for grade in chosen_grades if grade is not None]
    if len(met) < len(items):
        return CallResult(None, f"{len(items) - len(met)} items were not graded")
    return CallResult(objective.formula(points, met))
