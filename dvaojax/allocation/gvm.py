"""GVM: rollouts that minimise the variance of the gradient (Yao et al., arXiv 2505.02391)."""

import numpy as np

from dvaojax.allocation.dynamo import most_where_unknown
from dvaojax.allocation.sizes import allocate
from dvaojax.allocation.statistics import Statistics, success


def gvm(
    seen: Statistics,
    weights: np.ndarray,
    *,
    budget: int,
    floor: int,
    cap: int,
    alpha: float = 1e-3,
    beta: float = 2.0,
) -> np.ndarray:
    r"""Completions by the size of the gradient and by how rare a success is.

    $$ n_i \propto \frac{G_i}{\sqrt{p_i + \alpha / p_i^{\beta - 1}}} $$

    with $p_i$ the share of completions that succeed and $G_i$ the mean norm of the gradient of a
    successful one's log-probability; 0 where either is 0. With $\alpha = 0$ it minimises
    $\sum_i G_i^2 / (p_i n_i)$, the variance of a step that learns from successes alone, as GVM-RAFT
    does. $\alpha$ turns away from problems that are nearly never solved: with $\beta = 2$ the
    factor of $G_i$ is largest at $p = \sqrt \alpha$. Defaults as in the official code (RLHFlow/GVM,
    commit d640a754).

    Where GVM draws completions for $p_i$ and $G_i$ before those it learns from, here both are those
    of the completions that the problem had so far. A problem that had none counts as the largest of
    the step.

    It is for training loops that measure gradients of single completions; the trainer of this
    package measures none, and so it is no name that a run can go by.

    What it is confused with. `neyman`, which goes by the spread of the rewards and does not look at
    gradients: it gives most to $p = 1/2$, this one to rare successes.

    Args:
        seen: of the step's problems, `B` rows; with gradients, see `observe_gradients`.
        weights: `[K]`, not negative and not all 0; see `success` for several rewards.
        budget: completions of the step.
        floor: fewest completions of a problem.
        cap: most completions of a problem.
        alpha: how strongly rare successes are turned away from; 0 does not.
        beta: how steeply.

    Returns:
        `[B]` int64, which add up to the budget.

    Raises:
        ValueError: the budget lies outside the bounds, or `alpha` is negative.
    """
    if not alpha >= 0:
        raise ValueError(f"alpha={alpha} must not be negative")
    rate = success(seen.mean, weights)
    size = seen.gradient / np.where(rate > 0, rate, 1)
    certain = np.where(rate > 0, rate, 1)
    scores = size / np.sqrt(certain + alpha / certain ** (beta - 1))
    scores = np.where(rate > 0, scores, 0.0)
    return allocate(most_where_unknown(scores, seen.measured > 0), budget, floor=floor, cap=cap)
