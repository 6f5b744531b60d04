r"""DynaMO: more completions where rewards vary (Fang et al., arXiv 2602.19208).

A group of $n_i$ completions estimates its problem's gradient with a variance proportional to
$\sigma_i^2 / n_i$, where $\sigma_i$ is the standard deviation of the problem's rewards. The total
variance for a given budget is smallest under Neyman's (1934) allocation: $n_i \propto \sigma_i$.
"""

import numpy as np

from dvaojax.allocation.sizes import allocate
from dvaojax.allocation.statistics import ProblemStatistics, success


def neyman(
    statistics: ProblemStatistics, weights: np.ndarray, *, budget: int, floor: int, cap: int
) -> np.ndarray:
    r"""Completions in proportion to the standard deviation of the rewards, as derived in the paper.

    $$ n_i = N \frac{\sigma_i}{\sum_j \sigma_j}, \qquad
       \sigma_i^2 = \sum_k w_k^2 \frac{\sum_j (r_{jk} - \mu_k)^2}{n - 1} $$

    minimises $\sum_i \sigma_i^2 / n_i$, at $(\sum_i \sigma_i)^2 / N$. For a reward of 0 or 1 with
    $k$ of $n$ correct it is the paper's Bernoulli variance $k (n - k) / (n (n - 1))$, whose mean is
    exactly $p (1 - p)$. The paper does not cover several rewards: here their variances are added as
    if they were uncorrelated, so that objectives that cancel in a sum still count.

    A problem with fewer than two scored completions gets the largest standard deviation of the
    step.

    Not to be confused with: `dynamo`, the official code, which uses the variance instead of the
    standard deviation.

    Args:
        statistics: of the step's problems, `B` rows.
        weights: `[K]`, not negative.
        budget: total number of completions of the step.
        floor: smallest number of completions of a problem.
        cap: largest number of completions of a problem.

    Returns:
        `[B]` int64, which sum to the budget.

    Raises:
        ValueError: the budget lies outside the bounds.
    """
    variance = statistics.squares / np.maximum(statistics.count - 1, 1)
    spread = np.sqrt(variance @ np.square(weights, dtype=np.float64))
    is_known = ((statistics.count >= 2) | (weights == 0)).all(axis=1)
    return allocate(fill_unknown_with_largest(spread, is_known), budget, floor=floor, cap=cap)


def dynamo(
    statistics: ProblemStatistics,
    weights: np.ndarray,
    *,
    budget: int,
    floor: int,
    cap: int,
    mastered: float = 0.85,
    least_priority: float = 0.01,
) -> np.ndarray:
    r"""The official variant: `floor` for every problem, the rest in proportion to a priority.

    $$ n_i - n_{low} \propto \max\bigl(4 p_i (1 - p_i), \epsilon\bigr), \text{ or } \epsilon
       \text{ where } p_i \ge 0.85 $$

    With $p$ the share of a problem's completions that succeed, the priority is 1 for a problem
    without completions, `least_priority` where $p$ is at least `mastered`, and otherwise
    $4 p (1 - p)$, but at least `least_priority`: proportional to the variance, while the paper uses
    the standard deviation. After the official code (GithubX-F/DynaMO-RL, commit 63e5ec9a), whose
    script has a floor of 8, a cap of 24 and 16 on average. The official code rounds in every round
    of its water-filling and updates priorities once per epoch; here sizes are rounded once and
    priorities are updated in every step. In the code a completion succeeds if its reward is above
    the mean of the step; `allocation.counts=above_mean` does that, the default counts rewards.

    Not to be confused with: `neyman`, the rule derived in the paper.

    Args:
        statistics: of the step's problems, `B` rows.
        weights: `[K]`, not negative and not all 0; see `success` for several rewards.
        budget: total number of completions of the step.
        floor: smallest number of completions of a problem.
        cap: largest number of completions of a problem.
        mastered: share of successes from which a problem counts as solved.
        least_priority: lower bound of the priorities, not negative.

    Returns:
        `[B]` int64, which sum to the budget.

    Raises:
        ValueError: the budget lies outside the bounds, or `least_priority` is negative.
    """
    if not least_priority >= 0:
        raise ValueError(f"{least_priority=} must not be negative")
    rate = success(statistics.mean, weights)
    priority = np.maximum(4 * rate * (1 - rate), least_priority)
    priority = np.where(rate >= mastered, least_priority, priority)
    priority = np.where((statistics.count > 0).any(axis=1), priority, 1.0)
    rest = budget - floor * len(priority)
    return floor + allocate(priority, rest, floor=0, cap=cap - floor)


def fill_unknown_with_largest(scores: np.ndarray, is_known: np.ndarray) -> np.ndarray:
    """The scores `[B]`; unknown ones get the largest known score, or 1 if there is none above 0."""
    largest = scores[is_known].max(initial=0)
    return np.where(is_known, scores, largest if largest > 0 else 1.0)
