"""Hints for problems of which all completions fail (self-hinting, SAGE, arXiv:2602.03143).

A step asks every problem without a hint. A problem without a success is asked again, by a group of
the same size, with a hint in its prompt. Its new group replaces the failed one: rewards and
advantages are computed as for any group, and the policy learns the completions of the hinted
prompt, given that prompt, which is the loss of the paper. Levels escalate: hints that have not
helped a problem are skipped from then on, until it is solved without one. Evaluations give no hint.

In the paper the policy itself writes the hints, from a reference solution, at three levels of
detail. Here the task gives them, `types.TaskWithHints`.

Not to be confused with: SAGE of arXiv:2602.01207, a curriculum for preference pairs.
"""

import dataclasses

import numpy as np

from dvaojax.config import Config
from dvaojax.data.text import encode_prompts
from dvaojax.types import Scores, TaskWithHints

_CHECKED_PROMPTS = 1024


@dataclasses.dataclass(frozen=True)
class Hints:
    """When a run gives hints, and of which level.

    Attributes:
        column: of the objective that decides.
        success: the least reward of a completion that succeeds.
        rounds: how many times a step asks a failed problem again.
        levels: number of hints of each problem.
    """

    column: int
    success: float
    rounds: int
    levels: int

    def outcomes(self, scores: Scores) -> tuple[np.ndarray, np.ndarray]:
        """Which groups have a success, and which have failed: `[B]` bool each.

        A group without a reward of the objective has neither.
        """
        mask = scores.mask[..., self.column]
        succeeds = mask & (scores.rewards[..., self.column] >= self.success)
        solved = np.asarray(succeeds.any(axis=1))
        return solved, np.asarray(mask.any(axis=1)) & ~solved

    def next_levels(self, failed_levels: np.ndarray) -> np.ndarray:
        """The levels of the next hints of problems, given how many levels have failed; int32."""
        return np.minimum(failed_levels + 1, self.levels)


def make_hints(config: Config) -> Hints | None:
    """The hints that the configuration selects; None for none."""
    settings, task = config.hints, config.task
    if not settings.objective:
        return None
    assert isinstance(task, TaskWithHints)
    column = config.objectives.index(settings.objective)
    return Hints(column, settings.success, settings.rounds, task.hint_levels)


def check_hinted_prompts(config: Config) -> None:
    """Encodes the first training problems with their hints, before anything is written.

    Raises:
        UserError: one is too long, or has a character that the tokenizer lacks.
    """
    task = config.task
    if not config.hints.objective or not isinstance(task, TaskWithHints):
        return
    prompts = task.prompts("train")[:_CHECKED_PROMPTS]
    for level in range(1, task.hint_levels + 1):
        hinted = [task.hinted(prompt, level) for prompt in prompts]
        encode_prompts(task.tokenizer, hinted, width=task.max_prompt_length)
