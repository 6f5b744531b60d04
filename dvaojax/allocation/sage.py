"""SAGE's curriculum (Wu et al., arXiv 2602.01207): A RECONSTRUCTION, on problems instead of pairs.

The abstract describes a coarse curriculum, pools of difficulty that follow the model's competence,
and a fine score "inspired by the Newton decrement" that prefers stable, confident errors to trivial
pairs and to pairs near the decision boundary. Its formulas and code were not available. The paper
scores preference pairs of a fixed data set for DPO; here a problem represents the pairs of its
right and wrong completions, and its rate of success for the policy's preference between them.
"""

import math

import numpy as np

from dvaojax.allocation.sizes import allocate, require_budget
from dvaojax.allocation.statistics import ProblemStatistics, success


def sage(
    statistics: ProblemStatistics,
    weights: np.ndarray,
    *,
    budget: int,
    floor: int,
    cap: int,
    width: float = 0.1,
    damping: float = 0.1,
) -> np.ndarray:
    r"""Completions for problems whose difficulty fits the competence, most where errors are stable.

    $$ b_i = \lfloor |p_i - (1 - c)| / width \rfloor, \qquad
       S_i = \frac{1 - p_i}{\sqrt{p_i (1 - p_i) + \epsilon}} $$

    with $p_i$ the share of a problem's completions that succeed and the competence c, the mean of
    $p_i$ over the step's known problems: the better the model, the harder the problems. All get the
    floor. The rest goes to the band $b = 0$ in proportion to the scores S, up to the cap, and what
    is left to the next band, and so on.

    The score is the decrement of a damped Newton step for DPO's loss $-\log \sigma(m)$, the slope
    $\sigma(-m)$ over the root of the curvature $\sigma(m) \sigma(-m) + \epsilon$, at the margin m
    with $\sigma(m) = p$. It is 0 for a solved problem and rises to $1 / \sqrt{\epsilon}$ for one
    that is never solved; the damping makes it flat there. A problem without completions counts as
    one whose rate is $1 - c$. THIS IS A RECONSTRUCTION: the score, bands of equal width, the
    competence, and problems instead of pairs are our choice.

    Not to be confused with: the method of the same name that gives hints (arXiv 2602.03143). Nor
    with `neyman`, which prefers problems solved half of the time at every competence.

    Args:
        statistics: of the step's problems, `B` rows.
        weights: `[K]`, not negative and not all 0; see `success` for several rewards.
        budget: total number of completions of the step.
        floor: smallest number of completions of a problem.
        cap: largest number of completions of a problem.
        width: of a band, in rates of success, in (0, 1].
        damping: epsilon, positive; about 0.05 to 0.25, since the curvature is at most 0.25.

    Returns:
        `[B]` int64, which sum to the budget.

    Raises:
        ValueError: the budget lies outside the bounds, or a knob is out of its range.
    """
    if not 0 < width <= 1 or not 0 < damping < math.inf:
        raise ValueError(f"{width=} must lie in (0, 1] and {damping=} must be positive and finite")
    require_budget(budget, count=len(statistics.count), floor=floor, cap=cap)
    is_known = (statistics.count > 0).any(axis=1)
    rate = success(statistics.mean, weights).astype(np.float64)
    target = 1 - (rate[is_known].mean() if is_known.any() else 0.5)
    rate = np.where(is_known, rate, target)
    scores = (1 - rate) / np.sqrt(rate * (1 - rate) + damping)
    # A rate on the edge of a band is in the band within, also after rounding.
    bands = np.floor(np.abs(rate - target) / width - 1e-6).clip(0)
    sizes = np.full(len(rate), floor, np.int64)
    rest = budget - int(sizes.sum())
    for band in np.unique(bands):
        rows = np.flatnonzero(bands == band)
        share = min(rest, len(rows) * (cap - floor))
        sizes[rows] += allocate(scores[rows], share, floor=0, cap=cap - floor)
        rest -= share
    return sizes
