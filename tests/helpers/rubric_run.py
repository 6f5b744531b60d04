"""Settings of a short run with rubric objectives graded by a judge, and one other objective."""

import dataclasses
from functools import partial

from digits_run import CONFIG

from dvaojax.rewards.judge import Judge, JudgeConfig
from dvaojax.rewards.length import within_budget
from dvaojax.rewards.rubric import Rubric, RubricItem, RubricScorer, axes, overall
from dvaojax.tasks.characters import CharacterTokenizer
from dvaojax.types import Prompt

OBJECTIVES = {"score": overall(), **axes()}
ITEMS = (
    RubricItem("says 1", 5.0, ("axis:accuracy",)),
    RubricItem("says 2", 3.0, ("axis:completeness",)),
    RubricItem("says 3", 2.0, ("axis:completeness",)),
    RubricItem("says +", -4.0, ("axis:communication_quality",)),
    RubricItem("says =", -2.0, ("axis:accuracy",)),
)


@dataclasses.dataclass(frozen=True)
class GradedDigits:
    """A task whose completions a judge grades by the characters that they contain.

    Attributes:
        judge: settings of the judge.
    """

    judge: JudgeConfig = JudgeConfig()

    name = "graded_digits"
    tokenizer = CharacterTokenizer("0123456789+=[]")
    max_prompt_length = 4

    @property
    def objectives(self):
        return {"brevity": partial(within_budget, budget=5)}

    @property
    def scored_objectives(self):
        return tuple(OBJECTIVES)

    def scorer(self):
        return RubricScorer(OBJECTIVES, Judge(self.judge))

    def prompts(self, split):
        numbers = range(5) if split == "train" else range(5, 9)
        return [Prompt(f"{i}", Rubric((("user", f"{i}"),), ITEMS), i) for i in numbers]


def rubric_config(url, *, steps=4, **judge):
    """A run of the task with short time limits for the judge."""
    limits = {"first_wait_seconds": 0.01, "timeout_seconds": 0.5, "attempts": 3, "concurrency": 16}
    return dataclasses.replace(
        CONFIG,
        name="rubric",
        task=GradedDigits(JudgeConfig(url=url, **{**limits, **judge})),
        weights={"brevity": 0.5, **dict.fromkeys(OBJECTIVES, 1.0)},
        num_steps=steps,
        warm_start=dataclasses.replace(CONFIG.warm_start, num_steps=0),
        checkpoints=dataclasses.replace(CONFIG.checkpoints, every=1),
        samples_per_step=4,
    )
