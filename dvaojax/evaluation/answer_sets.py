"""What completions that hold several answers are worth as sets: best@k and diversity."""

import itertools
from collections.abc import Sequence

import numpy as np

from dvaojax.evaluation.estimators import best_at_k
from dvaojax.evaluation.held_out import Evaluation
from dvaojax.evaluation.intervals import Interval, bootstrap_mean


def objectives_of_one(names: Sequence[str], *, num_answers: int) -> list[str]:
    """The objectives of one answer: of `accuracy/1`, `brevity/1`, `accuracy/2`, ... the first two,
    without their number."""
    return [name.rpartition("/")[0] for name in names[: len(names) // num_answers]]


def set_measures(
    rewards: np.ndarray, names: Sequence[str], *, num_answers: int
) -> dict[str, float]:
    """What the completions of a step come to as sets; means over those that were scored.

    Args:
        rewards: `[..., m * K]`, NaN where an answer is missing or was not scored.
        names: the `m * K` objectives.
        num_answers: m.

    Returns:
        `best/OBJECTIVE`, of the completion's answers; `answers`, how many there are; `diversity`,
        see there. What no completion says anything about is left out.
    """
    sets = rewards.reshape(-1, num_answers, rewards.shape[-1] // num_answers)
    sets = sets[~np.isnan(sets).all(axis=(1, 2))]
    if not len(sets):
        return {}
    there = ~np.isnan(sets).all(axis=-1)
    found: dict[str, float] = {"answers": float(there.sum(axis=-1).mean())}
    for k, name in enumerate(objectives_of_one(names, num_answers=num_answers)):
        column = sets[..., k]
        best = column[~np.isnan(column).all(axis=-1)]
        if len(best):
            found[f"best/{name}"] = float(np.nanmax(best, axis=-1).mean())
    spreads = [d for d in map(diversity, sets) if d is not None]
    if spreads:
        found["diversity"] = float(np.mean(spreads))
    return found


def set_report(
    evaluation: Evaluation, *, num_answers: int, ks: Sequence[int] = ()
) -> dict[str, Interval | None]:
    """The same on held-out problems, the answers of all completions of a problem in one pool.

    Args:
        evaluation: of a task with sets of answers.
        num_answers: m.
        ks: of best@k, besides 1, m and all answers there are.

    Returns:
        `OBJECTIVE/best@k`: the mean over problems of `best_at_k`, of problems with at least k
        scored answers; and `diversity`, within a completion. None where that is no problem.
    """
    names = objectives_of_one(evaluation.names, num_answers=num_answers)
    pools = [
        problem.rewards.reshape(len(problem.completions), num_answers, len(names))
        for problem in evaluation.problems
    ]
    largest = max(pool.shape[0] for pool in pools) * num_answers
    found: dict[str, Interval | None] = {}
    for index, name in enumerate(names):
        scored = [pool[..., index][~np.isnan(pool[..., index])] for pool in pools]
        for k in sorted({1, num_answers, largest, *ks}):
            values = [best_at_k(some, k=k) for some in scored if len(some) >= k]
            found[f"{name}/best@{k}"] = _mean(values)
    of_problems = [[d for d in map(diversity, pool) if d is not None] for pool in pools]
    found["diversity"] = _mean([float(np.mean(some)) for some in of_problems if some])
    return found


def diversity(vectors: np.ndarray) -> float | None:
    """Mean Euclidean distance between the reward vectors of two answers of one completion.

    0 if all are good at the same things, however different their texts; None with fewer than two
    answers. VPO (arXiv 2605.22817) reports a diversity in the space of rewards too; how it measures
    the distance was not found.

    Args:
        vectors: `[m, K]`, NaN in the rows of answers that are missing; what was not scored of an
            answer that is there counts as no difference.
    """
    there = vectors[~np.isnan(vectors).all(axis=-1)].astype(np.float64)
    pairs = list(itertools.combinations(there, 2))
    if not pairs:
        return None
    return float(np.mean([np.sqrt(np.nansum(np.square(a - b))) for a, b in pairs]))


def _mean(values: Sequence[float]) -> Interval | None:
    return bootstrap_mean(np.array(values)) if values else None
