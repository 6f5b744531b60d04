r"""DynaMO: rollouts where rewards vary (Fang et al., arXiv 2602.19208).

A group of $n_i$ completions estimates its problem's gradient with a variance in proportion to
$\sigma_i^2 / n_i$, where $\sigma_i$ is the spread of the problem's rewards. A step's budget of
completions is best spent as Neyman (1934) spends a survey's: $n_i \propto \sigma_i$.
"""

import numpy as np

from dvaojax.allocation.sizes import allocate
from dvaojax.allocation.statistics import Statistics, success


def neyman(
    seen: Statistics, weights: np.ndarray, *, budget: int, floor: int, cap: int
) -> np.ndarray:
    r"""Completions in proportion to the standard deviation of the rewards, as the paper derives it.

    $$ n_i = N \frac{\sigma_i}{\sum_j \sigma_j}, \qquad
       \sigma_i^2 = \sum_k w_k^2 \frac{\sum_j (r_{jk} - \mu_k)^2}{n - 1} $$

    minimises $\sum_i \sigma_i^2 / n_i$, at $(\sum_i \sigma_i)^2 / N$. For a reward of 0 or 1 with
    $k$ of $n$ right it is the paper's Bernoulli variance $k (n - k) / (n (n - 1))$, whose mean is
    $p (1 - p)$ exactly. For several rewards the paper says nothing: here their variances are added
    as if they were uncorrelated, so that objectives that cancel in a sum still count.

    A problem whose completions were scored fewer than twice counts as the most varied of the step.

    What it is confused with. `dynamo`, the official code, which goes by the variance, not its root.

    Args:
        seen: of the step's problems, `B` rows.
        weights: `[K]`, not negative.
        budget: completions of the step.
        floor: fewest completions of a problem.
        cap: most completions of a problem.

    Returns:
        `[B]` int64, which add up to the budget.

    Raises:
        ValueError: the budget lies outside the bounds.
    """
    variance = seen.squares / np.maximum(seen.count - 1, 1)
    spread = np.sqrt(variance @ np.square(weights, dtype=np.float64))
    is_known = ((seen.count >= 2) | (weights == 0)).all(axis=1)
    return allocate(most_where_unknown(spread, is_known), budget, floor=floor, cap=cap)


def dynamo(
    seen: Statistics,
    weights: np.ndarray,
    *,
    budget: int,
    floor: int,
    cap: int,
    mastered: float = 0.85,
    least_priority: float = 0.01,
) -> np.ndarray:
    r"""The official variant: the floor for all, the rest in proportion to a priority.

    $$ n_i - n_{low} \propto \max\bigl(4 p_i (1 - p_i), \epsilon\bigr), \text{ or } \epsilon
       \text{ where } p_i \ge 0.85 $$

    With $p$ the share of a problem's completions that succeed, the priority is 1 for a problem
    never seen, `least_priority` where $p$ is at least `mastered`, and otherwise $4 p (1 - p)$, held
    above `least_priority`: in proportion to the variance where the paper has its root. After the
    official code (GithubX-F/DynaMO-RL, commit 63e5ec9a), whose script has a floor of 8, a cap of 24
    and 16 on average. It rounds in every round of its water-filling, which is done here once at the
    end; it takes priorities once an epoch, here they are taken in every step.

    What it is confused with. `neyman`, which is what the paper derives.

    Args:
        seen: of the step's problems, `B` rows.
        weights: `[K]`, not negative and not all 0; see `success` for several rewards.
        budget: completions of the step.
        floor: fewest completions of a problem.
        cap: most completions of a problem.
        mastered: the share of successes from which a problem is as good as solved.
        least_priority: of any problem.

    Returns:
        `[B]` int64, which add up to the budget.

    Raises:
        ValueError: the budget lies outside the bounds, or the least priority is negative.
    """
    if not least_priority >= 0:
        raise ValueError(f"least_priority={least_priority} must not be negative")
    rate = success(seen.mean, weights)
    priority = np.maximum(4 * rate * (1 - rate), least_priority)
    priority = np.where(rate >= mastered, least_priority, priority)
    priority = np.where((seen.count > 0).any(axis=1), priority, 1.0)
    rest = budget - floor * len(priority)
    return floor + allocate(priority, rest, floor=0, cap=cap - floor)


def most_where_unknown(scores: np.ndarray, is_known: np.ndarray) -> np.ndarray:
    """The scores `[B]`, with the largest known one where a score is not known, or 1."""
    largest = scores[is_known].max(initial=0)
    return np.where(is_known, scores, largest if largest > 0 else 1.0)
