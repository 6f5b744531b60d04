"""Construction of a run's scorer: reward functions, and the task's own scorer if it has one."""

from dvaojax.config import Config
from dvaojax.errors import UserError
from dvaojax.rewards import RewardSuite
from dvaojax.rewards.combined import CombinedScorer
from dvaojax.types import TaskWithScorer


def make_scorer(config: Config) -> CombinedScorer:
    """The scorer of the task's objectives; worker processes start when it is entered.

    Raises:
        UserError: a reward function cannot be sent to worker processes, or the task's own scorer
            cannot be constructed.
    """
    settings, scorers = config.rewards, []
    try:
        if config.task.objectives:
            suite = RewardSuite(
                config.task.objectives,
                workers=settings.workers,
                timeout_seconds=settings.timeout_seconds or None,
                on_error=settings.on_error,
            )
            scorers.append(suite)
    except TypeError as error:
        raise UserError(f"rewards.workers={settings.workers}: {error}") from error
    if isinstance(config.task, TaskWithScorer):
        scorers.append(config.task.scorer())
    return CombinedScorer(scorers)
