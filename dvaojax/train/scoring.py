"""The scorer of a run, and scoring of a global batch: each group is scored by one process."""

import dataclasses
import sys
from collections.abc import Sequence

import jax
import numpy as np

from dvaojax.config import Config
from dvaojax.errors import UserError
from dvaojax.learning.reflection import SELF_CERTAINTY
from dvaojax.rewards import RewardSuite
from dvaojax.rewards.combined import CombinedScorer
from dvaojax.rewards.programs import WITHOUT_SANDBOX, ProgramsConfig, ProgramScorer
from dvaojax.train import hosts
from dvaojax.train.references import FilledByTheStep
from dvaojax.types import Completion, Prompt, Scorer, Scores, TaskWithScorer


def make_scorer(config: Config) -> CombinedScorer:
    """The scorer of the task's objectives; worker processes start when it is entered.

    Raises:
        UserError: a reward function cannot be sent to worker processes, the task's own scorer
            cannot be constructed, or programs cannot be run as the configuration says.
    """
    settings, scorers = config.rewards, []
    try:
        if config.task.objectives:
            suite = RewardSuite(
                config.task.objectives,
                workers=settings.workers,
                timeout_seconds=settings.timeout_seconds or None,
                concurrency=settings.concurrency,
                on_error=settings.on_error,
            )
            scorers.append(suite)
    except TypeError as error:
        raise UserError(f"rewards.workers={settings.workers}: {error}") from error
    if isinstance(config.task, TaskWithScorer):
        scorers.append(_task_scorer(config.task, settings.programs))
    if config.has_self_certainty:
        scorers.append(FilledByTheStep((SELF_CERTAINTY,)))
    return CombinedScorer(scorers)


def _task_scorer(task: TaskWithScorer, settings: ProgramsConfig) -> Scorer:
    """The task's own scorer; programs run as `rewards.programs` says, which is tried here."""
    scorer = task.scorer()
    if not isinstance(scorer, ProgramScorer):
        return scorer
    if settings.isolation == "process" and not settings.server:
        print("dvaojax:", WITHOUT_SANDBOX, file=sys.stderr)
    return scorer.with_settings(settings)


def score_groups(
    scorer: Scorer,
    completions: Sequence[Sequence[Completion]],
    prompts: Sequence[Prompt],
    *,
    groups: np.ndarray,
    shape: tuple[int, int],
    repeats: int = 1,
) -> Scores:
    """Scores some groups in this process; other processes score the others.

    Args:
        scorer: the objectives.
        completions: of the groups scored here, `G` or fewer of each group.
        prompts: of the groups scored here.
        groups: `[S]` int, their indices in the batch; each group of the batch is scored by one
            process.
        shape: `B` and `G`.
        repeats: how many times each completion is scored; its rewards are the means.

    Returns:
        The rewards, their mask and the number of failures for the whole batch, equal in every
        process; messages and measures of the groups scored here. The mask is false for the
        missing completions of groups with fewer than `G`.

    Raises:
        RewardError: a call failed here, and failures are not masked.
        TrainingError: a call failed in another process, and failures are not masked.
    """

    def score() -> Scores:
        return _score_repeatedly(scorer, completions, prompts, group_size=shape[1], repeats=repeats)

    if jax.process_count() == 1:
        return score()
    scores = hosts.together("scoring", score)
    rewards, mask, repeated = hosts.assemble(
        (scores.rewards, scores.mask, scores.repeated), groups, shape[0]
    )
    counts = hosts.gather(np.array([scores.failures[name] for name in scorer.objectives], np.int32))
    failures = dict(zip(scorer.objectives, counts.sum(axis=0).tolist(), strict=True))
    return scores._replace(rewards=rewards, mask=mask, failures=failures, repeated=repeated)


def _score_repeatedly(
    scorer: Scorer,
    completions: Sequence[Sequence[Completion]],
    prompts: Sequence[Prompt],
    *,
    group_size: int,
    repeats: int,
) -> Scores:
    """Means of several scores of each completion, all in one batch of the scorer."""
    if repeats == 1:
        return _score(scorer, completions, prompts, group_size=group_size)
    copies = [
        [dataclasses.replace(completion, scoring=number) for completion in group]
        for number in range(repeats)
        for group in completions
    ]
    scores = _score(scorer, copies, [*prompts] * repeats, group_size=group_size)
    shape = (repeats, len(prompts), *scores.mask.shape[1:])
    rewards, mask = scores.rewards.reshape(shape), scores.mask.reshape(shape)
    count = mask.sum(axis=0)
    total = np.where(mask, rewards, 0).sum(axis=0, dtype=np.float64)
    return scores._replace(
        rewards=(total / np.maximum(count, 1)).astype(np.float32),
        mask=count > 0,
        repeated=np.moveaxis(np.where(mask, rewards, np.float32(np.nan)), 0, -1),
    )


def _score(
    scorer: Scorer,
    completions: Sequence[Sequence[Completion]],
    prompts: Sequence[Prompt],
    *,
    group_size: int,
) -> Scores:
    """Scores groups of any size; ragged groups are passed to the scorer as groups of one."""
    indices = [(b, g) for b, group in enumerate(completions) for g in range(len(group))]
    if indices and len(indices) == len(prompts) * group_size:
        return scorer.score(completions, prompts)
    shape = (len(prompts), group_size, len(scorer.objectives))
    rewards, mask = np.zeros(shape, np.float32), np.zeros(shape, bool)
    if not indices:
        return Scores(rewards, mask, dict.fromkeys(scorer.objectives, 0), [])
    scores = scorer.score(
        [[completions[b][g]] for b, g in indices], [prompts[b] for b, _ in indices]
    )
    where = tuple(np.transpose(indices))
    rewards[where], mask[where] = scores.rewards[:, 0], scores.mask[:, 0]
    return scores._replace(rewards=rewards, mask=mask)


class SharedScorer:
    """A scorer that splits its work over the processes, for batches that all of them hold."""

    def __init__(self, scorer: Scorer):
        self._scorer = scorer

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the objectives, in the order of the columns."""
        return self._scorer.objectives

    def score(
        self, completions: Sequence[Sequence[Completion]], prompts: Sequence[Prompt], /
    ) -> Scores:
        """Scores of every completion, equal in every process; see `score_groups`."""
        indices = np.arange(len(prompts))
        groups = np.array_split(indices, jax.process_count())[jax.process_index()]
        return score_groups(
            self._scorer,
            [completions[i] for i in groups],
            [prompts[i] for i in groups],
            groups=groups,
            shape=(len(prompts), len(completions[0])),
        )
