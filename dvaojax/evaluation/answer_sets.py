"""Measures of completions with several answers, as sets: best@k and diversity."""

import itertools
from collections.abc import Sequence

import numpy as np

from dvaojax.evaluation.estimators import best_at_k
from dvaojax.evaluation.held_out import Evaluation
from dvaojax.evaluation.intervals import Interval, bootstrap_mean


def answer_objectives(names: Sequence[str], *, num_answers: int) -> list[str]:
    """The objectives of a single answer: `accuracy`, `brevity` for `accuracy/1`, `brevity/1`,
    `accuracy/2`, ..."""
    return [name.rpartition("/")[0] for name in names[: len(names) // num_answers]]


def set_measures(
    rewards: np.ndarray, names: Sequence[str], *, num_answers: int
) -> dict[str, float]:
    """Measures of a step's completions as sets of answers; means over the scored completions.

    Args:
        rewards: `[..., m * K]`, NaN where an answer is missing or was not scored.
        names: the `m * K` objectives.
        num_answers: m.

    Returns:
        `best/OBJECTIVE`, the best answer of a completion; `answers`, the number of answers;
        `diversity`, see the function. Measures that no completion defines are left out.
    """
    sets = rewards.reshape(-1, num_answers, rewards.shape[-1] // num_answers)
    sets = sets[~np.isnan(sets).all(axis=(1, 2))]
    if not len(sets):
        return {}
    is_scored = ~np.isnan(sets).all(axis=-1)
    measured: dict[str, float] = {"answers": float(is_scored.sum(axis=-1).mean())}
    for k, name in enumerate(answer_objectives(names, num_answers=num_answers)):
        column = sets[..., k]
        best = column[~np.isnan(column).all(axis=-1)]
        if len(best):
            measured[f"best/{name}"] = float(np.nanmax(best, axis=-1).mean())
    spreads = [d for d in map(diversity, sets) if d is not None]
    if spreads:
        measured["diversity"] = float(np.mean(spreads))
    return measured


def set_report(
    evaluation: Evaluation, *, num_answers: int, ks: Sequence[int] = ()
) -> dict[str, Interval | None]:
    """Measures of held-out problems; the answers of all completions of a problem form one pool.

    Args:
        evaluation: of a task with sets of answers.
        num_answers: m.
        ks: the k of best@k, in addition to 1, m and the largest number of answers.

    Returns:
        `OBJECTIVE/best@k`, the mean of `best_at_k` over the problems with at least k scored
        answers, and `diversity` within a completion. None where no problem defines the measure.
    """
    names = answer_objectives(evaluation.names, num_answers=num_answers)
    pools = [
        problem.rewards.reshape(len(problem.completions), num_answers, len(names))
        for problem in evaluation.problems
    ]
    largest = max(pool.shape[0] for pool in pools) * num_answers
    measured: dict[str, Interval | None] = {}
    for index, name in enumerate(names):
        scored = [pool[..., index][~np.isnan(pool[..., index])] for pool in pools]
        for k in sorted({1, num_answers, largest, *ks}):
            values = [best_at_k(rewards, k=k) for rewards in scored if len(rewards) >= k]
            measured[f"{name}/best@{k}"] = _mean(values)
    spreads = [[d for d in map(diversity, pool) if d is not None] for pool in pools]
    measured["diversity"] = _mean([float(np.mean(ds)) for ds in spreads if ds])
    return measured


def diversity(vectors: np.ndarray) -> float | None:
    """Mean Euclidean distance between the reward vectors of two answers of one completion.

    0 if all answers have the same rewards, even if their texts differ; None with fewer than two
    answers. VPO (arXiv 2605.22817) also reports a diversity in the space of rewards, but does not
    specify the distance.

    Args:
        vectors: `[m, K]`, NaN in the rows of missing answers; an objective that was not scored for
            one of two answers contributes no distance.
    """
    answers = vectors[~np.isnan(vectors).all(axis=-1)].astype(np.float64)
    pairs = list(itertools.combinations(answers, 2))
    if not pairs:
        return None
    return float(np.mean([np.sqrt(np.nansum(np.square(a - b))) for a, b in pairs]))


def _mean(values: Sequence[float]) -> Interval | None:
    return bootstrap_mean(np.array(values)) if values else None
