"""What is known of each problem from the completions it had so far."""

from typing import NamedTuple

import numpy as np


class Statistics(NamedTuple):
    """A row a problem; those of a step's problems are `at(statistics, rows)`.

    float32, so that what a checkpoint brings back is what was there.

    Attributes:
        count: `[N, K]` completions that were scored on an objective, earlier ones weighted down.
        mean: `[N, K]` of their rewards; 0 where there is none.
        squares: `[N, K]` the sum of their squared differences from that mean.
        measured: `[N]` completions whose gradient was measured.
        gradient: `[N]` the mean over them of their success times the norm of their gradient.
    """

    count: np.ndarray  # pyright: ignore[reportIncompatibleMethodOverride]
    mean: np.ndarray
    squares: np.ndarray
    measured: np.ndarray
    gradient: np.ndarray


def nothing_known(num_problems: int, num_objectives: int) -> Statistics:
    """Before the first completion."""
    table, column = (num_problems, num_objectives), (num_problems,)
    return Statistics(*(np.zeros(shape, np.float32) for shape in (table,) * 3 + (column,) * 2))


def at(statistics: Statistics, rows: np.ndarray) -> Statistics:
    """The rows `[B]` of some problems."""
    return Statistics(*(table[rows] for table in statistics))


def observe(
    statistics: Statistics,
    rows: np.ndarray,
    rewards: np.ndarray,
    mask: np.ndarray,
    *,
    memory: float,
) -> Statistics:
    """The statistics after the rewards of some groups.

    Counts, means and squares are merged (Chan, Golub and LeVeque), group after group, so that a
    problem may come up twice. With `memory` 1 they are those of all completions as if they had come
    at once; the policy that drew them has changed since, which a smaller one allows for.

    Args:
        statistics: before; left as they are.
        rows: `[B]` int, the row of each group's problem.
        rewards: `[B, G, K]`.
        mask: `[B, G, K]` bool, false where a completion was not drawn or not scored.
        memory: in [0, 1], what earlier completions of a problem count at its next visit.
    """
    after = Statistics(*(table.copy() for table in statistics))
    for row, values, where in zip(rows, rewards.astype(np.float64), mask, strict=True):
        here = where & np.isfinite(values)
        number = here.sum(axis=0)
        values = np.where(here, values, 0)
        mean = values.sum(axis=0) / np.maximum(number, 1)
        squares = np.square(np.where(here, values - mean, 0)).sum(axis=0)
        # A group without a score on an objective leaves what is known of it alone.
        before = np.where(number > 0, memory, 1.0) * after.count[row].astype(np.float64)
        kept = np.where(number > 0, memory, 1.0) * after.squares[row]
        total = before + number
        apart = mean - after.mean[row]
        share = number / np.maximum(total, 1e-30)
        after.count[row] = total
        after.mean[row] += apart * share
        after.squares[row] = kept + squares + np.square(apart) * before * share
    return after


def observe_gradients(
    statistics: Statistics,
    rows: np.ndarray,
    successes: np.ndarray,
    norms: np.ndarray,
    present: np.ndarray,
    *,
    memory: float,
) -> Statistics:
    """The statistics after the gradients of some groups; see `gvm`.

    Args:
        statistics: before; left as they are.
        rows: `[B]` int, the row of each group's problem.
        successes: `[B, G]` in [0, 1], what share of it was a success; 1 or 0 for a reward that is.
        norms: `[B, G]` of the gradient of each completion's log-probability.
        present: `[B, G]` bool, false where no completion was drawn.
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


def success(mean: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How often a completion succeeds: the weighted mean of its rewards, held within [0, 1].

    With one objective whose reward is 1 or 0 it is the share of completions that are right.

    Args:
        mean: `[..., K]` rewards, or their means.
        weights: `[K]`, not negative and not all 0.

    Returns:
        `[...]`, in [0, 1].
    """
    return np.clip(mean @ weights / weights.sum(), 0.0, 1.0)
