"""The same number of completions for every problem, as in most methods."""

import numpy as np

from dvaojax.allocation.sizes import allocate
from dvaojax.allocation.statistics import ProblemStatistics


def uniform(
    statistics: ProblemStatistics, weights: np.ndarray, *, budget: int, floor: int, cap: int
) -> np.ndarray:
    """`[B]` int64, the budget in equal parts; if it does not divide, the first get one more."""
    del weights
    return allocate(np.ones(len(statistics.count)), budget, floor=floor, cap=cap)
