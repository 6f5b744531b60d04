"""The same number of completions for every problem, as in most methods."""

import numpy as np

from dvaojax.allocation.sizes import allocate
from dvaojax.allocation.statistics import ProblemStatistics


def uniform(
    statistics: ProblemStatistics, weights: np.ndarray, *, budget: int, floor: int, cap: int
) -> np.ndarray:
    r"""The budget in equal parts.

    $$ n_i = N / B $$

    If the number of problems does not divide the budget, the first problems get one more.

    Not to be confused with: a run with `allocation.name=uniform`, which has groups of one size and
    needs no allocation.

    Args:
        statistics: of the step's problems, `B` rows.
        weights: `[K]`, ignored.
        budget: completions of the step.
        floor: fewest completions of a problem.
        cap: most completions of a problem.

    Returns:
        `[B]` int64, which add up to the budget.

    Raises:
        ValueError: the budget lies outside the bounds.
    """
    del weights
    return allocate(np.ones(len(statistics.count)), budget, floor=floor, cap=cap)
