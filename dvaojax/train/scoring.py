"""Rewards of a global batch, each group scored by one process and known to all of them."""

from collections.abc import Sequence

import jax
import numpy as np

from dvaojax.train import hosts
from dvaojax.types import Completion, Prompt, Scorer, Scores


def score_groups(
    suite: Scorer,
    completions: Sequence[Sequence[Completion]],
    prompts: Sequence[Prompt],
    *,
    groups: np.ndarray,
    shape: tuple[int, int],
) -> Scores:
    """Scores some groups here, the others elsewhere.

    Args:
        suite: the objectives.
        completions: of the groups scored here, `G` of each or the first few.
        prompts: that they answer.
        groups: `[S]` int, their indices in the batch; each of the batch is scored by one process.
        shape: `B` and `G`.

    Returns:
        The rewards, their mask and the number of failures for the whole batch, the same in every
        process; messages and measures of the groups scored here. Where a group has fewer than `G`
        completions the mask is false.

    Raises:
        RewardError: a call failed here, and failures are not masked.
        TrainingError: the same happened in another process.
    """
    if jax.process_count() == 1:
        return _score(suite, completions, prompts, group_size=shape[1])
    scores = hosts.together(
        "scoring", lambda: _score(suite, completions, prompts, group_size=shape[1])
    )
    rewards, mask = hosts.assemble((scores.rewards, scores.mask), groups, shape[0])
    counts = hosts.gather(np.array([scores.failures[name] for name in suite.objectives], np.int32))
    failures = dict(zip(suite.objectives, counts.sum(axis=0).tolist(), strict=True))
    return scores._replace(rewards=rewards, mask=mask, failures=failures)


def _score(
    suite: Scorer,
    completions: Sequence[Sequence[Completion]],
    prompts: Sequence[Prompt],
    *,
    group_size: int,
) -> Scores:
    """What the suite says of groups of any size; those that are not full as groups of one."""
    places = [(b, g) for b, group in enumerate(completions) for g in range(len(group))]
    if places and len(places) == len(prompts) * group_size:
        return suite.score(completions, prompts)
    shape = (len(prompts), group_size, len(suite.objectives))
    rewards, mask = np.zeros(shape, np.float32), np.zeros(shape, bool)
    if not places:
        return Scores(rewards, mask, dict.fromkeys(suite.objectives, 0), [])
    scores = suite.score([[completions[b][g]] for b, g in places], [prompts[b] for b, _ in places])
    where = tuple(np.transpose(places))
    rewards[where], mask[where] = scores.rewards[:, 0], scores.mask[:, 0]
    return scores._replace(rewards=rewards, mask=mask)


class SharedSuite:
    """A suite whose work the processes share, for batches that all of them hold whole."""

    def __init__(self, suite: Scorer):
        self._suite = suite

    @property
    def objectives(self) -> tuple[str, ...]:
        """The names, in the order of the columns."""
        return self._suite.objectives

    def score(
        self, completions: Sequence[Sequence[Completion]], prompts: Sequence[Prompt], /
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
