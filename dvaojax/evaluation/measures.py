"""Measures of an evaluation: avg@n, pass@k and maj@n of every objective, with intervals."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dvaojax.evaluation.estimators import majority, pass_at_k
from dvaojax.evaluation.held_out import AnsweredProblem, Evaluation
from dvaojax.evaluation.intervals import Interval, bootstrap_mean
from dvaojax.types import Completion


@dataclasses.dataclass(frozen=True)
class MeasureSettings:
    """Settings of the measures.

    Attributes:
        ks: the k of every pass@k.
        pass_threshold: a completion passes an objective if its reward is at least this.
        votes: objective -> function from a completion to its normalised answer, or None if it has
            none. Only for objectives that judge whether the answer is right.
    """

    ks: tuple[int, ...] = (1,)
    pass_threshold: float = 1.0
    votes: Mapping[str, Callable[[Completion], str | None]] = dataclasses.field(
        default_factory=dict
    )


class Report(NamedTuple):
    """Measures of a set of problems, as means over the problems with bootstrap intervals.

    Attributes:
        num_problems: number of problems.
        objectives: objective -> measure (`avg@n`, `pass@k`, and `maj@n` for objectives with votes)
            -> its mean. Problems without scored completions are left out, from pass@k also those
            with fewer than k scored ones; None if no problem remains.
        not_scored: objective -> completions to which it does not apply or whose scoring failed.
        length: tokens per completion, including the stop token.
        cut_off: share of completions that reached the token limit.
    """

    num_problems: int
    objectives: Mapping[str, Mapping[str, Interval | None]]
    not_scored: Mapping[str, int]
    length: Interval
    cut_off: Interval

    def to_json(self) -> dict[str, Any]:
        """The report as JSON; an interval is `{"mean": .., "low": .., "high": ..}`."""
        return {
            "problems": self.num_problems,
            "objectives": {
                name: {measure: i and i._asdict() for measure, i in measures.items()}
                for name, measures in self.objectives.items()
            },
            "not_scored": dict(self.not_scored),
            "length": self.length._asdict(),
            "cut_off": self.cut_off._asdict(),
        }


def report(evaluation: Evaluation, settings: MeasureSettings) -> Report:
    """The measures of all problems."""
    return _report(evaluation.problems, evaluation.names, settings)


def report_by_category(evaluation: Evaluation, settings: MeasureSettings) -> dict[str, Report]:
    """Category -> the measures of its problems, in the order in which categories first appear.

    Empty if no problem has a category.
    """
    by_category: dict[str, list[AnsweredProblem]] = {}
    for problem in evaluation.problems:
        by_category.setdefault(problem.prompt.category, []).append(problem)
    if by_category.keys() <= {""}:
        return {}
    return {
        name: _report(problems, evaluation.names, settings)
        for name, problems in by_category.items()
    }


def averages(evaluation: Evaluation) -> dict[str, dict[str, float] | None]:
    """avg@n of every objective, and the length, as JSON; the summary of a training run."""
    full = report(evaluation, MeasureSettings(ks=()))
    intervals = {name: next(iter(values.values())) for name, values in full.objectives.items()}
    return {name: i and i._asdict() for name, i in {**intervals, "length": full.length}.items()}


def measures(
    rewards: np.ndarray, answers: Sequence[str | None] | None, settings: MeasureSettings
) -> dict[str, float]:
    """The measures of one objective for one problem.

    Args:
        rewards: `[G]` float32, NaN where not scored.
        answers: `[G]` normalised answers; None if the objective has no votes.
        settings: the measures and the pass threshold.

    Returns:
        Measure -> value, without measures that need more scored completions.
    """
    scored = np.flatnonzero(~np.isnan(rewards))
    if not scored.size:
        return {}
    # Compared in float32, so that a reward of 0.7 passes a threshold of 0.7.
    passed = rewards[scored] >= np.float32(settings.pass_threshold)
    values = {f"avg@{rewards.size}": float(rewards[scored].astype(np.float64).mean())}
    for k in settings.ks:
        if k <= scored.size:
            values[f"pass@{k}"] = pass_at_k(scored.size, int(passed.sum()), k=k)
    if answers is not None:
        values[f"maj@{rewards.size}"] = majority([answers[int(i)] for i in scored], passed.tolist())
    return values


def _report(
    problems: Sequence[AnsweredProblem], names: Sequence[str], settings: MeasureSettings
) -> Report:
    rewards = np.stack([problem.rewards for problem in problems])
    return Report(
        num_problems=len(problems),
        objectives={name: _objective(problems, k, name, settings) for k, name in enumerate(names)},
        not_scored=dict(zip(names, np.isnan(rewards).sum(axis=(0, 1)).tolist(), strict=True)),
        length=_mean_of_completions(problems, lambda completion: completion.length),
        cut_off=_mean_of_completions(problems, lambda completion: not completion.stopped),
    )


def _objective(
    problems: Sequence[AnsweredProblem], k: int, name: str, settings: MeasureSettings
) -> dict[str, Interval | None]:
    """The measures of the objective in column `k`, in display order."""
    vote = settings.votes.get(name)
    samples = len(problems[0].completions)
    shown = [f"avg@{samples}", *(f"pass@{k}" for k in settings.ks)]
    if vote is not None:
        shown.append(f"maj@{samples}")
    per_problem = [
        measures(
            problem.rewards[:, k],
            None if vote is None else [vote(completion) for completion in problem.completions],
            settings,
        )
        for problem in problems
    ]
    return {m: _mean([values[m] for values in per_problem if m in values]) for m in shown}


def _mean(values: Sequence[float]) -> Interval | None:
    return bootstrap_mean(np.array(values)) if values else None


def _mean_of_completions(
    problems: Sequence[AnsweredProblem], value: Callable[[Completion], float]
) -> Interval:
    means = [np.mean([value(c) for c in problem.completions]) for problem in problems]
    return bootstrap_mean(np.array(means))
