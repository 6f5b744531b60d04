"""VIP: completions by the predicted variance of the gradient (Nguyen et al., arXiv 2602.01601)."""

import heapq
import math
from collections.abc import Callable, Mapping

import numpy as np

from dvaojax.allocation.sizes import require_budget
from dvaojax.allocation.statistics import ProblemStatistics, success
from dvaojax.errors import suggest

_LEAST_CHANCE = 1e-6


def _rloo(size: int) -> float:
    return 1 / (size - 1) if size > 1 else 1e9 * (2 - size)


def _dr_grpo(size: int) -> float:
    return (size - 1) / size**2


# Estimator -> its variance in units of p (1 - p), and the size from which it is convex.
_ESTIMATORS: Mapping[str, tuple[Callable[[int], float], int]] = {
    "rloo": (_rloo, 0),
    "dr_grpo": (_dr_grpo, 3),
}


def vip(
    statistics: ProblemStatistics,
    weights: np.ndarray,
    *,
    budget: int,
    floor: int,
    cap: int,
    estimator: str = "rloo",
    prior: float = 0.27,
    tilt: float = 0.0,
) -> np.ndarray:
    r"""Completions that minimise the variance of the gradient estimate, with groups as they are.

    $$ \min_n \sum_i p_i (1 - p_i) f(n_i), \qquad
       f_{RLOO}(n) = \frac{1}{n - 1}, \quad f_{Dr.GRPO}(n) = \frac{n - 1}{n^2} $$

    with $p_i$ the predicted share of completions that succeed. For RLOO, $n_i - 1$ is in proportion
    to $\sqrt{p_i (1 - p_i)}$. Completions are given one at a time to the problem whose variance
    falls most, which is optimal because f is convex (for Dr.GRPO from 3 on); the paper rounds the
    continuous solution instead.

    The prediction differs from the paper's: there a Gaussian process over embeddings of the prompts
    carries what is known of a problem to similar ones; here $p_i$ is the problem's own rate so far,
    or the prior, which is that of the official code (HieuNT91/VIP, commit 0c17c79e). That code also
    adds $\gamma n_i \log p_i$ to the objective, which is not in the paper: `tilt`, 0.0007 for RLOO
    and 0.0004 for Dr.GRPO there, gives more to rarely solved problems.

    Not to be confused with: `neyman`, whose variance of an estimate with a fixed baseline gives n
    instead of n - 1 in proportion to the deviation of the rewards, of any rewards; here it
    follows from the rate of success.

    Args:
        statistics: of the step's problems, `B` rows.
        weights: `[K]`, not negative and not all 0; see `success` for several rewards.
        budget: total number of completions of the step.
        floor: smallest number of completions of a problem; at least 3 for Dr.GRPO.
        cap: largest number of completions of a problem.
        estimator: "rloo" or "dr_grpo", of the gradient whose variance is minimised.
        prior: p of a problem without completions so far, in (0, 1).
        tilt: gamma, not negative.

    Returns:
        `[B]` int64, which sum to the budget.

    Raises:
        ValueError: the budget lies outside the bounds, the floor is too small for the estimator, or
            a knob is out of its range.
    """
    if estimator not in _ESTIMATORS:
        raise ValueError(f"estimator: unknown {suggest(estimator, _ESTIMATORS)}")
    if not 0 < prior < 1 or not 0 <= tilt < math.inf:
        raise ValueError(f"{prior=} must lie in (0, 1) and {tilt=} must not be negative")
    variance, least = _ESTIMATORS[estimator]
    if floor < least:
        raise ValueError(f"allocation.floor={floor} must be at least {least} for {estimator}")
    count = len(statistics.count)
    require_budget(budget, count=count, floor=floor, cap=cap)
    is_known = (statistics.count > 0).any(axis=1)
    chance = np.where(is_known, success(statistics.mean, weights), prior)
    chance = np.clip(chance.astype(np.float64), _LEAST_CHANCE, 1 - _LEAST_CHANCE)
    scores, extra = chance * (1 - chance), -tilt * np.log(chance)
    sizes = np.full(count, floor, np.int64)

    def entry(row: int) -> tuple[float, int, int]:
        size = int(sizes[row])
        gain = scores[row] * (variance(size) - variance(size + 1)) + extra[row]
        return -gain, size, row  # of equal gains the smaller group comes first

    queue = [entry(row) for row in range(count) if floor < cap]
    heapq.heapify(queue)
    for _ in range(budget - floor * count):
        _, _, row = heapq.heappop(queue)
        sizes[row] += 1
        if sizes[row] < cap:
            heapq.heappush(queue, entry(row))
    return sizes
