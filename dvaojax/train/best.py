"""The best evaluation of a run on held-out problems: ranks checkpoints, and stops a run early."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from dvaojax.config import Config

EVALUATED = "evaluation/weighted_reward"
"""The metric that evaluations are compared by."""


class BestEvaluation(NamedTuple):
    """The best evaluation so far.

    Attributes:
        step: steps done before it.
        weighted_reward: its weighted reward; None if no objective could be scored.
        waited: evaluations after it, none of which was better.
    """

    step: int
    weighted_reward: float | None
    waited: int = 0

    def followed_by(self, step: int, weighted_reward: float | None) -> Self:
        """The best evaluation after another one; an equal one is not better."""
        is_better = weighted_reward is not None and (
            self.weighted_reward is None or weighted_reward > self.weighted_reward
        )
        if is_better:
            return type(self)(step, weighted_reward)
        return self._replace(waited=self.waited + 1)


def is_due(config: Config, step: int) -> bool:
    """Whether the policy is evaluated after this step, as part of its row."""
    every = config.evaluation.every
    return every > 0 and (step % every == 0 or step == config.num_steps)


def stops_early(config: Config, best: BestEvaluation | None) -> bool:
    """Whether a run ends here, because too many evaluations were not better."""
    return config.early_stop > 0 and best is not None and best.waited >= config.early_stop


def early_stop_summary(config: Config, best: BestEvaluation | None, *, step: int) -> dict[str, Any]:
    """The entries of `summary.json` about the best evaluation; empty without evaluations.

    Args:
        config: the run.
        best: the best evaluation.
        step: the last step of the run.
    """
    if best is None:
        return {}
    stopped = step < config.num_steps and stops_early(config, best)
    return {"best": best._asdict(), "stopped_early": stopped}


def weighted_reward(config: Config, evaluation: Mapping[str, Any]) -> float | None:
    """The weighted sum of the mean rewards on held-out problems.

    Args:
        config: the run.
        evaluation: objective -> its interval, as in `summary.json`. An objective that applied to
            no completion has None, and is left out.

    Returns:
        The sum; None if no objective could be scored.
    """
    weights = {name: config.weights[name] for name in config.objectives if evaluation[name]}
    if not weights:
        return None
    return math.fsum(weight * evaluation[name]["mean"] for name, weight in weights.items())


def evaluation_row(config: Config, evaluation: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of an evaluation during training, for the row of its step.

    Args:
        config: the run.
        evaluation: as in `summary.json`.
    """
    means = {name: math.nan if i is None else i["mean"] for name, i in evaluation.items()}
    total = weighted_reward(config, evaluation)
    return {
        **{f"evaluation/{name}": mean for name, mean in means.items()},
        EVALUATED: math.nan if total is None else total,
    }
