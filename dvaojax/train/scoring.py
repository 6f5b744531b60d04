"""Rewards of a global batch, each group scored by one process and known to all of them."""

from collections.abc import Sequence

import jax
import numpy as np

from dvaojax.rewards import RewardSuite
from dvaojax.rewards.suite import Scores
from dvaojax.train import hosts
from dvaojax.types import Completion, Prompt


def score_groups(
    suite: RewardSuite,
    completions: Sequence[Sequence[Completion]],
    prompts: Sequence[Prompt],
    *,
    groups: np.ndarray,
    shape: tuple[int, int],
) -> Scores:
    """Scores some groups here, the others elsewhere.

    Args:
        suite: the objectives.
        completions: of the groups scored here.
        prompts: that they answer.
        groups: their indices in the batch; each of the batch is scored by one process.
        shape: `B` and `G`.

    Returns:
        The rewards and their mask for the whole batch, the same in every process; failures and
        messages of the groups scored here.

    Raises:
        RewardError: a call failed here, and failures are not masked.
        TrainingError: the same happened in another process.
    """
    if jax.process_count() == 1:
        return suite.score(completions, prompts)

    def score() -> Scores:
        if prompts:
            return suite.score(completions, prompts)
        nothing = np.zeros((0, shape[1], len(suite.objectives)), np.float32)
        return Scores(nothing, nothing > 0, {}, [])

    scores = hosts.together("scoring", score)
    rewards, mask = hosts.assemble((scores.rewards, scores.mask), groups, shape[0])
    return scores._replace(rewards=rewards, mask=mask)


class SharedSuite:
    """A suite whose work the processes share, for batches that all of them hold whole."""

    def __init__(self, suite: RewardSuite):
        self._suite = suite

    @property
    def objectives(self) -> tuple[str, ...]:
        """The names, in the order of the columns."""
        return self._suite.objectives

    def score(
        self, completions: Sequence[Sequence[Completion]], prompts: Sequence[Prompt]
    ) -> Scores:
        """Every objective of every completion, the same in every process; see `score_groups`."""
        everything = np.arange(len(prompts))
        groups = np.array_split(everything, jax.process_count())[jax.process_index()]
        return score_groups(
            self._suite,
            [completions[i] for i in groups],
            [prompts[i] for i in groups],
            groups=groups,
            shape=(len(prompts), len(completions[0])),
        )
