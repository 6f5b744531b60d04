"""Reward statistics of each problem over its completions so far."""

from typing import Any, NamedTuple

import numpy as np


class ProblemStatistics(NamedTuple):
    """One row per problem; `at(statistics, rows)` selects those of a step.

    Arrays are float32, so that saving and restoring a checkpoint preserves them exactly.

    Attributes:
        count: `[N, K]` number of completions scored on an objective, earlier ones discounted.
        mean: `[N, K]` mean of their rewards; 0 if there are none.
        squares: `[N, K]` sum of their squared differences from that mean.
        measured: `[N]` number of completions whose gradient was measured.
        gradient: `[N]` mean over those of success times gradient norm.
        alignment: `[N]` cosine of the problem's policy gradient with that of trusted problems, at
            its last visit as a candidate; None where problems are not chosen by `gradalign`, as for
            the following two.
        own_alignment: `[N]` its cosine with the sum of the gradients of the candidates.
        gradient_norm: `[N]` its norm.
    """

    count: np.ndarray  # pyright: ignore[reportIncompatibleMethodOverride]
    mean: np.ndarray
    squares: np.ndarray
    measured: np.ndarray
    gradient: np.ndarray
    alignment: np.ndarray | None = None
    own_alignment: np.ndarray | None = None
    gradient_norm: np.ndarray | None = None


def initial_statistics(num_problems: int, num_objectives: int) -> ProblemStatistics:
    """Statistics before the first completion."""
    table, column = (num_problems, num_objectives), (num_problems,)
    return ProblemStatistics(
        *(np.zeros(shape, np.float32) for shape in (table,) * 3 + (column,) * 2)
    )


def with_alignment(statistics: ProblemStatistics) -> ProblemStatistics:
    """The statistics with alignments and norms of 0."""
    columns = (np.zeros(len(statistics.count), np.float32) for _ in range(3))
    return ProblemStatistics(*statistics[:5], *columns)


def at(statistics: ProblemStatistics, rows: np.ndarray) -> ProblemStatistics:
    """The statistics of the problems in `rows` `[B]`."""
    tables: list[Any] = [None if table is None else table[rows] for table in statistics]
    return ProblemStatistics(*tables)


def observe(
    statistics: ProblemStatistics,
    rows: np.ndarray,
    rewards: np.ndarray,
    mask: np.ndarray,
    *,
    memory: float,
) -> ProblemStatistics:
    """The statistics updated with the rewards of some groups.

    Counts, means and squares are merged (Chan, Golub and LeVeque) group by group, so that a problem
    may occur twice. With `memory` 1 the result is that of all completions at once; a smaller
    `memory` discounts completions of earlier policies.

    Args:
        statistics: the previous statistics; not modified.
        rows: `[B]` int, the row of each group's problem.
        rewards: `[B, G, K]`.
        mask: `[B, G, K]` bool, false where a completion was not sampled or not scored.
        memory: weight in [0, 1] of a problem's earlier completions at its next visit.
    """
    tables: list[Any] = [None if table is None else table.copy() for table in statistics]
    after = ProblemStatistics(*tables)
    for row, values, where in zip(rows, rewards.astype(np.float64), mask, strict=True):
        is_scored = where & np.isfinite(values)
        number = is_scored.sum(axis=0)
        values = np.where(is_scored, values, 0)
        mean = values.sum(axis=0) / np.maximum(number, 1)
        squares = np.square(np.where(is_scored, values - mean, 0)).sum(axis=0)
        # A group without a score on an objective does not change the statistics of the objective.
        before = np.where(number > 0, memory, 1.0) * after.count[row].astype(np.float64)
        kept = np.where(number > 0, memory, 1.0) * after.squares[row]
        total = before + number
        difference = mean - after.mean[row]
        share = number / np.maximum(total, 1e-30)
        after.count[row] = total
        after.mean[row] += difference * share
        after.squares[row] = kept + squares + np.square(difference) * before * share
    return after


def observe_gradients(
    statistics: ProblemStatistics,
    rows: np.ndarray,
    successes: np.ndarray,
    norms: np.ndarray,
    present: np.ndarray,
    *,
    memory: float,
) -> ProblemStatistics:
    """The statistics updated with the gradients of some groups; see `gvm`.

    Args:
        statistics: the previous statistics; not modified.
        rows: `[B]` int, the row of each group's problem.
        successes: `[B, G]` in [0, 1], the degree of success of each completion, as from `success`.
        norms: `[B, G]`, gradient norm of each completion's log-probability.
        present: `[B, G]` bool, false where no completion was sampled.
        memory: as in `observe`.
    """
    after = statistics._replace(
        measured=statistics.measured.copy(), gradient=statistics.gradient.copy()
    )
    products = np.where(present, successes.astype(np.float64) * norms, 0)
    for row, values, number in zip(rows, products, present.sum(axis=1), strict=True):
        if number:
            total = memory * float(after.measured[row]) + number
            after.gradient[row] += (values.sum() - number * after.gradient[row]) / total
            after.measured[row] = total
    return after


def observe_alignment(
    statistics: ProblemStatistics,
    rows: np.ndarray,
    *,
    alignment: np.ndarray,
    own_alignment: np.ndarray,
    norms: np.ndarray,
) -> ProblemStatistics:
    """The statistics with the latest gradients of some problems; see `gradalign`.

    Args:
        statistics: the previous statistics; not modified.
        rows: `[B]` int, the row of each problem.
        alignment: `[B]`, cosines with the gradient of the trusted problems.
        own_alignment: `[B]`, cosines with the sum of the gradients of the candidates.
        norms: `[B]`, of the gradients.
    """
    columns = {"alignment": alignment, "own_alignment": own_alignment, "gradient_norm": norms}
    if statistics.alignment is None:
        statistics = with_alignment(statistics)
    for name, values in columns.items():
        column = getattr(statistics, name).copy()
        column[rows] = values
        statistics = statistics._replace(**{name: column})
    return statistics


def above_mean(rewards: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """1 for each reward above the mean of its objective over all groups, else 0.

    The accuracy of the official code of DynaMO (GithubX-F/DynaMO-RL, commit 63e5ec9a), there for
    one objective. For rewards of 0 and 1 it is the reward itself, unless all of a step are 1.

    Args:
        rewards: `[B, G, K]`, of one step.
        mask: `[B, G, K]` bool, false where a completion was not sampled or not scored.

    Returns:
        `[B, G, K]` float64; any number where the mask is false.
    """
    is_scored = mask & np.isfinite(rewards)
    values = np.where(is_scored, rewards.astype(np.float64), 0)
    number = np.maximum(is_scored.sum(axis=(0, 1)), 1)
    return (rewards > values.sum(axis=(0, 1)) / number).astype(np.float64)


def success(mean: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The rate of success: the weighted mean of the rewards, clipped to [0, 1].

    With one objective whose reward is 1 or 0 it is the share of correct completions.

    Args:
        mean: `[..., K]` rewards, or their means.
        weights: `[K]`, not negative and not all 0.

    Returns:
        `[...]`, in [0, 1].
    """
    return np.clip(mean @ weights / weights.sum(), 0.0, 1.0)
